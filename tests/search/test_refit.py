"""A training that may take some time and no longer."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

from metafe import MetaFeatureExtractor
from metafe.algorithms import ProtoNet
from metafe.search import attributes as attribute
from metafe.search import procedure, refit_plan
from metafe.search.folds import Folds
from metafe.search.judging import Judge
from metafe.search.objective import Objective
from metafe.search.procedure import Refit
from metafe.search.refit_plan import RefitPlan
from metafe.training import trainer
from metafe.training.validation import Validator

SETTINGS = {"backbone": "mlp", "algorithm": "protonet", "max_steps": 40, "patience": 100, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    """Eight classes of 30 rows."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 8
    return rng.normal(size=(8, 10))[y] + 0.3 * rng.normal(size=(240, 10)), y


@pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
@pytest.mark.parametrize("deadline", [None, time.time() + 1e9], ids=["none", "far away"])
def test_enough_time_changes_nothing(rows, deadline):
    plain = MetaFeatureExtractor(**SETTINGS).fit(*rows)
    refitted = Refit(**SETTINGS).until(deadline).fit(*rows)
    np.testing.assert_array_equal(refitted.transform(rows[0]), plain.transform(rows[0]))
    assert [row["step"] for row in refitted.history_] == [row["step"] for row in plain.history_]


@pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
def test_a_training_that_is_late_ends_after_a_step_with_a_validation(rows, monkeypatch):
    monkeypatch.setattr(procedure, "SHORTEST_REFIT", 1e-9)
    fitted = Refit(**SETTINGS).until(time.time() - 10).fit(*rows)
    assert [row["step"] for row in fitted.history_] == [0, 1]
    assert np.isfinite(fitted.transform(rows[0])).all()


@pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
@pytest.mark.parametrize(("seconds", "number", "first"), [(0.01, 21, 1.2), (1.0, 5, 5.2), (8.0, 2, 20.1)])
def test_slow_validations_are_few_where_time_is_limited(rows, monkeypatch, seconds, number, first):
    now = [0.0]

    def takes(seconds, function):
        def later(*args, **kwargs):
            now[0] += seconds
            return function(*args, **kwargs)

        return later

    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(Validator, "score", takes(seconds, Validator.score))
    monkeypatch.setattr(ProtoNet, "meta_loss", takes(0.1, ProtoNet.meta_loss))
    fitted = Refit(**SETTINGS | {"max_steps": 10_000}).until(time.time() + 20).fit(*rows)
    assert len(fitted.history_) == number
    # The first comes early, by which what learns nothing is ended; the last is of the last weights.
    assert fitted.history_[1]["seconds"] <= first
    assert fitted.history_[-1]["seconds"] >= 19


@pytest.mark.parametrize(
    ("fit", "whole", "wanted"), [(2.1, 5.0, 5.0), (2.1, 100.0, 12.0), (2.1, 2.1, 3.15), (1.0, 9.0, 1.5)]
)
def test_a_refit_is_left_the_time_that_it_needs_and_no_more_than_its_share(fit, whole, wanted):
    folds = Folds([(np.arange(80), np.arange(80, 120))] * 3, "three")
    objective = Objective(None, np.zeros(120), None, None, SimpleNamespace(folds=folds))
    objective.fold_seconds = 2.0
    assert objective.refit_seconds([finished(0.5, fit, whole)]) == pytest.approx(wanted)
    objective.refits = False
    assert objective.refit_seconds([finished(0.5, fit, whole)]) == 0


def finished(score, fit, whole, baseline=None):
    """Return a trial that is complete, with scores of 200 episodes."""
    kept = {
        attribute.FIT_SECONDS: [fit],
        attribute.WHOLE_FIT_SECONDS: [whole],
        attribute.EPISODE_SCORES: attribute.packed(np.linspace(score - 0.1, score + 0.1, 200)),
        attribute.SECONDS: 0.0,
    }
    named = {} if baseline is None else {attribute.BASELINE: baseline}
    return optuna.trial.create_trial(value=score, user_attrs=kept | named)


