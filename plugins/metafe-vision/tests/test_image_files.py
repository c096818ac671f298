"""Files of any size and kind become one array, and those that cannot be read are named."""

from __future__ import annotations

import os
import shutil
import warnings

import numpy as np
import pytest
from metafe_vision import ImageFiles, pixels
from PIL import Image

from metafe.contracts import InvalidInputError, InvalidParameterError, Seeds, UnreadableRowWarning, kind_of_input

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encode(paths, **parameters):
    return ImageFiles(**parameters).fit(paths, Seeds(0)).encode(paths)


def read(path, n_channels=3, resize="stretch", side=8):
    return pixels.read_pixels(path, side, n_channels, resize)


# Size and colour.


@pytest.mark.parametrize(
    ("sizes", "side"), [([(40, 50), (45, 41), (90, 70)], 41), ([(8, 8)] * 3, 28), ([(300, 200)] * 3, 84)]
)
def test_the_side_is_the_median_of_the_shorter_ones_within_bounds(save, sizes, side):
    paths = [save(f"{i}.png", Image.new("RGB", size)) for i, size in enumerate(sizes)]
    assert encode(paths).shape == (3, 1, side, side)


def test_grey_stored_as_colour_is_grey(save):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    paths = [save("a.png", grey), save("b.png", np.stack([grey] * 3, axis=2)), save("c.jpg", Image.new("CMYK", (9, 9)))]
    assert encode(paths).shape[1] == 1
    assert encode([*paths, save("d.png", Image.new("RGB", (9, 9), RED))]).shape[1] == 3


def test_only_some_files_are_looked_at(save, tmp_path):
    path = save("a.png", Image.new("L", (50, 60)))
    paths = [path] * 1000
    shutil.copy(save("odd.png", Image.new("RGB", (28, 28), RED)), tmp_path / "copy.png")
    chosen = Seeds(0).numpy("looked at").choice(1000, 100, replace=False)
    paths[next(i for i in range(1000) if i not in chosen)] = str(tmp_path / "copy.png")
    fitted = ImageFiles().fit(paths, Seeds(0))
    assert (fitted.side_, fitted.channels_) == (50, 1)


def test_grey_is_shown_in_colour_where_asked(save):
    path = save("a.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    colour, grey = encode([path], channels=3, side=8), encode([path], channels=1, side=8)
    np.testing.assert_array_equal(colour[0], np.repeat(grey[0], 3, axis=0))


# What becomes of images that are not square.


@pytest.fixture
def wide(save):
    """Sixteen by eight pixels: two columns red, twelve white, two black."""
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, :2], image[:, 2:14] = RED, WHITE
    return save("wide.png", image)


def test_pad_puts_the_whole_in_the_middle_of_the_colour_of_its_long_edges(wide):
    image = read(wide, resize="pad", side=16)
    np.testing.assert_array_equal(image[:, 4:12], np.asarray(Image.open(wide)).transpose(2, 0, 1))
    for rows in (image[:, :4], image[:, 12:]):
        np.testing.assert_array_equal(rows, np.full((3, 4, 16), 255))


def test_crop_keeps_the_middle(wide):
    np.testing.assert_array_equal(read(wide, resize="crop"), np.full((3, 8, 8), 255))


def test_stretch_keeps_all(wide):
    image = read(wide, resize="stretch", side=8).astype(int)
    assert image.shape == (3, 8, 8)
    assert (image[0, :, 0] - image[1, :, 0] > 200).all()
    assert (image[:, :, 3:5] == 255).all()
    assert (image[:, :, 7] < 50).all()


@pytest.mark.parametrize("size", [(1, 100), (100, 1), (3, 7), (1, 1)])
def test_odd_sizes_work(save, size):
    path = save("odd.png", Image.new("L", size, 90))
    for resize in ("pad", "crop", "stretch"):
        np.testing.assert_array_equal(read(path, 1, resize, 9), np.full((1, 9, 9), 90))


# Kinds of files.


def test_images_stand_as_their_orientation_says(save):
    upright = np.zeros((8, 8), np.uint8)
    upright[0, :] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    # Turned by a quarter against the clock, as a camera stores what is to be shown turned by one with it.
    path = save("a.png", np.rot90(upright), exif=exif)
    np.testing.assert_array_equal(read(path, 1)[0], upright)


def test_transparent_pixels_show_white(save):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4] = (255, 0, 0, 255)
    rgba[6:] = (0, 0, 0, 128)
    image = read(save("a.png", rgba))
    np.testing.assert_array_equal(image[:, 0, 0], RED)
    np.testing.assert_array_equal(image[:, 4, 0], WHITE)
    np.testing.assert_array_equal(image[:, 7, 0], [127] * 3)


