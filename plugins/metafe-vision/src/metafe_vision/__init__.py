"""Images for metafe: files and arrays of any size to one array, networks and augmentations."""

from __future__ import annotations

from metafe.contracts import Augmentation, Backbone, Encoder, hookimpl
from metafe_vision.colour_jitter import ColourJitter
from metafe_vision.horizontal_flip import HorizontalFlip
from metafe_vision.image_arrays import ImageArrays
from metafe_vision.image_files import ImageFiles
from metafe_vision.random_crop import RandomCrop
from metafe_vision.resnet12 import ResNet12
from metafe_vision.timm_model import Timm
from metafe_vision.torchvision_model import Torchvision

__all__ = [
    "ColourJitter",
    "HorizontalFlip",
    "ImageArrays",
    "ImageFiles",
    "RandomCrop",
    "ResNet12",
    "Timm",
    "Torchvision",
]


@hookimpl
def metafe_register_encoders() -> list[type[Encoder]]:
    """Return the encoders of this distribution."""
    return [ImageArrays, ImageFiles]


@hookimpl
def metafe_register_backbones() -> list[type[Backbone]]:
    """Return the backbones of this distribution."""
    return [ResNet12, Timm, Torchvision]


@hookimpl
def metafe_register_augmentations() -> list[type[Augmentation]]:
    """Return the augmentations of this distribution."""
    return [ColourJitter, HorizontalFlip, RandomCrop]
