"""What meta-algorithms keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from sklearn.base import clone
from torch import Tensor, nn

from metafe.contracts import Context, Learner, MetaAlgorithm, Problem, TaskBatch
from metafe.testing.common import (
    build_seeded,
    example_problems,
    is_refusal_or_none,
    same_tensors,
    snapshot,
    untouched_global_generators,
)
from metafe.testing.plugin import PluginContract

N_FEATURES = 5
N_TASKS, N_SHOT, N_QUERY = 3, 3, 4
SETTINGS = {"max_steps", "meta_batch_size", "optimizer", "learning_rate", "weight_decay", "schedule", "patience"}
JUDGING = Context(training=False)


class MetaAlgorithmContract(PluginContract):
    """Checks of a meta-algorithm: override ``plugin``, and ``problems`` or ``backbone`` where the defaults do not fit.

    Each check runs on every problem that the algorithm accepts, in float64, with a small network of two layers.

    Examples
    --------
    >>> import pytest
    >>> from metafe.contracts import HeadAlgorithm
    >>> class Centroid(HeadAlgorithm):
    ...     name = "centroid"
    ...     def accepts(self, problem):
    ...         return None if problem.kind == "classification" else "centroid needs classes. Pass y."
    ...     def fit_head(self, learner, features, y, n_way):
    ...         members = nn.functional.one_hot(y, n_way).to(features.dtype).mT
    ...         return {"centroids": members @ features / members.sum(-1, keepdim=True)}
    ...     def apply_head(self, learner, state, features):
    ...         return -torch.cdist(features, state["centroids"])
    >>> class TestCentroid(MetaAlgorithmContract):
    ...     @pytest.fixture
    ...     def plugin(self):
    ...         return Centroid()
    """

    base = MetaAlgorithm

    @pytest.fixture
    def problems(self) -> list[Problem]:
        """Return problems of all kinds, at least one of which is accepted; may be overridden."""
        return example_problems()

    @pytest.fixture
    def backbone(self, problems: list[Problem]) -> nn.Module:
        """Return a module from rows to five features; may be overridden."""
        n_values = torch.Size(problems[0].input_shape).numel()
        layers = [nn.Flatten(), nn.Linear(n_values, 7), nn.Tanh(), nn.Linear(7, N_FEATURES)]
        return build_seeded(lambda: nn.Sequential(*layers))

    @pytest.fixture
    def accepted(self, plugin: MetaAlgorithm, problems: list[Problem]) -> list[Problem]:
        """Return the problems that the algorithm accepts."""
        accepted = [problem for problem in problems if plugin.accepts(problem) is None]
        assert accepted, f"{plugin!r} accepts none of {problems}; override the problems fixture."
        return accepted

    @pytest.fixture
    def learners(self, plugin: MetaAlgorithm, accepted: list[Problem], backbone: nn.Module) -> list[Learner]:
        """Return a learner for each accepted problem, in float64."""
        return [_build(plugin, backbone, problem).double().eval() for problem in accepted]

    def test_accepts_gives_a_sentence_or_none(self, plugin: MetaAlgorithm, problems: list[Problem]) -> None:
        for problem in [*problems, *example_problems(()), *example_problems((3, 8, 8))]:
            assert is_refusal_or_none(plugin.accepts(problem)), f"accepts({problem}) must be a sentence or None."

    def test_says_what_it_trains_on(self, plugin: MetaAlgorithm) -> None:
        assert plugin.trains_on in ("tasks", "rows")
        flags = (plugin.separable, plugin.adapts_features, plugin.stands_bfloat16)
        assert all(isinstance(flag, bool) for flag in flags)

    def test_says_whether_it_gains_by_bfloat16(self, plugin: MetaAlgorithm, learners: list[Learner]) -> None:
        assert all(isinstance(plugin.gains_by_bfloat16(learner), bool) for learner in learners)

    def test_training_defaults_are_settings(self, plugin: MetaAlgorithm) -> None:
        unknown = plugin.training_defaults().keys() - SETTINGS
        assert not unknown, f"training_defaults may name {sorted(SETTINGS)}; got {unknown}."

    def test_build_gives_a_learner(self, accepted: list[Problem], learners: list[Learner]) -> None:
        for problem, learner in zip(accepted, learners, strict=True):
            assert isinstance(learner, Learner)
            assert learner.problem == problem
            assert isinstance(learner.n_features, int)

    def test_build_copies_the_backbone(
        self, plugin: MetaAlgorithm, accepted: list[Problem], backbone: nn.Module
    ) -> None:
        given = snapshot(backbone)
        for problem in accepted:
            learner = _build(plugin, backbone, problem)
            shared = {p.data_ptr() for p in learner.parameters()} & {p.data_ptr() for p in backbone.parameters()}
            assert not shared, "The learner must have weights of its own."
        assert same_tensors(given, snapshot(backbone))

    def test_build_depends_on_the_generator_alone(
        self, plugin: MetaAlgorithm, accepted: list[Problem], backbone: nn.Module
    ) -> None:
        for problem in accepted:
            first, second = (_build(plugin, backbone, problem) for _ in range(2))
            assert same_tensors(snapshot(first), snapshot(second)), "Initialisation must come from torch's functions."

    def test_parameter_groups_hold_parameters_of_the_learner(
        self, plugin: MetaAlgorithm, learners: list[Learner]
    ) -> None:
        for learner in learners:
            grouped = [id(p) for group in plugin.parameter_groups(learner) for p in group["params"]]
            assert len(grouped) == len(set(grouped)), "A parameter must be in one group only."
            assert set(grouped) <= {id(p) for p in learner.parameters()}, "Groups hold parameters of the learner."

    def test_loss_is_a_finite_scalar(self, plugin: MetaAlgorithm, learners: list[Learner]) -> None:
        for learner in _trainable(plugin, learners):
            before, batch = snapshot(learner), _training_batch(plugin, learner)
            given = _copy(batch)
            with untouched_global_generators():
                loss, metrics = plugin.meta_loss(learner, batch, _training())
            assert loss.ndim == 0
            assert torch.isfinite(loss)
            assert all(isinstance(name, str) and torch.isfinite(torch.as_tensor(v)) for name, v in metrics.items())
            assert same_tensors(before, snapshot(learner)), "Only the optimiser changes the learner."
            assert _same_batch(given, batch), "The batch must not be changed in place."

    def test_loss_has_a_gradient_for_every_group(self, plugin: MetaAlgorithm, learners: list[Learner]) -> None:
        for learner in _trainable(plugin, learners):
            learner.train().zero_grad()
            loss, _ = plugin.meta_loss(learner, _training_batch(plugin, learner), _training())
            loss.backward()  # type: ignore[no-untyped-call]
            for group in plugin.parameter_groups(learner):
                gradients = [p.grad for p in group["params"] if p.grad is not None]
                assert gradients, (
                    f"The loss must reach every group of parameters; it misses one of {len(group['params'])}."
                )
                assert all(torch.isfinite(gradient).all() for gradient in gradients)
                assert any(gradient.any() for gradient in gradients), "The outer gradient of a group is zero."

    def test_loss_repeats(self, plugin: MetaAlgorithm, learners: list[Learner]) -> None:
        for learner in _trainable(plugin, learners):
            losses = [plugin.meta_loss(learner, _training_batch(plugin, learner), _training())[0] for _ in range(2)]
            assert torch.equal(losses[0], losses[1]), "Randomness must come from context.generator alone."

    def test_separable_loss_is_the_mean_over_tasks(self, plugin: MetaAlgorithm, learners: list[Learner]) -> None:
        for learner in _trainable(plugin, learners) if plugin.separable else []:
            batch = _training_batch(plugin, learner)
            whole, _ = plugin.meta_loss(learner, batch, _training())
            parts = [plugin.meta_loss(learner, _one_task(batch, t), _training())[0] for t in range(len(batch))]
            torch.testing.assert_close(whole, torch.stack(parts).mean())

    def test_adapt_is_pure(self, plugin: MetaAlgorithm, learners: list[Learner]) -> None:
        for learner in learners:
            before, task = snapshot(learner), _judging_task(learner.problem)
            given = _copy(task)
            with untouched_global_generators():
                first, second = (_adapt(plugin, learner, task) for _ in range(2))
            assert same_tensors(first, second), "The same support set must give the same state."
            assert same_tensors(before, snapshot(learner)), "adapt must leave the learner as it is."
            assert _same_batch(given, task), "The support set must not be changed in place."

    def test_state_is_tensors_by_plain_names(self, plugin: MetaAlgorithm, learners: list[Learner]) -> None:
        for learner in learners:
            for name, value in _adapt(plugin, learner, _judging_task(learner.problem)).items():
                assert isinstance(value, Tensor), f"State {name!r} must be a tensor; got {type(value).__name__}."
                assert "." not in name, f"State {name!r} must have no dot in its name."
                assert torch.isfinite(value).all() or not value.is_floating_point()

    def test_features_have_the_width_of_the_learner(self, plugin: MetaAlgorithm, learners: list[Learner]) -> None:
        for learner in learners:
            task = _judging_task(learner.problem)
            for state in ({}, _adapt(plugin, learner, task)):
                features = plugin.features(learner, state, task.query_x[0])
                assert features.shape == (task.query_x.shape[1], learner.n_features)
                assert features.dtype == torch.float64, "The type of the learner must be kept."
                assert torch.isfinite(features).all()
                alone = torch.cat([plugin.features(learner, state, row[None]) for row in task.query_x[0]])
                torch.testing.assert_close(alone, features)

    def test_says_whether_features_adapt(self, plugin: MetaAlgorithm, learners: list[Learner]) -> None:
        for learner in [] if plugin.adapts_features else learners:
            task = _judging_task(learner.problem)
            adapted = plugin.features(learner, _adapt(plugin, learner, task), task.query_x[0])
            assert torch.equal(adapted, plugin.features(learner, {}, task.query_x[0]))

    def test_prediction_has_one_column_for_each_output(self, plugin: MetaAlgorithm, learners: list[Learner]) -> None:
        for learner in _predicting(plugin, learners):
            for n_way in _ways(learner.problem):
                task = _judging_task(learner.problem, n_way)
                predicted = _predict(plugin, learner, task)
                assert predicted.shape == (task.query_x.shape[1], _n_outputs(plugin, learner.problem, n_way))
                assert predicted.dtype == torch.float64
                assert torch.isfinite(predicted).all()

    def test_prediction_does_not_depend_on_the_order_of_support(
        self, plugin: MetaAlgorithm, learners: list[Learner]
    ) -> None:
        for learner in _predicting(plugin, learners):
            task = _judging_task(learner.problem)
            order = torch.randperm(task.support_x.shape[1], generator=torch.Generator().manual_seed(1))
            permuted = dataclasses.replace(task, support_x=task.support_x[:, order], support_y=task.support_y[:, order])
            torch.testing.assert_close(_predict(plugin, learner, permuted), _predict(plugin, learner, task))


def _build(plugin: MetaAlgorithm, backbone: nn.Module, problem: Problem) -> Learner:
    return build_seeded(lambda: clone(plugin).build(backbone, N_FEATURES, problem))


def _training() -> Context:
    return Context(training=True, step=0, max_steps=10, generator=torch.Generator().manual_seed(0))


def _adapt(plugin: MetaAlgorithm, learner: Learner, task: TaskBatch) -> dict[str, Tensor]:
    return plugin.adapt(learner, task.support_x[0], task.support_y[0], task.n_way, JUDGING)


def _predict(plugin: MetaAlgorithm, learner: Learner, task: TaskBatch) -> Tensor:
    return plugin.predict(learner, _adapt(plugin, learner, task), task.query_x[0])


def _trainable(plugin: MetaAlgorithm, learners: list[Learner]) -> list[Learner]:
    """Return the learners that have something to train; without that there is no loss."""
    return [x for x in learners if any(group["params"] for group in plugin.parameter_groups(x))]


def _predicting(plugin: MetaAlgorithm, learners: list[Learner]) -> list[Learner]:
    """Return the learners that predict: all, or none where the algorithm only gives features."""
    return [] if type(plugin).predict is MetaAlgorithm.predict else learners


def _ways(problem: Problem) -> list[int]:
    return [problem.max_way, 2] if problem.max_way else [0]


def _n_outputs(plugin: MetaAlgorithm, problem: Problem, n_way: int) -> int:
    if problem.kind == "regression":
        return problem.n_targets
    # What trains on rows has a head for all classes of meta-training.
    return problem.n_classes if plugin.trains_on == "rows" else n_way


def _training_batch(plugin: MetaAlgorithm, learner: Learner) -> TaskBatch:
    """Return what the trainer would give: tasks, or a mini-batch of rows without support."""
    problem = learner.problem
    tasks = _tasks(problem, max(problem.max_way, 0), N_TASKS)
    if plugin.trains_on == "tasks":
        return tasks
    x, y = (value.flatten(0, 1)[None] for value in (tasks.query_x, tasks.query_y))
    label = torch.arange(y.shape[1])[None] % problem.n_classes if problem.n_classes else y
    empty_y = label[:, :0]
    known = problem.kind == "classification"
    return TaskBatch(
        x[:, :0], empty_y, x, label, problem.n_classes, empty_y if known else None, label if known else None
    )


def _judging_task(problem: Problem, n_way: int | None = None) -> TaskBatch:
    return _tasks(problem, problem.max_way if n_way is None else n_way, 1)


def _tasks(problem: Problem, n_way: int, n_tasks: int) -> TaskBatch:
    """Return tasks whose classes differ in their means, or whose targets are linear in the rows."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n_blocks = n_way or 4
    labels = [torch.arange(n_blocks).repeat_interleave(n).expand(n_tasks, -1) for n in (N_SHOT, N_QUERY)]
    means = normal(n_tasks, n_blocks, *problem.input_shape)
    x = [torch.stack([means[t][y[t]] for t in range(n_tasks)]) for y in labels]
    x = [rows + 0.3 * normal(*rows.shape) for rows in x]
    if problem.kind == "classification":
        classes = torch.stack([torch.randperm(problem.n_classes, generator=generator)[:n_way] for _ in range(n_tasks)])
        support_class, query_class = (classes.gather(1, y) for y in labels)
        return TaskBatch(x[0], labels[0].clone(), x[1], labels[1].clone(), n_way, support_class, query_class)
    weights = normal(torch.Size(problem.input_shape).numel(), problem.n_targets or 1)
    targets = [rows.flatten(2) @ weights for rows in x]
    return TaskBatch(x[0], targets[0], x[1], targets[1], 0)


def _one_task(batch: TaskBatch, t: int) -> TaskBatch:
    return _map(batch, lambda value: value[t : t + 1])


def _copy(batch: TaskBatch) -> TaskBatch:
    return _map(batch, lambda value: value.clone())


def _map(batch: TaskBatch, change: Callable[[Tensor], Tensor]) -> TaskBatch:
    tensors = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch) if f.name != "n_way"}
    return TaskBatch(n_way=batch.n_way, **{k: None if v is None else change(v) for k, v in tensors.items()})


def _same_batch(first: TaskBatch, second: TaskBatch) -> bool:
    pairs = [(getattr(first, f.name), getattr(second, f.name)) for f in dataclasses.fields(first) if f.name != "n_way"]
    return all(a is None if b is None else torch.equal(a, b) for a, b in pairs)