def test_palettes_are_looked_up(save):
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, *RED])
    np.testing.assert_array_equal(read(save("a.gif", palette))[:, 3, 3], RED)
    np.testing.assert_array_equal(read(save("b.png", palette, transparency=1))[:, 3, 3], WHITE)


def test_grey_with_transparency(save):
    image = Image.new("LA", (8, 8), (10, 0))
    np.testing.assert_array_equal(read(save("a.png", image), 1), np.full((1, 8, 8), 255))


def test_of_sixteen_bits_the_upper_eight_are_kept(save):
    values = np.array([[0, 255], [256, 65535]], np.uint16).repeat(4, axis=0).repeat(4, axis=1)
    expected = np.array([[0, 0], [1, 255]]).repeat(4, axis=0).repeat(4, axis=1)
    for name in ("a.png", "a.tiff"):
        np.testing.assert_array_equal(read(save(name, values), 1)[0], expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_other_numbers_are_stretched_to_their_range(save, dtype):
    values = np.array([[-7, 0], [1, 3]], dtype).repeat(4, axis=0).repeat(4, axis=1)
    image = read(save("a.tiff", values), 1)[0]
    np.testing.assert_array_equal(image[::4, ::4], [[0, 178], [204, 255]])


def test_numbers_that_are_none_are_black(save):
    values = np.full((8, 8), np.nan, np.float32)
    assert not read(save("a.tiff", values), 1).any()
    values[0, 0], values[1, 0] = np.inf, 5
    values[2, 0] = 4
    np.testing.assert_array_equal(read(save("b.tiff", values), 1)[0, :3, 0], [0, 255, 0])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "HSV"])
def test_every_kind_of_pixels_is_read(save, mode):
    image = Image.new(mode, (12, 10), 1)
    path = save("a.tiff", image.convert("RGB") if mode == "HSV" else image)
    for n_channels in (1, 3):
        assert read(path, n_channels).shape == (n_channels, 8, 8)


def test_of_animations_the_first_frame_is_read(save):
    frames = [Image.new("L", (8, 8), value) for value in (50, 100, 200)]
    path = save("a.gif", frames[0], save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read(path, 1), np.full((1, 8, 8), 50))


@pytest.mark.parametrize("n_channels", [1, 3])
def test_a_large_jpeg_decoded_smaller_is_the_same_image(save, n_channels):
    gradient = np.linspace(0, 255, 800).astype(np.uint8)
    image = np.stack(
        [np.tile(gradient, (800, 1)), np.tile(gradient[:, None], (1, 800)), np.full((800, 800), 9)], axis=2
    )
    path = save("a.jpg", image.astype(np.uint8), quality=95)
    plain = np.asarray(
        Image.open(path).convert("L" if n_channels == 1 else "RGB").resize((40, 40), Image.Resampling.BOX), dtype=float
    ).reshape(40, 40, n_channels)
    np.testing.assert_allclose(read(path, n_channels, side=40), plain.transpose(2, 0, 1), atol=6)


# What cannot be read.


