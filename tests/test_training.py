"""The outer loop: its losses, its stops, its checkpoints and its random numbers."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn
from torch.nn import functional, init

from metafe.algorithms import ProtoNet, Supervised
from metafe.augmentations import Noise, Rotate90
from metafe.backbones import MLP, Conv4
from metafe.contracts import (
    Augmentation,
    Context,
    MetafeWarning,
    Problem,
    SavedFormatError,
    Seeds,
    TaskBatch,
    TaskData,
    TrainingInterruptedWarning,
    hookimpl,
)
from metafe.plugins import registry
from metafe.training.augmenting import Augmenter
from metafe.training.probe import compare, mean_interval, probe_tasks
from metafe.training.randomness import use_generator
from metafe.training.rows import draw_rows
from metafe.training.settings import TrainingSettings

pytestmark = pytest.mark.filterwarnings(
    "ignore::metafe.contracts.FeatureQualityWarning", "ignore::metafe.contracts.AdaptedSettingWarning"
)
TRAINING = Context(training=True)


def history_without_clock(extractor: Any) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in extractor.history_]


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


@pytest.fixture
def ruining() -> type:
    class Ruining(ProtoNet):
        """Learns for six steps, and then pulls every weight to zero."""

        name = "test-ruining"

        def meta_loss(self, learner: Any, batch: TaskBatch, context: Context) -> Any:
            loss, metrics = super().meta_loss(learner, batch, context)
            size = sum(p.square().sum() for p in learner.parameters())
            return (loss if context.step < 6 else loss * 0 + size), metrics

    return Ruining


class TestStopping:
    def test_early_stopping_keeps_the_best(self, small, digits, ruining):
        X, y = digits
        settings = {"max_steps": 200, "learning_rate": 0.1, "optimizer": "adam", "patience": 3, "weight_decay": 0.0}
        extractor = small(MLP(normalisation="none", width=16), ruining(), **settings).fit(X, y)
        scores = [line["score"] for line in extractor.history_]
        best = int(np.argmax(scores))
        assert scores[best] > scores[-1] + 0.05
        assert len(scores) == best + 1 + 3
        assert extractor.history_[-1]["step"] < 200
        assert extractor.validation_["score"] == scores[best]

    def test_without_validation_all_steps_run_and_the_last_weights_stay(self, small, digits):
        X, y = digits
        extractor = small(max_steps=7, validation_fraction=0.0).fit(X, y)
        assert extractor.history_[-1]["step"] == 7
        assert extractor.validation_ is None
        assert not np.array_equal(
            extractor.transform(X), small(max_steps=0, validation_fraction=0.0).fit(X, y).transform(X)
        )

    def test_training_learns(self, small, digits):
        X, y = digits
        extractor = small(max_steps=40, validation_fraction=0.0, learning_rate=3e-3).fit(X, y)
        losses = [line["loss"] for line in extractor.history_[1:]]
        assert np.mean(losses[-5:]) < 0.7 * losses[0]

    @pytest.mark.parametrize("algorithm", ["protonet", "supervised"])
    @pytest.mark.parametrize("validation_fraction", [0.0, 0.25])
    def test_divergence_is_said_and_leaves_finite_features(self, small, digits, algorithm, validation_fraction):
        X, y = digits
        extractor = small(
            MLP(normalisation="none"),
            algorithm,
            optimizer="sgd",
            learning_rate=1e20,
            max_steps=60,
            validation_fraction=validation_fraction,
        )
        with pytest.warns(
            MetafeWarning, match=r"finite loss; got (nan|inf).*best weights so far are kept\. Lower learning_rate"
        ):
            extractor.fit(X, y)
        assert np.isfinite(extractor.transform(X)).all()
        assert extractor.history_[-1]["step"] < 60


class InterruptingHook:
    @staticmethod
    @hookimpl
    def metafe_step_finished(extractor: Any, step: int, metrics: Any) -> None:
        if step == 9:
            raise KeyboardInterrupt


class Interrupting(ProtoNet):
    name = "test-interrupting"

    def __init__(self, at: int = 10**9) -> None:
        super().__init__()
        self.at = at

    def meta_loss(self, learner: Any, batch: TaskBatch, context: Context) -> Any:
        if context.step == self.at:
            raise KeyboardInterrupt
        return super().meta_loss(learner, batch, context)


class TestInterruption:
    @pytest.mark.parametrize("validation_fraction", [0.0, 0.25])
    def test_control_c_in_a_step_keeps_the_best_weights(self, small, digits, validation_fraction):
        X, y = digits
        extractor = small(
            MLP(normalisation="batch"), Interrupting(7), max_steps=60, validation_fraction=validation_fraction
        )
        with pytest.warns(
            TrainingInterruptedWarning, match=r"interrupted; the best weights so far are kept.*checkpoint="
        ):
            extractor.fit(X, y)
        assert [line["step"] for line in extractor.history_] == [0, 3, 6]
        assert np.isfinite(extractor.transform(X)).all()
        if validation_fraction:
            assert extractor.validation_["score"] == max(line["score"] for line in extractor.history_)
        else:
            untrained = small(MLP(normalisation="batch"), max_steps=0, validation_fraction=0.0).fit(X, y)
            assert not np.allclose(extractor.transform(X), untrained.transform(X))

    def test_control_c_in_a_hook(self, small, digits):
        X, y = digits
        manager = registry().manager
        manager.register(InterruptingHook, name="test-interrupting-hook")
        try:
            with pytest.warns(TrainingInterruptedWarning):
                extractor = small(max_steps=60).fit(X, y)
        finally:
            manager.unregister(name="test-interrupting-hook")
        assert extractor.history_[-1]["step"] == 9
        assert np.isfinite(extractor.transform(X)).all()

    def test_control_c_outside_training_leaves_the_estimator_as_it_was(self, small, digits):
        class Stopped(MLP):
            name = "test-stopped"

            def build(self, input_shape: tuple[int, ...]) -> Any:
                raise KeyboardInterrupt

        X, y = digits
        extractor = small(Stopped())
        before = dict(vars(extractor))
        with pytest.raises(KeyboardInterrupt):
            extractor.fit(X, y)
        assert vars(extractor) == before

    def test_going_on_from_a_checkpoint_equals_never_having_stopped(self, small, digits, tmp_path):
        X, y = digits
        expected = small(MLP(dropout=0.2), ProtoNet(), max_steps=60).fit(X, y)
        interrupt = InterruptAt(23)
        registry().manager.register(interrupt, name="test-interrupt-at")
        try:
            with pytest.warns(TrainingInterruptedWarning):
                small(MLP(dropout=0.2), ProtoNet(), max_steps=60, checkpoint=tmp_path / "run").fit(X, y)
        finally:
            registry().manager.unregister(name="test-interrupt-at")
        resumed = small(MLP(dropout=0.2), ProtoNet(), max_steps=60, checkpoint=tmp_path / "run").fit(X, y)
        assert history_without_clock(resumed)[1:] == history_without_clock(expected)[1:]
        np.testing.assert_array_equal(resumed.transform(X), expected.transform(X))
        again = small(MLP(dropout=0.2), ProtoNet(), max_steps=60, checkpoint=str(tmp_path / "run")).fit(X, y)
        np.testing.assert_array_equal(again.transform(X), expected.transform(X))


class InterruptAt:
    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def metafe_step_finished(self, extractor: Any, step: int, metrics: Any) -> None:
        if step > self.step:
            raise KeyboardInterrupt


KILLED = """
import os, signal, sys, warnings
import numpy as np
from sklearn.datasets import load_digits
from metafe import MetaFeatureExtractor
from metafe.algorithms import ProtoNet
from metafe.backbones import MLP
warnings.simplefilter("ignore")

