"""What an algorithm reports of its steps, on the way to the history."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# What the outer loop reports itself.
OWN_METRICS = ("step", "loss", "score", "seconds")


class Means:
    """Means of what steps report, left on the device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, float | Tensor] = {}
        self._weights: dict[str, int] = {}

    def add(self, metrics: Mapping[str, float | Tensor], weight: int) -> None:
        """Count the metrics of some tasks.

        Parameters
        ----------
        metrics : mapping of str to float or Tensor of shape ()
        weight : int
            How many tasks they are the mean of.
        """
        for name, value in metrics.items():
            value = value.detach() if isinstance(value, torch.Tensor) else value
            self._sums[name] = self._sums.get(name, 0.0) + weight * value
            self._weights[name] = self._weights.get(name, 0) + weight

    def take(self) -> dict[str, float]:
        """Return the mean of each metric over the tasks that it was reported for, and begin anew."""
        means = {name: float(total) / self._weights[name] for name, total in self._sums.items()}
        self._sums, self._weights = {}, {}
        return means
