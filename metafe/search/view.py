"""Held-out rows in two dimensions: as they are, and as the winner sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from sklearn.decomposition import PCA

from metafe.search import attributes as attribute
from metafe.search.baselines import STANDARDISED
from metafe.search.standings import label_of

if TYPE_CHECKING:
    from metafe.search.finalists import Finals
    from metafe.search.objective import Objective

# More cannot be told apart by colour, or seen at all.
CLASSES_SHOWN = 8
ROWS_OF_CLASS = 60
ROWS_SHOWN = 400


@dataclass(frozen=True)
class View:
    """Rows that the first fold held out, in two dimensions.

    Parameters
    ----------
    panels : tuple of (str, ndarray of shape (n, 2))
        By what the rows are seen, and where they are then.
    said : str
        What is shown.
    classes : ndarray of shape (n,) or None
        Of the rows.
    values : ndarray of shape (n,) or None
        Continuous targets of the rows, standardised.
    """

    panels: tuple[tuple[str, np.ndarray], ...]
    said: str
    classes: np.ndarray | None = None
    values: np.ndarray | None = None


def make_view(objective: Objective, trials: Sequence[FrozenTrial], finals: Finals) -> View:
    """Look at held-out rows of the first fold through models that were trained without them.

    Parameters
    ----------
    objective : Objective
    trials : sequence of FrozenTrial
        The finished ones.
    finals : Finals

    Returns
    -------
    View
        The first two principal components of the standardised rows, and of the winner's features, or those of the best
        other trial where the rows have won.
    """
    rows = rows_shown(objective)
    y, target = objective.data.y, objective.target
    panels = tuple(
        (title, attribute.unpacked(trial.user_attrs[attribute.VIEW]).reshape(len(rows), 2))
        for title, trial in _choose(trials, finals).items()
    )
    said = f"First two principal components of {len(rows)} rows that the first fold held out"
    if y is None:
        return View(panels, said)
    if target.classes is not None:
        return View(panels, said, classes=target.classes[y[rows]])
    return View(panels, said, values=np.asarray(y[rows]).reshape(len(rows), -1)[:, 0])


def rows_shown(objective: Objective) -> np.ndarray:
    """Return the numbers of the rows that are shown: some of what the first fold held out."""
    _, test = objective.judge.folds.parts[0]
    y = objective.data.y
    if y is None or objective.target.classes is None:
        return _spread(test, ROWS_SHOWN)
    return _rows_of_classes(test, y[test])


def _choose(trials: Sequence[FrozenTrial], finals: Finals) -> dict[str, FrozenTrial]:
    """Return what is looked at, by title."""
    by_number = {trial.number: trial for trial in trials if trial.state == TrialState.COMPLETE}
    rows = next((trial for trial in by_number.values() if label_of(trial) == STANDARDISED), None)
    learned_first = sorted(finals.finalists, key=lambda row: row.is_baseline)
    others = [finals.winner.trial, *(row.trial for row in learned_first)]
    other = next((number for number in others if rows is None or number != rows.number), None)
    chosen = {} if rows is None else {STANDARDISED: rows}
    if other is not None:
        won = "winner" if finals.winner.concat_input is None else "the winner's network"
        role = won if other == finals.winner.trial else "best other"
        chosen[f"{label_of(by_number[other])} ({role})"] = by_number[other]
    return chosen


def _rows_of_classes(test: np.ndarray, labels: np.ndarray) -> np.ndarray:
    classes, sizes = np.unique(labels, return_counts=True)
    largest = np.sort(classes[np.argsort(-sizes, kind="stable")][:CLASSES_SHOWN])
    return np.sort(np.concatenate([_spread(test[labels == label], ROWS_OF_CLASS) for label in largest]))


def _spread(rows: np.ndarray, n: int) -> np.ndarray:
    """Return some of the rows, evenly spread over all."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows)), dtype=np.int64))]


def two_dimensions(features: np.ndarray) -> np.ndarray:
    """Return the first two principal components, zeros where there are fewer, and where rows do not differ."""
    points = np.zeros((len(features), 2))
    if not np.ptp(features, axis=0).any():
        return points
    n_components = min(2, *features.shape)
    found = PCA(n_components, svd_solver="randomized", random_state=0).fit_transform(features.astype(np.float64))
    points[:, :n_components] = found
    return points
