"""Task sources: where tasks come from."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from metafe.contracts.errors import InvalidInputError
from metafe.contracts.plugin import Plugin
from metafe.contracts.seeds import Seeds
from metafe.contracts.task_batch import Problem, TaskBatch, TaskData, collate


class TaskSource(Plugin):
    """Base of all task sources.

    The simple form overrides `task`, which draws one task; everything else has a default.

    Attributes
    ----------
    selects_rows : bool
        True when a task is a selection of rows decided by labels, groups and row numbers alone, never by the values
        in ``x``. Validation then computes the features of each row once for all tasks.
    needs_augmentation : bool
        True when support and query of a class are copies of one row, which only augmentations make differ.

    Examples
    --------
    Tasks that ask which of two random rows a noisy copy came from:

    >>> class WhichOfTwo(TaskSource):
    ...     name = "which-of-two"
    ...     def task(self, data, rng):
    ...         rows = data.take(rng.choice(data.rows, size=(1, 2), replace=False))
    ...         noisy = rows + rng.normal(scale=0.1, size=rows.shape)
    ...         labels = np.array([[0, 1]])
    ...         return TaskBatch(rows, labels, noisy, labels, n_way=2)
    >>> data = TaskData(np.eye(4), None, None, np.arange(4))
    >>> WhichOfTwo().draw(data, n=3, step=0, seeds=Seeds(0))[0].query_x.shape
    (3, 2, 4)
    """

    kind = "task source"
    selects_rows: ClassVar[bool] = False
    needs_augmentation: ClassVar[bool] = False

    def accepts(self, data: TaskData) -> str | None:
        """Say why no task can be drawn from ``data``: one sentence, or None when tasks can be drawn."""
        return None

    def adjustments(self, data: TaskData) -> list[str]:
        """Say which settings do not fit ``data`` and are adapted to it: a sentence each, given as warnings."""
        return []

    def row_labels(self, data: TaskData) -> np.ndarray:
        """Return the label across tasks, or the target, of each row in use, for algorithms that train on rows.

        Parameters
        ----------
        data : TaskData
            Training rows.

        Returns
        -------
        ndarray of shape (m,) int64 or (m, n_targets) float32
            Class labels run from 0 to ``problem(...).n_classes - 1``.
        """
        if data.kind == "unlabelled":
            raise InvalidInputError(f"{type(self).__name__} needs y to label rows; got none. Pass y to fit.")
        assert data.y is not None
        labels = data.y[data.rows]
        return labels if data.kind == "regression" else np.searchsorted(data.classes, labels)

    def split(self, data: TaskData, fraction: float, seeds: Seeds) -> tuple[TaskData, TaskData | None]:
        """Keep rows out for meta-validation.

        Parameters
        ----------
        data : TaskData
            All rows, before encoding.
        fraction : float
            Share to keep out, in (0, 1).
        seeds : Seeds
            Random streams of the split.

        Returns
        -------
        train : TaskData
            What to train on.
        valid : TaskData or None
            What to validate on; None when too little is left to validate.

        Notes
        -----
        The default keeps rows out, at random. Sources with classes or groups keep those out instead.
        """
        n_valid = round(fraction * len(data))
        if n_valid < 2 or len(data) - n_valid < 2:
            return data, None
        shuffled = seeds.numpy("split").permutation(data.rows)
        return data.restrict(np.sort(shuffled[n_valid:])), data.restrict(np.sort(shuffled[:n_valid]))

    def problem(self, data: TaskData, input_shape: tuple[int, ...]) -> Problem:
        """Describe the tasks that `draw` makes from ``data``.

        Parameters
        ----------
        data : TaskData
            Training rows.
        input_shape : tuple of int
            Shape of one encoded row.

        Returns
        -------
        Problem
        """
        if data.kind == "regression":
            assert data.y is not None
            return Problem("regression", input_shape, n_targets=data.y.shape[1])
        n_classes = len(data.classes) if data.kind == "classification" else 0
        return Problem(data.kind, input_shape, n_classes=n_classes, max_way=n_classes)

    def task(self, data: TaskData, rng: np.random.Generator) -> TaskBatch:
        """Draw one task.

        Parameters
        ----------
        data : TaskData
            Encoded rows to draw from.
        rng : numpy.random.Generator
            The only source of randomness.

        Returns
        -------
        TaskBatch
            With ``T = 1``.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a task method, or its own draw.")

    def draw(self, data: TaskData, n: int, step: int, seeds: Seeds) -> list[TaskBatch]:
        """Draw ``n`` tasks for a training step.

        Parameters
        ----------
        data : TaskData
            Encoded rows to draw from.
        n : int
            Number of tasks.
        step : int
            Training step.
        seeds : Seeds
            Random streams; the result depends on the arguments alone.

        Returns
        -------
        list of TaskBatch
            ``n`` tasks in all, one batch for each shape.
        """
        rng = seeds.numpy("tasks", step)
        return collate([self.task(data, rng) for _ in range(n)])

    def draw_validation(self, data: TaskData, n: int, seeds: Seeds) -> list[TaskBatch]:
        """Draw ``n`` tasks to judge on; the same ones for the same arguments."""
        return self.draw(data, n, 0, seeds.child("validation"))

    def validation_source(self, data: TaskData, seeds: Seeds) -> tuple[TaskSource, TaskData]:
        """Return what draws the tasks to judge on, and from which data.

        A source that makes labels from the values in ``x`` decides them here, once, and returns data with these labels
        and a source that selects rows of it. Learned features and the standardised input are then judged on the same
        tasks.

        Parameters
        ----------
        data : TaskData
            Encoded held-out rows.
        seeds : Seeds
            Random streams; the result depends on the arguments alone.

        Returns
        -------
        source : TaskSource
        data : TaskData
            With the same ``x``. The default is this source and ``data`` as it is.
        """
        return self, data
