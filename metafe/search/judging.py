"""Judging features of held-out rows: on the same episodes for every trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from metafe.contracts import InvalidInputError, InvalidParameterError, Seeds, TaskData, TaskSource
from metafe.search.folds import Folds
from metafe.tasks import ClassTasks, ClusterTasks, GroupTasks, RowTasks
from metafe.training.probe import probe_classes, probe_tasks
from metafe.training.validation import Validator

Transform = Callable[[np.ndarray], np.ndarray]

QUERY = 15
EPISODES_IN_FOLD = 200
FRESH_EPISODES_IN_FOLD = 400


class ScoringError(InvalidParameterError):
    """A final estimator that cannot be fitted on features, or a scorer that does not score it."""


@dataclass(frozen=True)
class Judged:
    """Scores of features.

    Parameters
    ----------
    scores : ndarray of shape (n_episodes,)
        In the order of drawing, which is the same for all features.
    class_scores : ndarray of shape (n_classes,)
        The same by class; empty for continuous targets.
    """

    scores: np.ndarray
    class_scores: np.ndarray

    @property
    def mean(self) -> float:
        """Mean score over episodes."""
        return float(self.scores.mean())

    @staticmethod
    def joined(parts: Sequence[Judged]) -> Judged:
        """Return the scores of several folds as one."""
        return Judged(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("scores", "class_scores")))


class Judge:
    """Episodes of the test rows of each fold.

    Parameters
    ----------
    data : TaskData
        All raw rows.
    folds : Folds
    n_shot : int, default=1
        Labelled rows of each class in an episode.

    Attributes
    ----------
    seeds : Seeds
        The same seeds give the same episodes; set before anything is judged.
    source : TaskSource
        What draws them.

    Raises
    ------
    InvalidInputError
        Test rows from which no episode can be drawn.
    """

    def __init__(self, data: TaskData, folds: Folds, n_shot: int = 1) -> None:
        self.data = data
        self.folds = folds
        self.n_shot = n_shot
        self.seeds = Seeds(0)
        self.source = self._source()

    def judge(self, transform: Transform, fold: int, fresh: bool = False) -> Judged:
        """Score features of the test rows of a fold.

        Parameters
        ----------
        transform : callable
            From row numbers to features ``(n_rows, n_features)``.
        fold : int
        fresh : bool, default=False
            On episodes that no trial was chosen by.

        Returns
        -------
        Judged
        """
        validator = (self._fresh_validators if fresh else self._validators)[fold]
        return _judged(transform, validator)

    def judge_on_all(self, transform: Transform) -> Judged:
        """Score features of all rows, on episodes over all classes at once: for what has not learned from labels.

        Parameters
        ----------
        transform : callable
            From row numbers to features ``(n_rows, n_features)``.

        Returns
        -------
        Judged
        """
        return _judged(transform, self._validator_of_all)

    @cached_property
    def _validator_of_all(self) -> Validator:
        n_episodes = FRESH_EPISODES_IN_FOLD * len(self.folds)
        return Validator(self.source, self.data, n_episodes, self.seeds.child("judge on all"), torch.device("cpu"))

    @cached_property
    def _validators(self) -> list[Validator]:
        return self._draw(EPISODES_IN_FOLD, self.seeds.child("judge"))

    @cached_property
    def _fresh_validators(self) -> list[Validator]:
        return self._draw(FRESH_EPISODES_IN_FOLD, self.seeds.child("judge afresh"))

    def _draw(self, n_episodes: int, seeds: Seeds) -> list[Validator]:
        return [
            Validator(self.source, self.data.restrict(test), n_episodes, seeds.child(fold), torch.device("cpu"))
            for fold, (_, test) in enumerate(self.folds.parts)
        ]

    def _source(self) -> TaskSource:
        """Return the first kind of tasks that the test rows of every fold allow."""
        reasons = []
        for source in judging_sources(self.data, self.n_shot):
            refusals = [source.accepts(self.data.restrict(test)) for _, test in self.folds.parts]
            if not any(refusals):
                return source
            reasons += [reason for reason in refusals if reason]
        raise InvalidInputError(
            f"Every fold must have held-out rows to judge on; got {self.folds.said}: {' '.join(dict.fromkeys(reasons))} "
            "Pass more rows, or another cv."
        )


def _judged(transform: Transform, validator: Validator) -> Judged:
    batches = validator.batches_of_used(transform(validator.used_rows))
    return Judged(probe_tasks(batches), probe_classes(batches))


def judging_sources(data: TaskData, n_shot: int = 1) -> list[TaskSource]:
    """Return the kinds of tasks that features may be judged on, what fits the data best in front."""
    if data.kind == "unlabelled":
        return [ClusterTasks(2, 1, 1)]
    if data.kind == "regression":
        return [GroupTasks(), RowTasks()] if data.groups is not None else [RowTasks()]
    by_class = ClassTasks(None, n_shot, QUERY)
    return [GroupTasks(None, n_shot, QUERY), by_class] if data.groups is not None else [by_class]


class DownstreamJudge:
    """The score of a final estimator on the features, fitted on those of the training rows.

    Parameters
    ----------
    data : TaskData
        All raw rows.
    y : ndarray of shape (n, ...)
        As the user gave it.
    folds : Folds
    final_estimator : estimator
    scorer : callable
        A scorer of scikit-learn.
    """

    def __init__(self, data: TaskData, y: Any, folds: Folds, final_estimator: Any, scorer: Any) -> None:
        self.data = data
        self.y = y
        self.folds = folds
        self.final_estimator = final_estimator
        self.scorer = scorer
        self.seeds = Seeds(0)
        self.source = judging_sources(data)[-1]

    def judge(self, transform: Transform, fold: int) -> Judged:
        """Fit the final estimator on the training rows of a fold and score it on the test rows.

        Raises
        ------
        ScoringError
            The final estimator or the scorer raised, or the scorer gave no finite number.
        """
        train, test = self.folds.parts[fold]
        fitted = self._fit(transform(train), self.y[train])
        features = transform(test)
        try:
            score = float(self.scorer(fitted, features, self.y[test]))
        except Exception as error:  # a scorer may be anyone's
            raise ScoringError(
                f"scoring must give a number for {type(fitted).__name__}; it raised {type(error).__name__}: "
                f"{str(error).rstrip('.')}. Choose another scorer."
            ) from error
        if not np.isfinite(score):
            raise ScoringError(
                f"scoring must give a finite number for {type(fitted).__name__}; got {score}. Choose another scorer."
            )
        return Judged(np.array([score]), np.empty(0))

    def _fit(self, features: np.ndarray, y: Any) -> Any:
        try:
            return clone(self.final_estimator).fit(features, y)
        except Exception as error:  # an estimator may be anyone's
            if not np.isfinite(features).all():
                # That is not its fault.
                raise
            raise ScoringError(
                f"final_estimator must be able to fit features; {type(self.final_estimator).__name__} raised "
                f"{type(error).__name__}: {str(error).rstrip('.')}. Pass another, or put what it needs before it in a pipeline."
            ) from error
