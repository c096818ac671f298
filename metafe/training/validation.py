"""Meta-validation: scores of a learner on tasks kept out of meta-training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from metafe.contracts import Context, Learner, MetaAlgorithm, Seeds, TaskBatch, TaskData, TaskSource
from metafe.training.checking import check_batches, checked_features
from metafe.training.feature_model import features_in_chunks
from metafe.training.normalisation import Normaliser
from metafe.training.probe import probe_tasks


class Validator:
    """The same held-out tasks for every learner, and for rows without one.

    Parameters
    ----------
    source : TaskSource
    data : TaskData
        Encoded held-out rows.
    n_tasks : int
    seeds : Seeds
        The same seeds give the same tasks.
    device : torch.device
    adapts : bool, default=True
        Whether an algorithm whose features depend on the task adapts to it first.
    """

    def __init__(
        self,
        source: TaskSource,
        data: TaskData,
        n_tasks: int,
        seeds: Seeds,
        device: torch.device,
        adapts: bool = True,
    ) -> None:
        self.source, self.data = source.validation_source(data, seeds)
        self.n_tasks = n_tasks
        self.seeds = seeds
        self.device = device
        self.adapts = adapts

    def score(self, algorithm: MetaAlgorithm, learner: Learner, normaliser: Normaliser) -> np.ndarray:
        """Return the score of each task by the features that `transform` would give, ``(n_tasks,)``."""
        return probe_tasks(self.feature_batches(algorithm, learner, normaliser))

    def feature_batches(
        self, algorithm: MetaAlgorithm, learner: Learner, normaliser: Normaliser
    ) -> Sequence[TaskBatch]:
        """Return the tasks with features in place of rows."""
        if self.source.selects_rows and not (self.adapts and algorithm.adapts_features):

            def forward(rows: torch.Tensor) -> torch.Tensor:
                with torch.no_grad():
                    features = algorithm.features(learner, {}, normaliser(rows))
                return checked_features(algorithm, features, len(rows), learner.n_features)

            return self._batches_of(features_in_chunks(self._rows, forward, self.device), self._used)
        return [_adapted_features(algorithm, learner, normaliser, batch.to(self.device)) for batch in self._raw_batches]

    def batches_of(self, features: np.ndarray) -> list[TaskBatch]:
        """Return the tasks over any features of the held-out rows, ``(len(data), n_features)`` in their order."""
        return self._batches_of(features, np.arange(len(self.data)))

    @property
    def used_rows(self) -> np.ndarray:
        """Numbers of the held-out rows that any task has."""
        return self.data.rows[self._used]

    @property
    def n_rows(self) -> int:
        """How many rows a validation has at the least."""
        return len(self._used) if self.source.selects_rows else self.n_tasks

    def batches_of_used(self, features: np.ndarray) -> list[TaskBatch]:
        """Return the tasks over any features of `used_rows`, ``(len(used_rows), n_features)`` in their order."""
        return self._batches_of(features, self._used)

    def _batches_of(self, features: np.ndarray, numbers: np.ndarray) -> list[TaskBatch]:
        """Return the tasks over features of some held-out rows, whose sorted numbers are given."""

        def look_up(rows: np.ndarray) -> Any:
            return features[np.searchsorted(numbers, rows[..., 0])]

        return [
            dataclasses.replace(batch, support_x=look_up(batch.support_x), query_x=look_up(batch.query_x))
            for batch in self._numbered
        ]

    @cached_property
    def _numbered(self) -> list[TaskBatch]:
        """The tasks with the number of each row, counted among those held out, in place of it."""
        rows = self.data.rows
        y, groups = (None if a is None else a[rows] for a in (self.data.y, self.data.groups))
        numbers = np.arange(len(rows))
        batches = self.source.draw_validation(TaskData(numbers[:, None], y, groups, numbers), self.n_tasks, self.seeds)
        return check_batches(self.source, batches, (1,))

    @cached_property
    def _used(self) -> np.ndarray:
        """Sorted numbers of the rows that any task has; the others, of a large file perhaps, are never read."""
        return np.unique(
            np.concatenate([x.ravel() for batch in self._numbered for x in (batch.support_x, batch.query_x)])
        )

    @cached_property
    def _rows(self) -> np.ndarray:
        return self.data.take(self.data.rows[self._used])

    @cached_property
    def _raw_batches(self) -> list[TaskBatch]:
        batches = self.source.draw_validation(self.data, self.n_tasks, self.seeds)
        return check_batches(self.source, batches, self.data.x.shape[1:])


def _adapted_features(
    algorithm: MetaAlgorithm, learner: Learner, normaliser: Normaliser, batch: TaskBatch
) -> TaskBatch:
    """Adapt to each task and return its features in place of its rows."""
    rows = dataclasses.replace(batch, support_x=normaliser(batch.support_x), query_x=normaliser(batch.query_x))
    support: list[torch.Tensor] = []
    query: list[torch.Tensor] = []
    with torch.no_grad():
        for features in algorithm.features_of_tasks(learner, rows, Context(training=False)):
            for given, x, parts in zip(features, (rows.support_x, rows.query_x), (support, query), strict=True):
                parts.append(checked_features(algorithm, given, x.shape[1], learner.n_features))
    arrays: dict[str, Any] = {
        f.name: value.cpu().numpy() if isinstance(value := getattr(batch, f.name), torch.Tensor) else value
        for f in dataclasses.fields(batch)
    }
    arrays["support_x"], arrays["query_x"] = (torch.stack(x).float().cpu().numpy() for x in (support, query))
    return TaskBatch(**arrays)
