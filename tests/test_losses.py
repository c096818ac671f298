"""What the built-in algorithms minimise, and how features are judged, against plain computations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn
from torch.nn import functional

from metafe.algorithms import ProtoNet, Supervised
from metafe.backbones import MLP
from metafe.contracts import (
    Context,
    Problem,
    Seeds,
    TaskBatch,
    TaskData,
)
from metafe.training.probe import compare, interval_over_classes, mean_interval, probe_tasks
from metafe.training.rows import draw_rows

TRAINING = Context(training=True)


def task_batch(n_tasks: int = 3, n_way: int = 4, n_shot: int = 2, n_query: int = 3, width: int = 5) -> TaskBatch:
    """Random float64 tasks whose labels come in no order."""
    rng = np.random.default_rng(0)
    support_y = np.stack([rng.permutation(np.repeat(np.arange(n_way), n_shot)) for _ in range(n_tasks)])
    query_y = np.stack([rng.permutation(np.repeat(np.arange(n_way), n_query)) for _ in range(n_tasks)])
    rows = [rng.normal(size=(*y.shape, width)) for y in (support_y, query_y)]
    return TaskBatch(rows[0], support_y, rows[1], query_y, n_way)


def as_tensors(batch: TaskBatch) -> TaskBatch:
    return batch.to("cpu")


class TestLosses:
    @pytest.mark.parametrize("distance", ["euclidean", "cosine"])
    @pytest.mark.parametrize("temperature", [None, 2.5])
    def test_protonet_equals_a_plain_numpy_computation(self, distance, temperature):
        algorithm, batch = ProtoNet(distance, temperature), task_batch()
        linear = nn.Linear(5, 3).double()
        learner = algorithm.build(linear, 3, Problem("classification", (5,), n_classes=4, max_way=4))
        loss, metrics = algorithm.meta_loss(learner, as_tensors(batch), TRAINING)
        expected, accuracy = self._protonet_in_numpy(batch, linear, distance, temperature)
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-12)
        assert float(metrics["accuracy"]) == pytest.approx(accuracy)

    @staticmethod
    def _protonet_in_numpy(batch, linear, distance, temperature):
        weight, bias = (p.detach().numpy() for p in linear.parameters())
        losses, hits = [], []
        for support_x, support_y, query_x, query_y in zip(
            batch.support_x, batch.support_y, batch.query_x, batch.query_y, strict=True
        ):
            support, query = support_x @ weight.T + bias, query_x @ weight.T + bias
            for features, label in zip(query, query_y, strict=True):
                scores = []
                for k in range(batch.n_way):
                    prototype = support[support_y == k].mean(axis=0)
                    if distance == "euclidean":
                        scores.append(-((features - prototype) ** 2).sum() / (temperature or 1.0))
                    else:
                        cosine = features @ prototype / np.linalg.norm(features) / np.linalg.norm(prototype)
                        scores.append(cosine / (temperature or 0.1))
                losses.append(-log_softmax(scores)[label])
                hits.append(np.argmax(scores) == label)
        return np.mean(losses), np.mean(hits)

    @pytest.mark.parametrize("distance", ["euclidean", "cosine"])
    def test_protonet_meta_gradient_equals_autograd_written_plainly(self, distance):
        algorithm, batch = ProtoNet(distance), as_tensors(task_batch())
        network = MLP(depth=1, width=7, n_features=3, activation="tanh").build((5,)).double()
        learner = algorithm.build(network, 3, Problem("classification", (5,), n_classes=4, max_way=4))
        algorithm.meta_loss(learner, batch, TRAINING)[0].backward()
        losses = []
        for t in range(len(batch)):
            support, query = network(batch.support_x[t]), network(batch.query_x[t])
            prototypes = torch.stack([support[batch.support_y[t] == k].mean(0) for k in range(batch.n_way)])
            if distance == "euclidean":
                scores = -((query[:, None] - prototypes[None]) ** 2).sum(-1)
            else:
                norms = query.norm(dim=1)[:, None] * prototypes.norm(dim=1)[None]
                scores = query @ prototypes.T / norms / 0.1
            losses.append(-scores.log_softmax(1)[torch.arange(len(query)), batch.query_y[t]].mean())
        torch.stack(losses).mean().backward()
        for mine, plain in zip(learner.backbone.parameters(), network.parameters(), strict=True):
            assert (mine.grad - plain.grad).abs().max() < 1e-9
        assert max(p.grad.abs().max() for p in network.parameters()) > 1e-3

    def test_adapted_predictions_equal_the_batched_ones(self):
        algorithm, batch = ProtoNet(), as_tensors(task_batch())
        learner = algorithm.build(nn.Linear(5, 3).double(), 3, Problem("classification", (5,), n_classes=4, max_way=4))
        losses = []
        for t in range(len(batch)):
            state = algorithm.adapt(learner, batch.support_x[t], batch.support_y[t], batch.n_way, TRAINING)
            losses.append(
                functional.cross_entropy(algorithm.predict(learner, state, batch.query_x[t]), batch.query_y[t])
            )
        whole = algorithm.meta_loss(learner, batch, TRAINING)[0]
        assert torch.stack(losses).mean().item() == pytest.approx(whole.item(), rel=1e-12)

    def _learner(self, problem: Problem) -> tuple[Supervised, Any]:
        algorithm = Supervised()
        return algorithm, algorithm.build(nn.Linear(5, 3), 3, problem)

    def _outputs(self, learner: Any, x: np.ndarray) -> np.ndarray:
        body, head = (
            [p.detach().numpy().astype(np.float64) for p in m.parameters()] for m in (learner.backbone, learner.head)
        )
        return (x @ body[0].T + body[1]) @ head[0].T + head[1]

    def test_supervised_is_the_cross_entropy_over_all_classes(self):
        algorithm, learner = self._learner(Problem("classification", (5,), n_classes=6, max_way=5))
        rng = np.random.default_rng(0)
        data = TaskData(rng.normal(size=(30, 5)).astype(np.float32), np.arange(30) % 6, None, np.arange(30))
        batch = draw_rows(data, data.y, 12, 0, Seeds(0))
        loss, metrics = algorithm.meta_loss(learner, as_tensors(batch), TRAINING)
        outputs, labels = self._outputs(learner, batch.query_x[0]), batch.query_class[0]
        assert float(loss.detach()) == pytest.approx(
            -log_softmax(outputs, axis=1)[np.arange(12), labels].mean(), rel=1e-5
        )
        assert float(metrics["accuracy"]) == pytest.approx((outputs.argmax(1) == labels).mean())

    def test_supervised_is_the_mean_squared_error_of_targets(self):
        algorithm, learner = self._learner(Problem("regression", (5,), n_targets=2))
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(30, 2)).astype(np.float32)
        batch = draw_rows(TaskData(x, y, None, np.arange(30)), y, 12, 0, Seeds(0))
        loss, metrics = algorithm.meta_loss(learner, as_tensors(batch), TRAINING)
        assert float(loss.detach()) == pytest.approx(
            ((self._outputs(learner, batch.query_x[0]) - batch.query_y[0]) ** 2).mean(), rel=1e-5
        )
        assert metrics == {}

    def test_each_row_is_seen_once_an_epoch_and_epochs_differ(self):
        data = TaskData(np.arange(40.0)[:, None], np.arange(40) % 4, None, np.arange(40))
        epochs = [
            [draw_rows(data, data.y, 10, step + 4 * e, Seeds(0)).query_x.ravel() for step in range(4)] for e in range(2)
        ]
        for epoch in epochs:
            assert sorted(np.concatenate(epoch)) == list(range(40))
        assert not np.array_equal(epochs[0], epochs[1])


class TestJudging:
    def test_nearest_centroid_and_ridge(self):
        support = np.array([[[0.0], [1.0], [10.0], [11.0]]])
        query = np.array([[[2.0], [9.0], [4.0]]])
        classes = TaskBatch(support, np.array([[0, 0, 1, 1]]), query, np.array([[0, 1, 1]]), 2)
        assert probe_tasks([classes]).tolist() == [pytest.approx(2 / 3)]
        exact = TaskBatch(100 * support, 100 * support, 100 * query, 100 * query, 0)
        assert probe_tasks([exact])[0] == pytest.approx(1.0, abs=1e-4)

    def test_features_that_are_not_finite_score_minus_infinity(self):
        batch = task_batch(n_tasks=2)
        batch.query_x[1, 0, 0] = np.nan
        scores = probe_tasks([batch])
        assert np.isfinite(scores[0])
        assert scores[1] == -np.inf

    def test_interval_is_that_of_student(self):
        mean, half = mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
        assert mean == 2.5
        assert half == pytest.approx(3.182446 * np.std([1, 2, 3, 4], ddof=1) / 2, rel=1e-6)

    def test_comparison_is_paired_and_equal_failures_differ_by_nothing(self):
        comparison = compare(np.array([0.5, 0.7, -np.inf]), np.array([0.4, 0.6, -np.inf]))
        assert comparison.gain == pytest.approx(0.2 / 3)


def test_two_classes_that_happen_to_gain_alike_are_not_sure_of_others():
    mean, half = interval_over_classes(np.array([0.05, 0.05]), 0.95)
    assert mean == 0.05
    assert 0.1 < half < 0.3


def test_many_classes_speak_for_themselves():
    gains = 0.03 * np.random.default_rng(0).normal(size=200) + 0.05
    mean, half = interval_over_classes(gains, 0.95)
    assert half == pytest.approx(mean_interval(gains)[1], rel=0.1)
    assert mean_interval(gains)[0] == mean


def test_a_class_whose_features_were_not_finite_leaves_nothing_sure():
    assert interval_over_classes(np.array([0.1, -np.inf]), 0.95) == (-np.inf, np.inf)
