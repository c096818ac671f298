"""Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor

from metafe.contracts import Augmentation, Float, Problem
from metafe.contracts.spaces import SearchSpace


class Noise(Augmentation):
    """Add Gaussian noise to standardised rows, images and tables alike.

    Parameters
    ----------
    scale : float, default=0.1
        Standard deviation of the noise, in standard deviations of the data.

    Examples
    --------
    >>> Noise(scale=0.0)(torch.ones(1, 2), torch.Generator())
    tensor([[1., 1.]])
    """

    name = "noise"

    def __init__(self, scale: float = 0.1) -> None:
        self.scale = scale

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the scale."""
        return {"scale": Float(0.0, 0.5)}

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Add noise to each value."""
        return x + self.scale * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
