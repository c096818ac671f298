"""Where the four kinds of plugin meet: `Problem`, `TaskData` and `TaskBatch`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from metafe.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    import torch

# A class needs one row to adapt on and one to be judged on.
SMALLEST_CLASS = 2

ProblemKind = Literal["classification", "regression", "unlabelled"]


@dataclass(frozen=True)
class Problem:
    """What a plugin may know about the data before it sees any.

    Parameters
    ----------
    kind : {"classification", "regression", "unlabelled"}
        What the targets are.
    input_shape : tuple of int
        Shape of one encoded row.
    n_classes : int, default=0
        Number of classes in meta-training, views of augmentations counted; 0 for regression.
    max_way : int, default=0
        Largest number of classes in one task; 0 for regression.
    n_targets : int, default=0
        Number of regression targets; 0 for classification.
    """

    kind: ProblemKind
    input_shape: tuple[int, ...]
    n_classes: int = 0
    max_way: int = 0
    n_targets: int = 0


@dataclass(frozen=True)
class TaskData:
    """The rows a task source draws from.

    ``x``, ``y`` and ``groups`` always cover all rows given to ``fit``; ``rows`` says which of them are in use, so a
    split costs no copy and a memory-mapped array stays on disk.

    Parameters
    ----------
    x : array-like of shape (n, ...)
        Raw rows before encoding, encoded rows after it.
    y : ndarray of shape (n,) int64, of shape (n, n_targets) float32, or None
        Class codes from 0, or continuous targets.
    groups : ndarray of shape (n,) int64 or None
        Group codes from 0.
    rows : ndarray of shape (m,) int64
        Indices of the rows in use.
    """

    x: Any
    y: np.ndarray | None
    groups: np.ndarray | None
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def kind(self) -> ProblemKind:
        """What the targets are."""
        if self.y is None:
            return "unlabelled"
        return "classification" if self.y.ndim == 1 else "regression"

    @cached_property
    def classes(self) -> np.ndarray:
        """Sorted class codes in use."""
        return np.unique(self._labels)

    @cached_property
    def rows_by_class(self) -> list[np.ndarray]:
        """Rows in use of each class, in the order of `classes`."""
        return _split_by(self.rows, self._labels)

    @cached_property
    def class_sizes(self) -> np.ndarray:
        """Number of rows in use of each class, in the order of `classes`."""
        return np.array([len(rows) for rows in self.rows_by_class])

    @cached_property
    def pair_codes(self) -> np.ndarray:
        """Code of each row's pair of group and class, from 0, sorted by group and then by class."""
        pairs = np.stack([self._group_codes, self._labels], axis=1)
        return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def group_problems(self) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """Pair codes and rows of the classes of each group, where it has two or more that are large enough for a task."""
        rows_by_pair = _split_by(self.rows, self.pair_codes)
        group_of_pair = np.array([self.groups[rows[0]] for rows in rows_by_pair])  # type: ignore[index]
        usable = np.flatnonzero([len(rows) >= SMALLEST_CLASS for rows in rows_by_pair])
        parts = _split_by(usable, group_of_pair[usable]) if len(usable) else []
        return [(pairs, [rows_by_pair[pair] for pair in pairs]) for pairs in parts if len(pairs) >= 2]

    @cached_property
    def rows_by_group(self) -> list[np.ndarray]:
        """Rows in use of each group, in the order of the group codes."""
        return _split_by(self.rows, self._group_codes)

    @property
    def _group_codes(self) -> np.ndarray:
        if self.groups is None:
            raise InvalidInputError("Tasks by group need groups; got None. Pass groups= to fit.")
        return self.groups[self.rows]

    @property
    def _labels(self) -> np.ndarray:
        if self.y is None or self.y.ndim != 1:
            raise InvalidInputError(f"Tasks by class need y with classes; got {self.kind} data.")
        return self.y[self.rows]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copy rows of ``x`` in native byte order and C layout, whatever ``x`` is.

        Parameters
        ----------
        rows : ndarray of int64, any shape
            Indices into ``x``.

        Returns
        -------
        ndarray of shape (*rows.shape, *row_shape)
        """
        taken = np.ascontiguousarray(self.x[rows.reshape(-1)])
        native = taken.astype(taken.dtype.newbyteorder("="), copy=False)
        # Flattened first, since an axis of length 1 may keep any stride, by which torch chooses other kernels.
        return native.reshape(-1).reshape(*rows.shape, *native.shape[1:])

    def remember(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return what ``compute`` returned when it was first asked for under ``key``; it lives as long as this object.

        For what a task source, which is configuration alone, computes once per data: clusters, scales of columns.

        Parameters
        ----------
        key : hashable
            Everything beside the data that the result depends on, the name of the plugin included.
        compute : callable
            Without arguments.
        """
        remembered = self.__dict__.setdefault("_remembered", {})
        if key not in remembered:
            remembered[key] = compute()
        return remembered[key]

    def restrict(self, rows: np.ndarray) -> TaskData:
        """Return the same data with other rows in use."""
        return dataclasses.replace(self, rows=np.asarray(rows))

    def with_x(self, x: Any) -> TaskData:
        """Return the same rows with another ``x``: encoded rows, or features."""
        return dataclasses.replace(self, x=x)


