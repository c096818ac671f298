"""Judging the best again: the best of many noisy scores is not the best model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from metafe.search import attributes as attribute
from metafe.search.baselines import is_label_free
from metafe.search.judging import Judge, Judged
from metafe.search.objective import Objective
from metafe.search.options import trains
from metafe.search.standings import TOO_SLOW, contenders, count_outcomes, failures, parameters_of
from metafe.training.input_beside import Beside
from metafe.training.probe import (
    compare,
    differences,
    mean_interval,
)
from metafe.training.trust import Learned, probable_gain


@dataclass(frozen=True)
class Finalist:
    """A trial that was judged again on fresh episodes of all folds.

    Parameters
    ----------
    trial : int
        Number of the trial.
    name : str
        What it is, in words.
    is_baseline : bool
    concat_input : {"feature", "all", "discriminants"} or None
        How the rows are standardised that stand beside what the trial has learned; None where it is judged alone.
    score, interval : float
        Mean over fresh episodes, and half the width of its 95 % interval.
    gain, low, high : float
        Paired gain over the best baseline, with its 95 % interval; NaN where there is none.
    class_gain : float
        What the gain probably is at least, with held-out classes as the unit: the mean less one standard error. By this the
        winner is chosen, since what differs much between classes may mislead on the next. Of what was named before any class was
        looked at, it is ``class_low``. Infinite where there are no classes.
    class_low : float
        What of it must be above zero, see `metafe.training.trust.Learned`: the same, but the lower bound of 95 % for a network,
        which was found among many by these classes; with the rows beside it half of the features cannot mislead. Of what was
        named before, it is the mean of eight classes or more. Of fewer, what is learned throughout has to pass 95 %.
    """

    trial: int
    name: str
    is_baseline: bool
    score: float
    interval: float
    gain: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    class_gain: float = float("inf")
    class_low: float = float("inf")
    concat_input: Beside | None = None

    @property
    def surely_better(self) -> bool:
        """Whether it beats the best baseline surely over episodes, and over classes too."""
        return min(self.low, self.class_low) > 0


@dataclass(frozen=True)
class Finals:
    """The finalists, the winner and the verdict in a sentence.

    Parameters
    ----------
    finalists : tuple of Finalist
        By their score, best first.
    winner : Finalist
    verdict : str
    """

    finalists: tuple[Finalist, ...]
    winner: Finalist
    verdict: str


def judge_finalists(trials: Sequence[FrozenTrial], objective: Objective) -> Finals:
    """Judge the best learned trials and the best baselines again, paired, and name the winner.

    Parameters
    ----------
    trials : sequence of FrozenTrial
        All of the study, of which at least one is complete.
    objective : Objective

    Returns
    -------
    Finals
        A trial may win, alone or with the rows beside its features, if its gain over the best baseline is surely above zero over
        episodes, and over held-out classes (`Finalist.class_low`). Of those that may, the one does whose gain over classes is
        at least the most (`Finalist.class_gain`); without any, the best baseline. Where what is taken out of the box may win, by its
        mean over classes, the others have to be surely better than the best of it too. Of the baselines that no label has a part
        in, the best is that on episodes over all classes. One that learns from labels is the best baseline where it is surely
        better than that over episodes, and by its mean over classes.
    """
    complete = _judged_alike([t for t in trials if t.state == TrialState.COMPLETE])
    learned, label_free, labelled = choose_finalists(complete, objective)
    baselines = _best_label_free(label_free, objective) + labelled
    judged = {trial.number: _judged_afresh(trial) for trial in [*learned, *baselines]}
    best_baseline = _best_baseline(baselines, judged)
    reference = None if best_baseline is None else judged[best_baseline.number]
    rows = [_finalist(trial, judged[trial.number], reference, objective) for trial in [*learned, *baselines]]
    rows += [
        _finalist(trial, beside, reference, objective, how)
        for trial in [*learned, *baselines]
        for how, beside in _judged_beside(trial).items()
    ]
    rows.sort(key=lambda row: row.score, reverse=True)
    candidates = [row for row in rows if not row.is_baseline and (reference is None or row.surely_better)]
    if reference is not None:
        candidates = _better_than_out_of_the_box(candidates, [*learned, *baselines], objective)
    by_hand = next(
        (row for row in rows if best_baseline and row.is_baseline and row.trial == best_baseline.number), None
    )
    winner = max(candidates, key=_merit) if candidates else by_hand
    assert winner is not None, "without a baseline to beat, every finalist is a candidate"
    return Finals(tuple(rows), winner, _verdict(rows, winner, by_hand, trials))


def _better_than_out_of_the_box(
    candidates: list[Finalist], trials: Sequence[FrozenTrial], objective: Objective
) -> list[Finalist]:
    """Return those that are surely better than the best of what is taken out of the box, where that may win; else this alone."""
    by_number = {trial.number: trial for trial in trials}
    named_before = [row for row in candidates if _is_out_of_the_box(by_number[row.trial], row.concat_input)]
    if not named_before:
        return candidates
    first = max(named_before, key=_merit)
    reference = _judged_row(by_number[first.trial], first.concat_input)

    def compared(row: Finalist) -> Finalist:
        trial = by_number[row.trial]
        return _finalist(trial, _judged_row(trial, row.concat_input), reference, objective, row.concat_input)

    others = [row for row in candidates if row not in named_before and compared(row).surely_better]
    return others or [first]


def _merit(row: Finalist) -> tuple[float, float]:
    return row.class_gain, row.score


def _is_out_of_the_box(trial: FrozenTrial, concat_input: Beside | None) -> bool:
    """Tell whether a row was named before: of networks, those beside discriminants; what trains nothing, as it is."""
    named = attribute.OUT_OF_THE_BOX in trial.user_attrs
    return named and (concat_input == "discriminants" or not trains(parameters_of(trial)))


def _judged_alike(complete: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials with the most folds; the end of the search may have cut others short."""
    n_folds = [len(t.user_attrs.get(attribute.FOLD_SCORES, [])) for t in complete]
    return [t for t, n in zip(complete, n_folds, strict=True) if n == max(n_folds)]


