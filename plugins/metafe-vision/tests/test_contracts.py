"""What the distribution brings keeps the contracts of its kinds."""

from __future__ import annotations

import pytest
from metafe_vision import ColourJitter, HorizontalFlip, ImageArrays, ImageFiles, RandomCrop, ResNet12

from metafe.testing import AugmentationContract, BackboneContract, EncoderContract, example_rows


class TestImageFiles(EncoderContract):
    @pytest.fixture(
        params=[
            ImageFiles(),
            ImageFiles(side=9, channels=1, resize="crop", n_jobs=1),
            ImageFiles(side=30, channels=3, resize="stretch", n_jobs=2),
        ],
        ids=["defaults", "crop", "stretch"],
    )
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def rows(self, paths):
        return paths


class TestImageArrays(EncoderContract):
    @pytest.fixture(
        params=[ImageArrays(), ImageArrays(side=9, channels=3, resize="stretch")], ids=["defaults", "stretch"]
    )
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def rows(self, arrays):
        return arrays


class TestResNet12(BackboneContract):
    @pytest.fixture(
        params=[ResNet12(width=4), ResNet12(width=4, dropout=0.2, pooling="flatten")], ids=["defaults", "flatten"]
    )
    def plugin(self, request):
        return request.param


class TestResNet12Layouts(BackboneContract):
    @pytest.fixture(params=[(8, 8), (16, 12, 3), (3, 9, 30)], ids=str)
    def data(self, request):
        return example_rows(request.param)

    @pytest.fixture
    def plugin(self):
        return ResNet12(width=4, dropout=0.1, block_size=2)


class TestHorizontalFlip(AugmentationContract):
    @pytest.fixture
    def plugin(self):
        return HorizontalFlip()


class TestRandomCrop(AugmentationContract):
    @pytest.fixture(params=[RandomCrop(), RandomCrop(1.0, 1.0, 0.25)], ids=["resized", "padded"])
    def plugin(self, request):
        return request.param


class TestColourJitter(AugmentationContract):
    @pytest.fixture(params=[ColourJitter(), ColourJitter(1.0, 1.0, 1.0, 0.5)], ids=["defaults", "strong"])
    def plugin(self, request):
        return request.param
