"""Holding out other classes in turn, where those of one split are too few to tell what features are worth on the next."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np

from metafe.contracts import TaskData
from metafe.contracts.task_batch import SMALLEST_CLASS
from metafe.fitting import Fitted, Recipe, fit_identity, fit_model

# From so many classes on, one split holds out enough of them to tell, and they are hardly missed in training.
MANY_CLASSES = 30
# Of few classes, the first split counted.
MOST_FOLDS = 6
MOST_FURTHER_FOLDS = MOST_FOLDS - 1


def holds_out_few_classes(train: TaskData | None, valid: TaskData | None, data: TaskData) -> bool:
    """Tell whether a split of data holds out whole classes, of fewer than 30."""
    trained_on, held_out = _classes_of_split(train, valid, data)
    return bool(held_out) and not trained_on & held_out and len(trained_on | held_out) < MANY_CLASSES


def knows_all_classes(train: TaskData | None, valid: TaskData | None, data: TaskData) -> bool:
    """Tell whether rows were held out of classes that are all in training too, which says nothing of new ones."""
    trained_on, held_out = _classes_of_split(train, valid, data)
    return data.groups is None and bool(held_out) and held_out <= trained_on


def _classes_of_split(train: TaskData | None, valid: TaskData | None, data: TaskData) -> tuple[set[int], set[int]]:
    """Return the classes in training and those held out; none where there are no classes, or there is no split."""
    if data.kind != "classification" or data.y is None or train is None or valid is None:
        return set(), set()
    trained_on, held_out = (set(np.unique(data.y[part.rows]).tolist()) for part in (train, valid))
    return trained_on, held_out


def trains_in_seconds(learned: Fitted) -> bool:
    """Tell whether a training takes seconds, so that several are no trouble: of flat rows as they are."""
    return len(learned.model.input_shape) == 1 and learned.model.takes_plain_rows


def judge_on_more_classes(
    learned: Fitted, identity: Fitted, recipe: Recipe, data: TaskData, scaling: Literal["feature", "all"]
) -> tuple[Fitted, Fitted]:
    """Train again while other classes are held out, so that each is once, and judge network and rows on those too.

    Parameters
    ----------
    learned, identity : Fitted
        The network and the standardised rows, judged on the classes that were held out first.
    recipe : Recipe
        Of the network.
    data : TaskData
        All rows in use.
    scaling : {"feature", "all"}
        Of the standardised rows.

    Returns
    -------
    learned, identity : Fitted
        With the scores of all these classes in ``class_scores``. Where the user cuts that short, those so far.
    """
    of_learned, of_identity, folds = [_class_scores(learned)], [_class_scores(identity)], []
    for number, (train, valid) in enumerate(_further_folds(learned, recipe, data), start=1):
        own = recipe.of_fold(number)
        fold = fit_model(own, data, train, valid)
        if fold.outcome.interrupted:
            learned = dataclasses.replace(learned, outcome=dataclasses.replace(learned.outcome, interrupted=True))
            break
        rows = fit_identity(own, data, fold, scaling)
        assert rows is not None, "there were rows to compare with in the first fold"
        of_learned.append(_class_scores(fold))
        of_identity.append(_class_scores(rows))
        folds.append(fold.outcome)
    return (
        dataclasses.replace(learned, class_scores=np.concatenate(of_learned), folds=tuple(folds)),
        dataclasses.replace(identity, class_scores=np.concatenate(of_identity)),
    )


def _class_scores(fitted: Fitted) -> np.ndarray:
    assert fitted.class_scores is not None
    return fitted.class_scores


def _further_folds(learned: Fitted, recipe: Recipe, data: TaskData) -> Iterator[tuple[TaskData, TaskData]]:
    """Yield training and held-out rows, of about as many classes as were held out first, which come no more."""
    assert data.y is not None
    assert learned.valid is not None
    usable = data.classes[data.class_sizes >= SMALLEST_CLASS]
    held_out = np.unique(data.y[learned.valid.rows])
    others = recipe.seeds.numpy("class-folds").permutation(np.setdiff1d(usable, held_out))
    n_folds = min(MOST_FURTHER_FOLDS, math.ceil(len(others) / len(held_out)), len(others) // 2)
    for part in np.array_split(others, n_folds) if n_folds else ():
        is_out = np.isin(data.y[data.rows], part[: max(2, len(held_out))])
        yield data.restrict(data.rows[~is_out]), data.restrict(data.rows[is_out])
