"""Images, and wrong input of any kind: one line, exit code 2."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

import metafe
from metafe.cli.images import read_images
from metafe.contracts import Seeds, UnreadableRowWarning
from metafe.folders import find_files

# Images


def test_images_become_grey_uint8_rows_with_a_class_per_folder(cli: Any, files: Path, tmp_path: Path) -> None:
    cli.succeed("fit", files / "images", "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    saved = metafe.load(tmp_path / "out")
    assert saved.input_shape_ == (8, 8)
    assert list(saved.classes_) == [f"digit {i}" for i in range(10)]
    cli.succeed("transform", tmp_path / "out", files / "images", "-o", tmp_path / "out.csv")
    written = pl.read_csv(tmp_path / "out.csv")
    assert written["file"][0] == "digit 0/00.png"
    assert written["class"][0] == "digit 0"
    first = np.asarray(Image.open(files / "images" / "digit 0" / "00.png"))
    np.testing.assert_allclose(written.row(0)[2:], saved.transform(first[None])[0], rtol=1e-5, atol=1e-6)


def test_most_files_of_a_folder_decide_and_the_others_are_counted(cli: Any, files: Path, tmp_path: Path) -> None:
    shutil.copytree(files / "images", tmp_path / "mixed")
    for name in ("digit 0/loose.wav", "digit 1/notes.txt", "notes.md", ".DS_Store", "digit 1/._00.png"):
        (tmp_path / "mixed" / name).touch()
    result = cli.succeed("fit", tmp_path / "mixed", "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    assert re.match(
        r"Warning: A folder should have files of one kind; got 63 in '.*mixed', of which 60 images are taken and 3 left "
        r"out, such as '.*loose\.wav'\.\n",
        result.stderr,
    )
    assert metafe.load(tmp_path / "out").input_shape_ == (8, 8)


def test_a_folder_is_read_in_python_too(files: Path, tmp_path: Path) -> None:
    paths, classes = metafe.read_folder(files / "images")
    assert len(paths) == len(classes) == 60
    assert all(Path(path).parent.name == name for path, name in zip(paths, classes, strict=True))
    flat, none = metafe.read_folder(str(files / "images" / "digit 0"))
    assert none is None
    assert flat == [path for path in paths if "digit 0" in path]
    (tmp_path / "a.flac").touch()
    (tmp_path / "b.OGG").touch()
    (tmp_path / "c.png").touch()
    with pytest.warns(
        metafe.MetafeWarning, match=r"of which 2 sound files are taken and 1 left out, such as '.*c\.png'"
    ):
        assert [Path(path).name for path in metafe.read_folder(tmp_path)[0]] == ["a.flac", "b.OGG"]
    with pytest.raises(ValueError, match="folder must be a folder that exists; got 'nowhere'"):
        metafe.read_folder("nowhere")


def _images_in(folder: Path) -> list[Path]:
    return find_files(folder).paths


def test_sizes_colours_and_depths_are_made_equal(cli: Any, tmp_path: Path) -> None:
    cli.save_image(tmp_path / "a" / "deep.png", np.full((9, 9), 257 * 7, np.uint16))
    cli.save_image(tmp_path / "b" / "grey.png", np.full((12, 20), 9, np.uint8))
    grey = read_images(_images_in(tmp_path), (10, 14))
    assert (grey.shape, grey.dtype) == ((2, 10, 14), np.uint8)
    assert [int(image.mean()) for image in grey] == [7, 9]
    cli.save_image(tmp_path / "b" / "red.png", np.tile(np.array([200, 0, 0], np.uint8), (5, 5, 1)))
    coloured = read_images(_images_in(tmp_path), (10, 14))
    assert coloured.shape == (3, 10, 14, 3)
    assert coloured[2, 0, 0].tolist() == [200, 0, 0]
    assert find_files(tmp_path).classes == ["a", "b", "b"]
    assert read_images(_images_in(tmp_path), None, like=(8, 8)).shape == (3, 8, 8)


def test_a_picture_taken_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((8, 12), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_images(_images_in(tmp_path), None).shape == (1, 12, 8)


def _odd_images() -> dict[str, Image.Image]:
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (150, 240, 3), dtype=np.uint8)).resize((300, 200))
    depths = rng.integers(0, 2**16, (30, 40))
    see_through = colours.convert("RGBA")
    see_through.putalpha(colours.convert("L"))
    return {
        "colours.jpg": colours,
        "print.jpg": colours.convert("CMYK"),
        "see-through.png": see_through,
        "grey-see-through.png": see_through.convert("LA"),
        "palette.gif": colours.convert("P"),
        "ink.png": colours.convert("1"),
        "16-bits.png": Image.fromarray(depths.astype(np.uint16)),
        "32-bits.tif": Image.fromarray((depths * 1000).astype(np.int32)),
        "real.tif": Image.fromarray((depths / 7).astype(np.float32)),
        "unknown.tif": Image.fromarray(np.full((30, 40), np.nan, np.float32)),
    }


@pytest.mark.parametrize("name", _odd_images())
@pytest.mark.parametrize("n_channels", [1, 3])
def test_pixels_are_those_of_the_encoder_of_image_files(tmp_path: Path, name: str, n_channels: int) -> None:
    vision = pytest.importorskip("metafe_vision")
    path = tmp_path / name
    _odd_images()[name].save(path)
    encoder = vision.ImageFiles(side=20, channels=n_channels, resize="stretch")
    (image,) = encoder.fit([path], Seeds(0)).encode([path])
    like = (20, 20) if n_channels == 1 else (20, 20, 3)
    np.testing.assert_array_equal(
        read_images([path], None, like)[0], image[0] if n_channels == 1 else np.moveaxis(image, 0, 2)
    )


@pytest.mark.parametrize(("name", "shape"), [("see-through.png", (200, 300, 3)), ("real.tif", (30, 40))])
def test_what_is_transparent_is_white_and_real_numbers_are_stretched(
    tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    image = _odd_images()[name]
    if image.mode == "RGBA":
        image.putalpha(0)
    image.save(tmp_path / name)
    (pixels,) = read_images([tmp_path / name], None)
    assert pixels.shape == shape
    assert (pixels.min(), pixels.max()) == ((255, 255) if image.mode == "RGBA" else (0, 255))


def test_images_of_other_sizes_are_read_as_in_fit(cli: Any, files: Path, tmp_path: Path) -> None:
    cli.succeed("fit", files / "images", "--image-size", "10x12", "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    cli.save_image(tmp_path / "loose" / "one.png", np.zeros((30, 40, 3), np.uint8))
    cli.succeed("transform", tmp_path / "out", tmp_path / "loose", "-o", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as written:
        assert written["X"].shape == (1, metafe.load(tmp_path / "out").n_features_out_)
        assert set(written) == {"X", "file"}


@pytest.mark.parametrize("spoil", [lambda whole: b"no picture", lambda whole: whole[: len(whole) - 30]])
def test_an_image_that_cannot_be_read_is_black_and_named_once(
    cli: Any, files: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    images = shutil.copytree(files / "images", tmp_path / "images")
    bad = images / "digit 0" / "00.png"
    bad.write_bytes(spoil(bad.read_bytes()))
    fitted = cli.succeed("fit", images, "--image-size", "10x12", "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    judged = cli.succeed("evaluate", tmp_path / "out", images, "--episodes", "5")
    for result in (fitted, judged):
        assert result.stderr.count("could not read 1 of") == 1
        assert "which are black: row 0, " in result.stderr
        assert "00.png" in result.stderr
    with pytest.warns(UnreadableRowWarning):
        pixels = read_images([bad, images / "digit 1" / "01.png"], None)
    assert pixels[0].max() == 0 < pixels[1].max()


def test_images_that_cannot_be_used(cli: Any, files: Path, tmp_path: Path) -> None:
    fit = ("-o", tmp_path / "out")
    cli.save_image(tmp_path / "sizes" / "a" / "1.png", np.zeros((8, 8), np.uint8))
    cli.save_image(tmp_path / "sizes" / "b" / "2.png", np.zeros((9, 8), np.uint8))
    assert "--image-size" in cli.fail("fit", tmp_path / "sizes", *fit)
    (tmp_path / "damaged" / "a").mkdir(parents=True)
    (tmp_path / "damaged" / "a" / "broken.png").write_bytes(b"no picture")
    assert "broken.png" in cli.fail("fit", tmp_path / "damaged", *fit)
    whole = (files / "images" / "digit 0" / "00.png").read_bytes()
    (tmp_path / "damaged" / "a" / "broken.png").write_bytes(whole[: len(whole) - 30])
    assert "broken.png" in cli.fail("fit", tmp_path / "damaged", *fit)
    (tmp_path / "empty").mkdir()
    assert "sub-folder per class" in cli.fail("fit", tmp_path / "empty", *fit)
    cli.save_image(tmp_path / "flat" / "one.png", np.zeros((8, 8), np.uint8))
    cli.succeed("fit", files / "images", *fit, *cli.TRAIN_A_MOMENT)
    assert "into a sub-folder" in cli.fail("evaluate", tmp_path / "out", tmp_path / "flat")
    cli.save_image(tmp_path / "sizes" / "stray.png", np.zeros((8, 8), np.uint8))
    assert "stray.png" in cli.fail("fit", tmp_path / "sizes", *fit)
    assert "--target" in cli.fail("fit", files / "images", "--target", "digit", *fit)


# Wrong input


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b,kind\n1,2,x\n3,red,y\n", "got 'b' (such as '2')"),
        ("a,b,kind\n1,2,x\n3,,y\n", "'b' (1 of 2)"),
        ("a,b,kind\n1,2,x\n3,NaN,y\n", "'b' (1 of 2)"),
        ("a,b,kind\n1,2,x\n3,4,\n", "Column 'kind' must have no missing values; got 1 of 2"),
        ("a,b,kind\n1,2,x\n3,inf,y\n", "infinity"),
        ("a,b,kind\n", "0 rows"),
        ("kind\nx\ny\n", "0 in data.csv"),
        ("", "readable as csv"),
        ("a,b,kind\n1,2,x,9,9\n", "readable as csv"),
        ("a,b,kind\n1,2,x\n3,4,x\n", "at least 2 classes"),
    ],
)
def test_tables_that_cannot_be_used(cli: Any, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "data.csv").write_text(content)
    assert said in cli.fail("fit", tmp_path / "data.csv", "--target", "kind", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_semicolons_and_truth_values_are_understood(tmp_path: Path) -> None:
    from metafe.cli.data import Request, read

    (tmp_path / "data.csv").write_text("a;b;kind\n1,5;true;x\n2,5;false;y\n".replace(",", "."))
    rows = read(tmp_path / "data.csv", Request(target="kind"))
    assert rows.X.to_numpy().tolist() == [[1.5, 1.0], [2.5, 0.0]]
    assert rows.y is not None
    assert rows.y.tolist() == ["x", "y"]


def test_files_that_are_not_there_or_not_what_they_seem(cli: Any, files: Path, tmp_path: Path) -> None:
    fit = ("-o", tmp_path / "out")
    assert "Did you mean" in cli.fail("fit", files / "odl.csv", *fit)
    assert "Check the path" in cli.fail("fit", tmp_path / "nowhere" / "x.csv", *fit)
    (tmp_path / "table.xlsx").touch()
    assert ".csv, .parquet, .npz" in cli.fail("fit", tmp_path / "table.xlsx", *fit)
    for suffix in ("parquet", "npz"):
        (tmp_path / f"wrong.{suffix}").write_text("something else")
        assert f"wrong.{suffix}" in cli.fail("fit", tmp_path / f"wrong.{suffix}", *fit)
    whole = (files / "old.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "cut.npz" in cli.fail("fit", tmp_path / "cut.npz", *fit)


def test_arrays_that_cannot_be_used(cli: Any, files: Path, tmp_path: Path) -> None:
    fit = ("-o", tmp_path / "out")
    np.savez(tmp_path / "a.npz", rows=np.zeros((3, 2)))
    assert "needs the array 'X'" in cli.fail("fit", tmp_path / "a.npz", *fit)
    np.savez(tmp_path / "b.npz", X=np.zeros((3, 2)), y=np.zeros(4))
    assert "y (4,)" in cli.fail("fit", tmp_path / "b.npz", *fit)
    np.savez(tmp_path / "c.npz", X=np.array([{}, {}], dtype=object))
    assert "without pickled objects" in cli.fail("fit", tmp_path / "c.npz", *fit)
    assert "Did you mean 'site'?" in cli.fail("fit", files / "old.npz", "--groups", "sites", *fit)
    assert "--ignore" in cli.fail("fit", files / "old.npz", "--ignore", "a", *fit)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--target", "digits"), "Did you mean 'digit'? Available: 'pixel0', 'pixel1'"),
        (("--target", "digit", "--groups", "town"), "--groups must be a column of old.csv; got 'town'"),
        (("--target", "digit", "--ignore", "towns"), "--ignore must be a column"),
        (("--target", "digit", "--backbone", "mpl"), "Did you mean 'mlp'?"),
        (("--target", "digit", "--algorithm", "protone"), "Did you mean 'protonet'?"),
        (("--target", "digit", "-p", "width"), "--param must be key=value"),
        (("--target", "digit", "-p", "backbone__width=4"), "needs a named backbone"),
        (("--target", "digit", "-p", "tempo=4"), "Invalid parameter 'tempo'"),
        (("--target", "digit", "--device", "cuda:77"), "device must be"),
        (("--image-size", "big"), "--image-size must be N or HxW"),
        (("--max-steps", "-1"), "--max-steps"),
        (("--maxsteps", "1"), "Try 'metafe fit --help'."),
    ],
)
def test_options_that_cannot_work(cli: Any, files: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    assert said in cli.fail("fit", files / "old.csv", "--ignore", "site", *options, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_outputs_that_cannot_be_written(cli: Any, files: Path, extractor: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "got the file" in cli.fail("fit", files / "old.npz", "-o", tmp_path / "file")
    assert "may be written" in cli.fail("fit", files / "old.npz", "-o", tmp_path / "file" / "below")
    transform = ("transform", extractor, files / "new.csv", "-t", "digit", "--ignore", "site", "-o")
    assert ".csv, .parquet, .npz" in cli.fail(*transform, tmp_path / "out.xlsx")
    assert "folder that exists" in cli.fail(*transform, tmp_path / "nowhere" / "out.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "may be written" in cli.fail(*transform, tmp_path / "folder.csv")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user who may not write everywhere")
def test_a_folder_without_permission(cli: Any, files: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "may be written" in cli.fail("fit", files / "old.npz", "-o", tmp_path / "locked" / "out")


def test_a_folder_that_is_no_extractor(cli: Any, files: Path, tmp_path: Path) -> None:
    assert str(tmp_path) in cli.fail("transform", tmp_path, files / "new.csv", "-o", tmp_path / "out.csv")
    assert "images" in cli.fail("evaluate", files / "images", files / "new.csv")


def test_debugging_shows_the_traceback_too(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFE_DEBUG", "1")
    result = cli.run("fit", tmp_path / "none.csv", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert re.search(r"\nError: DATA must be [^\n]+\n$", result.stderr)


def test_a_fault_of_metafe_is_not_called_wrong_input(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("metafe.plugins.registry", broken)
    with pytest.raises(RuntimeError, match="a fault"):
        cli.run("plugins")
