"""Tasks that the data already comes in: one for each group, or random subsets where there are no groups."""

from __future__ import annotations

import numpy as np

from metafe.contracts import Int, Problem, Seeds, TaskData
from metafe.contracts.spaces import SearchSpace
from metafe.tasks.episodes import (
    FEWEST_TO_HOLD_OUT_FROM,
    Episode,
    EpisodeShape,
    EpisodeSource,
    Range,
    as_range,
    class_episode,
    hold_out,
    pick_rows,
    split_parts,
    split_rows_within,
)
from metafe.tasks.pseudo_classes import labelled

LARGEST_DEFAULT_WAY = 20
# A regression task needs one row to adapt on and two to be judged on: R² compares with the mean of the query targets.
FEWEST_QUERY_TARGETS = 2
SMALLEST_REGRESSION = 1 + FEWEST_QUERY_TARGETS


class GroupTasks(EpisodeSource):
    """Each group is a task of its own, for example each of forty customers' small tables.

    Class labels are local to their group: label 1 of one customer and label 1 of another are different classes.

    Parameters
    ----------
    n_way : int, (int, int) or None, default=None
        Classes in a task, fixed or drawn for each step from a range. ``None`` takes all of a group, up to 20.
    n_shot : int, (int, int) or None, default=None
        Support rows of each class, or of the whole task for regression. ``None`` draws from 1 to 5 for classes, from
        5 to 20 for regression.
    n_query : int or (int, int), default=10
        Query rows of each class, or of the whole task for regression. Small groups give what they have.

    Notes
    -----
    Meta-validation keeps groups out; with fewer than four that are large enough for a task it keeps rows of each out.

    Examples
    --------
    >>> X, y = np.arange(60.0)[:, None], np.tile([0, 1], 30)
    >>> data = TaskData(X, y, groups=np.repeat(np.arange(3), 20), rows=np.arange(60))
    >>> batch, = GroupTasks(n_shot=2, n_query=5).draw(data, n=4, step=0, seeds=Seeds(0))
    >>> batch.n_way, batch.support_x.shape, batch.query_x.shape
    (2, (4, 4, 1), (4, 10, 1))
    """

    name = "groups"

    def __init__(self, n_way: Range | None = None, n_shot: Range | None = None, n_query: Range = 10) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the number of support rows."""
        return {"n_shot": Int(1, 5) if problem.kind == "classification" else Int(5, 20)}

    def accepts(self, data: TaskData) -> str | None:
        """Say why no task can be drawn: no groups, no targets, or groups that are too small."""
        if data.groups is None:
            return "groups needs to know the group of each row; got none. Pass groups= to fit."
        if data.kind == "unlabelled":
            return "groups needs y; got none. Pass y to fit."
        if data.kind == "regression":
            fits = bool(_parts(data))
            return (
                None
                if fits
                else f"groups needs a group of at least {SMALLEST_REGRESSION} rows; got none. Merge groups."
            )
        if not data.group_problems:
            return "groups needs a group that has 2 classes with at least 2 rows; got none. Merge groups or classes."
        largest = _largest_way(data)
        if self.n_way is not None and self._way_range()[0] > largest:
            return f"groups n_way must be at most {largest}, the classes of the largest group; got {self.n_way}. Lower n_way."
        return None

    def adjustments(self, data: TaskData) -> list[str]:
        """Say which groups are too small for a task."""
        usable = _usable_groups(data)
        if usable.all():
            return []
        needed = f"{SMALLEST_REGRESSION} rows" if data.kind == "regression" else "2 classes with at least 2 rows"
        return [
            f"groups needs {needed} in a group; {int((~usable).sum())} of {len(usable)} have fewer, so no task is made of them."
        ]

    def split(self, data: TaskData, fraction: float, seeds: Seeds) -> tuple[TaskData, TaskData | None]:
        """Keep groups out; rows of every group, and of each class in it, where there are fewer than four to choose from."""
        rng = seeds.numpy("split")
        usable = _usable_groups(data)
        few = usable.sum() < FEWEST_TO_HOLD_OUT_FROM
        train, valid = self._split_rows(data, fraction, rng) if few else _split_groups(data, usable, fraction, rng)
        if valid is None or self.accepts(train) or self.accepts(valid):
            return data, None
        return train, valid

    def _split_rows(
        self, data: TaskData, fraction: float, rng: np.random.Generator
    ) -> tuple[TaskData, TaskData | None]:
        if data.kind == "regression":
            return split_rows_within(data, data.rows_by_group, fraction, rng, SMALLEST_REGRESSION)
        return split_rows_within(data, labelled(data, data.pair_codes).rows_by_class, fraction, rng)

    def problem(self, data: TaskData, input_shape: tuple[int, ...]) -> Problem:
        """Describe the tasks; each pair of group and label counts as a class."""
        if data.kind == "regression":
            return super().problem(data, input_shape)
        largest = min(self._way_range()[1], _largest_way(data))
        return Problem("classification", input_shape, n_classes=int(data.pair_codes.max()) + 1, max_way=largest)

    def row_labels(self, data: TaskData) -> np.ndarray:
        """Return the code of each row's pair of group and label, or its target."""
        return super().row_labels(data) if data.kind == "regression" else data.pair_codes

    def shapes(self, data: TaskData) -> list[EpisodeShape]:
        """Return the smallest and the largest episode."""
        default_shot = (5, 20) if data.kind == "regression" else (1, 5)
        shots = as_range(self.name, "n_shot", default_shot if self.n_shot is None else self.n_shot, 1)
        ways, queries = self._way_range(), as_range(self.name, "n_query", self.n_query, 1)
        return [EpisodeShape(*sizes) for sizes in zip(ways, shots, queries, strict=True)]

    def episode(self, data: TaskData, shape: EpisodeShape, rng: np.random.Generator) -> Episode:
        """Draw a group, then rows of it, of each class where there are classes."""
        if data.kind == "regression":
            return _regression_episode(data, _parts(data), shape, rng)
        classes, rows_by_class = data.group_problems[rng.integers(len(data.group_problems))]
        positions = rng.choice(len(classes), min(shape.n_way, len(classes)), replace=False)
        return class_episode([rows_by_class[p] for p in positions], classes[positions], shape, rng)

    def _way_range(self) -> tuple[int, int]:
        if self.n_way is None:
            return LARGEST_DEFAULT_WAY, LARGEST_DEFAULT_WAY
        return as_range(self.name, "n_way", self.n_way, 2)


