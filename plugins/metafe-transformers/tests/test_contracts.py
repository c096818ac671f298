"""The encoders and the backbone keep the contracts."""

from __future__ import annotations

import numpy as np
import pytest
from metafe_transformers import (
    ImageEncoder,
    ImageTransformer,
    SoundEncoder,
    SoundInputs,
    SoundTransformer,
    TextEncoder,
    Tokens,
    Transformer,
)

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


class TestImageEncoder(EncoderContract):
    @pytest.fixture(
        params=[("vit", {"pooling": "cls"}), ("convnext", {"normalise": False})], ids=lambda param: param[0]
    )
    def plugin(self, request, saved):
        name, parameters = request.param
        return ImageEncoder(saved(name), **parameters)

    @pytest.fixture
    def rows(self, image_files):
        return image_files


class TestSoundEncoder(EncoderContract):
    @pytest.fixture(
        params=[("wav2vec2", {}), ("whisper", {"pooling": "last", "seconds": 0.3})], ids=lambda param: param[0]
    )
    def plugin(self, request, saved):
        name, parameters = request.param
        return SoundEncoder(saved(name), **parameters)

    @pytest.fixture
    def rows(self, sound_files):
        return sound_files


class TestSoundInputs(EncoderContract):
    @pytest.fixture(params=["wav2vec2", "whisper", "ast"])
    def plugin(self, request, saved):
        return SoundInputs(saved(request.param), seconds=0.3)

    @pytest.fixture
    def rows(self, sound_files):
        return sound_files


class TestSoundTransformer(BackboneContract):
    @pytest.fixture(
        params=[
            ("wav2vec2", {"rank": 2, "pooling": "last"}),
            ("ast", {"adapt": "full", "pooling": "cls"}),
            ("hubert", {"adapt": "frozen"}),
        ],
        ids=lambda param: param[0],
    )
    def plugin(self, request, saved):
        name, parameters = request.param
        return SoundTransformer(saved(name), **parameters)

    @pytest.fixture
    def data(self, plugin, clips):
        rows = [clip[i : i + 900] for clip in clips for i in (0, 100, 200)]
        return SoundInputs(plugin.model, 0.3, 4000).fit(rows, Seeds(0)).encode(rows), np.arange(18) % 6


class TestImageTransformer(BackboneContract):
    @pytest.fixture(
        params=[
            ("vit", {"rank": 2, "pooling": "cls"}),
            ("convnext", {"adapt": "full"}),
            ("resnet", {"adapt": "frozen"}),
        ],
        ids=lambda param: param[0],
    )
    def plugin(self, request, saved):
        name, parameters = request.param
        return ImageTransformer(saved(name), **parameters)

    @pytest.fixture
    def data(self):
        return np.random.default_rng(0).integers(0, 256, (16, 3, 12, 14), dtype=np.uint8), np.arange(16) % 4