@pytest.mark.parametrize(("score", "wanted"), [(0.799, 12.0), (0.7, 12.0), (0.5, 1.5)])
def test_the_baseline_that_may_win_is_left_its_time_beside_a_quick_trial_that_seems_better(score, wanted):
    folds = Folds([(np.arange(80), np.arange(80, 120))] * 3, "three")
    objective = Objective(None, np.zeros(120), None, None, SimpleNamespace(folds=folds))
    objective.fold_seconds = 2.0
    trials = [finished(0.8, 1.0, 1.0), finished(0.6, 0.1, 0.1, "PCA"), finished(score, 2.1, 60.0, "supervised")]
    assert objective.refit_seconds(trials) == pytest.approx(wanted)


@pytest.fixture
def objective(monkeypatch):
    """An objective with three folds of 80 of 120 rows, whose trainings may take two seconds each."""
    folds = Folds([(np.arange(80), np.arange(80, 120))] * 3, "three")
    judge = object.__new__(Judge)
    judge.folds = folds
    made = Objective(None, np.zeros(120), None, MetaFeatureExtractor(), judge)
    monkeypatch.setattr(refit_plan, "time", SimpleNamespace(time=lambda: 100.0))
    made.deadline, made.fold_seconds = 130.0, 2.0
    return made


@pytest.mark.parametrize(("fit", "wanted"), [(0.5, 3.0), (0.9, 5.4), (1.5, 6.0), (2.1, 12.0)])
def test_several_networks_are_left_the_time_that_they_need_and_no_more_than_their_share(objective, fit, wanted):
    assert objective.refit_seconds([finished(0.5, fit, 100.0)]) == pytest.approx(wanted)


def test_networks_that_see_rows_in_two_ways_are_trained_two_at_a_time(objective):
    both = finished(0.5, 1.0, 1.0)
    both.set_user_attr(attribute.PARAMETERS, '{"inputs": "both"}')
    assert objective.refit_seconds([both]) == pytest.approx(3.0)
    for left, n_networks in ((3.1, 4), (2.9, 3), (1.0, 2)):
        objective.deadline = 100.0 + left
        assert RefitPlan(objective)._networks(both) == {"n_networks": n_networks}


def test_what_is_taken_out_of_the_box_is_left_its_time_though_others_score_better(objective):
    slow = finished(0.4, 1.5, 1.5)
    others = [finished(0.9, 0.1, 0.1) for _ in range(4)]
    assert objective.refit_seconds([*others, slow]) < 1
    slow.set_user_attr(attribute.OUT_OF_THE_BOX, True)
    assert objective.refit_seconds([*others, slow]) == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("left", "n_networks"), [(1e9, 4), (6.0, 4), (5.9, 3), (3.1, 2), (1.6, 1), (1.0, 1), (-5.0, 1)]
)
def test_as_many_networks_are_fitted_as_there_is_time_for(objective, left, n_networks):
    objective.deadline = 100.0 + left
    assert RefitPlan(objective)._networks(finished(0.5, 1.0, 1.0)) == {"n_networks": n_networks}
    objective.deadline = None
    assert RefitPlan(objective)._networks(finished(0.5, 1.0, 1.0)) == {"n_networks": 4}


@pytest.mark.parametrize(
    "change",
    [
        {"objectives": ("score", "latency")},
        {"template": MetaFeatureExtractor(n_networks=2)},
        {"judge": SimpleNamespace(folds=[None] * 3)},
    ],
    ids=["size counts", "the user has said how many", "a scorer judges"],
)
def test_a_winner_is_one_network_where_several_are_something_else(objective, change):
    for name, value in change.items():
        setattr(objective, name, value)
    assert RefitPlan(objective)._networks(finished(0.5, 1.0, 1.0)) == {}


def test_a_large_network_is_one(objective):
    winner = finished(0.5, 1.0, 1.0)
    winner.set_user_attr("n_parameters", 2e7 + 1)
    assert RefitPlan(objective)._networks(winner) == {}
