"""A family of sine waves."""

from __future__ import annotations

import math

import numpy as np

from metafe.contracts import InvalidInputError, Problem, Seeds, TaskBatch, TaskData, TaskSource, check_sizes
from metafe.tasks.episodes import as_interval


class Sinusoid(TaskSource):
    """Each task is to fit a sine wave of its own from a few points; for tests and examples.

    Rows given to ``fit`` have one column and are not looked at, but for the mean and scale that the network's input is
    standardised with: zeros leave it as it is. ``y`` is not needed.

    Parameters
    ----------
    n_shot : int, default=10
        Support points of a task.
    n_query : int, default=10
        Query points of a task.
    amplitude : (float, float), default=(0.1, 5.0)
        Range of the amplitude, drawn uniformly for each task.
    phase : (float, float), default=(0.0, 3.141592653589793)
        Range of the phase, likewise.
    x_range : (float, float), default=(-5.0, 5.0)
        Range of the points.

    Notes
    -----
    The family of Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", 2017:
    ``y = a sin(x - p)`` with amplitude ``a`` and phase ``p``. Meta-validation draws other waves of the same family.

    Examples
    --------
    >>> data = TaskData(np.zeros((20, 1)), None, None, np.arange(20))
    >>> batch, = Sinusoid(n_shot=5).draw(data, n=8, step=0, seeds=Seeds(0))
    >>> batch.n_way, batch.support_x.shape, batch.query_y.shape
    (0, (8, 5, 1), (8, 10, 1))
    """

    name = "sinusoid"

    def __init__(
        self,
        n_shot: int = 10,
        n_query: int = 10,
        amplitude: tuple[float, float] = (0.1, 5.0),
        phase: tuple[float, float] = (0.0, math.pi),
        x_range: tuple[float, float] = (-5.0, 5.0),
    ) -> None:
        self.n_shot = n_shot
        self.n_query = n_query
        self.amplitude = amplitude
        self.phase = phase
        self.x_range = x_range

    def accepts(self, data: TaskData) -> str | None:
        """Say why rows are not points of a line."""
        check_sizes("sinusoid", n_shot=self.n_shot, n_query=self.n_query)
        for name in ("amplitude", "phase", "x_range"):
            as_interval(self.name, name, getattr(self, name), -math.inf, math.inf)
        shape = tuple(np.shape(data.x)[1:])
        return (
            None
            if shape == (1,)
            else f"sinusoid needs rows of one column; got rows of shape {shape}. Pass zeros((n, 1))."
        )

    def problem(self, data: TaskData, input_shape: tuple[int, ...]) -> Problem:
        """Describe the tasks: regression of one target."""
        return Problem("regression", input_shape, n_targets=1)

    def row_labels(self, data: TaskData) -> np.ndarray:
        """Refuse, since a point has another target in each task."""
        raise InvalidInputError(
            "sinusoid gives a point another target in each task; got an algorithm that trains on rows. Use one that "
            "trains on tasks, such as 'maml'."
        )

    def task(self, data: TaskData, rng: np.random.Generator) -> TaskBatch:
        """Draw one wave and points of it."""
        return self._waves(1, rng)

    def draw(self, data: TaskData, n: int, step: int, seeds: Seeds) -> list[TaskBatch]:
        """Draw ``n`` waves and points of each."""
        return [self._waves(n, seeds.numpy("tasks", step))]

    def _waves(self, n: int, rng: np.random.Generator) -> TaskBatch:
        amplitude, phase = (rng.uniform(*bounds, size=(n, 1, 1)) for bounds in (self.amplitude, self.phase))
        x = rng.uniform(*self.x_range, size=(n, self.n_shot + self.n_query, 1))
        y = (amplitude * np.sin(x - phase)).astype(np.float32)
        support, query = slice(None, self.n_shot), slice(self.n_shot, None)
        return TaskBatch(x[:, support], y[:, support], x[:, query], y[:, query], n_way=0)
