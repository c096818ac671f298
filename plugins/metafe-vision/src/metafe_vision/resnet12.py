"""The residual network of the few-shot literature."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from metafe.contracts import (
    Categorical,
    Channels,
    Distribution,
    Float,
    ImageBackbone,
    Int,
    InvalidParameterError,
    Problem,
    When,
    check_choice,
    check_sizes,
)
from metafe_vision.drop_block import DropBlock

# Widths of the four blocks, as multiples of the first.
RATIOS = (1.0, 2.5, 5.0, 10.0)
SLOPE = 0.1


class ResNet12(ImageBackbone):
    """Four residual blocks of three 3×3 convolutions, with batch normalisation, max-pooling and drop-out.

    Parameters
    ----------
    width : int, default=64
        Channels of the first block; the others have 2.5, 5 and 10 times as many.
    dropout : float, default=0.0
        Share of the values set to zero in training after each block: single ones in the first two, patches in the others.
        Lee et al. use 0.1; it takes long training to be of use, since it makes features of one row differ.
    block_size : int, default=5
        Side of those patches; that of the map where it is smaller.
    pooling : {"mean", "flatten"}, default="mean"
        What becomes of the last block's pixels: they are averaged, or each is a feature of its own.
    image_shape : tuple of int or None, default=None
        Shape of one image, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``, when rows come flat.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels are in images of three dimensions. ``"auto"`` takes the one side that is shorter than 8
        pixels, or else the one that differs from two equal sides.

    Notes
    -----
    Oreshkin et al., "TADAM: Task dependent adaptive metric for improved few-shot learning", 2018, in the widths and with the
    drop-out of Lee et al., "Meta-Learning with Differentiable Convex Optimization", 2019, where patches are dropped as in
    Ghiasi et al., "DropBlock", 2018. Pooling stops once a side is a single pixel, so small images work. It comes before the
    activation, which gives the same values for less work.

    Examples
    --------
    >>> ResNet12(width=8).build((3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 80])
    """

    name = "resnet12"

    def __init__(
        self,
        width: int = 64,
        dropout: float = 0.0,
        block_size: int = 5,
        pooling: Literal["mean", "flatten"] = "mean",
        image_shape: tuple[int, ...] | None = None,
        channels: Channels = "auto",
    ) -> None:
        self.width = width
        self.dropout = dropout
        self.block_size = block_size
        self.pooling = pooling
        self.image_shape = image_shape
        self.channels = channels

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare width, drop-out and pooling; the width of the papers takes a long time without an accelerator."""
        return {
            "width": Int(8, 32, log=True),
            "dropout": Float(0.0, 0.2),
            "pooling": Categorical(["mean", "flatten"]),
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
            Maps ``(b, C, H, W)`` to ``(b, 10 * width)``, or to ``(b, 10 * width * h * w)``, where ``h`` and ``w`` are what
            pooling leaves, with ``pooling="flatten"``.

        Raises
        ------
        InvalidParameterError
            A size, name or rate that cannot be.
        """
        check_sizes(self.name, width=self.width, block_size=self.block_size)
        check_choice(self.name, "pooling", self.pooling, ("mean", "flatten"))
        if not 0 <= self.dropout < 1:
            raise InvalidParameterError(f"resnet12 dropout must be at least 0 and below 1; got {self.dropout!r}.")
        n_channels, *sides = input_shape
        widths = [n_channels, *(round(self.width * ratio) for ratio in RATIOS)]
        blocks: list[nn.Module] = []
        for k, (n_in, n_out) in enumerate(pairwise(widths)):
            pools = min(sides) >= 2
            drop = nn.Dropout(self.dropout) if k < 2 else DropBlock(self.dropout, self.block_size)
            blocks.append(_Block(n_in, n_out, pools, drop))
            sides = [side // 2 for side in sides] if pools else sides
        if self.pooling == "mean":
            blocks.append(nn.AdaptiveAvgPool2d(1))
        network = nn.Sequential(_GreyChannelsLast(), *blocks, nn.Flatten())
        # Channels last is what CPU kernels are fastest with.
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, pools: bool, drop: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(n_in, n_out, 3),
            nn.LeakyReLU(SLOPE),
            *_convolution(n_out, n_out, 3),
            nn.LeakyReLU(SLOPE),
            *_convolution(n_out, n_out, 3),
        )
        self.shortcut = nn.Sequential(*_convolution(n_in, n_out, 1))
        pool = [nn.MaxPool2d(2)] if pools else []
        self.tail = nn.Sequential(*pool, nn.LeakyReLU(SLOPE), drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.body(x) + self.shortcut(x))


def _convolution(n_in: int, n_out: int, size: int) -> list[nn.Module]:
    # A bias before batch normalisation is subtracted again.
    convolution = nn.Conv2d(n_in, n_out, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, a=SLOPE, mode="fan_out", nonlinearity="leaky_relu")
    return [convolution, nn.BatchNorm2d(n_out)]


class _GreyChannelsLast(nn.Module):
    """Lay grey images out with their one channel last, or kernels take them for the slow layout; colours follow the weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[1] > 1 else x.reshape(-1, *x.shape[2:], 1).permute(0, 3, 1, 2)