def _best_label_free(trials: Sequence[FrozenTrial], objective: Objective) -> list[FrozenTrial]:
    """Return the best of the baselines that no label has a part in, or none where there is none."""
    if len(trials) < 2 or not isinstance(objective.judge, Judge):
        return list(trials[:1])
    return [max(trials, key=lambda trial: objective.score_on_all(objective.parameters_of(trial)))]


def _best_baseline(baselines: Sequence[FrozenTrial], judged: Mapping[int, Judged]) -> FrozenTrial | None:
    """Return the best baseline; one that learns from labels only where it is better than what does not."""
    by_score = sorted(baselines, key=lambda t: judged[t.number].mean, reverse=True)
    plain = next((t for t in by_score if is_label_free(t)), None)
    if plain is None:
        return next(iter(by_score), None)

    def is_better(trial: FrozenTrial) -> bool:
        own, other = judged[trial.number], judged[plain.number]
        over_classes = _over_classes(own, other, Learned.OUT_OF_THE_BOX.least_gain)
        return min(compare(own.scores, other.scores).low, over_classes) > 0

    return next((t for t in by_score if t is not plain and is_better(t)), plain)


def choose_finalists(
    complete: Sequence[FrozenTrial], objective: Objective
) -> tuple[list[FrozenTrial], list[FrozenTrial], list[FrozenTrial]]:
    """Return those that may win, the best first.

    Parameters
    ----------
    complete : sequence of FrozenTrial
    objective : Objective

    Returns
    -------
    learned : list of FrozenTrial
        Networks and what trains nothing (`contenders`).
    label_free : list of FrozenTrial
        All baselines that no label has a part in.
    labelled : list of FrozenTrial
        The other baselines.
    """
    by_score = sorted(complete, key=lambda t: attribute.score_of(t, objective.objectives), reverse=True)
    baselines = [t for t in by_score if attribute.is_baseline(t.user_attrs)]
    # The same parameters give the same model; one of them is enough.
    once = {t.user_attrs[attribute.PARAMETERS]: t for t in reversed(by_score)} | {
        t.user_attrs[attribute.PARAMETERS]: t for t in baselines
    }
    learned = [
        t for t in by_score if not attribute.is_baseline(t.user_attrs) and t is once[t.user_attrs[attribute.PARAMETERS]]
    ]
    label_free = [t for t in baselines if is_label_free(t)]
    labelled = [t for t in baselines if not is_label_free(t)]
    return contenders(learned), label_free, labelled


def name_of(trial: FrozenTrial, objective: Objective) -> str:
    """Return what a trial is, in words."""
    if attribute.is_baseline(trial.user_attrs):
        return str(trial.user_attrs[attribute.BASELINE])
    parameters = objective.space.to_json(objective.parameters_of(trial))
    backbone, algorithm = parameters["backbone"], parameters["algorithm"]
    if not trains(parameters):
        details = ", ".join(str(v) for k, v in parameters.items() if k.startswith("backbone__"))
        return f"{backbone} ({details})" if details else str(backbone)
    return f"{backbone} with {algorithm} on {parameters['tasks']}"


def _judged_afresh(trial: FrozenTrial) -> Judged:
    """Return what the trial has scored on fresh episodes, by which nothing was chosen."""
    names = attribute.FRESH_SCORES, attribute.FRESH_CLASS_SCORES
    return Judged(*(attribute.unpacked(trial.user_attrs[name]) for name in names))


