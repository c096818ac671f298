"""What task sources share whose tasks are selections of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from metafe.contracts import InvalidParameterError, Seeds, TaskBatch, TaskData, TaskSource
from metafe.contracts.task_batch import SMALLEST_CLASS

Range = int | tuple[int, int]

# With fewer, too few classes (or groups) would be left on either side of a split.
FEWEST_TO_HOLD_OUT_FROM = 4


@dataclass(frozen=True)
class Episode:
    """One task as row numbers.

    Parameters
    ----------
    support, query : ndarray of shape (S,) and (Q,) int64
        Rows of the data.
    support_y, query_y : ndarray of shape (S,) and (Q,) int64, or (S, n_targets) and (Q, n_targets)
        Labels within the task, or targets.
    classes : ndarray of shape (n_way,) int64 or None
        Labels across tasks of the labels within the task; None for regression.
    """

    support: np.ndarray
    query: np.ndarray
    support_y: np.ndarray
    query_y: np.ndarray
    classes: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """What must agree for two episodes to be in one batch: support rows, query rows and classes."""
        return len(self.support), len(self.query), 0 if self.classes is None else len(self.classes)

    def to_batch(self, data: TaskData) -> TaskBatch:
        """Take the rows of the episode from ``data``, as a batch of one task."""
        return batch_episodes([self], data)[0]


def batch_episodes(episodes: list[Episode], data: TaskData) -> list[TaskBatch]:
    """Take the rows of episodes from ``data``, all of a shape at once.

    Parameters
    ----------
    episodes : list of Episode
    data : TaskData

    Returns
    -------
    list of TaskBatch
        One for each shape, in order of first appearance.
    """
    by_shape: dict[tuple[int, int, int], list[Episode]] = {}
    for episode in episodes:
        by_shape.setdefault(episode.shape, []).append(episode)
    return [_stack(same, data) for same in by_shape.values()]


def _stack(episodes: list[Episode], data: TaskData) -> TaskBatch:
    support_y, query_y = (np.stack([getattr(e, name) for e in episodes]) for name in ("support_y", "query_y"))
    classes = None if episodes[0].classes is None else np.stack([e.classes for e in episodes if e.classes is not None])
    return TaskBatch(
        support_x=data.take(np.stack([e.support for e in episodes])),
        support_y=support_y,
        query_x=data.take(np.stack([e.query for e in episodes])),
        query_y=query_y,
        n_way=0 if classes is None else classes.shape[1],
        support_class=None if classes is None else np.take_along_axis(classes, support_y, axis=1),
        query_class=None if classes is None else np.take_along_axis(classes, query_y, axis=1),
    )


class EpisodeSource(TaskSource):
    """Base of sources whose tasks are selections of rows: a subclass writes `episode`."""

    selects_rows = True

    def episode(self, data: TaskData, shape: EpisodeShape, rng: np.random.Generator) -> Episode:
        """Draw one episode of about the given shape."""
        raise NotImplementedError

    def shapes(self, data: TaskData) -> list[EpisodeShape]:
        """Return the smallest and the largest shape that the settings allow."""
        raise NotImplementedError

    def episodes(self, data: TaskData, n: int, rng: np.random.Generator) -> list[Episode]:
        """Draw ``n`` episodes of one shape, itself drawn between the smallest and the largest."""
        shape = shape_between(self.shapes(data), rng)
        return [self.episode(data, shape, rng) for _ in range(n)]

    def task(self, data: TaskData, rng: np.random.Generator) -> TaskBatch:
        """Draw one task."""
        return self.episodes(data, 1, rng)[0].to_batch(data)

    def draw(self, data: TaskData, n: int, step: int, seeds: Seeds) -> list[TaskBatch]:
        """Draw ``n`` tasks; all of a step have one shape, unless classes or groups are too small for it."""
        episodes = self.episodes(data, n, seeds.numpy("tasks", step))
        return batch_episodes(episodes, data)

    def draw_validation(self, data: TaskData, n: int, seeds: Seeds) -> list[TaskBatch]:
        """Draw ``n`` tasks, in equal parts of the smallest and the largest shape."""
        return batch_episodes(self.validation_episodes(data, n, seeds), data)

    def validation_episodes(self, data: TaskData, n: int, seeds: Seeds) -> list[Episode]:
        """Draw ``n`` episodes to judge on; the same ones for the same labels, groups and seeds."""
        rng = seeds.numpy("validation")
        shapes = self.shapes(data)
        return [self.episode(data, shapes[i % len(shapes)], rng) for i in range(n)]


@dataclass(frozen=True, order=True)
class EpisodeShape:
    """How many classes an episode has, and how many rows of each."""

    n_way: int
    n_shot: int
    n_query: int


def shape_between(shapes: list[EpisodeShape], rng: np.random.Generator) -> EpisodeShape:
    """Draw a shape between the first, which is the smallest, and the last."""
    small, large = shapes[0], shapes[-1]
    return EpisodeShape(
        n_way=int(rng.integers(small.n_way, large.n_way + 1)),
        n_shot=int(rng.integers(small.n_shot, large.n_shot + 1)),
        n_query=int(rng.integers(small.n_query, large.n_query + 1)),
    )


def as_range(owner: str, name: str, value: Range, minimum: int) -> tuple[int, int]:
    """Return the bounds of an int or a pair of ints, which a task source has as one of its parameters.

    Raises
    ------
    InvalidParameterError
        Neither of them, or out of order, or below ``minimum``.
    """
    pair: Any = (value, value) if isinstance(value, Integral) else value
    if not _is_pair_of(pair, Integral) or not minimum <= pair[0] <= pair[1]:
        raise InvalidParameterError(
            f"{owner} {name} must be a whole number of at least {minimum}, or a pair (low, high) of them; got {value!r}."
        )
    return int(pair[0]), int(pair[1])


def as_interval(
    owner: str, name: str, value: tuple[float, float], minimum: float, maximum: float
) -> tuple[float, float]:
    """Return the bounds of a pair of numbers, which a task source has as one of its parameters.

    Raises
    ------
    InvalidParameterError
        Not a pair of finite numbers, or out of order, or outside ``minimum`` to ``maximum``.
    """
    finite = _is_pair_of(value, Real) and all(math.isfinite(v) for v in value)
    if not finite or not minimum <= value[0] <= value[1] <= maximum:
        bounded = math.isfinite(maximum - minimum)
        numbers = f"numbers from {minimum:g} to {maximum:g}" if bounded else "finite numbers"
        raise InvalidParameterError(f"{owner} {name} must be a pair (low, high) of {numbers}; got {value!r}.")
    return float(value[0]), float(value[1])


def _is_pair_of(value: object, kind: type) -> bool:
    """Tell whether a value is a sequence of two numbers; True and False are none."""
    if not isinstance(value, Sequence) or len(value) != 2:
        return False
    return all(isinstance(v, kind) and not isinstance(v, bool) for v in value)


def pick_rows(
    rows_by_class: list[np.ndarray], shape: EpisodeShape, rng: np.random.Generator, fewest_query: int = 1
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pick support and query rows of each class, as many of each as the smallest class allows.

    Parameters
    ----------
    rows_by_class : list of ndarray
        Rows of the classes of one task, more than ``fewest_query`` in each.
    shape : EpisodeShape
        What is wanted; at least one support row and ``fewest_query`` query rows remain.
    rng : numpy.random.Generator
    fewest_query : int, default=1

    Returns
    -------
    support, query : list of ndarray
        Disjoint rows of each class.
    """
    fewest = min(len(rows) for rows in rows_by_class)
    n_shot = min(shape.n_shot, fewest - fewest_query)
    n_query = min(max(shape.n_query, fewest_query), fewest - n_shot)
    picked = [rows[choose(len(rows), n_shot + n_query, rng)] for rows in rows_by_class]
    return [rows[:n_shot] for rows in picked], [rows[n_shot:] for rows in picked]


