"""All descriptors keep the contract of a backbone, on every layout and size of images."""

from __future__ import annotations

import numpy as np
import pytest
from metafe_descriptors import ColourHistogram, Hog, Lbp, Sift

from metafe.testing import BackboneContract

LAYOUTS = [(8, 8), (9, 30), (3, 16, 16), (16, 12, 3), (1, 12, 12), (2, 15, 9)]


def random_images(shape, dtype=float):
    """Twenty images of four classes, with structures of a few pixels."""
    rng = np.random.default_rng(0)
    y = np.arange(20) % 4
    means = rng.random((4, *shape))
    return (200 * means[y] + 50 * rng.random((20, *shape))).astype(dtype), y


class TestHog(BackboneContract):
    @pytest.fixture(
        params=[
            Hog(),
            Hog(orientations=4, pixels_per_cell=5, cells_per_block=1, block_norm="L1"),
            Hog(pixels_per_cell=0.9, cells_per_block=9, block_norm="L1-sqrt", n_jobs=2),
        ],
        ids=["defaults", "pixels", "shares"],
    )
    def plugin(self, request):
        return request.param


class TestHogLayouts(BackboneContract):
    @pytest.fixture(params=LAYOUTS, ids=str)
    def data(self, request):
        return random_images(request.param, np.uint8)

    @pytest.fixture
    def plugin(self):
        return Hog()


class TestLbp(BackboneContract):
    @pytest.fixture(
        params=[Lbp(), Lbp(n_radii=1, n_points=12, rotation_invariant=True, grid=5, n_jobs=2)],
        ids=["defaults", "invariant"],
    )
    def plugin(self, request):
        return request.param


class TestLbpLayouts(BackboneContract):
    @pytest.fixture(params=LAYOUTS, ids=str)
    def data(self, request):
        return random_images(request.param, np.uint8)

    @pytest.fixture
    def plugin(self):
        return Lbp()


class TestColourHistogram(BackboneContract):
    @pytest.fixture(params=["hsv", "lab", "rgb"])
    def plugin(self, request):
        return ColourHistogram(request.param, joint=request.param != "lab", grid=3, n_jobs=2)

    @pytest.fixture
    def data(self):
        return random_images((3, 12, 10))


class TestColourHistogramLayouts(BackboneContract):
    @pytest.fixture(params=[(8, 8), (3, 16, 16), (16, 12, 3), (1, 12, 12)], ids=str)
    def data(self, request):
        return random_images(request.param, np.uint8)

    @pytest.fixture
    def plugin(self):
        return ColourHistogram()


class TestSift(BackboneContract):
    @pytest.fixture
    def plugin(self):
        return Sift(3, "l1", smallest_side=16, n_vocabulary_images=12, n_jobs=2)

    @pytest.fixture
    def data(self):
        return random_images((12, 12))


@pytest.mark.usefixtures("kept")
class TestCachedSift(BackboneContract):
    # Every layout takes the same way to an image; that of each is tested above.
    @pytest.fixture(params=[(8, 8), (3, 12, 10)], ids=str)
    def data(self, request):
        return random_images(request.param, np.uint8)

    @pytest.fixture
    def plugin(self):
        return Sift(n_words=8, smallest_side=12)


class TestFlatRows(BackboneContract):
    @pytest.fixture
    def data(self):
        X, y = random_images((3, 8, 16))
        return X.reshape(len(X), -1), y

    @pytest.fixture(params=[Hog, Lbp, ColourHistogram], ids=lambda kind: kind.name)
    def plugin(self, request):
        return request.param(image_shape=(3, 8, 16))
