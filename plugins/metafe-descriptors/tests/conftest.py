"""Small sets of images."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import disk, polygon, rectangle
from sklearn.datasets import load_digits

SIDE = 24


@pytest.fixture(scope="session")
def _folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="class")
def kept(_folder):
    """Keep keypoints from one test to the next, as a user's cache does: the search for them takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAFE_CACHE", str(_folder))
        yield


@pytest.fixture(scope="session")
def digits():
    """300 digits of 8×8 pixels with ten classes."""
    X, y = load_digits(return_X_y=True)
    return X[:300].reshape(-1, 8, 8), y[:300]


@pytest.fixture(scope="session")
def shapes():
    """90 images of a square, a disc or a triangle, of any size and place, ``(90, 24, 24)`` uint8."""
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(3), 30)
    return np.stack([_shape(label, rng) for label in y]), y


def _shape(label, rng):
    radius = rng.integers(4, 8)
    row, column = rng.integers(radius, SIDE - radius, size=2)
    image = rng.integers(0, 40, size=(SIDE, SIDE)).astype(np.uint8)
    if label == 0:
        inside = rectangle((row - radius, column - radius), (row + radius - 1, column + radius - 1))
    elif label == 1:
        inside = disk((row, column), radius)
    else:
        inside = polygon([row - radius, row + radius, row + radius], [column, column - radius, column + radius])
    image[inside[0], inside[1]] = rng.integers(180, 255)
    return image
