"""Quarter turns as new classes."""

from __future__ import annotations

import torch
from torch import Tensor

from metafe.contracts import Augmentation


class Rotate90(Augmentation):
    """Images turned by 90, 180 and 270 degrees count as new classes, so there are four times as many.

    Notes
    -----
    As in Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", 2016. Images that are not square
    are only turned by 180 degrees.

    Examples
    --------
    >>> Rotate90().n_views((1, 28, 28)), Rotate90().n_views((1, 28, 20))
    (4, 2)
    """

    name = "rotate90"

    def accepts(self, input_shape: tuple[int, ...]) -> str | None:
        """Say why rows of this shape are not images."""
        return None if len(input_shape) == 3 else f"rotate90 needs images (C, H, W); got rows of shape {input_shape}."

    def n_views(self, input_shape: tuple[int, ...]) -> int:
        """Return 4 for square images, 2 for others."""
        return 4 if input_shape[1] == input_shape[2] else 2

    def view(self, x: Tensor, k: int) -> Tensor:
        """Return ``(b, C, H, W)`` turned ``k`` times by 90 degrees, or by 180 where that changes the shape."""
        turns = k if x.shape[-1] == x.shape[-2] else 2 * k
        return torch.rot90(x, turns, dims=(-2, -1))