class Killed(ProtoNet):
    name = "killed"
    def meta_loss(self, learner, batch, context):
        if context.step == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().meta_loss(learner, batch, context)

folder, optimizer, fraction = sys.argv[1:]
X, y = load_digits(return_X_y=True)
X, y = X[:300], y[:300]
backbone = MLP(width=16, n_features=8, normalisation="batch", dropout=0.2)
extractor = MetaFeatureExtractor(
    backbone, Killed(), "classes", max_steps=60, optimizer=optimizer, schedule="cosine", random_state=0, device="cpu",
    learning_rate=0.01, checkpoint=folder, validation_fraction=float(fraction), augment="noise",
).fit(X, y)
weights = b"".join(v.numpy().tobytes() for v in extractor.model_.learner.state_dict().values())
history = [(int(h["step"]), h["loss"], h.get("score")) for h in extractor.history_]
print(weights.hex(), history, extractor.transform(X).tobytes().hex())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
@pytest.mark.parametrize(("kill_at", "optimizer", "fraction"), [(22, "momentum", "0.25"), (58, "adam", "0.0")])
def test_a_killed_run_ends_as_if_it_had_never_been(tmp_path, kill_at, optimizer, fraction):
    def run(folder: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        arguments = [sys.executable, "-c", KILLED, str(tmp_path / folder), optimizer, fraction]
        return subprocess.run(
            arguments, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, capture_output=True, check=False
        )

    killed = run("killed", KILL_AT=str(kill_at))
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "training.pt").exists()
    resumed, whole = run("killed"), run("whole")
    assert resumed.returncode == whole.returncode == 0, resumed.stderr.decode()
    assert len(whole.stdout) > 1000
    assert resumed.stdout == whole.stdout


