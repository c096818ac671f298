"""Algorithms that fit a head on features, against plain computations, and what they learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, softmax
from torch import nn

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.algorithms import R2D2, Cosine, MatchingNetworks, ProtoNet, RelationNetworks, Supervised
from metafe.contracts import Context, InvalidParameterError, Problem, TaskBatch
from metafe.contracts.learner import groups_of_tasks

TRAINING, JUDGING = Context(training=True), Context(training=False)
CLASSES = Problem("classification", (5,), n_classes=6, max_way=4)
IMAGES = Problem("classification", (1, 8, 8), n_classes=2, max_way=2)
TARGETS = Problem("regression", (5,), n_targets=2)


def class_tasks(n_tasks: int = 3, n_way: int = 4, n_shot: int = 2, n_query: int = 3) -> TaskBatch:
    """Random float64 tasks whose labels come in no order."""
    rng = np.random.default_rng(0)
    support_y, query_y = (
        np.stack([rng.permutation(np.repeat(np.arange(n_way), n)) for _ in range(n_tasks)]) for n in (n_shot, n_query)
    )
    return TaskBatch(
        rng.normal(size=(*support_y.shape, 5)), support_y, rng.normal(size=(*query_y.shape, 5)), query_y, n_way
    )


def target_tasks(n_tasks: int = 3, n_support: int = 6, n_query: int = 4) -> TaskBatch:
    """Random float64 tasks with two targets."""
    rng = np.random.default_rng(1)
    shapes = [(n_tasks, n, k) for n in (n_support, n_query) for k in (5, 2)]
    support_x, support_y, query_x, query_y = (rng.normal(size=shape) for shape in shapes)
    return TaskBatch(support_x, support_y, query_x, query_y, 0)


def as_doubles(batch: TaskBatch) -> TaskBatch:
    """The batch as float64 tensors."""
    arrays = [torch.from_numpy(np.asarray(a)) for a in (batch.support_x, batch.support_y, batch.query_x, batch.query_y)]
    return TaskBatch(*arrays, batch.n_way)


def build(algorithm, problem, n_features=3):
    torch.manual_seed(0)
    return algorithm.build(nn.Linear(5, n_features), n_features, problem).double()


def features(learner, x):
    """The features of a linear backbone, in numpy."""
    weight, bias = (p.detach().numpy() for p in learner.backbone.parameters())
    return x @ weight.T + bias


def each_task(learner, batch):
    """Support features, labels and query features, labels of each task, in numpy."""
    for t in range(len(batch.query_x)):
        yield (
            features(learner, batch.support_x[t]),
            batch.support_y[t],
            features(learner, batch.query_x[t]),
            batch.query_y[t],
        )


def check(algorithm, problem, batch, expected_predictions, expected_loss=None):
    """Compare the loss over all tasks, and what each task's adapted head predicts, with plain computations."""
    learner, tensors = build(algorithm, problem), as_doubles(batch)
    plain = [expected_predictions(learner, *task[:3]) for task in each_task(learner, batch)]
    for t, wanted in enumerate(plain):
        state = algorithm.adapt(learner, tensors.support_x[t], tensors.support_y[t], batch.n_way, JUDGING)
        predicted = algorithm.predict(learner, state, tensors.query_x[t]).detach().numpy()
        np.testing.assert_allclose(predicted, wanted, rtol=1e-9, atol=1e-12)
    loss, metrics = algorithm.meta_loss(learner, tensors, TRAINING)
    mean_loss = np.mean([(expected_loss or cross_entropy)(p, y) for p, y in zip(plain, batch.query_y, strict=True)])
    assert float(loss.detach()) == pytest.approx(mean_loss, rel=1e-9)
    if batch.n_way:
        right = np.mean([p.argmax(1) == y for p, y in zip(plain, batch.query_y, strict=True)])
        assert float(metrics["accuracy"]) == pytest.approx(right)


def cross_entropy(scores, labels):
    return -log_softmax(scores, axis=1)[np.arange(len(labels)), labels].mean()


def squared_error(predicted, targets):
    return ((predicted - targets) ** 2).mean()


