"""Tasks from clusters of rows without labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from metafe.contracts import Int, InvalidParameterError, Problem, Seeds, TaskBatch, TaskData, check_sizes
from metafe.contracts.spaces import SearchSpace
from metafe.contracts.task_batch import SMALLEST_CLASS
from metafe.tasks.embedding import check_embedding, embedded
from metafe.tasks.episodes import Episode, EpisodeShape, Range, batch_episodes, shape_between
from metafe.tasks.pseudo_classes import (
    UnlabelledSource,
    cluster_rows,
    labelled,
    partition_episode,
    standardised,
    standardised_points,
)

MOST_CLUSTERS = 500
# With fewer, most clusters would be too small for support and query.
ROWS_PER_CLUSTER = 20


class ClusterTasks(UnlabelledSource):
    """Each task tells a few clusters of rows apart; k-means finds them once, on the encoded rows or an embedding of them.

    It needs no ``y``. Several partitions, each by columns of other weights, keep the network from learning the quirks
    of one.

    Parameters
    ----------
    n_way : int or (int, int), default=5
        Clusters of a task, all of one partition.
    n_shot : int or (int, int), default=1
        Support rows of each cluster.
    n_query : int or (int, int), default=5
        Query rows of each cluster; small ones give what they have.
    n_clusters : int or None, default=None
        Clusters of each partition. ``None`` takes one for each 20 rows, 500 at most, as published for images.
    n_partitions : int, default=10
        How often rows are clustered. The first partition weighs all columns equally, each other one at random.
    n_components : int or None, default=None
        Principal components to cluster by; ``None`` clusters by all columns.
    embedding : transformer or None, default=None
        What to cluster by: a scikit-learn transformer, which is cloned and fitted on the training rows, flat and without
        labels. One that is fitted already, such as a `MetaFeatureExtractor`, is passed in
        ``sklearn.frozen.FrozenEstimator``. ``None`` clusters by the rows themselves, standardised.

    Notes
    -----
    CACTUs of Hsu, Levine and Finn, "Unsupervised Learning via Meta-Learning", 2019, where the clusters are of an
    embedding that was learned without labels. Columns of an embedding keep their proportions. Above 10000 rows, k-means
    looks at mini-batches. All training rows are read at once. Meta-validation judges on clusters of held-out rows by all
    columns, whatever the embedding, so that embeddings can be compared.

    An extractor with such tasks is saved without pickle where skops can write the embedding: a transformer of
    scikit-learn, fitted or not, but no frozen `MetaFeatureExtractor`.

    Examples
    --------
    >>> data = TaskData(np.random.default_rng(0).normal(size=(200, 4)), None, None, np.arange(200))
    >>> batch, = ClusterTasks(n_way=2, n_query=1).draw(data, n=3, step=0, seeds=Seeds(0))
    >>> batch.support_x.shape, batch.query_x.shape
    ((3, 2, 4), (3, 2, 4))
    """

    name = "clusters"

    def __init__(
        self,
        n_way: Range = 5,
        n_shot: Range = 1,
        n_query: Range = 5,
        n_clusters: int | None = None,
        n_partitions: int = 10,
        n_components: int | None = None,
        embedding: Any = None,
    ) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.n_clusters = n_clusters
        self.n_partitions = n_partitions
        self.n_components = n_components
        self.embedding = embedding

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare way, shot and the number of partitions."""
        return {"n_way": Int(2, 20), "n_shot": Int(1, 5), "n_partitions": Int(1, 50, log=True)}

    def accepts(self, data: TaskData) -> str | None:
        """Say why no task can be drawn: too few rows for the clusters."""
        check_embedding(self.embedding)
        check_sizes("clusters", n_partitions=self.n_partitions)
        if self.n_components is not None:
            check_sizes("clusters", n_components=self.n_components)
        if self.n_clusters is None:
            return super().accepts(data)
        check_sizes("clusters", 2, n_clusters=self.n_clusters)
        if self.n_clusters < self.shapes(data)[0].n_way:
            raise InvalidParameterError(
                f"clusters n_clusters must be at least n_way={self.n_way}; got {self.n_clusters}. Raise it."
            )
        if len(data) < SMALLEST_CLASS * self.n_clusters:
            return (
                f"clusters n_clusters={self.n_clusters} needs at least {SMALLEST_CLASS * self.n_clusters} rows; got "
                f"{len(data)}. Lower n_clusters."
            )
        return None

    def n_classes(self, data: TaskData) -> int:
        """Return the number of clusters of all partitions."""
        return self.n_partitions * self._k(data)

    def row_labels(self, data: TaskData) -> np.ndarray:
        """Return the cluster of each row when all columns weigh the same."""
        (partition,) = self._partitions(data, Seeds(0), 1)
        assert partition.y is not None
        return partition.y[partition.rows]

    def task(self, data: TaskData, rng: np.random.Generator) -> TaskBatch:
        """Draw one task of clusters made for it alone; `draw` makes them once."""
        return self.draw(data, 1, 0, Seeds(int(rng.integers(2**63 - 1))))[0]

    def draw(self, data: TaskData, n: int, step: int, seeds: Seeds) -> list[TaskBatch]:
        """Draw ``n`` tasks; all of a step have one shape, unless clusters are too small for it."""
        rng = seeds.numpy("tasks", step)
        shape = shape_between(self.shapes(data), rng)
        partitions = self._partitions(data, seeds)
        return batch_episodes([self._episode(partitions, shape, rng) for _ in range(n)], data)

    def _episode(self, partitions: list[TaskData], shape: EpisodeShape, rng: np.random.Generator) -> Episode:
        number = int(rng.integers(len(partitions)))
        return partition_episode(partitions[number], shape, rng, number * self._k(partitions[number]))

    def _k(self, data: TaskData) -> int:
        if self.n_clusters is not None:
            return self.n_clusters
        return max(self.shapes(data)[-1].n_way, min(MOST_CLUSTERS, len(data) // ROWS_PER_CLUSTER))

    def _partitions(self, data: TaskData, seeds: Seeds, n_partitions: int | None = None) -> list[TaskData]:
        """Return the data once for each partition, with its clusters in place of ``y``."""
        n_partitions = n_partitions or self.n_partitions
        # An estimator is told from others as an object, and by its parameters, which may be set anew.
        embedding = (self.embedding, repr(self.embedding))
        key = (self.name, self._k(data), n_partitions, self.n_components, embedding, seeds)
        return data.remember(key, lambda: self._make_partitions(data, seeds, n_partitions))

    def _make_partitions(self, data: TaskData, seeds: Seeds, n_partitions: int) -> list[TaskData]:
        points = self._main_components(self._points(data, seeds), seeds)
        partitions = cluster_rows(points, self._k(data), n_partitions, seeds)
        return [labelled(data, labels) for labels in partitions]

    def _points(self, data: TaskData, seeds: Seeds) -> np.ndarray:
        """Return the training rows, or their embedding, as points for k-means."""
        if self.embedding is None:
            return standardised_points(data, data.rows)
        return standardised(embedded(data.take(data.rows), self.embedding, seeds), one_scale=True)

    def _main_components(self, points: np.ndarray, seeds: Seeds) -> np.ndarray:
        from sklearn.decomposition import PCA

        if self.n_components is None or self.n_components >= min(points.shape):
            return points
        return PCA(self.n_components, random_state=seeds.integer("components") % 2**32).fit_transform(points)
