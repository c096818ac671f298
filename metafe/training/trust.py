"""How sure a gain over held-out classes has to be before features are trusted with others."""

from __future__ import annotations

from enum import Enum

import numpy as np

from metafe.training.probe import interval_over_classes, mean_less_errors

# Share of a normal distribution that is within one standard error of its mean, and within the one-sided bound of 95 %.
ONE_ERROR, ONE_SIDED = 0.683, 0.9
# Classes of which the mean gain alone is trusted; of fewer it depends on each of them.
ENOUGH_FOR_MEAN = 8


class Learned(Enum):
    """What features owe to the classes that they are judged by."""

    NOTHING = "nothing is trained"
    OUT_OF_THE_BOX = "what was named before any of these classes was looked at"
    BESIDE_ROWS = "a network, beside the rows"
    BESIDE_DISCRIMINANTS = "a network, beside discriminants of the rows"
    ALONE = "a network"

    def least_gain(self, gains: np.ndarray) -> float:
        """Return what a gain is at least, by the gains of some classes, ``(n_classes,)``.

        A network was found among many by these classes, and has to pass 95 %. A handful of classes seldom lets it; with
        the rows beside it, which leave half of the features as they are, one standard error does. So it does for what trains
        nothing, of which there is less to choose from. What was named before is one of a few that no class has chosen, so that
        its mean does where there are eight classes: trainings that miss some make it look worse than it will be, seldom better.
        Fewer classes lose more often than they gain by what is learned from them, as discriminants are: without rows, 95 %.
        """
        has_enough = len(gains) >= ENOUGH_FOR_MEAN
        if self is Learned.OUT_OF_THE_BOX and has_enough:
            return float(gains.mean())
        if self is Learned.BESIDE_ROWS or (self is Learned.BESIDE_DISCRIMINANTS and has_enough):
            return mean_less_errors(gains, 1.0)
        return probable_gain(gains) if self is Learned.NOTHING else _lower_bound(gains, ONE_SIDED)


def probable_gain(gains: np.ndarray) -> float:
    """Return the mean gain of some classes, ``(n_classes,)``, less one standard error: what the next are likely to gain too."""
    return _lower_bound(gains, ONE_ERROR)


def _lower_bound(gains: np.ndarray, confidence: float) -> float:
    mean, half = interval_over_classes(gains, confidence)
    return mean - half
