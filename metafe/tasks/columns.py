"""Tasks from random columns of a table without labels."""

from __future__ import annotations

import dataclasses

import numpy as np

from metafe.contracts import Int, Problem, Seeds, TaskBatch, TaskData, check_sizes, collate
from metafe.contracts.spaces import SearchSpace
from metafe.contracts.task_batch import SMALLEST_CLASS
from metafe.tasks.episodes import EpisodeShape, Range, as_interval, as_range, choose, class_episode, shape_between
from metafe.tasks.pseudo_classes import UnlabelledSource, column_statistics

# Enough for the scales of columns; all rows of a memory-mapped array would be read otherwise.
ROWS_FOR_SCALES = 4096
# A task wants clusters that differ from the last one's, not the best ones.
K_MEANS_STEPS = 8
# Other columns are tried when a cluster is too small for the rows wanted of it.
ATTEMPTS = 4


class ColumnTasks(UnlabelledSource):
    """Each task is to find the clusters that rows form by a few random columns, which are then shuffled.

    It needs no ``y``, and flat rows. The network sees the other columns alone, so that it learns how columns hang
    together.

    Parameters
    ----------
    n_way : int or (int, int), default=10
        Clusters, which are the classes of a task. Fewer where there are fewer that have two rows.
    n_shot : int or (int, int), default=1
        Support rows of each class.
    n_query : int or (int, int), default=5
        Query rows of each class. Other columns are tried where a cluster is too small, and the task is smaller if
        none of four attempts succeeds.
    ratio : (float, float), default=(0.2, 0.5)
        Least and largest share of the columns that make the classes of a task, at least one and not all.
    n_rows : int, default=512
        Random rows that are clustered for each task, or all where there are fewer: clusters of all would cost more
        than training on them.

    Notes
    -----
    Nam et al., "STUNT: Few-shot Tabular Learning with Self-generated Tasks from Unlabeled Tables", 2023, where tasks
    have 15 query rows, with which the clusters of few rows often would not do. As published, each of the columns chosen
    is shuffled on its own in support and query rows alike. Rows are clustered with standardised columns. Meta-validation
    judges on clusters of held-out rows by all columns.

    Examples
    --------
    >>> data = TaskData(np.random.default_rng(0).normal(size=(200, 8)), None, None, np.arange(200))
    >>> batch, = ColumnTasks(n_way=3, n_query=4).draw(data, n=2, step=0, seeds=Seeds(0))
    >>> batch.support_x.shape, batch.query_x.shape
    ((2, 3, 8), (2, 12, 8))
    """

    name = "columns"

    def __init__(
        self,
        n_way: Range = 10,
        n_shot: Range = 1,
        n_query: Range = 5,
        ratio: tuple[float, float] = (0.2, 0.5),
        n_rows: int = 512,
    ) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.ratio = ratio
        self.n_rows = n_rows

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare way and shot."""
        return {"n_way": Int(3, 20), "n_shot": Int(1, 5)}

    def accepts(self, data: TaskData) -> str | None:
        """Say why no task can be drawn: rows that are not flat, one column, or too few rows."""
        as_interval(self.name, "ratio", self.ratio, 0.0, 1.0)
        check_sizes("columns", SMALLEST_CLASS * as_range(self.name, "n_way", self.n_way, 2)[0], n_rows=self.n_rows)
        # What is no array yet, such as texts, is asked about again once it is encoded.
        shape = data.x.shape[1:] if isinstance(data.x, np.ndarray) else (2,)
        if len(shape) != 1:
            return f"columns needs flat rows; got rows of shape {shape}. Use tasks='augment' or 'clusters'."
        if shape[0] < 2:
            return "columns needs at least 2 columns, of which some make the classes; got 1. Use tasks='clusters'."
        return super().accepts(data)

    def rows_of_a_task(self, data: TaskData) -> int:
        """Return the number of rows that are clustered for a task."""
        return min(self.n_rows, len(data))

    def task(self, data: TaskData, rng: np.random.Generator) -> TaskBatch:
        """Draw one task."""
        return self._task(data, shape_between(self.shapes(data), rng), rng)

    def draw(self, data: TaskData, n: int, step: int, seeds: Seeds) -> list[TaskBatch]:
        """Draw ``n`` tasks; all of a step have one shape, unless clusters are too small for it."""
        rng = seeds.numpy("tasks", step)
        shape = shape_between(self.shapes(data), rng)
        return collate([self._task(data, shape, rng) for _ in range(n)])

    def _task(self, data: TaskData, shape: EpisodeShape, rng: np.random.Generator) -> TaskBatch:
        rows = data.take(data.rows[choose(len(data), self.rows_of_a_task(data), rng)])
        mean, scale = data.remember((self.name, "scales"), lambda: _scales(data))
        columns, clusters = self._cluster(((rows - mean) / scale).astype(np.float32), shape, rng)
        rows[:, columns] = rng.permuted(rows[:, columns], axis=0)
        episode = class_episode(clusters, np.arange(len(clusters)), shape, rng)
        batch = episode.to_batch(TaskData(rows, None, None, np.arange(len(rows))))
        # The first class of one task is not the first of another.
        return dataclasses.replace(batch, support_class=None, query_class=None)

    def _cluster(
        self, points: np.ndarray, shape: EpisodeShape, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return random columns, and the points of the clusters by them that are large enough for a task."""
        for _ in range(ATTEMPTS):
            columns = self._choose_columns(points.shape[1], rng)
            labels = quick_clusters(points[:, columns], shape.n_way, rng)
            sizes = np.bincount(labels, minlength=shape.n_way)
            if sizes.min() >= shape.n_shot + shape.n_query:
                break
        usable = np.flatnonzero(sizes >= SMALLEST_CLASS)
        if len(usable) < 2:
            labels, usable = rng.permutation(len(points)) % 2, np.arange(2)
        return columns, [np.flatnonzero(labels == c) for c in usable]

    def _choose_columns(self, n_columns: int, rng: np.random.Generator) -> np.ndarray:
        n_chosen = round(rng.uniform(*self.ratio) * n_columns)
        return choose(n_columns, min(max(1, n_chosen), n_columns - 1), rng)


def quick_clusters(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return the cluster of each point after a few steps of k-means from ``k`` random points.

    Several times faster than scikit-learn's for the few hundred points of a task, of which there are thousands.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        At least ``k``.
    k : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n,) int64
        From 0 to ``k - 1``; some may be without a point.
    """
    centres = points[choose(len(points), k, rng)]
    for _ in range(K_MEANS_STEPS):
        labels = _nearest(points, centres)
        membership = (labels == np.arange(k)[:, None]).astype(points.dtype)
        sizes = membership.sum(axis=1, keepdims=True)
        centres = np.where(sizes > 0, membership @ points / np.maximum(sizes, 1), centres)
    return _nearest(points, centres)


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    # The squared norm of a point is the same for all centres and cannot change which is nearest.
    return ((centres**2).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1)


def _scales(data: TaskData) -> tuple[np.ndarray, np.ndarray]:
    rows = data.rows[:: -(-len(data) // ROWS_FOR_SCALES)]
    return column_statistics(data.take(rows).astype(np.float64))
