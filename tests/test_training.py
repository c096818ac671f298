"""The outer loop: when it stops, what it keeps, and what it leaves alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_regression
from torch import nn

from metafe import MetaFeatureExtractor
from metafe.algorithms import MAML, ProtoNet
from metafe.backbones import MLP, Adapter, Conv4
from metafe.contracts import (
    Context,
    MetafeWarning,
    PluginContractError,
    TaskBatch,
    TrainingInterruptedWarning,
    hookimpl,
)
from metafe.plugins import registry
from metafe.training import settings as settings_module
from metafe.training.metrics import Means
from metafe.training.settings import TrainingSettings

pytestmark = pytest.mark.filterwarnings(
    "ignore::metafe.contracts.FeatureQualityWarning", "ignore::metafe.contracts.AdaptedSettingWarning"
)


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


def test_an_infinite_first_loss_names_the_settings(small, digits):
    extractor = small("mlp", MAML(inner_rate=1e30), tasks="classes")
    with pytest.raises(
        PluginContractError,
        match=r"'maml' must return a finite loss before the first step; got (nan|inf) from MAML\(inner_rate=1e\+30\)\. "
        "Fix its settings, such as too high an inner rate",
    ):
        extractor.fit(*digits)


class TestMetrics:
    @pytest.mark.parametrize("validation_fraction", [0.0, 0.25])
    def test_history_holds_the_means_of_what_the_algorithm_reports(self, small, digits, validation_fraction):
        class Reporting(ProtoNet):
            name = "test-reporting"

            def meta_loss(self, learner: Any, batch: TaskBatch, context: Context) -> Any:
                loss, metrics = super().meta_loss(learner, batch, context)
                reported = {"number": context.step, "doubled": 2 * loss}
                return loss, metrics | reported | ({"rare": 5.0} if context.step == 4 else {})

        extractor = small(
            MLP(width=16), Reporting(), max_steps=60, patience=60, validation_fraction=validation_fraction
        ).fit(*digits)
        first, *lines = extractor.history_
        assert not {"number", "doubled", "accuracy"} & first.keys()
        assert [line["number"] for line in lines] == [line["step"] - 2 for line in lines]
        assert [line["doubled"] for line in lines] == pytest.approx([2 * line["loss"] for line in lines])
        assert all(0.2 < line["accuracy"] <= 1 for line in lines)
        assert [line.get("rare") for line in lines[:3]] == [None, 5.0, None]
        assert all(type(value) in (int, float) for line in lines for value in line.values())

    def test_tasks_count_the_same_in_whichever_batch_they_are(self):
        means = Means()
        means.add({"a": 1.0, "b": torch.tensor(2.0, requires_grad=True)}, 3)
        means.add({"a": torch.tensor(5.0)}, 1)
        assert means.take() == {"a": 2.0, "b": 2.0}
        assert means.take() == {}


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

        small(MLP(normalisation="batch"), Watching(), max_steps=5, refit=False).fit(*digits)
        assert seen == [True] * 5

    def test_statistics_are_those_of_the_training_rows(self, small, digits):
        X, y = digits
        extractor = small(MLP(normalisation="batch"), max_steps=5, validation_fraction=0.0).fit(X, y)
        model = extractor.model_
        _, linear, norm, *_ = model.learner.backbone
        with torch.no_grad():
            activations = linear(model.normalisers[0](torch.tensor(X.copy())))
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
        scheduler, rates = settings.make_schedule(optimizer, lambda step: step / 100), []
        for _ in range(100):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert [rates[0], rates[50], rates[75]] == pytest.approx([2 * share for share in expected], abs=1e-5)

    @pytest.mark.parametrize(
        ("named", "optimizer", "rate"),
        [
            ({}, "sgd", 1.0),
            ({"optimizer": "sgd"}, "sgd", 1.0),
            ({"optimizer": "adam"}, "adam", 1e-3),
            ({"optimizer": "momentum", "learning_rate": 0.3}, "momentum", 0.3),
        ],
    )
    def test_an_advised_learning_rate_goes_with_the_optimizer_it_is_advised_for(
        self, small, digits, named, optimizer, rate
    ):
        started: list[Any] = []

        class Hearing:
            @staticmethod
            @hookimpl
            def metafe_fit_started(extractor: Any, settings: Any) -> None:
                started.append(settings)

        registry().manager.register(Hearing, name="test-hearing")
        try:
            small(algorithm="reptile", validation_fraction=0.0, max_steps=1, **named).fit(*digits)
        finally:
            registry().manager.unregister(name="test-hearing")
        assert [(s["optimizer"], s["learning_rate"]) for s in started] == [(optimizer, rate)]

    def test_bfloat16_trains_and_gives_float32(self, small, digits):
        X, y = digits
        narrow, wide = (small(precision=precision).fit(X, y).transform(X) for precision in ("bfloat16", "float32"))
        assert narrow.dtype == np.float32
        assert not np.array_equal(narrow, wide)
        np.testing.assert_allclose(narrow, wide, atol=0.2)

    @pytest.mark.parametrize("has_instructions", [True, False])
    @pytest.mark.parametrize(
        ("backbone", "algorithm", "gains"),
        [
            (MLP(width=8), "protonet", True),
            (MLP(width=8), "anil", True),
            (MLP(width=8), "maml", False),
            (Adapter(), "maml", False),
            (Conv4(depth=1, width=4), "maml", True),
            (Conv4(depth=1, width=4), "reptile", False),
        ],
        ids=str,
    )
    def test_auto_precision_is_bfloat16_where_machine_has_it_and_algorithm_gains_by_it(
        self, small, images, monkeypatch, has_instructions, backbone, algorithm, gains
    ):
        monkeypatch.setattr(settings_module, "_has_bfloat16", lambda device: has_instructions)
        X, y = images
        auto, narrow, wide = (
            small(backbone, algorithm, precision=precision, max_steps=1, validation_fraction=0).fit(X, y).transform(X)
            for precision in ("auto", "bfloat16", "float32")
        )
        # All that Reptile differentiates are inner steps.
        assert np.array_equal(narrow, wide) == (algorithm == "reptile")
        np.testing.assert_array_equal(auto, narrow if has_instructions and gains else wide)

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


@pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
@pytest.mark.parametrize("algorithm", ["maml", "anil", "boil", "meta-sgd", "imaml"])
def test_regression_does_not_diverge_out_of_the_box(algorithm):
    X, y = make_regression(200, 8, noise=1.0, random_state=0)
    extractor = MetaFeatureExtractor("mlp", algorithm, "rows", max_steps=2, random_state=0).fit(X, y)
    assert extractor.history_[-1]["loss"] < 2.0
