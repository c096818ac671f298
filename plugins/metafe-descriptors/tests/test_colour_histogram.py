from __future__ import annotations

import itertools

import numpy as np
import pytest
from metafe_descriptors import ColourHistogram
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from metafe.contracts import InvalidParameterError, Seeds

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def fitted(X, **parameters):
    return ColourHistogram(**parameters).fit(X, None, Seeds(0))


def plain(*colours):
    """Images of 8×8 pixels of a single colour each, ``(n, 8, 8, 3)`` uint8."""
    return np.tile(np.array(colours, dtype=np.uint8)[:, None, None], (1, 8, 8, 1))


@pytest.fixture(scope="module")
def fruits():
    """60 noisy images in three colours with a grey patch anywhere, ``(60, 12, 16, 3)`` uint8."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    colours = np.array([[180, 40, 30], [200, 170, 40], [60, 140, 50]])
    images = colours[y][:, None, None] + rng.normal(0, 25, size=(60, 12, 16, 3))
    for image in images:
        row, column = rng.integers(0, 6), rng.integers(0, 9)
        image[row : row + 6, column : column + 7] = rng.integers(0, 255)
    return images.clip(0, 255).astype(np.uint8), y


@pytest.mark.parametrize(("space", "joint"), list(itertools.product(["hsv", "lab", "rgb"], [False, True])))
def test_colours_can_be_told_apart(fruits, space, joint):
    X, y = fruits
    features = fitted(X, space=space, joint=joint).encode(X)
    assert cross_val_score(KNeighborsClassifier(1), features, y, cv=3).mean() > 0.9, "Chance is a third."


@pytest.mark.parametrize("joint", [False, True])
def test_vectors_have_unit_length(fruits, joint):
    encoded = fitted(fruits[0], joint=joint, grid=3).encode(fruits[0])
    assert (encoded >= 0).all()
    np.testing.assert_allclose((encoded**2).sum(axis=1), 1, rtol=1e-5)


def test_pure_colours_fall_where_they_belong():
    encoded = fitted(plain(RED), bins=6, grid=1).encode(plain(RED, GREEN, BLUE, (128, 128, 128)))
    hue_saturation_value = [np.unravel_index(code, (6, 6, 6)) for code in encoded.argmax(axis=1)]
    assert hue_saturation_value == [(0, 5, 5), (2, 5, 5), (4, 5, 5), (0, 0, 3)]


def test_separate_histograms_do_not_know_which_values_came_together():
    halves = np.concatenate([plain((0, 0, 0), (255, 0, 0)), plain((255, 255, 0), (0, 255, 0))], axis=1)
    joint, separate = (fitted(halves, space="rgb", bins=2, joint=joint, grid=1) for joint in (True, False))
    first, second = separate.encode(halves)
    np.testing.assert_array_equal(first, second)
    first, second = joint.encode(halves)
    assert first @ second == 0


def test_cells_know_where_a_colour_is():
    two = np.concatenate([plain(RED, GREEN), plain(GREEN, RED)], axis=2)
    whole, cells = (fitted(two, grid=grid).encode(two) for grid in (1, 2))
    np.testing.assert_array_equal(*whole)
    assert cells[0] @ cells[1] == 0


def test_grey_images_give_histograms_of_intensity():
    images = np.random.default_rng(0).integers(0, 256, size=(3, 10, 9), dtype=np.uint8)
    counts = np.stack([np.histogram(image, bins=16, range=(0, 255))[0] for image in images])
    for space, joint in itertools.product(["hsv", "lab"], [False, True]):
        encoded = fitted(images, space=space, bins=16, joint=joint, grid=1).encode(images)
        np.testing.assert_allclose(encoded, np.sqrt(counts / 90), rtol=1e-6)


def test_every_colour_has_a_place():
    steps = np.linspace(0, 255, 16).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, 64, 64, 3)
    for space in ("hsv", "lab", "rgb"):
        separate = fitted(cube, space=space, joint=False, grid=1).encode(cube).reshape(3, 8) ** 2
        np.testing.assert_allclose(separate.sum(axis=1), 1 / 3, rtol=1e-5)
        assert fitted(cube, space=space, grid=1).encode(cube).any()


@pytest.mark.parametrize(
    "convert",
    [lambda X: X.astype(np.int64), lambda X: X / 255, lambda X: X.astype(">f4"), lambda X: np.moveaxis(X, -1, 1)],
    ids=["whole", "share", "big-endian", "first"],
)
def test_type_and_layout_do_not_matter(fruits, convert):
    X = fruits[0].copy()
    X[0, 0, 0] = 255
    converted = convert(X)
    np.testing.assert_array_equal(fitted(converted).encode(converted), fitted(X).encode(X))


def test_the_range_is_that_of_the_training_images_unless_they_are_bytes():
    images = np.random.default_rng(0).uniform(3, 5, size=(4, 9, 9))
    assert fitted(images).range_ == [0, images.max()]
    assert fitted(images - 4).range_ == [images.min() - 4, images.max() - 4]
    assert fitted(images.astype(np.uint8)).range_ == [0, 255]
    assert fitted(np.zeros((2, 8, 8))).range_ == [0, 1]


def test_values_beyond_the_range_are_black_and_white():
    backbone = fitted(np.linspace(0, 1, 128).reshape(2, 8, 8), bins=4, grid=1)
    encoded = backbone.encode(np.stack([np.full((8, 8), value) for value in (-9.0, 9.0)]))
    np.testing.assert_array_equal(encoded, [[1, 0, 0, 0], [0, 0, 0, 1]])


def test_a_restored_backbone_has_the_range():
    images = np.random.default_rng(0).uniform(0, 7, size=(4, 9, 9))
    backbone = fitted(images)
    restored = clone(backbone)
    restored.set_state(backbone.get_state())
    np.testing.assert_array_equal(restored.encode(images[:1]), backbone.encode(images[:1]))


@pytest.mark.parametrize("shape", [(3, 2, 9, 9), (3, 9, 9, 4), (3, 10, 10, 5)], ids=str)
def test_other_channels_than_one_or_three_are_refused(shape):
    n_channels = min(shape[1:])
    assert ColourHistogram().accepts(np.zeros(shape)) == (
        f"colour-histogram needs images of 1 or 3 channels; got {n_channels}. Pass the three of colour, or one."
    )


def test_flat_rows_are_refused_with_the_way_out():
    assert ColourHistogram().accepts(np.zeros((3, 64))).endswith("Pass ColourHistogram(image_shape=(H, W)).")
    assert ColourHistogram(image_shape=(8, 8, 3)).accepts(np.zeros((3, 192))) is None


@pytest.mark.parametrize(
    "parameters",
    [{"space": "cmyk"}, {"bins": 1}, {"bins": 2.5}, {"joint": None}, {"grid": 0}, {"grid": 9}],
    ids=str,
)
def test_a_parameter_that_cannot_be_is_named(parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^colour-histogram {name} must be .*; got {value!r}"):
        fitted(np.ones((4, 8, 12)), **parameters)
