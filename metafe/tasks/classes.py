"""Tasks from one data set with many classes."""

from __future__ import annotations

import warnings
from itertools import combinations, product

import numpy as np

from metafe.contracts import AdaptedSettingWarning, Int, InvalidParameterError, Problem, Seeds, TaskData, check_numbers
from metafe.contracts.spaces import SearchSpace
from metafe.contracts.task_batch import SMALLEST_CLASS
from metafe.tasks.episodes import (
    FEWEST_TO_HOLD_OUT_FROM,
    Episode,
    EpisodeShape,
    EpisodeSource,
    Range,
    as_range,
    choose,
    class_episode,
    hold_out,
    split_parts,
    split_rows_within,
)

DEFAULT_WAY = 5


class ClassTasks(EpisodeSource):
    """Each task tells a few classes apart, drawn at random from all of them.

    Parameters
    ----------
    n_way : int, (int, int) or None, default=None
        Classes in a task, fixed or drawn for each step from a range. ``None`` takes 5, or all where there are fewer.
    n_shot : int or (int, int), default=(1, 5)
        Support rows of each class.
    n_query : int or (int, int), default=10
        Query rows of each class. Classes with fewer rows give what they have; a class needs at least two rows.
    within_groups : float, default=0.0
        Share of the tasks, from 0 to 1, that stay inside one group, such as an alphabet, a species or a store: their
        classes and the rows of these come from it, as many classes as it has; needs ``groups``.

    Notes
    -----
    Episodic training of Vinyals et al., "Matching Networks for One Shot Learning", 2016. Meta-validation keeps classes
    out, so that it judges on novel classes; with fewer than four classes it keeps rows out. Within groups, both sides get
    two classes of one group where there are such.

    Examples
    --------
    >>> data = TaskData(np.arange(40.0)[:, None], np.repeat(np.arange(4), 10), None, np.arange(40))
    >>> batch, = ClassTasks(n_way=3, n_shot=1, n_query=5).draw(data, n=2, step=0, seeds=Seeds(0))
    >>> batch.support_x.shape, batch.query_x.shape
    ((2, 3, 1), (2, 15, 1))
    """

    name = "classes"

    def __init__(
        self, n_way: Range | None = None, n_shot: Range = (1, 5), n_query: Range = 10, within_groups: float = 0.0
    ) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.within_groups = within_groups

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare way and shot."""
        return {"n_way": Int(2, max(2, min(20, problem.max_way))), "n_shot": Int(1, 5)}

    def accepts(self, data: TaskData) -> str | None:
        """Say why no task can be drawn: no classes, too few of them, or too small ones."""
        check_numbers("classes", within_groups=self.within_groups)
        if self.within_groups > 1:
            raise InvalidParameterError(
                f"classes within_groups must be a number from 0 to 1; got {self.within_groups!r}."
            )
        if data.kind != "classification":
            return f"classes needs y with classes; got {data.kind} data. Use tasks='groups', or 'rows' for continuous y, or 'clusters' without y."
        usable = len(_usable(data))
        if usable < 2:
            return (
                f"classes needs at least 2 classes with at least {SMALLEST_CLASS} rows; got {len(data.classes)} "
                f"with {usable} of that size. Merge rare classes, or pass continuous targets as floats that are not whole."
            )
        lowest = self._way_range(data)[0]
        if self.n_way is not None and lowest > usable:
            return f"classes n_way must be at most the {usable} classes with {SMALLEST_CLASS} rows or more; got {self.n_way}. Lower n_way."
        if self.within_groups and data.groups is None:
            return f"classes within_groups={self.within_groups} needs groups; got none. Pass groups= to fit."
        return None

    def adjustments(self, data: TaskData) -> list[str]:
        """Say which classes are too small for a task, or for all the rows wanted."""
        sizes = data.class_sizes
        wanted = as_range(self.name, "n_shot", self.n_shot, 1)[1] + as_range(self.name, "n_query", self.n_query, 1)[1]
        too_small, small = int((sizes < SMALLEST_CLASS).sum()), int((sizes < wanted).sum())
        said = []
        if too_small:
            said.append(
                f"classes needs {SMALLEST_CLASS} rows of a class; {too_small} of {len(sizes)} have one and are left out."
            )
        if small > too_small:
            said.append(
                f"classes n_shot={self.n_shot} and n_query={self.n_query} want {wanted} rows of a class; {small - too_small} of "
                f"{len(sizes)} have fewer (the smallest {sizes[sizes >= SMALLEST_CLASS].min()}), so their tasks are smaller."
            )
        if self.within_groups and not data.group_problems:
            said.append(
                f"classes within_groups={self.within_groups} needs a group that has 2 classes with at least "
                f"{SMALLEST_CLASS} rows; there is none, so tasks mix groups."
            )
        return said

    def split(self, data: TaskData, fraction: float, seeds: Seeds) -> tuple[TaskData, TaskData | None]:
        """Keep classes out; rows of every class where there are fewer than four classes.

        Warns
        -----
        AdaptedSettingWarning
            Tasks should stay within groups, and one side of the split has no group with two classes.
        """
        train, valid = self._split(data, fraction, seeds)
        if self.within_groups and data.group_problems and valid is not None:
            sides = {"training": train, "meta-validation": valid}
            mixed = " and ".join(name for name, side in sides.items() if not side.group_problems)
            if mixed:
                warnings.warn(
                    f"classes within_groups={self.within_groups} needs two classes of one group on both sides of a split; "
                    f"the groups are too small, so tasks of {mixed} mix groups. Pass larger groups, or "
                    "validation_fraction=0.",
                    AdaptedSettingWarning,
                    stacklevel=6,
                )
        return train, valid

    def _split(self, data: TaskData, fraction: float, seeds: Seeds) -> tuple[TaskData, TaskData | None]:
        usable = _usable(data)
        rng = seeds.numpy("split")
        rows = [data.rows_by_class[i] for i in usable]
        if len(usable) < FEWEST_TO_HOLD_OUT_FROM:
            return split_rows_within(data, rows, fraction, rng)
        n_keep = max(2, self._way_range(data)[0] if self.n_way is not None else 2)
        if len(usable) - n_keep < 2:
            return split_rows_within(data, rows, fraction, rng)
        out = hold_out(len(usable), fraction, rng, n_keep)
        if self.within_groups:
            out = _with_pairs_on_both_sides(out, _groups_of_classes(data, usable), rng)
        return split_parts(data, rows, out)

    def problem(self, data: TaskData, input_shape: tuple[int, ...]) -> Problem:
        """Describe the tasks: their largest number of classes, and how many classes there are in all."""
        largest = min(self._way_range(data)[1], len(_usable(data)))
        return Problem("classification", input_shape, n_classes=len(data.classes), max_way=largest)

    def shapes(self, data: TaskData) -> list[EpisodeShape]:
        """Return the smallest and the largest episode."""
        n_usable = len(_usable(data))
        ways, shots, queries = (
            [min(way, n_usable) for way in self._way_range(data)],
            as_range(self.name, "n_shot", self.n_shot, 1),
            as_range(self.name, "n_query", self.n_query, 1),
        )
        return [EpisodeShape(*sizes) for sizes in zip(ways, shots, queries, strict=True)]

    def episode(self, data: TaskData, shape: EpisodeShape, rng: np.random.Generator) -> Episode:
        """Draw classes, then rows of each."""
        if self.within_groups and rng.random() < self.within_groups and data.group_problems:
            positions, rows_by_class = _classes_of_a_group(data, rng)
            chosen = choose(len(positions), min(shape.n_way, len(positions)), rng)
            return class_episode([rows_by_class[c] for c in chosen], positions[chosen], shape, rng)
        candidates = _usable(data)
        positions = candidates[choose(len(candidates), min(shape.n_way, len(candidates)), rng)]
        return class_episode([data.rows_by_class[p] for p in positions], positions, shape, rng)

    def _way_range(self, data: TaskData) -> tuple[int, int]:
        if self.n_way is None:
            way = max(2, min(DEFAULT_WAY, len(_usable(data))))
            return way, way
        return as_range(self.name, "n_way", self.n_way, 2)


def _usable(data: TaskData) -> np.ndarray:
    """Return the positions of classes large enough for a task."""
    return np.flatnonzero(data.class_sizes >= SMALLEST_CLASS)


def _classes_of_a_group(data: TaskData, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the positions of the usable classes of one random group, and their rows in it."""
    _, rows_by_class = data.group_problems[rng.integers(len(data.group_problems))]
    return _positions(data, rows_by_class), rows_by_class