def _judged_beside(trial: FrozenTrial) -> dict[Beside, Judged]:
    """Return the same with the rows beside the features, by how they stand there."""
    kept = trial.user_attrs.get(attribute.BESIDE, {})
    return {
        how: Judged(**{name: attribute.unpacked(values) for name, values in scores.items()})
        for how, scores in kept.items()
    }


def _judged_row(trial: FrozenTrial, concat_input: Beside | None) -> Judged:
    return _judged_afresh(trial) if concat_input is None else _judged_beside(trial)[concat_input]


def _finalist(
    trial: FrozenTrial,
    judged: Judged,
    reference: Judged | None,
    objective: Objective,
    concat_input: Beside | None = None,
) -> Finalist:
    score, interval = mean_interval(judged.scores)
    name = name_of(trial, objective)
    if concat_input is not None:
        name += ", beside discriminants" if concat_input == "discriminants" else ", beside the rows"
    is_baseline = attribute.is_baseline(trial.user_attrs) and concat_input is None
    row = Finalist(trial.number, name, is_baseline, score, interval, concat_input=concat_input)
    if reference is None:
        return row
    gain = compare(judged.scores, reference.scores)
    learned = _learned(trial, concat_input)
    return replace(
        row,
        gain=gain.gain,
        low=gain.low,
        high=gain.high,
        class_gain=_over_classes(
            judged, reference, learned.least_gain if learned is Learned.OUT_OF_THE_BOX else probable_gain
        ),
        class_low=_over_classes(judged, reference, learned.least_gain),
    )


def _learned(trial: FrozenTrial, concat_input: Beside | None) -> Learned:
    """Return what features of a trial owe to the classes that judge them."""
    if _is_out_of_the_box(trial, concat_input):
        return Learned.OUT_OF_THE_BOX
    if not trains(parameters_of(trial)):
        return Learned.NOTHING
    if concat_input is None:
        return Learned.ALONE
    return Learned.BESIDE_DISCRIMINANTS if concat_input == "discriminants" else Learned.BESIDE_ROWS


def _over_classes(judged: Judged, reference: Judged, least_gain: Callable[[np.ndarray], float]) -> float:
    """Return what a gain is at least with classes as the unit; infinite where there are none."""
    same = len(judged.class_scores) and len(judged.class_scores) == len(reference.class_scores)
    return least_gain(differences(judged.class_scores, reference.class_scores)) if same else float("inf")


def _verdict(
    rows: Sequence[Finalist], winner: Finalist, best_baseline: Finalist | None, trials: Sequence[FrozenTrial]
) -> str:
    if best_baseline is None:
        return f"{winner.name} (trial {winner.trial}): {winner.score:.3f}; no baseline was judged."
    if not winner.is_baseline:
        return (
            f"{winner.name} (trial {winner.trial}): {winner.score:.3f}, {winner.gain:+.3f} (95 % interval {winner.low:+.3f} "
            f"to {winner.high:+.3f}) over the best baseline, {best_baseline.name}."
        )
    by_hand = {trial.number for trial in trials if attribute.is_baseline(trial.user_attrs)}
    learned = next((row for row in rows if row.trial not in by_hand), None)
    if learned is None:
        return f"{winner.name} (baseline): {winner.score:.3f}; {_why_no_others(trials)}."
    has_classes = np.isfinite(learned.class_low)
    over_classes = f"; at least {learned.class_low:+.3f} over classes" if has_classes else ""
    judges = "tasks and classes" if has_classes else "tasks"
    return (
        f"{winner.name} (baseline): {winner.score:.3f}; nothing was surely better on held-out {judges}. The best "
        f"other, {learned.name} (trial {learned.trial}), has {learned.gain:+.3f} (95 % interval {learned.low:+.3f} to "
        f"{learned.high:+.3f} over tasks{over_classes})."
    )


def _why_no_others(trials: Sequence[FrozenTrial]) -> str:
    """Say what became of the trials that are no baselines, none of which was finished."""
    others = [t for t in trials if not attribute.is_baseline(t.user_attrs)]
    counts = count_outcomes(others)
    said = [f"{counts[what]} {what}" for what in ("pruned", TOO_SLOW, "failed") if counts[what]]
    outcomes = f" ({', '.join(said)})" if said else ""
    return f"no other trial was finished{outcomes}{_why_failed(others)}"


def _why_failed(trials: Sequence[FrozenTrial]) -> str:
    """Name the most frequent cause where trials failed."""
    causes = failures([t for t in trials if t.state == TrialState.FAIL])
    if not causes:
        return ""
    n_times, error = causes[0]
    message = " ".join(error["message"].split()).rstrip(".")
    cause = f"{error['plugin']}: {error['type']}: {message}"
    return (
        f". {n_times} failed by {cause}"
        if len(causes) == 1
        else f". The most frequent cause of {len(causes)}, {n_times} ×: {cause}"
    )
