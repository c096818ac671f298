"""What sources that make their own labels share: k-means, and validation on the classes that it finds."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np

from metafe.contracts import InvalidInputError, Problem, Seeds, TaskBatch, TaskData, TaskSource
from metafe.contracts.task_batch import SMALLEST_CLASS
from metafe.tasks.classes import ClassTasks
from metafe.tasks.episodes import Episode, EpisodeShape, EpisodeSource, Range, as_range

# Held-out rows that get pseudo-classes; more would make validation slower and its tasks no better.
MOST_VALIDATION_ROWS = 4096
# As coarse as classes usually are. Finer clusters favour the rows themselves, by whose distances they were made: on
# labelled tables, features that told true classes better still told twenty clusters worse.
VALIDATION_CLUSTERS = 5
# One clustering says little about the next.
VALIDATION_PARTITIONS = 10
# Above this, k-means looks at mini-batches.
MANY_ROWS = 10_000


class UnlabelledSource(TaskSource):
    """Base of sources that make their own labels: a subclass draws training tasks and has way, shot and query.

    Meta-validation keeps rows out at random and judges on pseudo-classes of them, five clusters by all columns, whatever
    way and shot the source trains with, so that sources and their settings can be compared. ``y``, where there is
    one, is not looked at.

    Notes
    -----
    Pseudo-validation of Nam et al., "STUNT: Few-shot Tabular Learning with Self-generated Tasks from Unlabeled
    Tables", 2023, by ten clusterings in place of one: in all but the first, columns have random weights.
    """

    n_way: Range
    n_shot: Range
    n_query: Range

    def accepts(self, data: TaskData) -> str | None:
        """Say why no task can be drawn: too few rows."""
        needed = SMALLEST_CLASS * self.shapes(data)[0].n_way
        if len(data) < needed:
            return f"{self.name} n_way={self.n_way} needs at least {needed} rows; got {len(data)}. Pass more rows."
        return None

    def split(self, data: TaskData, fraction: float, seeds: Seeds) -> tuple[TaskData, TaskData | None]:
        """Keep rows out at random, where both sides are large enough for a task."""
        train, valid = super().split(data, fraction, seeds)
        if valid is None or self.accepts(train) or self.accepts(valid):
            return data, None
        return train, valid

    def problem(self, data: TaskData, input_shape: tuple[int, ...]) -> Problem:
        """Describe the tasks: the largest way, and the number of classes across tasks, of training and validation."""
        judged = PseudoClassTasks([]).problem(data, input_shape)
        largest = max(self.shapes(data)[-1].n_way, judged.max_way)
        n_classes = max(self.n_classes(data), judged.n_classes, largest)
        return Problem("classification", input_shape, n_classes=n_classes, max_way=largest)

    def n_classes(self, data: TaskData) -> int:
        """Return the number of classes across training tasks; 0 where those of one have nothing to do with another's."""
        return 0

    def row_labels(self, data: TaskData) -> np.ndarray:
        """Refuse, since a row has another label in each task."""
        raise InvalidInputError(
            f"{self.name} gives a row another label in each task; got an algorithm that trains on rows. Use one that "
            "trains on tasks, such as 'protonet', or tasks='clusters'."
        )

    def rows_of_a_task(self, data: TaskData) -> int:
        """Return the number of rows that the classes of a task are made of."""
        return len(data)

    def shapes(self, data: TaskData) -> list[EpisodeShape]:
        """Return the smallest and the largest episode, of as many classes as there are pairs of rows at most."""
        low, high = as_range(self.name, "n_way", self.n_way, 2)
        ranges = (
            (low, max(low, min(high, self.rows_of_a_task(data) // SMALLEST_CLASS))),
            as_range(self.name, "n_shot", self.n_shot, 1),
            as_range(self.name, "n_query", self.n_query, 1),
        )
        return [EpisodeShape(*sizes) for sizes in zip(*ranges, strict=True)]

    def draw_validation(self, data: TaskData, n: int, seeds: Seeds) -> list[TaskBatch]:
        """Draw ``n`` tasks of pseudo-classes."""
        source, judged = self.validation_source(data, seeds)
        return source.draw_validation(judged, n, seeds)

    def validation_source(self, data: TaskData, seeds: Seeds) -> tuple[TaskSource, TaskData]:
        """Return what selects rows by their pseudo-classes, and 4096 of the rows at most."""
        rows = np.sort(seeds.numpy("judged").permutation(data.rows)[:MOST_VALIDATION_ROWS])
        points = standardised_points(data, rows)
        partitions = cluster_rows(points, VALIDATION_CLUSTERS, VALIDATION_PARTITIONS, seeds.child("judged"))
        return PseudoClassTasks(partitions), data.restrict(rows)


class PseudoClassTasks(EpisodeSource):
    """Tasks as `ClassTasks` draws them by default, each of the classes of one partition of the rows.

    Parameters
    ----------
    partitions : list of ndarray of shape (m,) int64
        Class of each row in use, in their order.
    """

    name = "pseudo-classes"

    def __init__(self, partitions: list[np.ndarray]) -> None:
        self.partitions = partitions

    def problem(self, data: TaskData, input_shape: tuple[int, ...]) -> Problem:
        """Describe the tasks; each class of each partition counts."""
        n_classes = VALIDATION_PARTITIONS * VALIDATION_CLUSTERS
        return Problem("classification", input_shape, n_classes=n_classes, max_way=VALIDATION_CLUSTERS)

    def shapes(self, data: TaskData) -> list[EpisodeShape]:
        """Return the smallest and the largest episode."""
        return ClassTasks().shapes(self._labelled(data, 0))

    def episode(self, data: TaskData, shape: EpisodeShape, rng: np.random.Generator) -> Episode:
        """Draw a partition, then classes and rows of each."""
        number = int(rng.integers(len(self.partitions)))
        return partition_episode(self._labelled(data, number), shape, rng, number * VALIDATION_CLUSTERS)

    def _labelled(self, data: TaskData, number: int) -> TaskData:
        return data.remember((self, number), lambda: labelled(data, self.partitions[number]))


def labelled(data: TaskData, labels: np.ndarray) -> TaskData:
    """Return ``data`` with the labels of its rows in use as ``y``; other rows have label 0."""
    y = np.zeros(len(data.x), dtype=np.int64)
    y[data.rows] = labels
    return dataclasses.replace(data, y=y)


def partition_episode(partition: TaskData, shape: EpisodeShape, rng: np.random.Generator, first: int) -> Episode:
    """Draw an episode of the classes of ``partition``, whose labels across tasks begin at ``first``."""
    episode = ClassTasks().episode(partition, shape, rng)
    return dataclasses.replace(episode, classes=partition.classes[episode.classes] + first)


def standardised_points(data: TaskData, rows: np.ndarray) -> np.ndarray:
    """Return rows of ``data`` as points for k-means.

    Returns
    -------
    ndarray of shape (m, n_values) float32
        Each column of flat rows on its own scale; rows of more dimensions, such as images, on one.
    """
    taken = data.take(rows)
    return standardised(taken.reshape(len(taken), -1), one_scale=taken.ndim > 2)


def standardised(points: np.ndarray, one_scale: bool) -> np.ndarray:
    """Return points ``(n, d)`` as float32, each column on its own scale or all on one."""
    points = points.astype(np.float64)
    mean, scale = column_statistics(points)
    if one_scale:
        scale = np.sqrt((scale**2).mean())
    return ((points - mean) / scale).astype(np.float32)


def column_statistics(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each column of ``(n, d)``; 1 for a constant one."""
    scale = points.std(axis=0)
    return points.mean(axis=0), np.where(scale > 0, scale, 1.0)


def cluster_rows(points: np.ndarray, k: int, n_partitions: int, seeds: Seeds) -> list[np.ndarray]:
    """Return partitions of points into ``k`` clusters: the first weighs all columns the same, the others at random.

    Parameters
    ----------
    points : ndarray of shape (n, d) float32
        At least four.
    k : int
        Clusters wanted; fewer where fewer points are distinct to the precision of k-means.
    n_partitions : int
    seeds : Seeds

    Returns
    -------
    list of ndarray of shape (n,) int64
        In each, at least two clusters have two points or more, by chance where k-means finds none such.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    k = min(k, len(np.unique(points, axis=0)))
    equal = np.ones(points.shape[1])
    weights = [equal, *(seeds.numpy("weights", i).uniform(size=equal.shape) for i in range(1, n_partitions))]
    # Several threads add up in the order in which they finish, so that last digits would differ from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        # Points that all but coincide make fewer clusters, as points that do coincide.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [
            _k_means((points * weight).astype(np.float32), k, seeds.integer("k-means", number))
            for number, weight in enumerate(weights)
        ]


def _k_means(points: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    method = MiniBatchKMeans if len(points) > MANY_ROWS else KMeans
    labels = method(k, n_init=1, random_state=seed % 2**32).fit(points).labels_.astype(np.int64)
    if (np.bincount(labels) >= SMALLEST_CLASS).sum() < 2:
        return np.random.default_rng(seed).permutation(len(points)) % 2
    return labels
