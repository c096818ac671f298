"""What task sources keep."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from metafe.contracts import InvalidInputError, Problem, Seeds, TaskBatch, TaskData, TaskSource
from metafe.testing.common import is_refusal_or_none, is_sentence, untouched_global_generators
from metafe.testing.plugin import PluginContract

N_ROWS, N_CLASSES, N_GROUPS = 144, 9, 6
N_TASKS = 5
SEEDS = Seeds(0)


def example_data(row_shape: tuple[int, ...] = (6,)) -> list[TaskData]:
    """Return data of each kind: classes with and without groups, targets with and without groups, rows alone.

    Each group has rows of three of the nine classes.
    """
    rng = np.random.default_rng(0)
    rows = np.arange(N_ROWS)
    classes = rng.permutation(rows % N_CLASSES)
    x = rng.normal(size=(N_ROWS, *row_shape)) + classes.reshape(-1, *[1] * len(row_shape))
    targets = x.reshape(N_ROWS, -1)[:, :2].astype(np.float32)
    # Groups 0 to 2 have every third class each, and so have groups 3 to 5.
    groups = classes % 3 + 3 * (rows % 2)
    return [
        TaskData(x, classes, None, rows),
        TaskData(x, classes, groups, rows),
        TaskData(x, targets, None, rows),
        TaskData(x, targets, groups, rows),
        TaskData(x, None, None, rows),
    ]


class TaskSourceContract(PluginContract):
    """Checks of a task source: override ``plugin``, and ``datasets`` where the example data does not fit.

    Each check runs on all data that the source accepts.

    Examples
    --------
    >>> import pytest
    >>> class WhichOfTwo(TaskSource):
    ...     name = "which-of-two"
    ...     def problem(self, data, input_shape):
    ...         return Problem("classification", input_shape, n_classes=2, max_way=2)
    ...     def row_labels(self, data):
    ...         raise InvalidInputError("which-of-two labels no rows. Use an algorithm that trains on tasks.")
    ...     def task(self, data, rng):
    ...         rows = data.take(rng.choice(data.rows, size=(1, 2), replace=False))
    ...         noisy = rows + rng.normal(scale=0.1, size=rows.shape)
    ...         labels = np.array([[0, 1]])
    ...         return TaskBatch(rows, labels, noisy, labels, n_way=2)
    >>> class TestWhichOfTwo(TaskSourceContract):
    ...     @pytest.fixture
    ...     def plugin(self):
    ...         return WhichOfTwo()
    """

    base = TaskSource

    @pytest.fixture
    def datasets(self) -> list[TaskData]:
        """Return data of all kinds, some of which is accepted; may be overridden."""
        return example_data()

    @pytest.fixture
    def accepted(self, plugin: TaskSource, datasets: list[TaskData]) -> list[TaskData]:
        """Return the data that the source accepts."""
        accepted = [data for data in datasets if plugin.accepts(data) is None]
        assert accepted, f"{plugin!r} accepts none of the example data; override the datasets fixture."
        return accepted

    def test_accepts_gives_a_sentence_or_none(self, plugin: TaskSource, datasets: list[TaskData]) -> None:
        for data in datasets:
            for few in (data, data.restrict(data.rows[:1]), data.restrict(data.rows[:4])):
                assert is_refusal_or_none(plugin.accepts(few)), "accepts must give a sentence or None."

    def test_adjustments_are_sentences(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            assert all(is_sentence(said) for said in plugin.adjustments(data))

    def test_draws_batches_of_as_many_tasks(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            for batches in (plugin.draw(data, N_TASKS, 3, SEEDS), plugin.draw_validation(data, N_TASKS, SEEDS)):
                assert isinstance(batches, list)
                assert all(isinstance(batch, TaskBatch) for batch in batches)
                assert sum(len(batch) for batch in batches) == N_TASKS
                assert len({batch.shape for batch in batches}) == len(batches), "Tasks of one shape are one batch."

    def test_draw_depends_on_its_arguments_alone(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            with untouched_global_generators():
                first = plugin.draw(data, N_TASKS, 3, SEEDS)
            plugin.draw(data, N_TASKS, 4, SEEDS)
            plugin.draw_validation(data, N_TASKS, Seeds(1))
            assert _equal(first, plugin.draw(data, N_TASKS, 3, SEEDS)), "The same arguments must give the same tasks."

    def test_steps_and_seeds_give_other_tasks(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            first = plugin.draw(data, N_TASKS, 0, SEEDS)
            assert not all(_equal(first, plugin.draw(data, N_TASKS, step, SEEDS)) for step in range(1, 4))
            assert not all(_equal(first, plugin.draw(data, N_TASKS, 0, Seeds(root))) for root in range(1, 4))

    def test_validation_repeats(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            first = plugin.draw_validation(data, N_TASKS, SEEDS)
            plugin.draw(data, N_TASKS, 0, SEEDS)
            assert _equal(first, plugin.draw_validation(data, N_TASKS, SEEDS))

    def test_arrays_have_the_shapes_of_a_batch(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            problem = _problem(plugin, data)
            for batch in _drawn(plugin, data):
                for x, y, label in _sides(batch):
                    assert x.shape[0] == len(batch)
                    assert x.shape[2:] == problem.input_shape
                    assert y.shape[:2] == x.shape[:2]
                    assert x.shape[1] > 0, "A task needs support and query rows."
                    assert label is None or label.shape == y.shape

    def test_labels_run_from_zero(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            for batch in filter(lambda batch: batch.n_way, _drawn(plugin, data)):
                for t in range(len(batch)):
                    assert np.array_equal(np.unique(batch.support_y[t]), np.arange(batch.n_way)), (
                        "Each class needs support."
                    )
                    assert np.isin(batch.query_y[t], np.arange(batch.n_way)).all()
                assert all(y.dtype == np.int64 for _, y, _ in _sides(batch)), "Labels are int64."

    def test_labels_across_tasks_agree_with_those_within(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            n_classes = _problem(plugin, data).n_classes
            for batch in filter(lambda batch: batch.query_class is not None, _drawn(plugin, data)):
                known = [(y, label) for _, y, label in _sides(batch) if label is not None]
                assert len(known) == 2, "Labels across tasks are of both sides, or of neither."
                for t in range(len(batch)):
                    pairs = {pair for y, label in known for pair in zip(y[t], label[t], strict=True)}
                    assert len(pairs) == batch.n_way, "Within a task, each label stands for one class."
                    assert len({label for _, label in pairs}) == batch.n_way
                    assert all(0 <= label < n_classes for _, label in pairs)

    def test_tasks_are_of_the_problem(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            problem = _problem(plugin, data)
            assert isinstance(problem, Problem)
            for batch in _drawn(plugin, data):
                if problem.kind == "classification":
                    assert 2 <= batch.n_way <= problem.max_way <= problem.n_classes
                else:
                    assert batch.n_way == 0
                    assert batch.support_y.shape[2:] == batch.query_y.shape[2:] == (problem.n_targets,)

    def test_row_labels_are_of_the_problem(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            problem, labels = _problem(plugin, data), _row_labels(plugin, data)
            if isinstance(labels, str):
                assert is_sentence(labels), "A source that labels no rows must say so in a sentence."
            elif problem.kind == "classification":
                assert labels.shape == (len(data),)
                assert 0 <= labels.min() <= labels.max() < problem.n_classes
            else:
                assert labels.shape == (len(data), problem.n_targets)

    def test_split_is_disjoint_and_covers_all_rows(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            train, valid = plugin.split(data, 0.3, SEEDS)
            parts = [train.rows] if valid is None else [train.rows, valid.rows]
            assert np.array_equal(np.sort(np.concatenate(parts)), data.rows), "Each row is on one side."
            assert all(side is None or side.x is data.x for side in (train, valid)), "A split copies nothing."

    def test_split_depends_on_its_arguments_alone(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            with untouched_global_generators():
                train, _ = plugin.split(data, 0.3, SEEDS)
            again, _ = plugin.split(data, 0.3, SEEDS)
            assert np.array_equal(train.rows, again.rows)

    def test_both_sides_of_a_split_give_tasks(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            train, valid = plugin.split(data, 0.3, SEEDS)
            assert plugin.accepts(train) is None
            assert sum(len(batch) for batch in plugin.draw(train, N_TASKS, 0, SEEDS)) == N_TASKS
            if valid is not None:
                assert plugin.accepts(valid) is None
                assert sum(len(batch) for batch in plugin.draw_validation(valid, N_TASKS, SEEDS)) == N_TASKS

    def test_draw_leaves_the_data(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted:
            before = data.x.copy()
            for batch in _drawn(plugin, data):
                batch.support_x[:] = 0
            assert np.array_equal(before, data.x), "Tasks must have memory of their own, and rows stay as they are."

    def test_selected_rows_are_in_use_and_disjoint(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted if plugin.selects_rows else []:
            train, _ = plugin.split(data, 0.3, SEEDS)
            for batch in _drawn(plugin, _numbered(train)):
                for t in range(len(batch)):
                    support, query = batch.support_x[t, :, 0], batch.query_x[t, :, 0]
                    chosen = np.concatenate([support, query])
                    assert len(np.unique(chosen)) == len(chosen), "A row is in support or query, and once."
                    assert np.isin(chosen, train.rows).all(), "Only rows in use may be drawn."

    def test_selection_does_not_depend_on_values(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted if plugin.selects_rows else []:
            numbered = _numbered(data)
            doubled = _drawn(plugin, numbered.with_x(2 * numbered.x))
            for batch, other in zip(_drawn(plugin, numbered), doubled, strict=True):
                assert np.array_equal(2 * batch.support_x, other.support_x), "selects_rows promises not to look at x."
                assert np.array_equal(2 * batch.query_x, other.query_x), "selects_rows promises not to look at x."

    def test_selection_follows_the_labels(self, plugin: TaskSource, accepted: list[TaskData]) -> None:
        for data in accepted if plugin.selects_rows else []:
            for batch in filter(lambda batch: batch.n_way, _drawn(plugin, _numbered(data))):
                for t in range(len(batch)):
                    true = [(data.y[x[t, :, 0]], y[t]) for x, y, _ in _sides(batch)]  # type: ignore[index]
                    pairs = {pair for labels, y in true for pair in zip(labels, y, strict=True)}
                    assert len(pairs) == batch.n_way, "Each label within a task must stand for one class of y."


def _problem(plugin: TaskSource, data: TaskData) -> Problem:
    return plugin.problem(data, data.x.shape[1:])


def _row_labels(plugin: TaskSource, data: TaskData) -> np.ndarray | str:
    """Return the labels of rows, or why there are none."""
    try:
        return plugin.row_labels(data)
    except InvalidInputError as refusal:
        return str(refusal)


def _drawn(plugin: TaskSource, data: TaskData) -> list[TaskBatch]:
    steps = [batch for step in range(4) for batch in plugin.draw(data, N_TASKS, step, SEEDS)]
    return steps + plugin.draw_validation(data, N_TASKS, SEEDS)


def _numbered(data: TaskData) -> TaskData:
    """Return data whose rows hold their own number."""
    return data.with_x(np.arange(len(data.x))[:, None])


def _sides(batch: TaskBatch) -> list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    return [
        (batch.support_x, batch.support_y, batch.support_class),
        (batch.query_x, batch.query_y, batch.query_class),
    ]


def _equal(first: list[TaskBatch], second: list[TaskBatch]) -> bool:
    return len(first) == len(second) and all(_equal_batches(a, b) for a, b in zip(first, second, strict=True))


def _equal_batches(a: TaskBatch, b: TaskBatch) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(TaskBatch)]
    return all((x is None) == (y is None) and np.array_equal(x, y) for x, y in pairs if x is not None)