class TestMatching:
    @staticmethod
    def attention(support, query, temperature):
        lengths = np.linalg.norm(query, axis=1)[:, None] * np.linalg.norm(support, axis=1)
        return softmax(query @ support.T / lengths / temperature, axis=1)

    @pytest.mark.parametrize("temperature", [0.1, 1.0])
    def test_classes_equal_a_plain_numpy_computation(self, temperature):
        def predictions(learner, support, labels, query):
            return np.log(self.attention(support, query, temperature) @ np.eye(4)[labels])

        check(MatchingNetworks(temperature), CLASSES, class_tasks(), predictions)

    def test_targets_equal_a_plain_numpy_computation(self):
        def predictions(learner, support, targets, query):
            return self.attention(support, query, 0.1) @ targets

        check(MatchingNetworks(), TARGETS, target_tasks(), predictions, squared_error)

    def test_a_class_without_attention_gives_finite_losses_and_gradients(self):
        algorithm = MatchingNetworks(temperature=1e-4)
        learner = build(algorithm, CLASSES).float()
        loss, _ = algorithm.meta_loss(learner, as_floats(class_tasks()), TRAINING)
        loss.backward()
        assert float(loss.detach()) > 100
        assert all(torch.isfinite(p.grad).all() for p in learner.parameters())


def as_floats(batch: TaskBatch) -> TaskBatch:
    doubles = as_doubles(batch)
    return TaskBatch(
        doubles.support_x.float(), doubles.support_y, doubles.query_x.float(), doubles.query_y, batch.n_way
    )


class TestRelation:
    @staticmethod
    def scores(learner, support, labels, query):
        """The comparison network on the concatenation of each class mean and each query row."""
        weights = {name: p.detach().numpy() for name, p in learner.comparison.named_parameters()}
        first = np.concatenate([weights["of_class.weight"], weights["of_row.weight"]], axis=1)
        found = np.empty((len(query), 4))
        for i, row in enumerate(query):
            for k in range(4):
                pair = np.concatenate([support[labels == k].mean(axis=0), row])
                hidden = first @ pair + weights["of_class.bias"]
                hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
                hidden = np.maximum(hidden * weights["score.0.weight"] + weights["score.0.bias"], 0)
                found[i, k] = (weights["score.2.weight"] @ hidden + weights["score.2.bias"])[0]
        return found

    def test_squared_error_equals_a_plain_numpy_computation(self):
        def loss(scores, labels):
            return ((expit(scores) - np.eye(4)[labels]) ** 2).mean()

        check(RelationNetworks(width=7), CLASSES, class_tasks(), self.scores, loss)

    def test_cross_entropy_equals_a_plain_numpy_computation(self):
        check(RelationNetworks("cross-entropy", width=7), CLASSES, class_tasks(), self.scores)


class TestR2D2:
    """Ridge in closed form: with 3 features and the ones, two rows are fewer than columns and eight are more."""

    @staticmethod
    def ridge(support, targets, query, strength):
        x = np.column_stack([support, np.ones(len(support))])
        weights = np.linalg.inv(x.T @ x + strength * np.eye(4)) @ x.T @ targets
        return np.column_stack([query, np.ones(len(query))]) @ weights

    @pytest.mark.parametrize("n_shot", [1, 3])
    @pytest.mark.parametrize("n_way", [2, 4])
    def test_classes_equal_a_plain_numpy_computation(self, n_shot, n_way):
        def predictions(learner, support, labels, query):
            strength, scale = (float(p.detach().exp()) for p in (learner.log_regularisation, learner.log_scale))
            assert (strength, scale) == pytest.approx((0.3, 7.0), rel=1e-6)
            return scale * self.ridge(support, np.eye(n_way)[labels], query, strength)

        batch = class_tasks(n_shot=n_shot, n_way=n_way)
        check(R2D2(regularisation=0.3, scale=7.0), CLASSES, batch, predictions)

    @pytest.mark.parametrize("n_support", [2, 9])
    def test_targets_equal_a_plain_numpy_computation(self, n_support):
        def predictions(learner, support, targets, query):
            return self.ridge(support, targets, query, 1.0)

        check(R2D2(), TARGETS, target_tasks(n_support=n_support), predictions, squared_error)

    def test_learned_scale_and_bias_shift_the_prediction(self):
        algorithm, batch = R2D2(), as_doubles(target_tasks())
        learner = build(algorithm, TARGETS)
        state = algorithm.adapt(learner, batch.support_x[0], batch.support_y[0], 0, JUDGING)
        before = algorithm.predict(learner, state, batch.query_x[0])
        with torch.no_grad():
            learner.log_scale.fill_(math.log(3.0))
            learner.bias.fill_(0.5)
        torch.testing.assert_close(algorithm.predict(learner, state, batch.query_x[0]), 3.0 * before + 0.5)

    def test_strength_of_regularisation_is_learned(self):
        algorithm, batch = R2D2(), as_doubles(target_tasks())
        learner = build(algorithm, TARGETS)
        loss, _ = algorithm.meta_loss(learner, batch, TRAINING)
        (gradient,) = torch.autograd.grad(loss, learner.log_regularisation)
        losses = []
        for change in (1e-5, -1e-5):
            with torch.no_grad():
                learner.log_regularisation += change
                losses.append(float(algorithm.meta_loss(learner, batch, TRAINING)[0]))
                learner.log_regularisation -= change
        assert float(gradient) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6)
        assert abs(float(gradient)) > 1e-4

    @pytest.mark.parametrize("name", ["regularisation", "scale"])
    def test_what_is_not_positive_is_refused(self, name):
        with pytest.raises(InvalidParameterError, match=f"r2d2 {name} must be a finite number above 0; got 0"):
            build(R2D2(**{name: 0.0}), CLASSES)


