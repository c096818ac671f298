"""When a trial ends before its last fold."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from optuna.exceptions import TrialPruned
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial, Trial, TrialState

from metafe.contracts import MetafeError
from metafe.search import attributes as attribute
from metafe.search.judging import Judged
from metafe.search.options import trains
from metafe.search.reclaiming import lasting
from metafe.search.samplers import REPORTS, Hyperband
from metafe.search.standings import N_LEARNED, parameters_of
from metafe.training.probe import compare, differences
from metafe.training.trust import probable_gain

if TYPE_CHECKING:
    from metafe.search.objective import Objective

# Reports of a training are numbered by how much of it is over; the score on the first fold comes after the last of them.
FOLD_REPORT = REPORTS + 1


class TrialFailedError(MetafeError):
    """A trial whose plugins raised; what and why is kept in the trial."""


class TrialCutOffError(TrialFailedError):
    """A trial that the end of the search has cut off; it is tried again when the search goes on."""


class StorageTroubleError(MetafeError):
    """A report that the study's storage did not take."""


class StopRules:
    """When a trial ends before its last fold.

    Parameters
    ----------
    objective : Objective
    trial : Trial
    """

    def __init__(self, objective: Objective, trial: Trial) -> None:
        self.objective = objective
        self.trial = trial
        self.finished = self._complete()
        self.is_searched = objective.prunes and attribute.BASELINE not in trial.user_attrs
        # What others have to beat is judged on all folds.
        self.is_needed = not self.is_searched or attribute.OUT_OF_THE_BOX in trial.user_attrs
        self.may_prune = not self.is_needed and not isinstance(trial.study.pruner, NopPruner)
        deadline = objective.deadline
        self.stop_at = None if deadline is None else deadline - objective.refit_seconds(self.finished)

    @property
    def limits_pace(self) -> bool:
        """Whether a network may be too slow for the time that there is."""
        return self.is_searched and self.objective.fold_seconds is not None

    @property
    def time_is_up(self) -> bool:
        """Whether no more is left than the refit takes."""
        return self.stop_at is not None and time.time() >= self.stop_at

    def watch_first(self, metrics: Mapping[str, float]) -> bool:
        """Report a validation on the first fold; True ends the training."""
        if self.objective.prunes and "score" in metrics:
            # What is left of rounding must not make it the report before.
            self._report(metrics["score"], int(metrics["share"] * REPORTS + 1e-6))
            if self._may_prune_early and self.trial.should_prune():
                raise TrialPruned(f"after {metrics['step']} steps")
        return self.watch_others(metrics)

    @property
    def _may_prune_early(self) -> bool:
        """Whether a trial may end by its validations; a pruner of the user's own has the say."""
        own = not isinstance(self.trial.study.pruner, Hyperband)
        return self.may_prune and (own or self.objective.can_tell_early)

    def may_win(self, score: float) -> bool:
        """Whether a trial is among the best of its kind so far, of which the finalists will be, or a baseline."""
        others = [t for t in self._finished_of_kind() if not attribute.is_baseline(t.user_attrs)]
        better = sum(attribute.score_of(t, self.objective.objectives) > score for t in others)
        return self.is_needed or better < N_LEARNED

    def check_pace(self, seconds: float) -> None:
        """Prune a network of which a step and a validation take longer than a whole training may."""
        longest = self.objective.fold_seconds
        if longest is None or seconds <= longest:
            return
        message = (
            f"A step and a validation must take less than the {longest:.2g} s of the timeout that a training has; they take "
            f"about {float(f'{seconds:.1g}'):g} s. Raise timeout, or leave the backbone out."
        )
        backbone = json.loads(self.trial.user_attrs[attribute.PARAMETERS])["backbone"]
        kept = {"plugin": f"backbone {backbone}", "type": attribute.TOO_SLOW, "message": message, "traceback": ""}
        self.trial.set_user_attr(attribute.ERROR, kept)
        raise TrialPruned(message)

    def watch_others(self, metrics: Mapping[str, float]) -> bool:
        """Look at the clock; True ends the training."""
        if is_late := self.time_is_up:
            self.end_early()
        return is_late

    def after_fold(self, judged: Sequence[Judged]) -> None:
        """Prune what is surely worse than the best trial of its kind on the same episodes, and probably so on other folds.

        A fold may hold two classes out: what is worse on them alone may be better on those of the others. So on less than half
        of the folds it has to be worse by more than classes differ.
        """
        if len(judged) == 1 and self.objective.prunes:
            self._report(judged[0].mean, FOLD_REPORT)
        n_folds = len(self.objective.judge.folds)
        so_far = Judged.joined(judged)
        if not self.may_prune or len(judged) == n_folds or len(so_far.scores) < 2:
            return
        # The end of a search may have cut a trial short that is all there is.
        alike = [t for t in self._finished_of_kind() if len(t.user_attrs[attribute.FOLD_SCORES]) >= len(judged)]
        if not alike:
            return
        best = max(alike, key=lambda t: t.values[0])
        others = _same_folds(best, so_far)
        seen_enough = 2 * len(judged) >= n_folds or _is_probably_worse(so_far, others)
        if seen_enough and compare(so_far.scores, others.scores).high < 0:
            raise TrialPruned(f"worse than trial {best.number} on {len(judged)} of the folds")

    def end_early(self) -> None:
        """Stop the study; the trial counts only where it is all there is, also of those that have ended since it began."""
        self.trial.study.stop()
        if self.finished or self._complete():
            raise TrialCutOffError("The search ended in the middle of the trial.")

    def _finished_of_kind(self) -> list[FrozenTrial]:
        """Return the networks, or what trains nothing, as the trial is: networks are yet to be trained on all rows of a fold."""
        is_network = trains(parameters_of(self.trial))
        return [t for t in self.finished if trains(parameters_of(t)) == is_network]

    def _complete(self) -> list[FrozenTrial]:
        trials = lasting(self.trial.study.get_trials(deepcopy=False))
        return [trial for trial in trials if trial.state == TrialState.COMPLETE]

    def _report(self, score: float, step: int) -> None:
        try:
            self.trial.report(score, step)
        except Exception as error:
            raise StorageTroubleError(f"The study's storage must take a report; it raised {error!r}.") from error


def _same_folds(trial: FrozenTrial, judged: Judged) -> Judged:
    """Return what a finished trial has scored on the folds that another has been judged on, which come first."""
    kept = (attribute.unpacked(trial.user_attrs[name]) for name in (attribute.EPISODE_SCORES, attribute.CLASS_SCORES))
    return Judged(*(own[: len(other)] for own, other in zip(kept, (judged.scores, judged.class_scores), strict=True)))


def _is_probably_worse(judged: Judged, others: Judged) -> bool:
    """Tell whether the loss is larger than its standard error, with classes as the unit; without classes, it is."""
    loss = differences(others.class_scores, judged.class_scores)
    return not len(loss) or probable_gain(loss) > 0