@dataclass(frozen=True)
class TaskBatch:
    """``T`` tasks of one shape; ragged tasks are several batches, never padding.

    Task sources make the arrays with NumPy; the trainer hands algorithms the same batch as tensors on the device.

    Parameters
    ----------
    support_x : array of shape (T, S, *input_shape)
        Rows to adapt on.
    support_y : array of shape (T, S) int64 or (T, S, n_targets)
        Labels within the task, ``0 .. n_way - 1``, or targets.
    query_x : array of shape (T, Q, *input_shape)
        Rows to be judged on.
    query_y : array of shape (T, Q) int64 or (T, Q, n_targets)
        Labels within the task, or targets.
    n_way : int
        Number of classes in each task; 0 for regression.
    support_class : array of shape (T, S) int64 or None, default=None
        Labels across tasks, ``0 .. n_classes - 1``.
    query_class : array of shape (T, Q) int64 or None, default=None
        Labels across tasks.
    """

    support_x: Any
    support_y: Any
    query_x: Any
    query_y: Any
    n_way: int
    support_class: Any = None
    query_class: Any = None

    def __len__(self) -> int:
        return len(self.query_x)

    def part(self, tasks: slice) -> TaskBatch:
        """Return the batch of some of the tasks."""
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "n_way"}
        return TaskBatch(n_way=self.n_way, **{k: None if v is None else v[tasks] for k, v in arrays.items()})

    def groups(self, n_tasks: int) -> list[TaskBatch]:
        """Return batches of so many tasks each, in order; the last may have fewer."""
        return [self.part(slice(start, start + n_tasks)) for start in range(0, len(self), n_tasks)]

    @property
    def shape(self) -> tuple[Any, ...]:
        """What must agree for two batches to be one: way, and the shapes of all arrays without ``T``."""
        arrays = (self.support_x, self.support_y, self.query_x, self.query_y)
        return (self.n_way, self.query_class is None, *(tuple(a.shape[1:]) for a in arrays))

    def to(self, device: str | torch.device) -> TaskBatch:
        """Return the batch as tensors on ``device``: rows in the type they have, labels int64, targets float32."""
        import torch

        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "n_way"}
        tensors: dict[str, Any] = {}
        for name, array in arrays.items():
            tensors[name] = None if array is None else torch.as_tensor(array).to(device)
        for name in ("support_y", "query_y"):
            tensors[name] = tensors[name].float() if tensors[name].is_floating_point() else tensors[name].long()
        return TaskBatch(n_way=self.n_way, **tensors)


def collate(tasks: list[TaskBatch]) -> list[TaskBatch]:
    """Join task batches of equal shape, in order of first appearance.

    Parameters
    ----------
    tasks : list of TaskBatch
        Batches with NumPy arrays, of any shapes.

    Returns
    -------
    list of TaskBatch
        One per shape.
    """
    by_shape: dict[tuple[Any, ...], list[TaskBatch]] = {}
    for task in tasks:
        by_shape.setdefault(task.shape, []).append(task)
    return [same[0] if len(same) == 1 else _join(same) for same in by_shape.values()]


def _join(tasks: list[TaskBatch]) -> TaskBatch:
    names = [f.name for f in dataclasses.fields(TaskBatch) if f.name != "n_way"]
    columns = {name: [getattr(task, name) for task in tasks] for name in names}
    joined = {
        name: None if any(v is None for v in values) else np.concatenate(values) for name, values in columns.items()
    }
    return TaskBatch(n_way=tasks[0].n_way, **joined)


def _split_by(rows: np.ndarray, codes: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(codes, kind="stable")
    boundaries = np.flatnonzero(np.diff(codes[order])) + 1
    return np.split(rows[order], boundaries)
