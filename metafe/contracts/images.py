"""Backbones that take images, however the images lie in memory."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np

from metafe.contracts.backbone import Backbone

SMALLEST_SIDE = 8

Channels = Literal["auto", "first", "last"]


class ImageBackbone(Backbone):
    """Base of backbones that take images, of any number of channels and any size from 8×8 pixels.

    A subclass has the two parameters below in its constructor. Rows may be ``(n, H, W)``, ``(n, C, H, W)``,
    ``(n, H, W, C)`` or, with ``image_shape``, flat; `images` gives all of them one layout, and so does `encode` unless
    the subclass computes something else from them.

    Attributes
    ----------
    image_shape : tuple of int or None
        Shape of one image, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``, when rows come flat.
    channels : {"auto", "first", "last"}
        Where the channels are in images of three dimensions. ``"auto"`` takes the one side that is shorter than 8
        pixels, or else the one that differs from two equal sides.

    Examples
    --------
    The mean of each channel as features:

    >>> from torch import nn
    >>> class ChannelMeans(ImageBackbone):
    ...     name = "channel-means"
    ...     def __init__(self, image_shape=None, channels="auto"):
    ...         self.image_shape = image_shape
    ...         self.channels = channels
    ...     def build(self, input_shape):
    ...         return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> ChannelMeans().encode(np.zeros((5, 16, 16, 3))).shape
    (5, 3, 16, 16)
    >>> ChannelMeans().accepts(np.zeros((5, 4, 4)))
    'channel-means needs images of at least 8×8 pixels; got 4×4. Enlarge them.'
    """

    standardise: Literal["feature", "channel", "all", "none"] = "channel"
    encode_is_view: ClassVar[bool] = True

    image_shape: tuple[int, ...] | None
    channels: Channels

    def accepts(self, X: Any) -> str | None:
        """Say why rows are not images of at least 8×8 pixels."""
        shape = tuple(np.shape(X)[1:])
        if len(shape) == 1 and self.image_shape is None:
            return (
                f"{self.name} needs images, (n, H, W), (n, C, H, W) or (n, H, W, C); got flat rows of {shape[0]} "
                f"values. Pass {type(self).__name__}(image_shape=(H, W))."
            )
        if len(shape) == 1:
            given = self._given_shape()
            if math.prod(given) != shape[0]:
                return (
                    f"{self.name} image_shape={self.image_shape} needs {math.prod(given)} values a row; got {shape[0]}."
                )
            shape = given
        if len(shape) not in (2, 3):
            return f"{self.name} needs images of 2 or 3 dimensions; got rows of shape {shape}. Reshape them."
        return self._why_not_image(shape)

    def images(self, X: Any) -> np.ndarray:
        """View rows as images.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, C, H, W), (n, H, W, C) or, with ``image_shape``, (n, n_pixels)

        Returns
        -------
        ndarray of shape (n, C, H, W)
            A view of ``X``, in its type.
        """
        images = np.asarray(X)
        if images.ndim == 2:
            images = images.reshape(len(images), *self._given_shape())
        if images.ndim == 3:
            return images[:, None]
        return images if _channels_come_first(images.shape[1:], self.channels) else np.moveaxis(images, -1, 1)

    def encode(self, X: Any) -> np.ndarray:
        """Return the rows as `images` views them."""
        return self.images(X)

    def _given_shape(self) -> tuple[int, ...]:
        return tuple(self.image_shape or ())

    def _why_not_image(self, shape: tuple[int, ...]) -> str | None:
        if len(shape) == 3:
            first = _channels_come_first(shape, self.channels)
            if first is None:
                return (
                    f"{self.name} cannot tell the channels of images of shape {shape}. "
                    f"Pass {type(self).__name__}(channels='first') or 'last'."
                )
            shape = shape[1:] if first else shape[:2]
        if min(shape) < SMALLEST_SIDE:
            smallest, received = f"{SMALLEST_SIDE}×{SMALLEST_SIDE}", f"{shape[0]}×{shape[1]}"
            return f"{self.name} needs images of at least {smallest} pixels; got {received}. Enlarge them."
        return None


def _channels_come_first(shape: tuple[int, ...], channels: Channels) -> bool | None:
    """Tell whether ``shape`` is ``(C, H, W)``; None when it cannot be told."""
    if channels != "auto":
        return channels == "first"
    first, middle, last = shape
    if (first < SMALLEST_SIDE) != (last < SMALLEST_SIDE):
        return first < SMALLEST_SIDE
    if (middle == last) != (middle == first):
        return middle == last
    return None
