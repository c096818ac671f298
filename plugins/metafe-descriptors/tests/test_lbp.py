from __future__ import annotations

import numpy as np
import pytest
from metafe_descriptors import Lbp
from skimage import data
from skimage.feature import local_binary_pattern
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from metafe.contracts import InvalidParameterError, Seeds

ALL_BRIGHT = 57


@pytest.fixture(scope="module")
def textures():
    """60 patches of brick, grass and gravel, ``(60, 32, 32)`` uint8."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    photos = (data.brick(), data.grass(), data.gravel())
    corners = rng.integers(0, 512 - 32, size=(60, 2))
    return np.stack([photos[k][r : r + 32, c : c + 32] for k, (r, c) in zip(y, corners, strict=True)]), y


@pytest.mark.parametrize(
    ("rotation_invariant", "method", "n_codes"), [(False, "nri_uniform", 59), (True, "uniform", 10)]
)
def test_it_is_what_scikit_image_computes(rotation_invariant, method, n_codes):
    images = np.random.default_rng(0).integers(0, 256, size=(3, 20, 16), dtype=np.uint8)
    images[:, 0, :2] = 0, 255
    encoded = Lbp(n_radii=2, rotation_invariant=rotation_invariant, grid=1).encode(images)
    for image, row in zip(images, encoded, strict=True):
        codes = [local_binary_pattern(np.pad(image, r, mode="reflect"), 8, r, method)[r:-r, r:-r] for r in (1, 2)]
        counts = np.concatenate([np.bincount(c.ravel().astype(int), minlength=n_codes) for c in codes])
        np.testing.assert_allclose(row, np.sqrt(counts / counts.sum()), rtol=1e-6)


def test_textures_can_be_told_apart(textures):
    X, y = textures
    accuracy = cross_val_score(KNeighborsClassifier(1), Lbp(grid=1).encode(X), y, cv=3).mean()
    assert accuracy > 0.9, "Chance is a third."
    assert accuracy > 0.2 + cross_val_score(KNeighborsClassifier(1), X.reshape(60, -1) / 255, y, cv=3).mean()


def test_digits_can_be_told_apart(digits):
    X, y = digits
    assert cross_val_score(KNeighborsClassifier(1), Lbp().encode(X), y, cv=3).mean() > 0.75, "Chance is a tenth."


def test_vectors_have_unit_length(textures):
    encoded = Lbp().encode(textures[0])
    assert (encoded >= 0).all()
    np.testing.assert_allclose((encoded**2).sum(axis=1), 1, rtol=1e-5)


def test_every_cell_and_circle_weighs_the_same():
    image = np.random.default_rng(0).random((1, 11, 15))
    shares = Lbp(n_radii=2, grid=3).encode(image).reshape(2 * 9, 59) ** 2
    np.testing.assert_allclose(shares.sum(axis=1), 1 / 18, rtol=1e-5)


@pytest.mark.parametrize("value", [0, 7, 0.1, 255])
def test_an_image_of_a_single_colour_has_one_pattern(value):
    encoded = Lbp(n_radii=1, grid=1).encode(np.full((1, 9, 9), value))
    assert np.flatnonzero(encoded[0]).tolist() == [ALL_BRIGHT]


def test_cells_know_where_a_pattern_is():
    image = np.zeros((1, 16, 16))
    image[0, :8, :8] = np.random.default_rng(0).random((8, 8))
    cells = Lbp(n_radii=1, grid=4).encode(image).reshape(4, 4, 59)
    plain = (cells[..., ALL_BRIGHT] == cells.max()) & (cells.astype(bool).sum(axis=2) == 1)
    # Beside the textured corner some circles still touch it.
    np.testing.assert_array_equal(plain[3], True)
    np.testing.assert_array_equal(plain[:, 3], True)
    assert not plain[:2, :2].any()


def test_brightness_and_contrast_do_not_matter(textures):
    images = textures[0][:10].astype(float)
    np.testing.assert_allclose(Lbp().encode(0.25 * images - 8), Lbp().encode(images), atol=1e-6)


def test_direction_does_not_matter_where_asked(textures):
    images = textures[0][:10]
    turned = np.rot90(images, axes=(1, 2))
    invariant = Lbp(rotation_invariant=True, grid=1)
    # Values between pixels that equal the middle may be rounded to either side of it.
    np.testing.assert_allclose(invariant.encode(turned), invariant.encode(images), atol=0.01)
    assert np.abs(Lbp(grid=1).encode(turned) - Lbp(grid=1).encode(images)).max() > 0.05


@pytest.mark.parametrize("axis", [1, 3])
def test_grey_equals_repeated_colour(textures, axis):
    grey = textures[0][:10]
    np.testing.assert_array_equal(Lbp().encode(np.stack([grey] * 3, axis=axis)), Lbp().encode(grey))


@pytest.mark.parametrize("dtype", [np.int64, np.float32, ">f4", np.float64])
def test_type_does_not_matter(textures, dtype):
    few = textures[0][:10]
    np.testing.assert_array_equal(Lbp().encode(few.astype(dtype)), Lbp().encode(few))


def test_threads_change_nothing(textures):
    few = textures[0][:10]
    np.testing.assert_array_equal(Lbp(n_jobs=2).encode(few), Lbp().encode(few))


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_radii": 0},
        {"n_radii": 4},
        {"n_points": 3},
        {"n_points": 8.0},
        {"rotation_invariant": "yes"},
        {"grid": 0},
        {"grid": 9},
        {"grid": True},
    ],
    ids=str,
)
def test_a_parameter_that_cannot_be_is_named(parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^lbp {name} must be .*; got {value!r}"):
        Lbp(**parameters).fit(np.ones((4, 8, 12)), None, Seeds(0))


def test_images_that_are_too_small_are_refused():
    assert Lbp().accepts(np.zeros((3, 7, 9))) == "lbp needs images of at least 8×8 pixels; got 7×9. Enlarge them."
    assert Lbp().accepts(np.zeros((3, 64))).endswith("Pass Lbp(image_shape=(H, W)).")
