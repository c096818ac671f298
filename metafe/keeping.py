"""Which features a fit keeps: what was learned, the standardised rows, or both side by side."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from metafe.class_folds import (
    holds_out_few_classes,
    judge_on_more_classes,
    knows_all_classes,
    trains_in_seconds,
)
from metafe.contracts import FeatureQualityWarning, TaskData
from metafe.fitting import Fitted, Recipe, better_scaling, fit_identity, put_input_beside
from metafe.training.probe import compare, differences, interval_over_classes
from metafe.training.trust import Learned

# The features to keep, and how those learned compare with the rows where something could be held out to tell.
Kept = tuple[Fitted, dict[str, float] | None]


def keep_better(learned: Fitted, recipe: Recipe, data: TaskData, automatic: bool) -> Kept:
    """Compare what was learned with the standardised rows, and return what to keep.

    Parameters
    ----------
    learned : Fitted
    recipe : Recipe
    data : TaskData
        All rows in use.
    automatic : bool
        Whether the rows may be kept: the backbone was not named. One that was named is kept, with a warning where it is
        surely worse.

    Returns
    -------
    kept : Fitted
    validation : dict of str to float or None
        As `MetaFeatureExtractor.validation_` has it.
    """
    if recipe.source is None or (learned.scores is None and not automatic):
        return learned, None
    scaling = better_scaling(recipe, data) if automatic else "feature"
    identity = fit_identity(recipe, data, learned, scaling)
    if identity is None or identity.scores is None or learned.scores is None:
        return identity if automatic and identity is not None else learned, None
    comparison = compare(learned.scores, identity.scores)
    validation = vars(comparison) | over_classes(learned, identity)
    if automatic and knows_all_classes(learned.train, learned.valid, data):
        validation |= {"class_low": -math.inf, "class_high": math.inf, "n_classes": 0}
    if automatic and comparison.low > 0 >= validation.get("class_low", 1) and _may_ask_more_classes(learned, data):
        network, rows = judge_on_more_classes(learned, identity, recipe, data, scaling)
        validation |= over_classes(network, rows)
    else:
        network = learned
    if automatic and min(comparison.low, validation.get("class_low", float("inf"))) <= 0:
        beside = None if recipe.rows_are_features else put_input_beside(recipe, data, learned, scaling)
        return _beside_rows(beside, identity) or (identity, validation)
    if not automatic and comparison.high < 0:
        warnings.warn(_worse_than_rows(recipe.backbone.name, comparison), FeatureQualityWarning, stacklevel=6)
    return network, validation


def _may_ask_more_classes(learned: Fitted, data: TaskData) -> bool:
    return holds_out_few_classes(learned.train, learned.valid, data) and trains_in_seconds(learned)


def over_classes(learned: Fitted, identity: Fitted) -> dict[str, float]:
    """Return the interval of the gain with held-out classes as the unit; nothing where there are no classes.

    Thousands of tasks from the same two classes say much about these two and little about the next class.
    """
    if learned.class_scores is None or identity.class_scores is None or not len(learned.class_scores):
        return {}
    mean, half = interval_over_classes(differences(learned.class_scores, identity.class_scores), 0.95)
    return {"class_low": mean - half, "class_high": mean + half, "n_classes": len(learned.class_scores)}


def _beside_rows(beside: Fitted | None, identity: Fitted) -> Kept | None:
    """Return features with the rows beside them that are better on the held-out classes; None where they are not."""
    if beside is None or not (intervals := over_classes(beside, identity)):
        return None
    comparison = compare(np.asarray(beside.scores), np.asarray(identity.scores))
    gains = differences(np.asarray(beside.class_scores), np.asarray(identity.class_scores))
    if min(comparison.low, Learned.BESIDE_ROWS.least_gain(gains)) <= 0:
        return None
    return beside, vars(comparison) | intervals


def _worse_than_rows(name: str, comparison: Any) -> str:
    return (
        f"Features should beat the standardised rows on meta-validation tasks; got {comparison.score:.3f} by {name!r} against "
        f"{comparison.baseline:.3f} (95 % interval of the difference {comparison.low:+.3f} to {comparison.high:+.3f}). "
        "More classes or groups to learn from, augmentation that fits the data or another backbone would help; "
        "backbone='auto' keeps the rows."
    )
