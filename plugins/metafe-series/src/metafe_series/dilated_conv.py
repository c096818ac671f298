"""Causal convolutions whose reach doubles from layer to layer."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from metafe.contracts import Categorical, Distribution, Float, Int, Problem, When, check_choice, check_sizes
from metafe_series.network import SeriesBackbone, check_dropout

SLOPE = 0.01


class DilatedConv(SeriesBackbone):
    """Residual blocks of two causal convolutions, dilated by 1, 2, 4 and so on, pooled over time at the end.

    Parameters
    ----------
    depth : int, default=5
        Number of blocks; fewer where the reach of a block would go beyond the series.
    width : int, default=40
        Channels of each block.
    kernel : int, default=3
        Values that a convolution looks at.
    n_features : int, default=64
        Width of the features.
    dropout : float, default=0.0
        Share of channels set to zero in training, after each block.
    pooling : {"mean", "max"}, default="mean"
        What becomes of the values over time: their mean, or the greatest as in the paper, which needs more data.

    Notes
    -----
    The encoder of Franceschi et al., "Unsupervised Scalable Representation Learning for Multivariate Time Series", 2019,
    with batch normalisation in place of normalised weights.

    Examples
    --------
    >>> import torch
    >>> DilatedConv(width=8, n_features=16).build((2, 50))(torch.zeros(3, 2, 50)).shape
    torch.Size([3, 16])
    """

    name = "dilated-conv"

    def __init__(
        self,
        depth: int = 5,
        width: int = 40,
        kernel: int = 3,
        n_features: int = 64,
        dropout: float = 0.0,
        pooling: Literal["mean", "max"] = "mean",
    ) -> None:
        self.depth = depth
        self.width = width
        self.kernel = kernel
        self.n_features = n_features
        self.dropout = dropout
        self.pooling = pooling

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare depth, width, kernel, drop-out and pooling."""
        return {
            "depth": Int(2, 8),
            "width": Int(16, 80, log=True),
            "kernel": Int(2, 7),
            "dropout": Float(0.0, 0.3),
            "pooling": Categorical(["mean", "max"]),
        }

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the network.

        Parameters
        ----------
        input_shape : tuple of int
            ``(n_channels, length)``.

        Returns
        -------
        torch.nn.Module
            Maps ``(b, n_channels, length)`` to ``(b, n_features)``.

        Raises
        ------
        InvalidParameterError
            A size or rate that cannot be.
        """
        check_sizes("dilated-conv", depth=self.depth, width=self.width, kernel=self.kernel, n_features=self.n_features)
        check_dropout("dilated-conv", self.dropout)
        check_choice("dilated-conv", "pooling", self.pooling, ("mean", "max"))
        n_channels, length = input_shape
        dilations = [2**i for i in range(self.depth) if i == 0 or 2**i < length]
        blocks: list[nn.Module] = []
        for i, dilation in enumerate(dilations):
            blocks.append(_Block(self.width if i else n_channels, self.width, self.kernel, dilation))
            blocks += [nn.Dropout1d(self.dropout)] if self.dropout else []
        pool = nn.AdaptiveMaxPool1d(1) if self.pooling == "max" else nn.AdaptiveAvgPool1d(1)
        return nn.Sequential(*blocks, pool, nn.Flatten(), nn.Linear(self.width, self.n_features))


class _Block(nn.Module):
    """Two convolutions of one dilation, with a shortcut."""

    def __init__(self, n_in: int, n_out: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            _Causal(n_in, n_out, kernel, dilation),
            nn.BatchNorm1d(n_out),
            nn.LeakyReLU(SLOPE),
            _Causal(n_out, n_out, kernel, dilation),
            nn.BatchNorm1d(n_out),
        )
        self.shortcut = nn.Identity() if n_in == n_out else nn.Conv1d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(b, n_out, length)``."""
        return functional.leaky_relu(self.convolutions(x) + self.shortcut(x), SLOPE)


class _Causal(nn.Module):
    """A convolution that sees no later values."""

    def __init__(self, n_in: int, n_out: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.n_before = (kernel - 1) * dilation
        self.convolution = nn.Conv1d(n_in, n_out, kernel, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(b, n_out, length)``."""
        out: Tensor = self.convolution(functional.pad(x, (self.n_before, 0)))
        return out