class TestCheckpoints:
    @pytest.fixture
    def finished(self, small, digits, tmp_path):
        small(max_steps=4, checkpoint=tmp_path).fit(*digits)
        return tmp_path

    @pytest.mark.parametrize(
        "change",
        [
            {"X": lambda X: X + 1},
            {"X": lambda X: X[:, :50]},
            {"y": lambda y: 9 - y},
            {"max_steps": 5},
            {"learning_rate": 0.5},
            {"random_state": 1},
            {"backbone": MLP(width=7)},
            {"augment": Noise(0.5)},
        ],
    )
    def test_another_run_is_refused(self, small, digits, count_steps, finished, change):
        X, y = digits
        rows, labels = change.get("X", np.copy)(X), change.get("y", np.copy)(y)
        parameters = {k: v for k, v in change.items() if k not in ("X", "y")}
        extractor = small(**({"max_steps": 4, "checkpoint": finished} | parameters))
        with pytest.raises(
            SavedFormatError, match=r"must come from the same data, settings and random_state.*Pass another folder"
        ):
            extractor.fit(rows, labels)
        assert not hasattr(extractor, "model_")

    def test_a_damaged_file_is_refused(self, small, digits, finished):
        (finished / "training.pt").write_bytes(b"nonsense")
        with pytest.raises(SavedFormatError, match=r"must be readable.*Delete it to start again"):
            small(max_steps=4, checkpoint=finished).fit(*digits)

    def test_other_verbosity_and_an_equal_generator_are_accepted(self, small, digits, tmp_path):
        first = small(max_steps=4, checkpoint=tmp_path, random_state=np.random.RandomState(3)).fit(*digits)
        again = small(max_steps=4, checkpoint=str(tmp_path), random_state=np.random.RandomState(3), device="cpu").fit(
            *digits
        )
        np.testing.assert_array_equal(first.transform(digits[0]), again.transform(digits[0]))

    def test_a_seed_is_needed(self, small, digits, tmp_path):
        with pytest.raises(ValueError, match=r"checkpoint needs a random_state.*got None\. Set random_state"):
            small(checkpoint=tmp_path, random_state=None).fit(*digits)

    def test_nothing_else_is_left_in_the_folder(self, finished):
        assert [path.name for path in finished.iterdir()] == ["training.pt"]