@pytest.fixture
def bad(save, tmp_path):
    """Good, empty, cut short, missing, no image, a folder, good."""
    good = save("good.png", np.random.default_rng(0).integers(1, 255, size=(40, 40)).astype(np.uint8))
    content = (tmp_path / "good.png").read_bytes()
    (tmp_path / "empty.png").touch()
    (tmp_path / "short.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    names = ["empty.png", "short.png", "missing.png", "text.png", "folder.png"]
    return [good, *(str(tmp_path / name) for name in names), good]


def test_files_that_cannot_be_read_are_black_and_named_once(bad):
    encoder = ImageFiles(side=28).fit(bad, Seeds(0))
    for _ in range(2):
        with pytest.warns(UnreadableRowWarning) as warned:
            rows = encoder.encode(bad)
        (warning,) = warned
        message = str(warning.message)
        assert message.startswith("image-files could not read 5 of 7 files, which are black images: row 1, ")
        assert all(f"row {row}, {bad[row]!r}" in message for row in range(1, 6))
        assert rows[[0, 6]].any()
        assert not rows[1:6].any()


def test_five_are_named_and_the_others_counted(tmp_path, save):
    paths = [save("good.png", Image.new("L", (30, 30))), *(f"{i}.png" for i in range(200))]
    encoder = ImageFiles(side=28, channels=1).fit(paths, Seeds(0))
    with pytest.warns(UnreadableRowWarning, match=r"200 of 201 files.*row 5, '4\.png' \(.*\); and 195 more\.$"):
        encoder.encode(paths)


def test_a_file_that_was_repaired_is_read(bad):
    encoder = ImageFiles(side=28).fit(bad, Seeds(0))
    with pytest.warns(UnreadableRowWarning):
        encoder.encode(bad)
    shutil.copy(bad[0], bad[2])
    with pytest.warns(UnreadableRowWarning, match="4 of 7"):
        rows = encoder.encode(bad)
    np.testing.assert_array_equal(rows[2], rows[0])


def test_errors_raise_names_the_row(bad):
    encoder = ImageFiles(side=28, errors="raise", n_jobs=1).fit(bad, Seeds(0))
    with pytest.raises(
        InvalidInputError, match=r"row 1, '.*empty\.png', cannot \(UnidentifiedImageError.*errors='warn'"
    ):
        encoder.encode(bad)


@pytest.mark.parametrize(
    ("misfit", "why"), [(None, "missing"), (float("nan"), "missing"), (3, "a int"), (b"a.png", "a bytes")], ids=str
)
def test_a_row_that_is_no_path_is_one_that_cannot_be_read(paths, misfit, why):
    rows = [*paths, misfit]
    assert kind_of_input(rows) == "image files"
    with pytest.warns(
        UnreadableRowWarning, match=rf"1 of 13 files, which are black images: row 12 \({why}\)\."
    ) as caught:
        images = encode(rows)
    assert len(caught) == 1
    assert not images[12].any()
    np.testing.assert_array_equal(images[:12], encode(paths))
    with pytest.raises(InvalidInputError, match=rf"row 12, cannot \({why}\)"):
        encode(rows, errors="raise")


def test_nothing_to_look_at_is_an_error():
    with pytest.raises(
        InvalidInputError, match=r"got 2, and none of 2 that were looked at can, such as row 0, 'a\.png'"
    ):
        ImageFiles().fit(["a.png", "b.png"], Seeds(0))


# Rows and parameters.


@pytest.mark.parametrize("sequence", [list, tuple, np.array, lambda paths: np.array(paths, dtype=object)])
@pytest.mark.parametrize("kind", [str, os.fspath])
def test_any_sequence_of_paths_is_taken(paths, sequence, kind):
    rows = sequence([kind(path) for path in paths])
    assert ImageFiles().accepts(rows) is None
    assert kind_of_input(rows) == "image files"
    np.testing.assert_array_equal(encode(rows), encode(paths))


@pytest.mark.parametrize("X", ["a.png", [], np.zeros((3, 2)), ["a.png", 3], None, {}], ids=str)
def test_what_is_no_sequence_of_paths_is_refused(X):
    assert ImageFiles().accepts(X).startswith("image-files needs ")


def test_no_rows_give_no_images(paths):
    assert ImageFiles(side=30).fit(paths, Seeds(0)).encode([]).shape == (0, 3, 30, 30)


def test_relative_paths_are_those_of_the_current_folder(paths, monkeypatch):
    monkeypatch.chdir(paths[0].parent)
    np.testing.assert_array_equal(encode([path.name for path in paths]), encode(paths))


def test_a_file_is_read_once_until_it_changes(paths, tmp_path, monkeypatch):
    copies = [shutil.copy(path, tmp_path) for path in paths]
    encoder = ImageFiles().fit(copies, Seeds(0))
    first = encoder.encode(copies)
    monkeypatch.setattr("metafe_vision.image_files.read_pixels", lambda *arguments: 1 / 0)
    np.testing.assert_array_equal(encoder.encode(copies), first)
    shutil.copyfile(paths[1], copies[0])
    with pytest.warns(UnreadableRowWarning, match=r"1 of 12 .* row 0, .*ZeroDivisionError"):
        encoder.encode(copies)


def test_settings_do_not_share_what_is_kept(paths):
    shapes = {encode(paths, side=side, channels=channels).shape for side in (28, 30) for channels in (1, 3)}
    assert len(shapes) == 4
    assert not np.array_equal(encode(paths, resize="crop"), encode(paths, resize="stretch"))


def test_threads_change_nothing(paths):
    many = [path for path in paths for _ in range(10)]
    np.testing.assert_array_equal(encode(many, n_jobs=1), encode(many, n_jobs=4))


@pytest.mark.parametrize(
    "parameters", [{"side": 7}, {"side": 30.5}, {"channels": 2}, {"resize": "fit"}, {"errors": "ignore"}], ids=str
)
def test_a_parameter_that_cannot_be_is_named(paths, parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^image-files {name} must be .*; got {value!r}"):
        ImageFiles(**parameters).fit(paths, Seeds(0))


def test_nothing_is_warned_of_good_files(paths):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode(paths)
