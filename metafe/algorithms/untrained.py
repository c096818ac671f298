"""No training at all."""

from __future__ import annotations

from typing import Any

from metafe.contracts import Learner, MetaAlgorithm


class Untrained(MetaAlgorithm):
    """What the backbone gives as it is initialised; used where there are no labels to learn from.

    Notes
    -----
    There is no loss; `adapt` changes nothing. For a network these are random features, for a descriptor or the
    identity there is nothing to train anyway.

    Examples
    --------
    >>> Untrained()
    Untrained()
    """

    name = "untrained"
    adapts_features = False

    def parameter_groups(self, learner: Learner) -> list[dict[str, Any]]:
        """Return no parameters."""
        return []
