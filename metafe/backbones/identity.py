"""The rows themselves."""

from __future__ import annotations

from typing import Literal

from torch import nn

from metafe.contracts import Backbone, Categorical, InvalidParameterError, Problem
from metafe.contracts.spaces import SearchSpace


class Identity(Backbone):
    """The standardised rows, flattened: nothing is trained.

    It is what learned features have to beat, and what ``backbone="auto"`` keeps when they do not.

    Parameters
    ----------
    scaling : {"feature", "all"}, default="feature"
        ``"feature"`` gives each column of flat rows its own scale; ``"all"`` keeps the proportions between columns, which
        is better where they share a unit, as pixels or counts do. Images always have one scale.

    Examples
    --------
    >>> Identity().build((3, 4))
    Flatten(start_dim=1, end_dim=-1)
    """

    name = "identity"
    trains = False

    def __init__(self, scaling: Literal["feature", "all"] = "feature") -> None:
        self.scaling = scaling

    @property
    def standardise(self) -> Literal["feature", "all"]:  # type: ignore[override]
        """How rows are standardised: what ``scaling`` says."""
        return self.scaling

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the scaling."""
        return {"scaling": Categorical(["feature", "all"])}

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that flattens ``(b, *input_shape)`` to ``(b, n)``.

        Raises
        ------
        InvalidParameterError
            An unknown scaling.
        """
        if self.scaling not in ("feature", "all"):
            raise InvalidParameterError(f"identity scaling must be 'feature' or 'all'; got {self.scaling!r}.")
        return nn.Flatten()