class TestCosine:
    def test_loss_equals_a_plain_numpy_computation(self):
        algorithm = Cosine(scale=4.0)
        learner = build(algorithm, CLASSES)
        scale = float(learner.log_scale.detach().exp())
        assert scale == pytest.approx(4.0, rel=1e-6)
        x = np.random.default_rng(0).normal(size=(1, 12, 5))
        labels = np.arange(12)[None] % 6
        empty = torch.empty((1, 0), dtype=torch.int64)
        rows, target = torch.from_numpy(x), torch.from_numpy(labels)
        loss, metrics = algorithm.meta_loss(
            learner, TaskBatch(rows[:, :0], empty, rows, target, 6, empty, target), TRAINING
        )
        f, w = features(learner, x[0]), learner.head.weight.detach().numpy()
        scores = scale * f @ w.T / np.linalg.norm(f, axis=1)[:, None] / np.linalg.norm(w, axis=1)
        np.testing.assert_allclose(algorithm.predict(learner, {}, rows[0]).detach().numpy(), scores)
        assert float(loss.detach()) == pytest.approx(cross_entropy(scores, labels[0]), rel=1e-12)
        assert float(metrics["accuracy"]) == pytest.approx((scores.argmax(1) == labels[0]).mean())

    def test_a_scale_that_is_not_positive_is_refused(self):
        with pytest.raises(InvalidParameterError, match="cosine scale must be a finite number above 0; got -1"):
            build(Cosine(scale=-1.0), CLASSES)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (
            ProtoNet(distance="manhattan"),
            r"protonet distance must be one of \['euclidean', 'cosine'\]; got 'manhattan'",
        ),
        (ProtoNet(temperature=0), "protonet temperature must be a finite number above 0; got 0"),
        (ProtoNet(temperature="low"), "protonet temperature must be a finite number above 0; got 'low'"),
        (MatchingNetworks(temperature=-0.1), "matching temperature must be a finite number above 0; got -0.1"),
        (MatchingNetworks(temperature=None), "matching temperature must be a finite number above 0; got None"),
        (RelationNetworks(width=0), "relation width must be a whole number of at least 1; got 0"),
        (RelationNetworks("hinge"), r"relation loss must be one of \['mse', 'cross-entropy'\]; got 'hinge'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_are_named(algorithm, message):
    with pytest.raises(InvalidParameterError, match=message):
        build(algorithm, CLASSES)


@pytest.mark.parametrize("algorithm", [R2D2(), Cosine(), Supervised()], ids=lambda a: a.name)
def test_weight_decay_pulls_at_no_single_number(algorithm):
    learner = build(algorithm, CLASSES)
    without = {
        id(p) for group in algorithm.parameter_groups(learner) if "weight_decay" in group for p in group["params"]
    }
    assert without == {id(p) for p in learner.parameters() if p.ndim == 0}
    assert sum(len(group["params"]) for group in algorithm.parameter_groups(learner)) == len([*learner.parameters()])


def test_supervised_training_keeps_float64():
    algorithm = Supervised()
    batch, labels = as_doubles(class_tasks()), torch.arange(36).reshape(3, 12) % 6
    loss, _ = algorithm.meta_loss(
        build(algorithm, CLASSES), TaskBatch(batch.query_x[:, :0], labels[:, :0], batch.query_x, labels, 6), TRAINING
    )
    assert loss.dtype == torch.float64


@pytest.fixture(scope="module")
def hidden_classes():
    """Twenty classes that differ in 4 of 30 columns, all of which have the same spread."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(20), 20)
    X = rng.normal(size=(len(y), 30))
    X[:, :4] = rng.normal(size=(20, 4))[y] + 0.25 * X[:, :4]
    return X, y


@pytest.mark.parametrize(
    "algorithm", [MatchingNetworks(), RelationNetworks("cross-entropy"), R2D2(), Cosine()], ids=lambda a: a.name
)
def test_learns_which_columns_tell_classes_apart(algorithm, hidden_classes, small):
    X, y = hidden_classes
    old = y < 14
    extractor = small("mlp", algorithm, max_steps=100, validation_fraction=0).fit(X[old], y[old])
    learned, rows = (
        few_shot_score(t, X[~old], y[~old], n_way=5, n_shot=1, n_episodes=100, random_state=0)
        for t in (extractor, None)
    )
    assert learned.mean - rows.mean > 0.1 > learned.interval + rows.interval


def test_r2d2_learns_from_groups_which_columns_their_targets_depend_on():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 20)
    X = rng.normal(size=(len(groups), 12))
    y = (X[:, :2] * rng.normal(size=(60, 2))[groups]).sum(axis=1) + 0.1 * rng.normal(size=len(groups))
    old = groups < 45
    extractor = MetaFeatureExtractor(
        "mlp", R2D2(), max_steps=120, augment=None, validation_fraction=0, random_state=0, device="cpu"
    ).fit(X[old], y[old], groups=groups[old])
    judge = {"groups": groups[~old], "n_shot": 5, "n_query": 15, "n_episodes": 100, "random_state": 0}
    own, rows = (
        few_shot_score(t, X[~old], y[~old], head=h, **judge) for t, h in ((extractor, "own"), (None, "centroid"))
    )
    assert own.mean - rows.mean > 0.2


def image_batch(n_tasks: int, n_query: int) -> TaskBatch:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(n_tasks, n, 1, 8, 8, generator=generator) for n in (2, n_query)]
    labels = [torch.arange(n).remainder(2).repeat(n_tasks, 1) for n in (2, n_query)]
    return TaskBatch(rows[0], labels[0], rows[1], labels[1], n_way=2)


@pytest.mark.parametrize(("n_query", "n_groups"), [(400, 1), (1500, 2), (5000, 3)])
def test_the_body_runs_over_as_many_tasks_as_are_worth_having_in_memory(n_query, n_groups):
    algorithm, batch = ProtoNet(), image_batch(3, n_query)
    learner = algorithm.build(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 4)), 4, IMAGES).train()
    calls: list[int] = []
    learner.backbone.register_forward_hook(lambda module, rows, features: calls.append(len(features)))
    loss, metrics = algorithm.meta_loss(learner, batch, TRAINING)
    loss.backward()
    assert len(calls) == n_groups
    assert sum(calls) == 3 * (2 + n_query)
    found = [p.grad.clone() for p in learner.parameters()]
    groups = groups_of_tasks(batch)
    learner.zero_grad()
    parts = [algorithm.meta_loss(learner, group, TRAINING) for group in groups]
    mean = sum(part * (len(group) / 3) for (part, _), group in zip(parts, groups, strict=True))
    mean.backward()
    torch.testing.assert_close(loss, mean)
    torch.testing.assert_close(found, [p.grad for p in learner.parameters()])
    accuracies = [m["accuracy"] * (len(group) / 3) for (_, m), group in zip(parts, groups, strict=True)]
    torch.testing.assert_close(metrics["accuracy"], sum(accuracies))
