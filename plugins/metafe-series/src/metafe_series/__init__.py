"""Time series for metafe: an encoder, networks, MiniRocket and augmentations."""

from __future__ import annotations

from metafe.contracts import Augmentation, Backbone, Encoder, hookimpl
from metafe_series.augmentations import Jitter, Scaling, WindowWarping
from metafe_series.dilated_conv import DilatedConv
from metafe_series.inception_time import InceptionTime
from metafe_series.minirocket import MiniRocket
from metafe_series.series import Series

__all__ = ["DilatedConv", "InceptionTime", "Jitter", "MiniRocket", "Scaling", "Series", "WindowWarping"]


@hookimpl
def metafe_register_augmentations() -> list[type[Augmentation]]:
    """Return the augmentations of this distribution."""
    return [Jitter, Scaling, WindowWarping]


@hookimpl
def metafe_register_backbones() -> list[type[Backbone]]:
    """Return the backbones of this distribution."""
    return [DilatedConv, InceptionTime, MiniRocket]


@hookimpl
def metafe_register_encoders() -> list[type[Encoder]]:
    """Return the encoders of this distribution."""
    return [Series]