class TestBatchNormalisation:
    def test_training_writes_no_buffer(self, small, digits):
        seen = []

        class Watching(ProtoNet):
            name = "test-watching"

            def meta_loss(self, learner: Any, batch: TaskBatch, context: Context) -> Any:
                before = copy.deepcopy(dict(learner.named_buffers()))
                result = super().meta_loss(learner, batch, context)
                seen.append(all(torch.equal(before[name], value) for name, value in learner.named_buffers()))
                assert learner.training
                return result

        small(MLP(normalisation="batch"), Watching(), max_steps=5).fit(*digits)
        assert seen == [True] * 5

    def test_statistics_are_those_of_the_training_rows(self, small, digits):
        X, y = digits
        extractor = small(MLP(normalisation="batch"), max_steps=5, validation_fraction=0.0).fit(X, y)
        model = extractor.model_
        _, linear, norm, *_ = model.learner.backbone
        with torch.no_grad():
            activations = linear(model.normaliser(torch.tensor(X.copy())))
        torch.testing.assert_close(norm.running_mean, activations.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, activations.var(0), rtol=1e-4, atol=1e-5)

    def test_transform_changes_nothing(self, small, digits):
        X, y = digits
        extractor = small(MLP(normalisation="batch", dropout=0.5), max_steps=5).fit(X, y)
        before = copy.deepcopy(extractor.model_.learner.state_dict())
        first = extractor.transform(X)
        np.testing.assert_array_equal(extractor.transform(X), first)
        for name, value in extractor.model_.learner.state_dict().items():
            assert torch.equal(value, before[name])


class TestSettings:
    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "momentum"])
    @pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
    def test_every_optimizer_with_every_schedule(self, small, digits, optimizer, schedule):
        X, y = digits
        extractor = small(optimizer=optimizer, schedule=schedule, learning_rate=0.01, validation_fraction=0.0).fit(X, y)
        untrained = small(max_steps=0, validation_fraction=0.0).fit(X, y)
        assert np.isfinite(extractor.history_[-1]["loss"])
        assert not np.allclose(extractor.transform(X), untrained.transform(X), atol=1e-5)

    @pytest.mark.parametrize(
        ("schedule", "expected"),
        [("constant", [1, 1, 1]), ("cosine", [1, 0.5, 0.146447]), ("linear", [1, 0.5, 0.25])],
    )
    def test_schedules(self, schedule, expected):
        settings = TrainingSettings(max_steps=100, learning_rate=2.0, schedule=schedule)
        optimizer = settings.make_optimizer([{"params": [nn.Parameter(torch.zeros(1))]}])
        scheduler, rates = settings.make_schedule(optimizer), []
        for _ in range(100):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert [rates[0], rates[50], rates[75]] == pytest.approx([2 * share for share in expected], abs=1e-5)

    def test_bfloat16_trains_and_gives_float32(self, small, digits):
        X, y = digits
        narrow, wide = (small(precision=precision).fit(X, y).transform(X) for precision in ("bfloat16", "float32"))
        assert narrow.dtype == np.float32
        assert not np.array_equal(narrow, wide)
        np.testing.assert_allclose(narrow, wide, atol=0.2)

    def test_progress_goes_to_stderr_a_line_for_each_validation(self, small, digits, capsys):
        small(max_steps=4, verbose=1).fit(*digits)
        printed = capsys.readouterr()
        assert printed.out == ""
        assert [line for line in ("protonet 1/4 ", "protonet 4/4 ") if line in printed.err] == [
            "protonet 1/4 ",
            "protonet 4/4 ",
        ]

    def test_verbose_says_what_auto_decided(self, small, digits, capsys):
        extractor = small("mlp", "auto", verbose=1).fit(*digits)
        printed = " ".join(capsys.readouterr().err.split())
        assert extractor.decisions_["algorithm"] in printed

    def test_silence_is_the_default(self, small, digits, capsys):
        small().fit(*digits)
        assert capsys.readouterr() == ("", "")


class Counting(Augmentation):
    name = "test-counting-augmentation"
    calls = 0

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        type(self).calls += 1
        return x + 1


