"""How sure a gain over held-out classes has to be before features are trusted with others."""

from __future__ import annotations

from enum import Enum

import numpy as np

from metafe.training.probe import interval_over_classes, mean_less_errors


class Learned(Enum):
    """What features owe to the classes that they are judged by."""

    NOTHING = "nothing is trained"
    BESIDE_ROWS = "a network, beside the rows"
    ALONE = "a network"

    def least_gain(self, gains: np.ndarray) -> float:
        """Return what a gain is at least, by the gains of some classes, ``(n_classes,)``.

        A network was found among many by these classes, and has to pass 95 %. A handful of classes seldom lets it; with
        the rows beside it, which leave half of the features as they are, one standard error does.
        """
        if self is Learned.ALONE:
            # One side of it is what counts.
            mean, half = interval_over_classes(gains, 0.9)
            return mean - half
        return mean_less_errors(gains, 1.0 if self is Learned.BESIDE_ROWS else 0.0)
