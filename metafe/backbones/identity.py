"""The rows themselves."""

from __future__ import annotations

from torch import nn

from metafe.contracts import Backbone


class Identity(Backbone):
    """The standardised rows, flattened: nothing is trained.

    It is what learned features have to beat, and what ``backbone="auto"`` keeps when they do not.

    Examples
    --------
    >>> Identity().build((3, 4))
    Flatten(start_dim=1, end_dim=-1)
    """

    name = "identity"

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that flattens ``(b, *input_shape)`` to ``(b, n)``."""
        return nn.Flatten()