class RowTasks(EpisodeSource):
    """Each task fits a random subset of the rows and is judged on another; for regression without groups.

    Parameters
    ----------
    n_shot : int or (int, int), default=(5, 20)
        Support rows of a task.
    n_query : int or (int, int), default=20
        Query rows of a task.

    Examples
    --------
    >>> data = TaskData(np.eye(50), np.zeros((50, 1)), None, np.arange(50))
    >>> batch, = RowTasks(n_shot=10, n_query=5).draw(data, n=2, step=0, seeds=Seeds(0))
    >>> batch.support_x.shape, batch.query_y.shape
    ((2, 10, 50), (2, 5, 1))
    """

    name = "rows"

    def __init__(self, n_shot: Range = (5, 20), n_query: Range = 20) -> None:
        self.n_shot = n_shot
        self.n_query = n_query

    def accepts(self, data: TaskData) -> str | None:
        """Say why no task can be drawn: the target is not continuous."""
        if data.kind == "unlabelled":
            return "rows needs a continuous y; got none. Pass y to fit, or use tasks='columns' or 'augment'."
        if data.kind == "classification":
            return (
                "rows needs a continuous y; got whole numbers or strings, which are taken for classes. Pass targets as floats "
                "that are not whole, such as y + 0.5, or use tasks='classes' if these are classes."
            )
        if len(data) < SMALLEST_REGRESSION:
            return f"rows needs at least {SMALLEST_REGRESSION} rows; got {len(data)}. Pass more rows."
        return None

    def split(self, data: TaskData, fraction: float, seeds: Seeds) -> tuple[TaskData, TaskData | None]:
        """Keep rows out, where both sides are large enough for a task."""
        train, valid = super().split(data, fraction, seeds)
        if valid is None or self.accepts(train) or self.accepts(valid):
            return data, None
        return train, valid

    def shapes(self, data: TaskData) -> list[EpisodeShape]:
        """Return the smallest and the largest episode."""
        pairs = zip(
            as_range(self.name, "n_shot", self.n_shot, 1), as_range(self.name, "n_query", self.n_query, 1), strict=True
        )
        return [EpisodeShape(0, n_shot, n_query) for n_shot, n_query in pairs]

    def episode(self, data: TaskData, shape: EpisodeShape, rng: np.random.Generator) -> Episode:
        """Draw rows."""
        return _regression_episode(data, [data.rows], shape, rng)


def _usable_groups(data: TaskData) -> np.ndarray:
    """Say of each group, in the order of the group codes, whether it is large enough for a task."""
    if data.kind == "regression":
        return np.array([len(rows) >= SMALLEST_REGRESSION for rows in data.rows_by_group])
    assert data.groups is not None
    first_rows = [rows[0] for rows in data.rows_by_group]
    return np.isin(data.groups[first_rows], [data.groups[rows[0][0]] for _, rows in data.group_problems])


def _split_groups(
    data: TaskData, usable: np.ndarray, fraction: float, rng: np.random.Generator
) -> tuple[TaskData, TaskData]:
    """Keep some of the usable groups out."""
    out = np.zeros(len(usable), dtype=bool)
    out[usable] = hold_out(int(usable.sum()), fraction, rng)
    return split_parts(data, data.rows_by_group, out)


def _parts(data: TaskData) -> list[np.ndarray]:
    """Return the rows of the groups large enough for a task."""
    return [rows for rows in data.rows_by_group if len(rows) >= SMALLEST_REGRESSION]


def _largest_way(data: TaskData) -> int:
    return max(len(classes) for classes, _ in data.group_problems)


def _regression_episode(
    data: TaskData, parts: list[np.ndarray], shape: EpisodeShape, rng: np.random.Generator
) -> Episode:
    support, query = pick_rows([parts[rng.integers(len(parts))]], shape, rng, FEWEST_QUERY_TARGETS)
    assert data.y is not None
    return Episode(support[0], query[0], data.y[support[0]], data.y[query[0]])
