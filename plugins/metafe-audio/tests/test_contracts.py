"""The encoders and the augmentations keep the contracts."""

from __future__ import annotations

import pytest
import torch
from metafe_audio import LogMel, LogMelOfArrays, MfccMeans, MfccTimes, SpecAugment, Stretch, TimeShift

from metafe.testing import AugmentationContract, EncoderContract


class TestLogMel(EncoderContract):
    @pytest.fixture(params=[LogMel(), LogMel(16, 0.3, 4000)], ids=["defaults", "resampled"])
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def rows(self, files):
        return files[:6]


class TestLogMelOfArrays(EncoderContract):
    @pytest.fixture
    def plugin(self):
        return LogMelOfArrays(sample_rate=8000)

    @pytest.fixture
    def rows(self, tones):
        return tones[0][:6]


class TestMfccMeans(EncoderContract):
    @pytest.fixture(params=[MfccMeans(), MfccMeans(5, deviations=True)], ids=["defaults", "deviations"])
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def rows(self, files):
        return files[:6]


class TestMfccTimes(EncoderContract):
    @pytest.fixture(params=[MfccTimes(), MfccTimes(5, n_times=2)], ids=["defaults", "few"])
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def rows(self, files):
        return files[:6]


class TestAugmentations(AugmentationContract):
    @pytest.fixture(
        params=[SpecAugment(), SpecAugment(0.5, 1.0, 3), TimeShift(), TimeShift(1.0), Stretch(), Stretch(0.5, 0.5)],
        ids=str,
    )
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def rows(self):
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(8, *shape, generator=generator) for shape in [(1, 40, 30), (2, 8, 9), (1, 1, 1)]]