class TestAugmentation:
    @pytest.mark.parametrize("algorithm", ["protonet", "supervised"])
    def test_it_never_runs_in_validation_or_transform(self, small, digits, algorithm):
        X, y = digits
        Counting.calls = 0
        extractor = small("mlp", algorithm, augment=Counting(), max_steps=3).fit(X, y)
        assert Counting.calls == (6 if algorithm == "protonet" else 3)
        extractor.adapt(X, y).transform(X)
        assert Counting.calls == (6 if algorithm == "protonet" else 3)

    def test_it_changes_what_is_learned(self, small, digits):
        X, y = digits
        plain, augmented = (small(augment=a, validation_fraction=0.0).fit(X, y).transform(X) for a in (None, "noise"))
        assert not np.allclose(plain, augmented)

    @staticmethod
    def _corners(view: int) -> torch.Tensor:
        image = torch.zeros(1, 8, 8)
        image[0, 0, 0] = 1
        return torch.rot90(image, view, dims=(-2, -1))

    def _views_of(self, x: torch.Tensor) -> torch.Tensor:
        """Which quarter turn each image shows, ``(T, S)``."""
        turns = torch.stack([self._corners(k) for k in range(4)])
        return (x[:, :, None] == turns).flatten(3).all(-1).int().argmax(-1)

    def test_views_are_new_classes_and_one_view_a_class_of_a_task(self):
        n_tasks, n_way = 40, 3
        y = torch.arange(n_way).repeat_interleave(4).expand(n_tasks, -1)
        classes = torch.stack(
            [torch.randperm(7, generator=torch.Generator().manual_seed(t))[:n_way] for t in range(n_tasks)]
        )
        codes = classes.gather(1, y)
        x = self._corners(0).expand(*y.shape, 1, 8, 8)
        augmenter = Augmenter([Rotate90()], (1, 8, 8), n_classes=7)
        assert augmenter.n_classes_with_views == 28
        batch = augmenter(TaskBatch(x, y, x, y, n_way, codes, codes), torch.Generator().manual_seed(0))
        for rows, label, original in (
            (batch.support_x, batch.support_class, codes),
            (batch.query_x, batch.query_class, codes),
        ):
            views = self._views_of(rows)
            assert torch.equal(label, original + 7 * views)
            assert set(views.flatten().tolist()) == {0, 1, 2, 3}
            assert (views.view(n_tasks, n_way, 4) == views.view(n_tasks, n_way, 4)[..., :1]).all()
        assert torch.equal(self._views_of(batch.support_x), self._views_of(batch.query_x))

    def test_views_of_single_rows(self):
        codes = torch.arange(7).repeat(20)[None]
        x = self._corners(0).expand(1, 140, 1, 8, 8)
        empty = TaskBatch(x[:, :0], codes[:, :0], x, codes, 7, codes[:, :0], codes)
        batch = Augmenter([Rotate90()], (1, 8, 8), n_classes=7)(empty, torch.Generator().manual_seed(0))
        views = self._views_of(batch.query_x)
        assert torch.equal(batch.query_class, codes + 7 * views)
        assert len(set(views[0, ::7].tolist())) > 1

    def test_a_supervised_head_has_an_output_for_each_view(self, small, images):
        extractor = small(Conv4(width=4), "supervised", augment="rotate90", validation_fraction=0.0).fit(*images)
        assert extractor.model_.learner.head.out_features == 40


