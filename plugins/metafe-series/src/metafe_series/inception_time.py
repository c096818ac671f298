"""Convolutions of several lengths side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metafe.contracts import Distribution, Float, Int, Problem, When, check_sizes
from metafe_series.network import SeriesBackbone, check_dropout

# Modules between the ends of a shortcut.
SHORTCUT_EVERY = 3


class InceptionTime(SeriesBackbone):
    """Modules of convolutions of three lengths and a max-pooling side by side, averaged over time at the end.

    Parameters
    ----------
    depth : int, default=3
        Number of modules; the paper has 6. A shortcut leads around each three.
    width : int, default=32
        Filters of each of the four branches of a module, so that there are ``4 * width`` features.
    longest_kernel : int, default=39
        Length of the longest convolutions; the others have about a half and a quarter of it. At most the length of the
        series.
    dropout : float, default=0.0
        Share of the features set to zero in training.

    Notes
    -----
    Fawaz et al., "InceptionTime: Finding AlexNet for Time Series Classification", 2020; a single network, not an ensemble.
    Kernels have an odd length, so that what comes out is as long as what goes in.

    Examples
    --------
    >>> InceptionTime(width=8).build((2, 50))(torch.zeros(3, 2, 50)).shape
    torch.Size([3, 32])
    """

    name = "inception-time"

    def __init__(self, depth: int = 3, width: int = 32, longest_kernel: int = 39, dropout: float = 0.0) -> None:
        self.depth = depth
        self.width = width
        self.longest_kernel = longest_kernel
        self.dropout = dropout

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare depth, width, kernels and drop-out."""
        return {
            "depth": Int(1, 6),
            "width": Int(8, 48, log=True),
            "longest_kernel": Int(9, 59, log=True),
            "dropout": Float(0.0, 0.3),
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
            Maps ``(b, n_channels, length)`` to ``(b, 4 * width)``.

        Raises
        ------
        InvalidParameterError
            A size or rate that cannot be.
        """
        check_sizes("inception-time", depth=self.depth, width=self.width, longest_kernel=self.longest_kernel)
        check_dropout("inception-time", self.dropout)
        n_channels, length = input_shape
        longest = min(self.longest_kernel, length)
        kernels = [_odd(longest), _odd(longest // 2), _odd(longest // 4)]
        groups = []
        for start in range(0, self.depth, SHORTCUT_EVERY):
            n_in = 4 * self.width if start else n_channels
            n_modules = min(SHORTCUT_EVERY, self.depth - start)
            groups.append(_Group(n_in, self.width, kernels, n_modules, n_modules == SHORTCUT_EVERY))
        return nn.Sequential(*groups, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(self.dropout))


class _Group(nn.Module):
    """Some modules one after the other, with a shortcut around them if there are enough."""

    def __init__(self, n_in: int, width: int, kernels: list[int], n_modules: int, has_shortcut: bool) -> None:
        super().__init__()
        n_out = 4 * width
        self.inceptions = nn.Sequential(
            *(_Inception(n_out if i else n_in, width, kernels) for i in range(n_modules)),
        )
        self.shortcut = (
            nn.Sequential(nn.Conv1d(n_in, n_out, 1, bias=False), nn.BatchNorm1d(n_out)) if has_shortcut else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(b, 4 * width, length)``."""
        out: Tensor = self.inceptions(x)
        return out if self.shortcut is None else torch.relu(out + self.shortcut(x))


class _Inception(nn.Module):
    """Branches of different length side by side, normalised and rectified."""

    def __init__(self, n_in: int, width: int, kernels: list[int]) -> None:
        super().__init__()
        # Of a single channel there is nothing to condense.
        n_condensed = width if n_in > 1 else n_in
        self.bottleneck = nn.Conv1d(n_in, width, 1, bias=False) if n_in > 1 else nn.Identity()
        self.branches = nn.ModuleList(
            nn.Conv1d(n_condensed, width, kernel, padding=kernel // 2, bias=False) for kernel in kernels
        )
        self.pooled = nn.Sequential(nn.MaxPool1d(3, 1, padding=1), nn.Conv1d(n_in, width, 1, bias=False))
        self.norm = nn.BatchNorm1d(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(b, 4 * width, length)``."""
        condensed = self.bottleneck(x)
        outputs = [*(branch(condensed) for branch in self.branches), self.pooled(x)]
        return torch.relu(self.norm(torch.cat(outputs, dim=1)))


def _odd(size: int) -> int:
    """Return the greatest odd number of at most ``size``, and 1 at least."""
    return max(1, size - 1 + size % 2)
