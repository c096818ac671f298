"""The encoder and the backbones keep their contracts."""

from __future__ import annotations

import numpy as np
import pytest
from metafe_tabular import FTTransformer, TabICL, Table, TabPFN, TabularResNet, tabicl_backbone, tabpfn_backbone

from metafe.testing import BackboneContract, EncoderContract


class TestTable(EncoderContract):
    @pytest.fixture(params=[Table(), Table(max_categories=3, n_text_features=2)], ids=["defaults", "small"])
    def plugin(self, request):
        return request.param

    @pytest.fixture(params=["frame", "polars_frame"])
    def rows(self, request):
        return request.getfixturevalue(request.param)


def rows_with_few_values():
    """Forty rows of four classes: numbers, truth values and a column that is always the same."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 4
    X = y[:, None] + rng.normal(size=(40, 6))
    X[:, 4] = X[:, 4] > 0
    X[:, 5] = 3.0
    return X, y


class TestFTTransformer(BackboneContract):
    @pytest.fixture(
        params=[
            FTTransformer(width=16, n_heads=4, n_features=8),
            FTTransformer(1, 8, 2, 5, dropout=0.1, embeddings="piecewise-linear", n_bins=5),
            FTTransformer(1, 8, 1, 5, embeddings="periodic", n_frequencies=3),
        ],
        ids=["none", "piecewise-linear", "periodic"],
    )
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def data(self):
        return rows_with_few_values()


class TestTabularResNet(BackboneContract):
    @pytest.fixture(
        params=[
            TabularResNet(width=16, n_features=8),
            TabularResNet(1, 8, 1.5, 5, dropout=0.0, embeddings="piecewise-linear", embedding_width=4, n_bins=5),
            TabularResNet(1, 8, 0.1, 5, embeddings="periodic", embedding_width=3, n_frequencies=3),
        ],
        ids=["none", "piecewise-linear", "periodic"],
    )
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def data(self):
        return rows_with_few_values()


class TestTabICL(BackboneContract):
    @pytest.fixture
    def plugin(self, tabicl_weights):
        # Models that another test has loaded would hide what loading does.
        tabicl_backbone._model.cache_clear()
        return TabICL(tabicl_weights, context_size=20)

    @pytest.fixture
    def data(self):
        return rows_with_few_values()


class TestTabPFN(BackboneContract):
    @pytest.fixture
    def plugin(self, tabpfn_weights):
        tabpfn_backbone._specs.cache_clear()
        return TabPFN(tabpfn_weights, context_size=20)

    @pytest.fixture
    def data(self):
        return rows_with_few_values()