def _positions(data: TaskData, rows_by_class: list[np.ndarray]) -> np.ndarray:
    """Return the positions of classes whose rows are given."""
    assert data.y is not None
    return np.searchsorted(data.classes, data.y[[rows[0] for rows in rows_by_class]])


def _groups_of_classes(data: TaskData, usable: np.ndarray) -> list[np.ndarray]:
    """Return which of the usable classes each group has, where it has two or more."""
    return [np.searchsorted(usable, _positions(data, rows_by_class)) for _, rows_by_class in data.group_problems]


def _with_pairs_on_both_sides(out: np.ndarray, groups: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Change as little as needed of which classes are kept out, for two of one group to be on each side.

    Where that cannot be, training comes first.
    """
    if all(any(side[group].sum() >= 2 for group in groups) for side in (out, ~out)):
        return out
    # With four classes of a group, two are for each side; more of them would only make more pairs to look at.
    pairs = [pair for g in rng.permutation(len(groups)) for pair in combinations(rng.permutation(groups[g])[:4], 2)]
    apart = ([pair_in, pair_out] for pair_in, pair_out in product(pairs, pairs) if not {*pair_in} & {*pair_out})
    chosen = next(apart, pairs[:1])
    # Those with the lowest numbers are kept out.
    order = np.where(out, 1, 2)
    for number, pair in zip((3, 0), chosen, strict=False):
        order[list(pair)] = number
    changed = np.zeros_like(out)
    changed[np.argsort(order, kind="stable")[: out.sum()]] = True
    return changed
