"""Arrays of images of any size become what files of them become."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metafe_vision import ImageArrays, ImageFiles
from PIL import Image

from metafe import MetaFeatureExtractor
from metafe.contracts import InvalidInputError, Seeds, UnreadableRowWarning

pytestmark = pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")


def encode(rows, **parameters):
    return ImageArrays(**parameters).fit(rows, Seeds(0)).encode(rows)


@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
def test_arrays_give_what_files_of_them_give(arrays, tmp_path, resize):
    paths = [tmp_path / f"{i}.png" for i in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    of_files = ImageFiles(resize=resize).fit(paths, Seeds(0)).encode(paths)
    np.testing.assert_array_equal(encode(arrays, resize=resize), of_files)


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image / 255,
        lambda image: torch.tensor(image / 255, requires_grad=True),
        lambda image: image.tolist(),
        lambda image: image if image.ndim == 2 else image.transpose(2, 0, 1),
    ],
    ids=["real", "torch", "lists", "channels first"],
)
def test_type_and_layout_do_not_matter(arrays, convert):
    np.testing.assert_array_equal(encode([convert(image) for image in arrays]), encode(arrays))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (None, "missing"),
        ({}, "a dict"),
        (np.full((9, 9), -1.0), "float64 from -1 to -1"),
        (np.full((9, 9), np.nan), "ValueError: values that are not finite"),
    ],
    ids=str,
)
def test_a_row_that_cannot_be_read_is_black_and_named(arrays, bad, why):
    rows = [*arrays, bad]
    with pytest.warns(UnreadableRowWarning, match=rf"1 of 13 images, which are black images: row 12 \({why}\)"):
        images = encode(rows)
    assert not images[12].any()
    np.testing.assert_array_equal(images[:12], encode(arrays))
    with pytest.raises(InvalidInputError, match=rf"row 12, cannot \({why}\)"):
        encode(rows, errors="raise")


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ("a.png", "got a str"),
        ([], "got a list"),
        (3, "got a int"),
        (np.zeros((3, 9)), r"row 0 is an array of shape \(9,\)"),
        ([np.full((9, 9), 7.0)], "row 0 is float64 from 7 to 7"),
        ([[[1, 2], [3]]], "row 0 is a list"),
    ],
    ids=str,
)
def test_what_are_no_images_is_refused(rows, why):
    with pytest.raises(InvalidInputError, match=f"^image-arrays needs .*{why}"):
        MetaFeatureExtractor("identity", encoder="image-arrays").fit(
            [*rows, *rows] if isinstance(rows, list) and rows else rows
        )


def test_images_of_unequal_sizes_find_their_encoder_and_network(arrays):
    y = np.arange(72) % 3
    fitted = MetaFeatureExtractor(max_steps=1, validation_fraction=0, random_state=0).fit(arrays * 6, y)
    assert fitted.decisions_["encoder"] == "image-arrays, since rows are images"
    assert "images" in fitted.decisions_["backbone"] or "nothing was held out" in fitted.decisions_["backbone"]
    assert np.isfinite(fitted.transform(arrays)).all()
