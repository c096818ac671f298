"""Sound for metafe: log-mel spectrograms of recordings, and augmentations of them."""

from __future__ import annotations

from metafe.contracts import Augmentation, Encoder, hookimpl
from metafe_audio.augmentations import SpecAugment, Stretch, TimeShift
from metafe_audio.cepstra import MfccMeans, MfccTimes
from metafe_audio.log_mel import LogMel, LogMelOfArrays

__all__ = ["LogMel", "LogMelOfArrays", "MfccMeans", "MfccTimes", "SpecAugment", "Stretch", "TimeShift"]


@hookimpl
def metafe_register_encoders() -> list[type[Encoder]]:
    """Return the encoders of this distribution."""
    return [LogMel, LogMelOfArrays, MfccMeans, MfccTimes]


@hookimpl
def metafe_register_augmentations() -> list[type[Augmentation]]:
    """Return the augmentations of this distribution."""
    return [SpecAugment, Stretch, TimeShift]
