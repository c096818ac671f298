"""Columns left out."""

from __future__ import annotations

import torch
from torch import Tensor

from metafe.contracts import Augmentation, Float, Problem
from metafe.contracts.spaces import SearchSpace


class FeatureDropout(Augmentation):
    """Set random columns of each row to zero, which is their mean once they are standardised.

    Parameters
    ----------
    rate : float, default=0.1
        Share of the columns, on average.

    Examples
    --------
    >>> FeatureDropout(rate=1.0)(torch.ones(1, 2), torch.Generator())
    tensor([[0., 0.]])
    """

    name = "feature-dropout"

    def __init__(self, rate: float = 0.1) -> None:
        self.rate = rate

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the rate."""
        return {"rate": Float(0.0, 0.5)}

    def accepts(self, input_shape: tuple[int, ...]) -> str | None:
        """Say why rows of this shape have no columns."""
        return None if len(input_shape) == 1 else f"feature-dropout needs flat rows; got rows of shape {input_shape}."

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Zero columns of each row of ``(b, n)``."""
        return x * (torch.rand(x.shape, generator=generator, device=x.device) >= self.rate)