def _train_twice(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    out = layer.train()(x)
    return out[0] if isinstance(out, tuple) else out


ROWS = torch.linspace(-2, 2, 6 * 8).reshape(6, 8)
IMAGES = torch.linspace(-2, 2, 2 * 4 * 6 * 6).reshape(2, 4, 6, 6)
INITIALISED = {
    "linear": lambda: nn.Linear(8, 3),
    "bilinear": lambda: nn.Bilinear(3, 4, 5),
    "convolution": lambda: nn.Conv2d(4, 3, 3),
    "transposed convolution": lambda: nn.ConvTranspose1d(4, 3, 3),
    "embedding": lambda: nn.Embedding(5, 3),
    "embedding bag": lambda: nn.EmbeddingBag(5, 3),
    "gru": lambda: nn.GRU(4, 3, num_layers=2),
    "lstm": lambda: nn.LSTM(4, 3, bidirectional=True),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16),
}
FILLS = {
    **{
        name: getattr(init, name)
        for name in ("uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_")
    },
    **{name: getattr(init, name) for name in ("kaiming_uniform_", "kaiming_normal_", "orthogonal_")},
    "sparse_": lambda x: init.sparse_(x, 0.5),
    "Tensor.normal_": lambda x: x.normal_(),
    "Tensor.bernoulli_": lambda x: x.bernoulli_(0.5),
    "Tensor.exponential_": lambda x: x.exponential_(),
    "rand": lambda x: torch.rand(6, 8),
    "randn": lambda x: torch.randn((6, 8)),
    "randint": lambda x: torch.randint(100, (6, 8)),
    "randperm": lambda x: torch.randperm(48),
    "rand_like": torch.rand_like,
    "randn_like": torch.randn_like,
    "randint_like": lambda x: torch.randint_like(x, 100),
    "bernoulli": lambda x: torch.bernoulli(torch.full_like(x, 0.5)),
    "multinomial": lambda x: torch.multinomial(torch.ones(48), 20),
    "normal": lambda x: torch.normal(torch.zeros(48), torch.ones(48)),
    "poisson": lambda x: torch.poisson(torch.full((48,), 3.0)),
}
DROPPING = {
    "dropout": (lambda: nn.Dropout(0.5), ROWS),
    "dropout in place": (lambda: nn.Dropout(0.5, inplace=True), ROWS),
    "dropout1d": (lambda: nn.Dropout1d(0.5), IMAGES[0]),
    "dropout2d": (lambda: nn.Dropout2d(0.5), IMAGES),
    "dropout3d": (lambda: nn.Dropout3d(0.5), IMAGES[:, :, None]),
    "alpha dropout": (lambda: nn.AlphaDropout(0.5), ROWS),
    "feature alpha dropout": (lambda: nn.FeatureAlphaDropout(0.5), IMAGES),
    "rrelu": (nn.RReLU, ROWS),
    "fractional pooling": (lambda: nn.FractionalMaxPool2d(2, output_ratio=0.7), IMAGES),
    "gru": (lambda: nn.GRU(8, 8, num_layers=2, dropout=0.5), ROWS),
    "lstm": (lambda: nn.LSTM(8, 8, num_layers=2, dropout=0.5), ROWS),
    "rnn": (lambda: nn.RNN(8, 8, num_layers=2, dropout=0.5), ROWS),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5), ROWS),
}


def _under(seed: int, function: Any) -> Any:
    """Call a function under a generator of that seed; the global generator must not notice."""
    before = torch.random.get_rng_state()
    with use_generator(torch.Generator().manual_seed(seed)):
        result = function()
    assert torch.equal(torch.random.get_rng_state(), before)
    return result


class TestUseGenerator:
    @pytest.mark.parametrize("name", INITIALISED)
    def test_initialisation(self, name):
        parts = [
            torch.cat([p.detach().flatten() for p in _under(seed, INITIALISED[name]).parameters()])
            for seed in (0, 0, 1)
        ]
        assert torch.equal(parts[0], parts[1])
        assert not torch.equal(parts[0], parts[2])

    @pytest.mark.parametrize("name", FILLS)
    def test_fills(self, name):
        first, same, other = (_under(seed, lambda: FILLS[name](torch.zeros(6, 8))) for seed in (0, 0, 1))
        assert torch.equal(first, same)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize("name", DROPPING)
    def test_layers_that_draw_in_training(self, name):
        make, x = DROPPING[name]
        layer = _under(9, make)
        first, same, other = (_under(seed, lambda: _train_twice(layer, x.clone())) for seed in (0, 0, 1))
        assert torch.equal(first, same)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize("dropout", [functional.dropout, functional.dropout1d, functional.dropout2d])
    def test_dropout_keeps_the_mean_and_drops_its_share(self, dropout):
        ones = torch.ones(
            4000, 5, *(() if dropout is functional.dropout else (2,) * (1 if dropout is functional.dropout1d else 2))
        )
        dropped = _under(0, lambda: dropout(ones, 0.3, True))
        assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
        assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
        if dropped.ndim > 2:
            assert (dropped.flatten(2) == dropped.flatten(2)[..., :1]).all()
        assert torch.equal(_under(0, lambda: dropout(ones, 0.3, False)), ones)
        assert not _under(0, lambda: dropout(ones, 1.0, True)).any()

    def test_a_generator_that_is_passed_is_used(self):
        mine = torch.Generator().manual_seed(3)
        drawn = _under(0, lambda: torch.zeros(4).normal_(generator=mine))
        assert torch.equal(drawn, torch.zeros(4).normal_(generator=torch.Generator().manual_seed(3)))
