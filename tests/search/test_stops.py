"""When a trial ends between its folds."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

from metafe.search import attributes as attribute
from metafe.search.judging import Judged
from metafe.search.stops import StopRules

N_FOLDS, N_EPISODES = 6, 50
NETWORK = {attribute.PARAMETERS: json.dumps({"backbone": "mlp", "algorithm": "protonet", "tasks": "classes"})}


def finished_as(judged, n_folds=N_FOLDS):
    """Return a finished network with its scores."""
    scores = {attribute.EPISODE_SCORES: judged.scores, attribute.CLASS_SCORES: judged.class_scores}
    kept = NETWORK | {attribute.FOLD_SCORES: [judged.mean] * n_folds}
    kept |= {name: attribute.packed(values) for name, values in scores.items()}
    return optuna.trial.create_trial(value=judged.mean, user_attrs=kept)


def fold_of(mean, seed, n_classes=2):
    """Return what some features score on a fold, around a mean."""
    rng = np.random.default_rng(seed)
    return Judged(mean + 0.01 * rng.normal(size=N_EPISODES), mean + 0.01 * rng.normal(size=n_classes))


@pytest.fixture
def study():
    """A study with a finished network that scores 0.9 on every fold."""
    found = optuna.create_study(direction="maximize")
    found.add_trial(finished_as(Judged.joined([fold_of(0.9, fold) for fold in range(N_FOLDS)])))
    return found


@pytest.fixture
def rules(study):
    """The rules of a second network."""
    trial = study.ask()
    trial.set_user_attr(attribute.PARAMETERS, NETWORK[attribute.PARAMETERS])
    judge = SimpleNamespace(folds=range(N_FOLDS))
    return StopRules(SimpleNamespace(prunes=True, deadline=None, judge=judge), trial)


@pytest.mark.parametrize(
    ("means", "ends"),
    [
        # Two classes that are worse by less than classes differ say little of the others.
        ([0.87], False),
        ([0.87, 0.89], False),
        ([0.87, 0.87, 0.87], True),
        ([0.7], True),
        ([0.95, 0.95, 0.95], False),
        ([0.87, 0.87, 0.97], False),
        # The last fold is over, and so is the trial.
        ([0.7] * N_FOLDS, False),
    ],
)
def test_a_trial_ends_after_a_fold_where_others_would_not_make_good_for_it(rules, means, ends):
    judged = [fold_of(mean, 10 + fold) for fold, mean in enumerate(means)]
    if ends:
        with pytest.raises(optuna.TrialPruned, match=f"worse than trial 0 on {len(means)} of the folds"):
            rules.after_fold(judged)
    else:
        rules.after_fold(judged)


def compare_with(rules, study, *trials):
    """Let rules know of further trials."""
    study.add_trials(trials)
    rules.finished = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))


def test_many_classes_tell_after_a_fold_what_two_do_not(rules, study):
    many = Judged(*(np.tile(values, 20) for values in (fold_of(0.95, 0).scores, fold_of(0.95, 0).class_scores)))
    compare_with(rules, study, finished_as(many))
    with pytest.raises(optuna.TrialPruned, match="worse than trial 2 on 1 of the folds"):
        rules.after_fold([Judged(many.scores - 0.03, many.class_scores - 0.03)])


def test_what_was_cut_short_is_compared_on_no_more_folds_than_it_has(rules, study):
    compare_with(rules, study, finished_as(fold_of(0.99, 0), n_folds=1))
    rules.after_fold([fold_of(0.93, fold) for fold in range(3)])


def test_the_first_fold_alone_is_reported(rules, study):
    for n_judged in (1, 2):
        rules.after_fold([fold_of(0.95, fold) for fold in range(n_judged)])
    assert list(study.trials[1].intermediate_values.values()) == [pytest.approx(0.95, abs=0.01)]
