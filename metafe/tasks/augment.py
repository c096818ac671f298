"""Tasks in which each class is one row and changed copies of it."""

from __future__ import annotations

import numpy as np

from metafe.contracts import Int, Problem, Seeds, TaskBatch, TaskData
from metafe.contracts.spaces import SearchSpace
from metafe.tasks.episodes import Episode, EpisodeShape, Range, batch_episodes, choose, shape_between
from metafe.tasks.pseudo_classes import UnlabelledSource


class AugmentTasks(UnlabelledSource):
    """Each class of a task is one random row: support and query are copies of it, which augmentations make differ.

    It needs no ``y``. What the features should not depend on is what the augmentations change, so they decide what is
    learned: name them with ``augment=``.

    Parameters
    ----------
    n_way : int or (int, int), default=5
        Rows of a task, each a class of its own.
    n_shot : int or (int, int), default=1
        Support copies of each row.
    n_query : int or (int, int), default=5
        Query copies of each row.

    Notes
    -----
    UMTRA of Khodadadeh, Bölöni and Shah, "Unsupervised Meta-Learning for Few-Shot Image Classification", 2019: with
    few rows drawn from many classes, most are of different classes. There, support rows are as they are and
    query rows are augmented; here the augmentations of training change both, each copy in its own way. Meta-validation,
    which never augments, judges on clusters of held-out rows by all columns. For algorithms that train on rows, each row
    is a class, as in Dosovitskiy et al., "Discriminative Unsupervised Feature Learning with Exemplar Convolutional
    Neural Networks", 2014.

    Examples
    --------
    >>> data = TaskData(np.eye(50), None, None, np.arange(50))
    >>> batch, = AugmentTasks(n_way=3, n_query=2).draw(data, n=4, step=0, seeds=Seeds(0))
    >>> batch.support_x.shape, batch.query_x.shape
    ((4, 3, 50), (4, 6, 50))
    """

    name = "augment"
    needs_augmentation = True

    def __init__(self, n_way: Range = 5, n_shot: Range = 1, n_query: Range = 5) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the way."""
        return {"n_way": Int(2, 20)}

    def n_classes(self, data: TaskData) -> int:
        """Return the number of rows."""
        return len(data)

    def row_labels(self, data: TaskData) -> np.ndarray:
        """Return another label for each row."""
        return np.arange(len(data))

    def task(self, data: TaskData, rng: np.random.Generator) -> TaskBatch:
        """Draw one task."""
        return _episode(data, shape_between(self.shapes(data), rng), rng).to_batch(data)

    def draw(self, data: TaskData, n: int, step: int, seeds: Seeds) -> list[TaskBatch]:
        """Draw ``n`` tasks of one shape."""
        rng = seeds.numpy("tasks", step)
        shape = shape_between(self.shapes(data), rng)
        return batch_episodes([_episode(data, shape, rng) for _ in range(n)], data)


def _episode(data: TaskData, shape: EpisodeShape, rng: np.random.Generator) -> Episode:
    chosen = choose(len(data), min(shape.n_way, len(data)), rng)
    labels = np.arange(len(chosen))
    support_y, query_y = np.repeat(labels, shape.n_shot), np.repeat(labels, shape.n_query)
    rows = data.rows[chosen]
    return Episode(rows[support_y], rows[query_y], support_y, query_y, classes=chosen)
