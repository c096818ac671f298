"""The small convolutional network of the few-shot literature."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from metafe.backbones.layers import (
    MONOTONE_ACTIVATIONS,
    Activation,
    Normalisation,
    activation_layer,
    check_dropout,
    check_sizes,
    normalisation_layer,
)
from metafe.contracts import Backbone, Categorical, Float, Int, InvalidParameterError, Problem
from metafe.contracts.spaces import SearchSpace

SMALLEST_SIDE = 8

Channels = Literal["auto", "first", "last"]


class Conv4(Backbone):
    """Blocks of 3×3 convolution, normalisation, activation and 2×2 max-pooling, four by default.

    Parameters
    ----------
    depth : int, default=4
        Number of blocks. Pooling stops once a side is a single pixel, so small images work at any depth.
    width : int, default=64
        Channels of each block.
    normalisation : {"batch", "layer", "none"}, default="batch"
        After each convolution; ``"layer"`` normalises each image over channels and pixels.
    activation : {"relu", "leaky_relu", "elu", "gelu", "silu", "tanh"}, default="relu"
        In each block.
    dropout : float, default=0.0
        Share of channels set to zero in training, after each block.
    pooling : {"flatten", "mean"}, default="flatten"
        What becomes of the last block's pixels: each is a feature of its own, or they are averaged.
    image_shape : tuple of int or None, default=None
        Shape of one image, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``, when rows come flat.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels are in images of three dimensions. ``"auto"`` takes the one side that is shorter than 8
        pixels, or else the one that differs from two equal sides.

    Notes
    -----
    The network of Vinyals et al., "Matching Networks for One Shot Learning", 2016. For activations that rise
    everywhere, pooling comes before the activation, which gives the same values for less work.

    Examples
    --------
    >>> Conv4(width=32).build((1, 28, 28))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 32])
    """

    name = "conv4"
    standardise = "channel"
    encode_is_view = True

    def __init__(
        self,
        depth: int = 4,
        width: int = 64,
        normalisation: Normalisation = "batch",
        activation: Activation = "relu",
        dropout: float = 0.0,
        pooling: Literal["flatten", "mean"] = "flatten",
        image_shape: tuple[int, ...] | None = None,
        channels: Channels = "auto",
    ) -> None:
        self.depth = depth
        self.width = width
        self.normalisation = normalisation
        self.activation = activation
        self.dropout = dropout
        self.pooling = pooling
        self.image_shape = image_shape
        self.channels = channels

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare depth, width, normalisation, drop-out and pooling."""
        return {
            "depth": Int(2, 5),
            "width": Int(16, 128, log=True),
            "normalisation": Categorical(["batch", "layer", "none"]),
            "dropout": Float(0.0, 0.3),
            "pooling": Categorical(["flatten", "mean"]),
        }

    def accepts(self, X: Any) -> str | None:
        """Say why rows are not images of at least 8×8 pixels."""
        shape = tuple(np.shape(X)[1:])
        if len(shape) == 1 and self.image_shape is None:
            return (
                f"conv4 needs images, (n, H, W), (n, C, H, W) or (n, H, W, C); got flat rows of {shape[0]} values. "
                "Pass Conv4(image_shape=(H, W))."
            )
        if len(shape) == 1:
            if math.prod(self._given_shape()) != shape[0]:
                return f"conv4 image_shape={self.image_shape} needs {math.prod(self._given_shape())} values a row; got {shape[0]}."
            shape = self._given_shape()
        if len(shape) not in (2, 3):
            return f"conv4 needs images of 2 or 3 dimensions; got rows of shape {shape}. Reshape them."
        return self._why_not_image(shape)

    def encode(self, X: Any) -> np.ndarray:
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

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the network.

        Parameters
        ----------
        input_shape : tuple of int
            ``(C, H, W)``.

        Returns
        -------
        torch.nn.Sequential
            Maps ``(b, C, H, W)`` to ``(b, width * h * w)``, where ``h`` and ``w`` are what pooling leaves, or to
            ``(b, width)`` with mean pooling.

        Raises
        ------
        InvalidParameterError
            A size, name or rate that cannot be.
        """
        check_sizes("conv4", depth=self.depth, width=self.width)
        check_dropout("conv4", self.dropout)
        if self.pooling not in ("flatten", "mean"):
            raise InvalidParameterError(f"conv4 pooling must be 'flatten' or 'mean'; got {self.pooling!r}.")
        n_channels, *sides = input_shape
        blocks: list[nn.Module] = []
        for n_in, n_out in pairwise([n_channels] + [self.width] * self.depth):
            pools = min(sides) >= 2
            blocks.append(self._block(n_in, n_out, pools))
            sides = [side // 2 for side in sides] if pools else sides
        if self.pooling == "mean":
            blocks.append(nn.AdaptiveAvgPool2d(1))
        return nn.Sequential(*blocks, nn.Flatten())

    def _block(self, n_in: int, n_out: int, pools: bool) -> nn.Sequential:
        pool = [nn.MaxPool2d(2)] if pools else []
        activation = [activation_layer(self.activation)]
        tail = pool + activation if self.activation in MONOTONE_ACTIVATIONS else activation + pool
        normalisation = normalisation_layer(self.normalisation, n_out, spatial=True)
        # A bias before batch normalisation is subtracted again.
        convolution = nn.Conv2d(n_in, n_out, 3, padding=1, bias=self.normalisation != "batch")
        dropout = [nn.Dropout2d(self.dropout)] if self.dropout else []
        return nn.Sequential(convolution, normalisation, *tail, *dropout)

    def _given_shape(self) -> tuple[int, ...]:
        return tuple(self.image_shape or ())

    def _why_not_image(self, shape: tuple[int, ...]) -> str | None:
        if len(shape) == 3:
            if self.channels == "auto" and _channels_come_first(shape, "auto") is None:
                return f"conv4 cannot tell the channels of images of shape {shape}. Pass Conv4(channels='first') or 'last'."
            shape = shape[1:] if _channels_come_first(shape, self.channels) else shape[:2]
        if min(shape) < SMALLEST_SIDE:
            return f"conv4 needs images of at least {SMALLEST_SIDE}×{SMALLEST_SIDE} pixels; got {shape[0]}×{shape[1]}. Enlarge them."
        return None


def _channels_come_first(shape: tuple[int, ...], channels: Channels) -> bool | None:
    """Tell whether ``shape`` is ``(C, H, W)``; None when it cannot be told."""
    if channels != "auto":
        return channels == "first"
    first, _, last = shape
    if (first < SMALLEST_SIDE) != (last < SMALLEST_SIDE):
        return first < SMALLEST_SIDE
    if (shape[1] == last) != (shape[1] == first):
        return shape[1] == last
    return None
