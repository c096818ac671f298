"""Sound for metafe: log-mel spectrograms of recordings, and augmentations of them."""

from __future__ import annotations

from metafe.contracts import Augmentation, Encoder, hookimpl
from metafe_audio.augmentations import SpecAugment, Stretch, TimeShift
from metafe_audio.log_mel import LogMel, LogMelOfArrays
from metafe_audio.mfcc_means import MfccMeans

__all__ = ["LogMel", "LogMelOfArrays", "MfccMeans", "SpecAugment", "Stretch", "TimeShift"]


@hookimpl
def metafe_register_encoders() -> list[type[Encoder]]:
    """Return the encoders of this distribution."""
    return [LogMel, LogMelOfArrays, MfccMeans]


@hookimpl
def metafe_register_augmentations() -> list[type[Augmentation]]:
    """Return the augmentations of this distribution."""
    return [SpecAugment, Stretch, TimeShift]
