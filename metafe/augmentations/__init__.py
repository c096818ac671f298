"""The built-in augmentations."""

from __future__ import annotations

from metafe.augmentations.affine import Affine
from metafe.augmentations.feature_dropout import FeatureDropout
from metafe.augmentations.noise import Noise
from metafe.augmentations.rotate90 import Rotate90
from metafe.contracts import Augmentation, hookimpl

__all__ = ["Affine", "FeatureDropout", "Noise", "Rotate90"]


@hookimpl
def metafe_register_augmentations() -> list[type[Augmentation]]:
    """Return the built-in augmentations."""
    return [Affine, FeatureDropout, Noise, Rotate90]
