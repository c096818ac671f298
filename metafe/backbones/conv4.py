"""The small convolutional network of the few-shot literature."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from metafe.backbones.layers import (
    MONOTONE_ACTIVATIONS,
    Activation,
    ChannelsLast,
    Normalisation,
    activation_layer,
    check_dropout,
    normalisation_layer,
)
from metafe.contracts import Categorical, Channels, Float, ImageBackbone, Int, Problem, check_choice, check_sizes
from metafe.contracts.spaces import SearchSpace


class Conv4(ImageBackbone):
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
    >>> import torch
    >>> Conv4(width=32).build((1, 28, 28))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 32])
    """

    name = "conv4"

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
        check_choice("conv4", "pooling", self.pooling, ("flatten", "mean"))
        n_channels, *sides = input_shape
        blocks: list[nn.Module] = []
        for n_in, n_out in pairwise([n_channels] + [self.width] * self.depth):
            pools = min(sides) >= 2
            blocks.append(self._block(n_in, n_out, pools))
            sides = [side // 2 for side in sides] if pools else sides
        if self.pooling == "mean":
            blocks.append(nn.AdaptiveAvgPool2d(1))
        # Channels last is what CPU kernels are fastest with.
        network = nn.Sequential(ChannelsLast(), *blocks, nn.Flatten())
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _block(self, n_in: int, n_out: int, pools: bool) -> nn.Sequential:
        pool: list[nn.Module] = [nn.MaxPool2d(2)] if pools else []
        activation = [activation_layer(self.activation)]
        tail = pool + activation if self.activation in MONOTONE_ACTIVATIONS else activation + pool
        normalisation = normalisation_layer(self.normalisation, n_out, spatial=True)
        # A bias before batch normalisation is subtracted again.
        convolution = nn.Conv2d(n_in, n_out, 3, padding=1, bias=self.normalisation != "batch")
        dropout = [nn.Dropout2d(self.dropout)] if self.dropout else []
        return nn.Sequential(convolution, normalisation, *tail, *dropout)
