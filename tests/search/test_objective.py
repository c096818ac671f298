"""What a trial keeps, when it ends early and what happens when it fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import optuna
import pytest
from torch import nn

import metafe
from metafe import MetaFeatureExtractor
from metafe.algorithms import ProtoNet
from metafe.backbones import MLP
from metafe.contracts import Backbone, SearchError, TaskData, TrainingInterruptedWarning, hookimpl
from metafe.inputs import check_target
from metafe.plugins import registry
from metafe.search import attributes as attribute
from metafe.search.folds import Folds
from metafe.search.judging import Judge
from metafe.search.objective import Objective
from metafe.search.reclaiming import requeue_cut_short
from metafe.search.space import Space

BASELINES = 7


@metafe.register
class Faulty(Backbone):
    """A backbone of which building raises, or whose features are not finite."""

    name = "faulty-in-search"

    def __init__(self, fault="raise"):
        self.fault = fault

    def build(self, input_shape):
        if self.fault == "raise":
            raise ZeroDivisionError("no width")
        if self.fault == "memory":
            raise MemoryError
        return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], 4))


@metafe.register
class Blind(Backbone):
    """A backbone that tells nothing apart."""

    name = "blind-in-search"

    def build(self, input_shape):
        return Nothing()


class Nothing(nn.Module):
    """Makes a feature of rows that is always zero."""

    def forward(self, x):
        return 0 * x[:, :1]


@metafe.register
class Diverging(ProtoNet):
    """Prototypical networks whose loss becomes NaN."""

    name = "diverging-in-search"

    def meta_loss(self, learner, batch, context):
        loss, metrics = super().meta_loss(learner, batch, context)
        return loss * float("nan"), metrics


@metafe.register
class Patient(ProtoNet):
    """Prototypical networks that take their time, and interrupt themselves when told to."""

    name = "patient-in-search"
    pause = 0.0
    interrupt_at: int | None = None
    steps = 0

    def meta_loss(self, learner, batch, context):
        type(self).steps += 1
        if self.steps == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)
        time.sleep(self.pause)
        return super().meta_loss(learner, batch, context)


class SlowNetwork(nn.Module):
    """A layer that takes its time for every row."""

    def __init__(self, n_in, seconds):
        super().__init__()
        self.layer = nn.Linear(n_in, 4)
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds * len(x))
        return self.layer(x)


@metafe.register
class Slow(Backbone):
    """A backbone that no short search has time for, with its seconds for each row."""

    name = "slow-in-search"

    def __init__(self, seconds=0.01):
        self.seconds = seconds

    def build(self, input_shape):
        return SlowNetwork(input_shape[0], self.seconds)


@pytest.fixture
def patient():
    """The class of the patient algorithm, with its counters at rest."""
    Patient.pause, Patient.interrupt_at, Patient.steps = 0.0, None, 0
    return Patient


def template(**parameters):
    """Return an extractor that trains for a moment."""
    return MetaFeatureExtractor(**{"max_steps": 4, "augment": None, "tasks": "classes"} | parameters)


def test_a_trial_keeps_what_it_is_worth(brief, blobs):
    search = brief(n_trials=BASELINES + 1, pruner=None).fit(*blobs)
    trial = search.study_.trials[0]
    kept = trial.user_attrs
    assert np.mean(kept[attribute.FOLD_SCORES]) == trial.value
    scores = attribute.unpacked(kept[attribute.EPISODE_SCORES])
    assert scores.mean() == pytest.approx(trial.value, abs=1e-6)
    assert len(attribute.unpacked(kept[attribute.CLASS_SCORES])) == 8
    assert (kept["n_features"], kept["n_parameters"]) == (6, 0)
    assert kept["latency"] > 0
    assert kept[attribute.WORKER]["pid"] > 0
    assert json.loads(kept[attribute.PARAMETERS])["backbone"] == "identity"


@pytest.mark.parametrize("patience", ["auto", 8])
def test_learned_trials_report_their_validations_and_then_the_first_fold(brief, blobs, patience):
    extractor = template(backbone="mlp", algorithm="protonet", patience=patience)
    search = brief(extractor=extractor, n_trials=BASELINES + 1, pruner=None).fit(*blobs)
    reports = search.study_.trials[-1].intermediate_values
    assert sorted(reports) == [0, 5, 10, 15, 20, 21]
    assert reports[21] == search.study_.trials[-1].user_attrs[attribute.FOLD_SCORES][0]


def test_the_classes_that_a_training_is_watched_by_choose_nothing(blobs):
    X, y = blobs
    X = (X + np.random.default_rng(1).normal(scale=4, size=X.shape)).astype(np.float32)
    rows = TaskData(X, y, None, np.arange(len(X)))
    train, test = np.flatnonzero(y < 5), np.flatnonzero(y >= 5)
    judge = Judge(rows, Folds([(train, test)], "one fold"))
    settings = {"backbone": MLP(1, 8, 8), "algorithm": "protonet", "tasks": "classes", "max_steps": 20}
    space = Space.for_data(rows, MetaFeatureExtractor())
    objective = Objective(space, rows, check_target(X, y), MetaFeatureExtractor(), judge, seed=3, trains_whole=True)
    scores = []
    watched = objective.fit(settings, 0, lambda metrics: scores.append(metrics["score"]))
    alone = MetaFeatureExtractor(**settings, validation_fraction=0, refit=False, random_state=3).fit(X[train], y[train])
    assert len(set(scores)) > 2
    assert scores[-1] < max(scores)
    assert watched.best_steps is None
    assert np.array_equal(watched.features(rows.x, test), alone.transform(X[test]))


def test_what_is_surely_worse_on_the_first_fold_gets_no_more(brief, blobs):
    search = brief(extractor=template(), backbones=Blind(), algorithms="protonet", n_trials=BASELINES + 3).fit(*blobs)
    pruned = [t for t in search.study_.trials if t.state.name == "PRUNED"]
    assert pruned
    assert all(len(t.user_attrs[attribute.FOLD_SCORES]) == 1 for t in pruned)
    assert all(attribute.BASELINE not in t.user_attrs for t in pruned)


def test_without_a_pruner_what_is_surely_worse_comes_to_its_end(brief, blobs):
    search = brief(
        extractor=template(), backbones=Blind(), algorithms="protonet", n_trials=BASELINES + 3, pruner="none"
    )
    search.fit(*blobs)
    assert {t.state.name for t in search.study_.trials} == {"COMPLETE"}


def test_a_plugin_that_raises_fails_its_trial_and_no_other(brief, blobs):
    search = brief(extractor=template(), backbones=[Faulty(), "mlp"], algorithms="protonet", n_trials=20)
    search.fit(*blobs)
    failed = [t for t in search.study_.trials if t.state.name == "FAIL"]
    assert failed
    assert {t.params.get("backbone") for t in failed} == {"faulty-in-search"}
    error = failed[0].user_attrs[attribute.ERROR]
    assert (error["plugin"], error["type"], error["message"]) == (
        "backbone faulty-in-search",
        "ZeroDivisionError",
        "no width",
    )
    assert "in build" in error["traceback"]
    assert len(search.cv_results_["trial"]) == 20


def test_a_network_too_slow_for_the_timeout_ends_before_its_first_step(brief, blobs):
    search = brief(extractor=template(), backbones=["slow-in-search", "mlp"], algorithms="protonet", timeout=10)
    search.set_params(n_trials=BASELINES + 3).fit(*blobs)
    slow = [t for t in search.study_.trials if t.params.get("backbone") == "slow-in-search"]
    assert slow
    assert {t.state.name for t in slow} == {"PRUNED"}
    assert not any(t.intermediate_values for t in slow)
    error = slow[0].user_attrs[attribute.ERROR]
    assert (error["plugin"], error["type"]) == ("backbone slow-in-search", "TooSlow")
    assert "Raise timeout" in error["message"]


def test_what_was_too_slow_is_tried_again_with_more_time(brief, blobs):
    search = brief(extractor=template(), backbones="slow-in-search", algorithms="protonet", timeout=10)
    search.set_params(n_trials=BASELINES + 1).fit(*blobs)
    assert attribute.is_too_slow(search.study_.trials[-1].user_attrs)
    requeue_cut_short(search.study_, n_folds=3)
    again = search.study_.trials[-1]
    assert again.state.name == "WAITING"
    assert attribute.ERROR not in again.user_attrs


@pytest.mark.parametrize("fewest", [0, 5])
def test_a_training_is_pruned_as_it_goes_where_it_holds_out_enough_classes(brief, blobs, monkeypatch, fewest):
    """Trainings of eight steps, none of whose reports is that of a twentieth of it."""
    monkeypatch.setattr("metafe.search.objective.FEWEST_TO_TELL_EARLY", fewest)
    search = brief(
        extractor=template(max_steps=8, learning_rate="auto", patience=8), backbones="mlp", algorithms="protonet"
    )
    search.set_params(n_trials=BASELINES + 12).fit(*blobs)
    ended = [t for t in search.study_.trials if t.state.name == "PRUNED"]
    assert any(max(t.intermediate_values) < 20 for t in ended) == (not fewest)


def test_a_verdict_says_that_all_were_too_slow(brief, blobs, monkeypatch):
    monkeypatch.setattr("metafe.search.objective.may_stand_beside", lambda objective, parameters: False)
    search = brief(extractor=template(), backbones="slow-in-search", algorithms="protonet", timeout=10)
    search.set_params(n_trials=BASELINES + 1).fit(*blobs)
    assert "no other trial was finished (1 too slow for the timeout)" in search.verdict_


def test_without_a_timeout_no_network_is_too_slow(brief, blobs):
    search = brief(extractor=template(max_steps=1), backbones=Slow(1e-4), algorithms="protonet")
    search.set_params(n_trials=BASELINES + 1).fit(*blobs)
    assert attribute.ERROR not in search.study_.trials[-1].user_attrs


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        (template(backbone=Faulty("memory"), algorithm="protonet"), "MemoryError"),
        (template(backbone="mlp", algorithm="diverging-in-search"), "finite loss"),
    ],
)
def test_memory_and_losses_that_are_not_finite_fail_a_trial(brief, blobs, extractor, message):
    search = brief(extractor=extractor, n_trials=BASELINES + 1).fit(*blobs)
    error = search.study_.trials[-1].user_attrs[attribute.ERROR]
    assert message in f"{error['type']} {error['message']}"


def test_if_every_trial_fails_one_error_groups_the_causes(brief, blobs, monkeypatch):
    monkeypatch.setattr("metafe.search.baselines.baselines", lambda space, data, encoder: {})
    search = brief(extractor=template(), backbones=[Faulty()], algorithms="protonet", n_trials=3)
    with pytest.raises(
        SearchError, match=r"3 failures: \(3 times\) backbone faulty-in-search: ZeroDivisionError"
    ) as caught:
        search.fit(*blobs)
    (note,) = caught.value.__notes__
    assert "in build" in note
    assert not hasattr(search, "study_")


def test_listeners_hear_of_each_trial(brief, blobs):
    heard = []

    class Listener:
        @hookimpl
        def metafe_trial_finished(self, trial):
            heard.append(trial.number)

    listener = Listener()
    registry().manager.register(listener)
    try:
        brief(n_trials=3).fit(*blobs)
    finally:
        registry().manager.unregister(listener)
    assert heard == [0, 1, 2]


def test_ctrl_c_keeps_the_best_so_far(brief, blobs, patient):
    patient.interrupt_at = 2
    search = brief(extractor=template(backbone="mlp", algorithm=patient.name), n_trials=30)
    with pytest.warns(TrainingInterruptedWarning, match=rf"after {BASELINES} trials"):
        search.fit(*blobs)
    assert search.transform(blobs[0]).shape[0] == len(blobs[0])
    assert len(search.cv_results_["trial"]) == BASELINES


def test_ctrl_c_ends_a_search_all_of_whose_trials_are_worse(brief, blobs, patient, monkeypatch):
    def prune(rules, judged):
        if rules.may_prune:
            raise optuna.TrialPruned

    monkeypatch.setattr("metafe.search.stops.StopRules.after_fold", prune)
    patient.interrupt_at = 2
    search = brief(extractor=template(backbone="mlp", algorithm=patient.name), n_trials=BASELINES + 4)
    with pytest.warns(TrainingInterruptedWarning, match=rf"after {BASELINES} trials"):
        search.fit(*blobs)


@pytest.mark.parametrize("where", ["training", "judging"])
def test_a_trial_that_ctrl_c_cuts_off_is_tried_again(brief, blobs, patient, tmp_path, monkeypatch, where):
    search = brief(extractor=template(backbone="mlp", algorithm=patient.name), storage=tmp_path / "study.log")
    search.set_params(n_trials=BASELINES + 1, pruner=None)
    if where == "training":
        patient.interrupt_at = 2
    else:
        judge = Objective._judge

        def interrupted(self, model, fold, run):
            if model.algorithm_.name == patient.name:
                signal.raise_signal(signal.SIGINT)
            return judge(self, model, fold, run)

        monkeypatch.setattr(Objective, "_judge", interrupted)
    with pytest.warns(TrainingInterruptedWarning):
        search.fit(*blobs)
    monkeypatch.undo()
    again = next(t for t in search.study_.trials if t.system_attrs.get("retry_history"))
    assert (search.study_.trials[again.system_attrs["failed_trial"]].state.name, again.state.name) == (
        "FAIL",
        "WAITING",
    )
    assert attribute.PARAMETERS not in again.user_attrs
    search.fit(*blobs)
    assert search.study_.trials[again.number].state.name == "COMPLETE"
    assert len(search.cv_results_["trial"]) == BASELINES + 1
    assert "fail" not in search.cv_results_["state"]


def test_ctrl_c_before_any_trial_is_done_is_one(brief, blobs, patient, monkeypatch):
    monkeypatch.setattr("metafe.search.objective.Objective.__call__", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        brief().fit(*blobs)


def test_no_trial_goes_on_when_time_is_up(brief, blobs, patient):
    patient.pause = 0.05
    extractor = template(backbone="mlp", algorithm=patient.name, max_steps=2000)
    search = brief(extractor=extractor, n_trials=1000, timeout=1.0)
    search.fit(*blobs)
    assert patient.steps < 200
    assert len(search.study_.get_trials(states=(optuna.trial.TrialState.RUNNING,))) == 0


def test_a_trial_that_the_end_of_the_time_cuts_off_is_tried_again(brief, blobs, patient, tmp_path, monkeypatch):
    search = brief(extractor=template(backbone="mlp", algorithm=patient.name), storage=tmp_path / "study.log")
    search.set_params(n_trials=BASELINES + 1, pruner=None)
    with monkeypatch.context() as patched:
        patched.setattr("metafe.search.stops.StopRules.time_is_up", property(lambda rules: patient.steps >= 2))
        assert len(search.fit(*blobs).cv_results_["trial"]) == BASELINES
    states = [t.state.name for t in search.study_.trials if attribute.BASELINE not in t.user_attrs]
    assert (states[0], states[-1]) == ("FAIL", "WAITING")
    assert "fail" not in search.fit(*blobs).cv_results_["state"]


def test_a_trial_that_is_all_there_is_counts_until_there_is_more(brief, blobs, patient, tmp_path, monkeypatch):
    monkeypatch.setattr("metafe.search.baselines.baselines", lambda space, data, encoder: {})
    patient.interrupt_at = 2
    search = brief(extractor=template(backbone="mlp", algorithm=patient.name), storage=tmp_path / "study.log")
    with pytest.warns(TrainingInterruptedWarning):
        first = search.fit(*blobs).cv_results_
    assert np.isnan(first["split2_test_score"]).tolist() == [True]
    search.set_params(n_trials=2, pruner=None).fit(*blobs)
    assert len(search.cv_results_["trial"]) == 2
    assert not np.isnan(search.cv_results_["split2_test_score"]).any()
    assert first["params"][0] in search.cv_results_["params"]


def test_time_for_not_even_one_trial_is_an_error(brief, blobs, monkeypatch):
    monkeypatch.setattr("metafe.search.workers.n_finished", lambda study: 10**9)
    with pytest.raises(SearchError, match="Raise timeout"):
        brief().fit(*blobs)


SCRIPT = """
import json, sys
import numpy as np
import metafe
rng = np.random.default_rng(0)
y = np.repeat(np.arange(8), 15)
X = rng.normal(scale=4.0, size=(8, 6))[y] + 3 * rng.normal(size=(len(y), 6))
template = metafe.MetaFeatureExtractor("mlp", tasks="classes", max_steps=3)
search = metafe.MetaFeatureSearchCV(template, algorithms=["protonet", "r2d2"], n_trials=13, random_state=5).fit(X, y)
print(json.dumps([[t.params, t.value, t.intermediate_values] for t in search.study_.trials]), search.verdict_)
"""


def test_another_process_finds_the_same_trials_and_winner():
    said = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert "mlp.width" in said.pop()