def choose(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``size`` different numbers below ``n`` in random order."""
    # For few numbers, as in most classes, a permutation is several times faster than choice.
    return rng.permutation(n)[:size] if n <= 512 else rng.choice(n, size, replace=False)


def class_episode(
    rows_by_class: list[np.ndarray], classes: np.ndarray, shape: EpisodeShape, rng: np.random.Generator
) -> Episode:
    """Make an episode from rows of its classes, in random order of the classes."""
    support, query = pick_rows(rows_by_class, shape, rng)
    labels = np.arange(len(classes))
    return Episode(
        support=np.concatenate(support),
        query=np.concatenate(query),
        support_y=np.repeat(labels, len(support[0])),
        query_y=np.repeat(labels, len(query[0])),
        classes=classes,
    )


def hold_out(n: int, fraction: float, rng: np.random.Generator, n_keep: int = 2) -> np.ndarray:
    """Choose at least two of ``n`` classes or groups to keep out, leaving at least ``n_keep``.

    Returns
    -------
    ndarray of shape (n,) bool
        True where kept out.
    """
    n_out = min(max(2, round(fraction * n)), n - n_keep)
    held_out = np.zeros(n, dtype=bool)
    held_out[rng.permutation(n)[:n_out]] = True
    return held_out


def split_parts(data: TaskData, parts: list[np.ndarray], out: np.ndarray) -> tuple[TaskData, TaskData]:
    """Return ``data`` with the rows of the parts that stay, and with those of the parts that ``out`` marks."""
    train, valid = (
        np.sort(np.concatenate([rows for rows, o in zip(parts, out, strict=True) if o == side]))
        for side in (False, True)
    )
    return data.restrict(train), data.restrict(valid)


def split_rows_within(
    data: TaskData, parts: list[np.ndarray], fraction: float, rng: np.random.Generator, smallest: int = SMALLEST_CLASS
) -> tuple[TaskData, TaskData | None]:
    """Keep rows of every class (or group) out, where it has enough for both sides.

    Returns
    -------
    train, valid : TaskData
        ``valid`` is None when too few classes or groups have enough rows.
    """
    train, valid = [], []
    for rows in parts:
        n_out = max(smallest, round(fraction * len(rows)))
        shuffled = rng.permutation(rows)
        enough = len(rows) - n_out >= smallest
        train.append(shuffled[n_out:] if enough else shuffled)
        valid.extend([shuffled[:n_out]] if enough else [])
    if len(valid) < min(2, len(parts)):
        return data, None
    return data.restrict(np.sort(np.concatenate(train))), data.restrict(np.sort(np.concatenate(valid)))
