"""Who runs the trials."""

from __future__ import annotations

import time

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from metafe.contracts import InvalidParameterError
from metafe.search.objective import Objective, TrialFailedError, finish_trial


def run(study: Study, objective: Objective, n_trials: int, n_jobs: int | None = None) -> None:
    """Run trials until the study has as many finished ones as wanted, time is up or the user stops it.

    Parameters
    ----------
    study : optuna.study.Study
    objective : Objective
    n_trials : int
        Finished trials, those of earlier calls included.
    n_jobs : int or None, default=None
        1 or None runs them here.
    """
    if n_jobs not in (None, 1):
        raise InvalidParameterError(f"n_jobs must be None or 1; got {n_jobs!r}.")

    def stop_when_done(study: Study, trial: FrozenTrial) -> None:
        finish_trial(study, trial)
        if n_finished(study) >= n_trials or _time_is_up(study, objective):
            study.stop()

    if n_finished(study) >= n_trials:
        return
    try:
        study.optimize(objective, catch=(TrialFailedError,), callbacks=[stop_when_done])
    except KeyboardInterrupt:
        objective.interrupted = True


def n_finished(study: Study) -> int:
    """Return the number of trials that have ended, one way or another."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return len(study.get_trials(deepcopy=False, states=ended))


def _time_is_up(study: Study, objective: Objective) -> bool:
    if objective.deadline is None:
        return False
    return time.time() + objective.refit_seconds(study.get_trials(deepcopy=False)) >= objective.deadline
