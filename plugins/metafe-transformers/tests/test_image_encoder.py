from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metafe_transformers import ImageEncoder, frozen, image_encoder
from PIL import Image

from metafe.contracts import (
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
    Seeds,
    UnreadableRowWarning,
)


def encoded(encoder, rows):
    return encoder.fit(rows, Seeds(0)).encode(rows)


@pytest.fixture
def encoder(saved):
    return ImageEncoder(saved("vit"))


def states_of(folder, image):
    """What transformers makes of one image alone."""
    import torch
    from transformers import AutoImageProcessor, AutoModel

    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=image, return_tensors="pt")
    network = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return getattr(network, "vision_model", network)(**pixels)


@pytest.mark.parametrize("family", ["vit", "dinov2", "clip"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_it_is_what_the_model_gives_for_one_image_alone(saved, images, family, pooling):
    picked = {"mean": lambda s: s.mean(0), "cls": lambda s: s[0], "last": lambda s: s[-1]}
    expected = [picked[pooling](states_of(saved(family), image).last_hidden_state[0]).numpy() for image in images]
    found = encoded(ImageEncoder(saved(family), pooling, normalise=False), images)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("family", ["convnext", "resnet"])
def test_a_convolutional_network_gives_the_mean_that_it_makes_itself(saved, images, family):
    expected = [states_of(saved(family), image).pooler_output.flatten().numpy() for image in images]
    np.testing.assert_allclose(encoded(ImageEncoder(saved(family), normalise=False), images), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_a_convolutional_network_has_no_tokens(saved, images, pooling):
    with pytest.raises(InvalidParameterError, match="pooling must be 'mean' for a convolutional network"):
        encoded(ImageEncoder(saved("convnext"), pooling), images)


def test_embeddings_have_length_one_unless_told_otherwise(saved, images):
    plain, normalised = (encoded(ImageEncoder(saved("vit"), normalise=n), images) for n in (False, True))
    np.testing.assert_allclose(plain / np.linalg.norm(plain, axis=1, keepdims=True), normalised, atol=1e-6)


@pytest.mark.parametrize(
    "kept",
    [list, np.array, pd.Series, lambda paths: [Path(path) for path in paths]],
    ids=["list", "array", "series", "paths"],
)
def test_files_are_what_arrays_are(encoder, images, image_files, kept):
    np.testing.assert_array_equal(encoded(encoder, kept(image_files)), encoded(encoder, images))


@pytest.mark.parametrize(
    "laid_out",
    [
        list,
        lambda images: images.transpose(0, 3, 1, 2),
        lambda images: images.astype(np.int64),
        lambda images: images / 255,
        lambda images: (images / 255).astype(np.float32),
        lambda images: np.concatenate([images, np.full_like(images[..., :1], 255)], axis=3),
    ],
    ids=["list", "channels first", "int64", "float64", "float32", "opaque"],
)
def test_an_image_is_the_same_in_every_layout_and_type(encoder, images, laid_out):
    np.testing.assert_array_equal(encoded(encoder, laid_out(images)), encoded(encoder, images))


def test_grey_is_three_equal_channels(encoder, images):
    grey = images[..., 0]
    expected = encoded(encoder, np.repeat(grey[..., None], 3, axis=3))
    for same in (grey, grey[..., None], grey[:, None]):
        np.testing.assert_array_equal(encoded(encoder, same), expected)
    black_and_white = grey > 128
    np.testing.assert_array_equal(
        encoded(encoder, black_and_white), encoded(encoder, np.uint8(255) * black_and_white.astype(np.uint8))
    )


def test_images_need_not_be_of_one_size(saved, images):
    rows = [images[0], images[1, :20], images[2, :, :21, 0]]
    # Without a common size of its own, the convolutional network gets shapes of two kinds.
    for family in ("vit", "convnext"):
        together = encoded(ImageEncoder(saved(family)), rows)
        for row, embedding in zip(rows, together, strict=True):
            np.testing.assert_array_equal(encoded(ImageEncoder(saved(family)), [row])[0], embedding)


def test_batches_of_an_accelerator_change_nothing(encoder, images, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", "off")
    monkeypatch.setattr(ImageEncoder, "rows_at_once", lambda self, device: 4)
    together = encoded(encoder, images)
    np.testing.assert_array_equal(encoded(encoder, images[[5, 0]]), together[[5, 0]])
    monkeypatch.undo()
    np.testing.assert_allclose(encoded(encoder, images), together, atol=1e-5)


def test_a_file_is_turned_as_it_says(encoder, images, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    Image.fromarray(images[0]).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(
        encoded(encoder, [tmp_path / "turned.png"]), encoded(encoder, [np.rot90(images[0], -1)])
    )


def test_transparent_pixels_show_white(encoder, images):
    with_alpha = np.dstack([images[0], np.full(images[0].shape[:2], 255, np.uint8)])
    with_alpha[:9, :, 3] = 0
    shown = images[0].copy()
    shown[:9] = 255
    np.testing.assert_array_equal(encoded(encoder, [with_alpha]), encoded(encoder, [shown]))


def test_of_sixteen_bits_the_upper_eight_are_seen(encoder, images, tmp_path):
    grey = images[0, ..., 0]
    Image.fromarray(grey.astype(np.uint16) * 256 + 7).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(encoded(encoder, [tmp_path / "deep.png"]), encoded(encoder, [grey]))


def test_damaged_and_missing_files_are_zeros_and_named_once(encoder, images, image_files, tmp_path):
    Path(image_files[1]).write_bytes(Path(image_files[1]).read_bytes()[:200])
    rows = [*image_files, str(tmp_path / "none.png")]
    with pytest.warns(
        UnreadableRowWarning, match=r"image-encoder could not read 2 of 7 rows, which are zeros"
    ) as caught:
        embeddings = encoded(encoder, rows)
    assert len(caught) == 1
    assert "row 1, " in str(caught[0].message)
    assert "none.png' (FileNotFoundError" in str(caught[0].message)
    assert not embeddings[[1, 6]].any()
    np.testing.assert_array_equal(embeddings[[0, 2, 3, 4, 5]], encoded(encoder, images[[0, 2, 3, 4, 5]]))


def test_only_the_first_unreadable_rows_are_named(encoder, images):
    encoder.fit(images, Seeds(0))
    with pytest.warns(UnreadableRowWarning, match=r"row 4, 'none' \(.*\); and 3 more\.$"):
        assert encoder.encode(["none"] * 8).shape == (8, 16)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["none.png"] * 3, r"row 0, 'none\.png' \(FileNotFoundError: .*\)"),
        ([None, "none.png", None], r"row 0 \(missing\)"),
        ([np.full((9, 9), np.nan)] * 3, r"row 0 \(ValueError: values that are not finite\)"),
    ],
    ids=["files", "missing", "not finite"],
)
def test_rows_of_which_none_can_be_read_are_an_error_of_fit(encoder, rows, named):
    with pytest.raises(
        InvalidInputError,
        match=rf"^image-encoder needs rows that can be read; got 3, and none of 3 .* such as {named}\. Pass",
    ):
        encoder.fit(rows, Seeds(0))


def test_fit_reads_no_further_than_the_first_that_can_be_read(encoder, images, monkeypatch):
    read = []
    monkeypatch.setattr(image_encoder, "read_pixels", lambda row: read.append(row) or images[0])
    encoder.fit([None, *images], Seeds(0))
    assert [row.shape for row in read] == [encoder.blank.shape, images[0].shape]


@pytest.mark.parametrize(
    ("misfit", "why"),
    [(None, "missing"), (float("nan"), "missing"), (3, "a int"), (np.full((9, 9), -1.0), "float64 from -1 to -1")],
    ids=str,
)
def test_a_row_of_another_kind_is_one_that_cannot_be_read(saved, encoder, images, misfit, why):
    rows = [images[0], misfit, images[1]]
    with pytest.warns(UnreadableRowWarning, match=rf"1 of 3 rows, which are zeros: row 1 \({why}\)\."):
        embeddings = encoded(encoder, rows)
    assert not embeddings[1].any()
    np.testing.assert_array_equal(embeddings[[0, 2]], encoded(encoder, images[:2]))
    with pytest.raises(InvalidInputError, match=rf"; row 1 is not one \({why}\)"):
        encoded(ImageEncoder(saved("vit"), errors="raise"), rows)


def test_a_file_that_is_repaired_is_read(encoder, images, tmp_path):
    path = tmp_path / "image.png"
    encoder.fit(images, Seeds(0))
    with pytest.warns(UnreadableRowWarning):
        encoder.encode([path])
    Image.fromarray(images[0]).save(path)
    np.testing.assert_array_equal(encoded(encoder, [path]), encoded(encoder, images[:1]))


class Picky:
    """A processor that does not take flat images, as those that keep the ratio of the sides do not."""

    def __init__(self, processor, least):
        self.processor, self.least = processor, least

    def __call__(self, images, **parameters):
        if len(images) < self.least:
            raise ValueError("height and width must be > 0")
        return self.processor(images=images, **parameters)


@pytest.fixture
def picky(monkeypatch):
    """A function that lets the processor refuse images of fewer lines."""
    load = image_encoder.load_image_processor
    return lambda least: monkeypatch.setattr(
        image_encoder, "load_image_processor", lambda owner, folder: Picky(load(owner, folder), least)
    )


def test_an_image_that_the_processor_does_not_take_ends_nothing(encoder, images, picky):
    picky(2)
    rows = [images[0], images[0, :1], images[1]]
    with pytest.warns(UnreadableRowWarning, match=r"could not read 1 of 3 rows.*row 1 \(ValueError: height and"):
        embeddings = encoded(encoder, rows)
    assert not embeddings[1].any()
    np.testing.assert_array_equal(embeddings[[0, 2]], encoded(encoder, images[:2]))


def test_a_processor_that_takes_nothing_is_an_error(encoder, images, picky):
    picky(1000)
    with pytest.raises(InvalidParameterError, match=r"^image-encoder model must come with a processor .*height and"):
        encoded(encoder, images)


def test_values_that_are_not_finite_are_zeros(encoder, images):
    rows = images / 255
    rows[2, 0, 0, 0] = np.nan
    with pytest.warns(UnreadableRowWarning, match=r"row 2 \(ValueError: values that are not finite\)"):
        assert not encoded(encoder, rows)[2].any()


def test_pixels_of_32_bits_are_unreadable(encoder, images, tmp_path):
    Image.fromarray(np.zeros((20, 20), np.float32)).save(tmp_path / "deep.tif")
    with pytest.warns(UnreadableRowWarning, match="pixels of 32 bits"):
        encoded(encoder, [images[0], tmp_path / "deep.tif"])


def test_unreadable_rows_can_be_an_error(saved, image_files):
    with pytest.raises(
        InvalidInputError, match=r"^image-encoder needs rows that can be read; row 6, 'none' is not one"
    ):
        encoded(ImageEncoder(saved("vit"), errors="raise"), [*image_files, "none"])


@pytest.mark.parametrize(
    ("rows", "received"),
    [
        ("a.png", "got a str"),
        (3, "got a int"),
        ([], "got none"),
        ([3], "row 0 is a int"),
        (np.zeros((3, 5)), r"row 0 is an array of shape \(5,\)"),
        (np.zeros((2, 9, 9, 7)), r"row 0 is an array of shape \(9, 9, 7\)"),
        (np.zeros((2, 0, 9)), r"row 0 is an array of shape \(0, 9\)"),
        ([np.zeros((9, 9)), np.full((9, 9), 2.5)], "row 1 is float64 from 2.5 to 2.5"),
        (np.full((2, 9, 9), -1), "row 0 is int64 from -1 to -1"),
        (np.zeros((2, 9, 9), complex), "row 0 is an array of complex128"),
        (pd.DataFrame({"a.png": [1]}), "got a DataFrame"),
    ],
    ids=str,
)
def test_what_are_no_images_is_refused(encoder, images, rows, received):
    encoder.fit(images, Seeds(0))
    with pytest.raises(InvalidInputError, match=f"^image-encoder needs .*{received}"):
        encoder.encode(rows)


def test_an_image_is_computed_once_ever(encoder, images, image_files, monkeypatch):
    arrays, files = encoded(encoder, images), encoded(encoder, image_files)
    monkeypatch.setattr(frozen, "frozen_model", None)
    np.testing.assert_array_equal(encoded(encoder, images[::-1]), arrays[::-1])
    np.testing.assert_array_equal(encoded(encoder, image_files), files)


def test_parameters_and_models_have_rows_of_their_own(saved, images):
    several = [ImageEncoder(saved("vit")), ImageEncoder(saved("vit"), "cls"), ImageEncoder(saved("clip"))]
    first, second, third = (encoded(encoder, images) for encoder in several)
    assert not np.allclose(first, second)
    assert not np.allclose(first, third)


def test_a_model_must_be_named():
    assert ImageEncoder().accepts(["a.png"]).startswith("image-encoder needs a model; got None.")


@pytest.mark.parametrize("family", ["wav2vec2", "text"])
def test_a_model_of_something_else_is_refused(saved, model, images, family):
    with pytest.raises(InvalidParameterError, match=r"image-encoder model must hold .* processor"):
        encoded(ImageEncoder(model if family == "text" else saved(family)), images)


@pytest.mark.parametrize("content", [None, b"no weights"], ids=["missing", "damaged"])
def test_weights_that_cannot_be_read_are_one_sentence(saved, images, tmp_path, content):
    folder = Path(shutil.copytree(saved("vit"), tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    if content is not None:
        (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InvalidParameterError, match=r"image-encoder model must hold config\.json, weights"):
        encoded(ImageEncoder(folder), images)


def test_a_model_that_lacks_weights_is_refused(saved, images, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(saved("vit"), tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if name.endswith("layernorm.weight"))
    save_file(
        {name: value for name, value in weights.items() if name != lost}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(InvalidParameterError, match=f"must hold all weights; .* lacks 1, such as '{lost}'"):
        encoded(ImageEncoder(folder), images)


def test_weights_that_are_not_used_may_be_missing(saved, images, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(saved("vit"), tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    np.testing.assert_array_equal(encoded(ImageEncoder(folder), images), encoded(ImageEncoder(saved("vit")), images))


def test_a_model_that_is_not_the_fitted_one_is_refused(save_other_model, images, tmp_path):
    folder = save_other_model("vit", tmp_path / "model", seed=1)
    encoder = ImageEncoder(folder).fit(images, Seeds(0))
    save_other_model("vit", tmp_path / "model", seed=2)
    with pytest.raises(InvalidInputError, match="image-encoder needs the model it was fitted with"):
        encoder.encode(images)


def test_another_processor_is_another_model(saved, images, tmp_path):
    folder = Path(shutil.copytree(saved("vit"), tmp_path / "model"))
    settings = (folder / "preprocessor_config.json").read_text()
    (folder / "preprocessor_config.json").write_text(settings.replace("0.5", "0.4"))
    assert not np.allclose(encoded(ImageEncoder(folder), images), encoded(ImageEncoder(saved("vit")), images))


def test_without_pillow_the_error_says_what_to_install(encoder, images, monkeypatch):
    monkeypatch.setattr(ImageEncoder, "libraries", ("no-such-library",))
    with pytest.raises(
        MissingDependencyError, match=r"needs no-such-library.*pip install metafe-transformers\[vision\]"
    ):
        encoded(encoder, images)


def test_nothing_is_printed(saved, images, capfd):
    frozen.frozen_model.cache_clear()
    encoder = ImageEncoder(saved("clip"))
    # What saving the model has printed, where no test before has saved it.
    capfd.readouterr()
    encoded(encoder, images)
    assert capfd.readouterr() == ("", "")


def test_a_model_that_is_no_encoder_is_refused(encoder, images, monkeypatch):
    monkeypatch.setattr(frozen, "frozen_model", lambda *given: lambda **inputs: {"logits": None})
    with pytest.raises(InvalidParameterError, match="image-encoder model must give last_hidden_state"):
        encoded(encoder, images)
