"""The best are judged again before one of them is named the winner."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

from metafe import MetaFeatureExtractor
from metafe.search import attributes as attribute
from metafe.search import finalists
from metafe.search.finalists import choose_finalists, judge_finalists
from metafe.search.judging import Judge, Judged
from metafe.search.objective import Objective
from metafe.search.standings import parameters_of
from metafe.training.trust import Learned
from metafe.training.validation import Validator

N_EPISODES, N_CLASSES = 200, 8


def trial(number, score, baseline=None, backbone="mlp", spread=0.1, algorithm="protonet"):
    """Return a finished trial."""
    scores = score + spread * np.random.default_rng(number).normal(size=N_EPISODES)
    parameters = {"backbone": backbone, "algorithm": algorithm, "tasks": "classes", "number": number}
    attributes = {
        attribute.PARAMETERS: json.dumps(parameters),
        attribute.EPISODE_SCORES: attribute.packed(scores),
        **({} if baseline is None else {attribute.BASELINE: baseline}),
    }
    finished = optuna.trial.create_trial(value=score, user_attrs=attributes)
    finished.number = number
    return finished


@pytest.fixture
def objective():
    """What the finals need to know of an objective."""
    space = SimpleNamespace(to_json=lambda parameters: parameters)
    return SimpleNamespace(
        objectives=("score",),
        space=space,
        judge=None,
        parameters_of=lambda t: json.loads(t.user_attrs[attribute.PARAMETERS]),
    )


@pytest.fixture
def judged_as(monkeypatch):
    """A function that sets the fresh scores of trials: a mean over episodes, and gains by class."""

    def set_scores(fresh, by_class=None):
        noise = np.random.default_rng(0).normal(size=N_EPISODES)
        by_class = by_class or {}

        def judge(trial):
            mean = fresh[trial.number]
            classes = mean + np.asarray(by_class.get(trial.number, np.zeros(N_CLASSES)))
            return Judged(mean + 0.1 * noise + 0.01 * trial.number * np.cos(np.arange(N_EPISODES)), classes)

        monkeypatch.setattr(finalists, "_judged_afresh", judge)

    return set_scores


def test_what_is_surely_better_wins(objective, judged_as):
    judged_as({0: 0.5, 1: 0.6, 2: 0.7}, {2: [0.01, -0.01] * 4})
    finals = judge_finalists([trial(0, 0.5, "PCA"), trial(1, 0.6, "LDA"), trial(2, 0.7)], objective)
    assert finals.winner.trial == 2
    assert finals.winner.gain == pytest.approx(0.1, abs=0.01)
    assert "mlp with protonet on classes (trial 2): 0.7" in finals.verdict
    assert "over the best baseline, LDA." in finals.verdict


def test_the_best_of_many_noisy_scores_does_not(objective, judged_as):
    judged_as({0: 0.6, 1: 0.6})
    finals = judge_finalists([trial(0, 0.6, "LDA"), trial(1, 0.9)], objective)
    assert finals.winner.name == "LDA"
    assert "nothing was surely better" in finals.verdict


def test_a_gain_on_some_classes_alone_is_not_sure(objective, judged_as):
    judged_as({0: 0.6, 1: 0.7}, {1: [-0.5, 0.5] * 4})
    finals = judge_finalists([trial(0, 0.6, "LDA"), trial(1, 0.7)], objective)
    assert finals.winner.name == "LDA"
    (other,) = [row for row in finals.finalists if row.trial == 1]
    assert other.class_low < 0 < other.low, "Classes decide."
    assert f"to {other.high:+.3f} over tasks; at least {other.class_low:+.3f} over classes)." in finals.verdict


def test_what_trains_nothing_has_to_be_better_by_one_error_over_classes(objective, judged_as):
    trials = [trial(0, 0.6, "PCA"), trial(1, 0.62, algorithm="untrained"), trial(2, 0.62)]
    winners = []
    for spread in (0.01, 0.05, 0.5):
        judged_as({0: 0.6, 1: 0.62, 2: 0.61}, {number: [-spread, spread] * 4 for number in (1, 2)})
        winners.append(judge_finalists(trials, objective).winner.trial)
    # As 0.02 is to the moderated spread of eight classes, a gain within one error of nothing.
    assert winners[0] == 1
    assert winners[-1] == 0


def test_a_gain_on_all_classes_is_preferred_to_a_larger_one_on_some(objective, judged_as):
    judged_as({0: 0.5, 1: 0.7, 2: 0.72}, {1: [0.01, -0.01] * 4, 2: [0.3, -0.3] * 4})
    trials = [trial(0, 0.5, "PCA"), trial(1, 0.7, algorithm="untrained"), trial(2, 0.7, algorithm="untrained")]
    finals = judge_finalists(trials, objective)
    assert [row.trial for row in finals.finalists if row.surely_better] == [2, 1], "Both may win."
    assert finals.winner.trial == 1


@pytest.mark.parametrize(("spread", "winner"), [(0.05, None), (0.2, "all"), (0.5, "none wins")])
def test_the_rows_stand_beside_a_network_that_few_classes_speak_for(objective, judged_as, spread, winner):
    judged_as({0: 0.6, 1: 0.7}, {1: [-spread, spread] * 4})
    beside = trial(1, 0.7)
    beside.user_attrs |= {
        attribute.BESIDE: {
            "all": {
                "scores": attribute.packed(np.full(N_EPISODES, 0.68) + 0.001 * np.arange(N_EPISODES) % 0.01),
                "class_scores": attribute.packed(0.68 + spread * np.array([-1.0, 1.0] * 4)),
            }
        }
    }
    finals = judge_finalists([trial(0, 0.6, "LDA"), beside], objective)
    if winner == "none wins":
        assert finals.winner.name == "LDA"
    else:
        assert (finals.winner.trial, finals.winner.concat_input) == (1, winner)
        assert finals.winner.name == "mlp with protonet on classes" + (", beside the rows" if winner else "")


def test_what_wins_is_judged_against_the_baseline_that_is_best_afresh(objective, judged_as):
    judged_as({0: 0.5, 1: 0.8, 2: 0.7})
    finals = judge_finalists([trial(0, 0.75, "PCA"), trial(1, 0.6, "LDA"), trial(2, 0.7)], objective)
    assert finals.winner.name == "LDA"
    assert [row.trial for row in finals.finalists] == [1, 2, 0]


@pytest.mark.parametrize("name", ["supervised", "LDA"])
@pytest.mark.parametrize(("by_class", "learns"), [([0.9, -0.9], True), ([0.1, -0.5], False)])
def test_a_baseline_that_learns_must_be_better_than_those_that_do_not_by_its_mean_over_classes(
    objective, judged_as, name, by_class, learns
):
    judged_as({0: 0.6, 1: 0.7}, {1: by_class * 4})
    finals = judge_finalists([trial(0, 0.6, "PCA"), trial(1, 0.7, name)], objective)
    winner = name if learns else "PCA"
    assert finals.winner.name == winner
    assert finals.verdict.startswith(f"{winner} (baseline): 0.")


def test_it_is_said_that_all_others_were_pruned(objective, judged_as):
    judged_as({0: 0.6})
    pruned = trial(1, 0.5)
    pruned.state = optuna.trial.TrialState.PRUNED
    assert judge_finalists([trial(0, 0.6, "PCA")], objective).verdict.endswith("no other trial was finished.")
    finals = judge_finalists([trial(0, 0.6, "PCA"), pruned, pruned], objective)
    assert finals.verdict.endswith("no other trial was finished (2 pruned).")


def test_it_is_said_why_others_failed(objective, judged_as):
    judged_as({0: 0.6})
    failed = trial(1, 0.5)
    failed.state = optuna.trial.TrialState.FAIL
    kept = {"plugin": "backbone mine", "type": "ValueError", "message": "no\n width.", "traceback": ""}
    failed.user_attrs[attribute.ERROR] = kept
    verdict = judge_finalists([trial(0, 0.6, "PCA"), failed], objective).verdict
    assert verdict.endswith("finished (1 failed). 1 failed by backbone mine: ValueError: no width.")
    other = trial(2, 0.5)
    other.state = optuna.trial.TrialState.FAIL
    other.user_attrs[attribute.ERROR] = kept | {"plugin": "backbone other"}
    verdict = judge_finalists([trial(0, 0.6, "PCA"), failed, failed, other], objective).verdict
    assert verdict.endswith(
        "finished (3 failed). The most frequent cause of 2, 2 ×: backbone mine: ValueError: no width."
    )


def test_without_baselines_the_best_wins(objective, judged_as):
    judged_as({0: 0.5, 1: 0.6})
    finals = judge_finalists([trial(0, 0.6), trial(1, 0.6)], objective)
    assert finals.winner.trial == 1
    assert "no baseline" in finals.verdict


def test_finalists_are_those_whose_interval_overlaps_the_best(objective):
    trials = [trial(0, 0.5, "PCA"), trial(1, 0.3), trial(2, 0.80), trial(3, 0.81), trial(4, 0.805), trial(5, 0.795)]
    untrained = [trial(6, 0.9, algorithm="untrained"), trial(7, 0.7, algorithm="untrained")]
    learned, label_free, labelled = choose_finalists(trials + untrained, objective)
    assert [t.number for t in learned] == [3, 4, 2, 6]
    assert [t.number for t in label_free] == [0]
    assert not labelled


def test_baselines_that_learn_from_labels_are_finalists(objective):
    names = ["standardised rows", "LDA", "PCA", "NCA", "supervised"]
    trials = [trial(i, 0.5 + i / 100, name) for i, name in enumerate(names)]
    _, label_free, labelled = choose_finalists(trials, objective)
    assert [t.number for t in label_free] == [2, 0]
    assert [t.number for t in labelled] == [4, 3, 1]


def test_what_no_label_has_a_part_in_is_chosen_by_all_classes(objective, judged_as):
    judged_as({0: 0.7, 1: 0.6})
    objective.judge = object.__new__(Judge)
    objective.score_on_all = lambda parameters: parameters["number"]
    finals = judge_finalists([trial(0, 0.7, "standardised rows"), trial(1, 0.6, "rows on one scale")], objective)
    assert finals.winner.name == "rows on one scale"
    assert [row.trial for row in finals.finalists] == [1]


def test_what_was_cut_short_is_not_compared(objective, judged_as):
    judged_as({0: 0.6, 1: 0.9})
    whole, short = trial(0, 0.6, "PCA"), trial(1, 0.9)
    whole.user_attrs[attribute.FOLD_SCORES], short.user_attrs[attribute.FOLD_SCORES] = [0.6, 0.6, 0.6], [0.9]
    assert [row.trial for row in judge_finalists([whole, short], objective).finalists] == [0]


def test_what_is_judged_by_all_classes_is_fitted_once(brief, blobs, monkeypatch):
    fitted = []
    fit = Objective._fit

    def counting(self, parameters, data, *watching):
        fitted.extend([parameters] if len(data) == len(blobs[0]) else [])
        return fit(self, parameters, data, *watching)

    monkeypatch.setattr(Objective, "_fit", counting)
    # The seventh baseline is a network, which may have the rows beside it, however those are standardised best.
    brief(n_trials=7).fit(*blobs)
    assert len(fitted) == 4


def test_episodes_over_all_classes_are_drawn_once(brief, blobs, monkeypatch):
    drawn = []

    class Counting(Validator):
        def __init__(self, source, data, n_tasks, *others):
            super().__init__(source, data, n_tasks, *others)
            drawn.append(len(np.unique(data.y[data.rows])))

    monkeypatch.setattr("metafe.search.judging.Validator", Counting)
    brief(n_trials=3).fit(*blobs)
    assert drawn.count(8) == 1


@pytest.mark.parametrize(("gain_of_other", "winner"), [(0.0, 1), (0.2, 2)])
def test_what_is_taken_out_of_the_box_wins_by_its_mean_and_others_have_to_beat_it(
    objective, judged_as, gain_of_other, winner
):
    def noisy(mean):
        return attribute.packed(np.full(N_EPISODES, mean) + 0.001 * (np.arange(N_EPISODES) % 2))

    judged_as({0: 0.6, 1: 0.5, 2: 0.65 + gain_of_other}, {2: [-0.01, 0.01] * 4})
    first = trial(1, 0.5)
    spread = 0.62 + 0.3 * np.array([-1.0, 1.0] * 4)
    first.user_attrs |= {
        attribute.OUT_OF_THE_BOX: True,
        attribute.BESIDE: {"discriminants": {"scores": noisy(0.62), "class_scores": attribute.packed(spread)}},
    }
    finals = judge_finalists([trial(0, 0.6, "LDA"), first, trial(2, 0.7)], objective)
    assert finals.winner.trial == winner


def test_of_what_is_taken_out_of_the_box_the_largest_mean_wins_and_what_is_drawn_has_to_beat_it(objective, judged_as):
    judged_as({0: 0.6, 1: 0.62, 2: 0.65, 3: 0.651}, {2: [-0.5, 0.5] * 4})
    trials = [trial(0, 0.6, "PCA"), *(trial(number, 0.6, algorithm="untrained") for number in (1, 2, 3))]
    for named_before in trials[1:3]:
        named_before.user_attrs[attribute.OUT_OF_THE_BOX] = True
    assert judge_finalists(trials, objective).winner.trial == 2
    judged_as({0: 0.6, 1: 0.62, 2: 0.65, 3: 0.75}, {2: [-0.05, 0.05] * 4})
    assert judge_finalists(trials, objective).winner.trial == 3


def test_discriminants_and_the_first_recipe_are_named_before_any_class_is_looked_at(brief, blobs):
    trials = brief(n_trials=12, extractor=MetaFeatureExtractor(max_steps=2)).fit(*blobs).study_.trials
    named = [parameters_of(t) for t in trials if attribute.OUT_OF_THE_BOX in t.user_attrs]
    assert [(p["backbone"], p["algorithm"]) for p in named] == [("plda", "untrained")] * 2 + [("mlp", "protonet")]
    # What others have to beat is judged on all folds.
    assert {t.state.name for t in trials if attribute.OUT_OF_THE_BOX in t.user_attrs} == {"COMPLETE"}


@pytest.mark.parametrize(("n_classes", "is_enough"), [(8, True), (6, False)])
def test_the_mean_of_a_handful_of_classes_is_not_trusted(n_classes, is_enough):
    gains = np.array([0.4, -0.2] * (n_classes // 2))
    assert (Learned.OUT_OF_THE_BOX.least_gain(gains) > 0) == is_enough
    assert Learned.OUT_OF_THE_BOX.least_gain(np.full(n_classes, 0.1)) > 0


@pytest.mark.parametrize(
    ("n_classes", "how", "wins"), [(8, "discriminants", True), (6, "discriminants", False), (6, "feature", True)]
)
def test_of_few_classes_a_network_beside_discriminants_has_to_be_surely_better(
    objective, judged_as, n_classes, how, wins
):
    gains = np.array([0.24, -0.06] * (n_classes // 2))
    judged_as({0: 0.6, 1: 0.5}, {0: np.zeros(n_classes), 1: np.zeros(n_classes)})
    network = trial(1, 0.5)
    network.user_attrs[attribute.BESIDE] = {
        how: {
            "scores": attribute.packed(np.full(N_EPISODES, 0.69) + 0.001 * (np.arange(N_EPISODES) % 2)),
            "class_scores": attribute.packed(0.6 + gains),
        }
    }
    assert (judge_finalists([trial(0, 0.6, "PCA"), network], objective).winner.trial == 1) == wins


def test_the_same_parameters_are_judged_once(objective):
    first, again = trial(1, 0.8), trial(2, 0.8)
    again.user_attrs[attribute.PARAMETERS] = first.user_attrs[attribute.PARAMETERS]
    assert len(choose_finalists([first, again], objective)[0]) == 1
