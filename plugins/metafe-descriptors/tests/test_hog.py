from __future__ import annotations

import numpy as np
import pytest
from metafe_descriptors import Hog
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from metafe.contracts import InvalidParameterError, Seeds


def test_it_is_what_scikit_image_computes(digits):
    expected = [
        hog(x, orientations=6, pixels_per_cell=(2, 2), cells_per_block=(2, 2), block_norm="L2") for x in digits[0]
    ]
    encoded = Hog(orientations=6, pixels_per_cell=2, block_norm="L2").encode(digits[0])
    np.testing.assert_array_equal(encoded, np.asarray(expected, dtype=np.float32))


def test_digits_can_be_told_apart(digits):
    X, y = digits
    accuracy = cross_val_score(LogisticRegression(max_iter=1000), Hog().encode(X), y, cv=3).mean()
    assert accuracy > 0.85


@pytest.mark.parametrize("axis", [1, 3])
def test_grey_equals_repeated_colour(digits, axis):
    grey = digits[0][:20]
    colour = np.stack([grey] * 3, axis=axis)
    np.testing.assert_array_equal(Hog().encode(colour), Hog().encode(grey))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, ">f4"])
def test_type_does_not_matter(digits, dtype):
    np.testing.assert_array_equal(Hog().encode(digits[0][:20].astype(dtype)), Hog().encode(digits[0][:20]))


def test_a_share_gives_the_same_width_for_images_of_any_size():
    widths = {Hog().encode(np.ones((1, side, side))).shape[1] for side in (32, 64, 128)}
    assert len(widths) == 1


@pytest.mark.parametrize("side", [8, 9, 13])
def test_the_smallest_images_work(side):
    encoded = Hog(pixels_per_cell=0.5, cells_per_block=5).encode(np.random.default_rng(0).random((2, side, 2 * side)))
    assert encoded.any()


@pytest.mark.parametrize(
    "parameters",
    [
        {"orientations": 0},
        {"orientations": 2.5},
        {"cells_per_block": 0},
        {"block_norm": "L3"},
        {"pixels_per_cell": 0.0},
        {"pixels_per_cell": -0.5},
        {"pixels_per_cell": 1},
        {"pixels_per_cell": 9},
        {"pixels_per_cell": 2.5},
    ],
    ids=str,
)
def test_a_parameter_that_cannot_be_is_named(parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^hog {name} must be .*; got {value!r}"):
        Hog(**parameters).fit(np.ones((4, 8, 8)), None, Seeds(0))


def test_flat_rows_are_refused_with_the_way_out():
    assert Hog().accepts(np.zeros((3, 64))).endswith("Pass Hog(image_shape=(H, W)).")
