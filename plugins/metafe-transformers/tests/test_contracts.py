"""The encoders and the backbone keep the contracts."""

from __future__ import annotations

import numpy as np
import pytest
from metafe_transformers import TextEncoder, Tokens, Transformer

from metafe.contracts import Seeds
from metafe.testing import BackboneContract, EncoderContract


class TestTextEncoder(EncoderContract):
    @pytest.fixture(params=[{}, {"pooling": "cls", "max_length": 6, "normalise": False}, {"pooling": "last"}], ids=str)
    def plugin(self, request, model):
        return TextEncoder(model, **request.param)

    @pytest.fixture
    def rows(self, texts):
        return texts


class TestTokens(EncoderContract):
    @pytest.fixture(params=["auto", 6, 500])
    def plugin(self, request, model):
        return Tokens(model, max_length=request.param)

    @pytest.fixture
    def rows(self, texts):
        return texts


class TestTransformer(BackboneContract):
    @pytest.fixture(
        params=[
            {},
            {"rank": 2, "alpha": 1.0, "pooling": "last"},
            {"adapt": "full", "pooling": "cls"},
            {"adapt": "frozen"},
        ],
        ids=str,
    )
    def plugin(self, request, model):
        return Transformer(model, **request.param)

    @pytest.fixture
    def data(self, model, texts):
        rows = [f"{text} {text}" for text in texts] * 3
        return Tokens(model).fit(rows, Seeds(0)).encode(rows), np.arange(24) % 4
