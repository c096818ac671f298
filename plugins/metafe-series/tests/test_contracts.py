"""The encoder, all backbones and all augmentations keep their contracts."""

from __future__ import annotations

import numpy as np
import pytest
from metafe_series import DilatedConv, InceptionTime, Jitter, MiniRocket, Scaling, Series, WindowWarping

from metafe.testing import AugmentationContract, BackboneContract, EncoderContract


class TestSeries(EncoderContract):
    @pytest.fixture(
        params=[Series(), Series(20, "pad", normalise=True), Series(how="pad"), Series(3, normalise=True)],
        ids=["defaults", "pad", "longest", "short"],
    )
    def plugin(self, request):
        return request.param

    @pytest.fixture(params=["one", "several"])
    def rows(self, request):
        rng = np.random.default_rng(0)
        shape = () if request.param == "one" else (3,)
        rows = [rng.normal(size=(*shape, length)) for length in (12, 30, 1, 25, 17)]
        rows[1][..., 4:7] = np.nan
        rows[3][...] = 2.0
        return rows


class SeriesBackboneContract(BackboneContract):
    @pytest.fixture(params=[(1, 30), (3, 20)], ids=str)
    def data(self, request):
        rng = np.random.default_rng(0)
        y = np.arange(40) % 4
        means = rng.normal(size=(4, *request.param))
        return means[y] + 0.5 * rng.normal(size=(40, *request.param)), y


class TestInceptionTime(SeriesBackboneContract):
    @pytest.fixture(
        params=[InceptionTime(width=4), InceptionTime(4, 4, 200, dropout=0.2)],
        ids=["shortcut", "deep"],
    )
    def plugin(self, request):
        return request.param


class TestDilatedConv(SeriesBackboneContract):
    @pytest.fixture(
        params=[DilatedConv(width=6, n_features=5), DilatedConv(2, 3, 2, 4, 0.2, "max")], ids=["defaults", "others"]
    )
    def plugin(self, request):
        return request.param


class TestMiniRocket(SeriesBackboneContract):
    @pytest.fixture
    def plugin(self):
        return MiniRocket(n_kernels=200)


class SeriesAugmentationContract(AugmentationContract):
    @pytest.fixture
    def rows(self):
        import torch

        generator = torch.Generator().manual_seed(0)
        return [torch.randn(8, *shape, generator=generator) for shape in [(1, 30), (3, 8), (2, 1)]]


class TestJitter(SeriesAugmentationContract):
    @pytest.fixture
    def plugin(self):
        return Jitter()


class TestScaling(SeriesAugmentationContract):
    @pytest.fixture
    def plugin(self):
        return Scaling()


class TestWindowWarping(SeriesAugmentationContract):
    @pytest.fixture(params=[0.0, 0.1, 1.0])
    def plugin(self, request):
        return WindowWarping(request.param)
