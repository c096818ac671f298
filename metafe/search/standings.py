"""How the trials of a study compare, from what each keeps of itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from metafe.search import attributes as attribute
from metafe.search.options import trains
from metafe.search.reclaiming import lasting
from metafe.training.probe import Comparison, compare, mean_interval

# What becomes of a trial, in words, beside the states that Optuna has.
TOO_SLOW = "too slow for the timeout"
# How many of the best searched trials may be judged again in the end, of networks and of what trains nothing.
N_LEARNED = 3


@dataclass(frozen=True)
class Standing:
    """A complete trial and how it compares with the best baseline.

    Parameters
    ----------
    trial : FrozenTrial
    label : str
        What it is, in words.
    score, interval : float
        Mean over the episodes of the search, and half the width of its 95 % interval; infinite for fewer than two.
    gain : Comparison or None
        Over the best baseline, paired; None where there is none, or for itself.
    """

    trial: FrozenTrial
    label: str
    score: float
    interval: float
    gain: Comparison | None

    @property
    def is_baseline(self) -> bool:
        """Whether it is what a user would have done by hand."""
        return attribute.is_baseline(self.trial.user_attrs)


def objectives_of(study: Study) -> list[str]:
    """Return the names of the objectives of a study."""
    named = study.metric_names
    return list(named) if named else [attribute.SCORE, *(f"objective {i}" for i in range(1, len(study.directions)))]


def score_of(study: Study, trial: FrozenTrial) -> float:
    """Return the score of a complete trial, whatever else is optimised."""
    return attribute.score_of(trial, objectives_of(study))


def best_trial(study: Study, trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """Return the complete trial with the best score, the first of several; None where none is complete."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return max(complete, key=lambda trial: score_of(study, trial), default=None)


def standings(study: Study, trials: Sequence[FrozenTrial]) -> list[Standing]:
    """Compare the complete trials with the best baseline, on the episodes that all were judged on.

    Parameters
    ----------
    study : optuna.study.Study
    trials : sequence of FrozenTrial

    Returns
    -------
    list of Standing
        The best score first.
    """
    complete = [trial for trial in lasting(trials) if trial.state == TrialState.COMPLETE]
    best_baseline = best_trial(study, [t for t in complete if attribute.is_baseline(t.user_attrs)])
    rows = [
        Standing(trial, label_of(trial), score_of(study, trial), _interval(trial), gain_over(trial, best_baseline))
        for trial in complete
    ]
    return sorted(rows, key=lambda row: row.score, reverse=True)


def gain_over(trial: FrozenTrial, other: FrozenTrial | None) -> Comparison | None:
    """Compare two trials on the episodes of the search; None where they have not been judged on the same ones."""
    if other is None or trial.number == other.number:
        return None
    scores, others = (_episode_scores(t) for t in (trial, other))
    return compare(scores, others) if len(scores) and len(scores) == len(others) else None


def label_of(trial: FrozenTrial) -> str:
    """Return what a trial is, in words: the name of the baseline, or its plugins.

    Parameters
    ----------
    trial : FrozenTrial
    """
    if attribute.is_baseline(trial.user_attrs):
        return str(trial.user_attrs[attribute.BASELINE])
    parameters = parameters_of(trial)
    if "backbone" not in parameters:
        return f"trial {trial.number}"
    names = {kind: str(value).removeprefix("object ") for kind, value in parameters.items()}
    learned = f" with {names['algorithm']} on {names['tasks']}" if trains(names) else ""
    return f"{names['backbone']}{learned}"


def settings_of(trial: FrozenTrial) -> str:
    """Return the settings of a trial beside the names of its plugins, numbers to three digits.

    Parameters
    ----------
    trial : FrozenTrial
    """
    parameters = parameters_of(trial)
    named = ("backbone", "algorithm", "tasks", "validation_fraction")
    settings = {name: value for name, value in parameters.items() if name not in named}
    return ", ".join(f"{_owned(name, parameters)} {_value(value)}" for name, value in settings.items())


def parameters_of(trial: FrozenTrial | Trial) -> dict[str, Any]:
    """Return the extractor's parameters of a trial as JSON types; empty where it has not begun."""
    return dict(json.loads(trial.user_attrs.get(attribute.PARAMETERS, "{}")))


def count_outcomes(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Count the trials by what has become of them; those that are tried again were cut off, whatever their state."""
    counting = lasting(trials)
    counts = Counter(trial.state for trial in counting if not attribute.is_too_slow(trial.user_attrs))
    named = {state.name.lower(): counts[state] for state in TrialState if state != TrialState.FAIL}
    failed, cut_off = counts[TrialState.FAIL], len(trials) - len(counting)
    return named | {"failed": failed, TOO_SLOW: len(counting) - counts.total(), "cut off": cut_off}


def failures(trials: Sequence[FrozenTrial]) -> list[tuple[int, dict[str, str]]]:
    """Return the causes of trials that failed or were too slow, with how often each occurred, the most frequent first."""
    errors = [
        trial.user_attrs.get(attribute.ERROR)
        for trial in lasting(trials)
        if trial.state == TrialState.FAIL or attribute.is_too_slow(trial.user_attrs)
    ]
    known = [error or {"plugin": "", "type": "unknown", "message": "", "traceback": ""} for error in errors]
    by_cause = {(e["plugin"], e["type"], e["message"]): e for e in reversed(known)}
    counts = Counter((e["plugin"], e["type"], e["message"]) for e in known)
    return [(n, by_cause[cause]) for cause, n in counts.most_common()]


def bounds(trial: FrozenTrial) -> tuple[float, float]:
    """Return the 95 % interval of a trial's score over episodes."""
    mean, half = mean_interval(attribute.unpacked(trial.user_attrs[attribute.EPISODE_SCORES]))
    return mean - half, mean + half


def contenders(by_score: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return those whose interval overlaps that of the best of their kind, three at most of each, and what others have to beat.

    Networks and what trains nothing are two kinds: the latter has its score from all training rows of a fold, networks are yet
    to be trained on those that they held out.

    Parameters
    ----------
    by_score : sequence of FrozenTrial
        Complete ones, the best first.
    """
    found: list[FrozenTrial] = []
    for is_network in (True, False):
        of_kind = [t for t in by_score if trains(parameters_of(t)) == is_network]
        low = bounds(of_kind[0])[0] if of_kind else 0.0
        # Every trial asks, and an interval takes its time.
        found += islice((t for t in of_kind if bounds(t)[1] >= low), N_LEARNED)
    return found + [t for t in by_score if attribute.OUT_OF_THE_BOX in t.user_attrs and t not in found]


def _interval(trial: FrozenTrial) -> float:
    scores = _episode_scores(trial)
    return mean_interval(scores)[1] if len(scores) else float("inf")


def _episode_scores(trial: FrozenTrial) -> Any:
    return attribute.unpacked(trial.user_attrs.get(attribute.EPISODE_SCORES, ""))


def _owned(name: str, parameters: Mapping[str, Any]) -> str:
    """Return a parameter's name as Optuna knows it: ``mlp.width`` for ``backbone__width``."""
    kind, separator, own = name.partition("__")
    return f"{str(parameters[kind]).removeprefix('object ')}.{own}" if separator and kind in parameters else name


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
