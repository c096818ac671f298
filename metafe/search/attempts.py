"""One trial, whatever happens to the storage meanwhile."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from optuna.exceptions import OptunaError, TrialPruned
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from metafe.contracts import SearchError
from metafe.search.objective import StorageTroubleError, TrialFailedError, finish_trial
from metafe.search.reclaiming import give_up, is_requeued, requeue

# A server that is restarted, or a network that is down, is waited for so long.
OUTAGE_SECONDS = 300.0
RETRY_SECONDS = 0.25
# What Optuna raises of a trial that another process has meanwhile failed, since this one gave no sign of life.
TAKEN = (ValueError, AssertionError)


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt at a trial.

    Parameters
    ----------
    stops : bool
        Whether the objective wants no more trials.
    interrupted : bool
        Whether since the user does.
    trouble : str
        What the storage raised in the middle of it; the trial is enqueued again.
    error : Exception, optional
        What ends the search.
    """

    stops: bool = False
    interrupted: bool = False
    trouble: str = ""
    error: Exception | None = None


def run_trial(study: Study, objective: Any) -> Outcome:
    """Run one trial of the study.

    Parameters
    ----------
    study : optuna.study.Study
    objective : callable
        Writes into the trial which process runs it; raises `TrialFailedError` where the trial failed and the search goes on.

    Raises
    ------
    SearchError
        The storage was not to be reached for `OUTAGE_SECONDS`.
    """
    attempt = _Attempt(objective)
    try:
        study.optimize(attempt, n_trials=1, catch=(TrialFailedError,), callbacks=[finish_trial])
    except Exception as error:
        if not _is_trouble(error) and not (attempt.ended and isinstance(error, TAKEN)):
            raise
        _abandon(study, attempt.trial, error)
        return Outcome(trouble=repr(error))
    return Outcome(study._stop_flag, getattr(objective, "interrupted", False))


def wait_for_server(study: Study, patient: bool = True) -> None:
    """Wait for the server of a relational storage where it cannot be connected to, in place of raising; or no longer."""
    engine = getattr(getattr(study._storage, "_backend", None), "engine", None)
    if engine is not None:
        (sqlalchemy.event.listen if patient else sqlalchemy.event.remove)(engine, "do_connect", _connect)


class _Attempt:
    """An objective, and how far it got.

    Parameters
    ----------
    objective : callable
    """

    def __init__(self, objective: Any) -> None:
        self.objective = objective
        self.trial: Trial | None = None
        self.ended = False

    def __call__(self, trial: Trial) -> Any:
        self.trial = trial
        try:
            value = self.objective(trial)
        except (TrialPruned, TrialFailedError):
            self.ended = True
            raise
        self.ended = True
        return value


def _is_trouble(error: Exception) -> bool:
    kinds: tuple[type[Exception], ...] = (StorageTroubleError, OptunaError, SQLAlchemyError, OSError)
    # Only a proxy needs it, and whoever uses one has loaded it.
    rpc = getattr(sys.modules.get("grpc"), "RpcError", None)
    return isinstance(error, kinds if rpc is None else (*kinds, rpc))


def _abandon(study: Study, trial: Trial | None, error: Exception) -> None:
    """Wait for the storage and enqueue the trial again, unless another process has taken care of it."""
    give_up_at = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            _reopen(study, trial, error)
        except Exception as again:
            if not _is_trouble(again):
                raise
            if time.monotonic() > give_up_at:
                raise SearchError(
                    f"The storage of a search must be reachable; got {type(again).__name__} for {OUTAGE_SECONDS:.0f} s. "
                    "Every finished trial is in it: fit again once it is back."
                ) from error
            time.sleep(RETRY_SECONDS)
        else:
            return


def _reopen(study: Study, trial: Trial | None, error: Exception) -> None:
    if trial is None:
        study.get_trials(deepcopy=False)
        return
    frozen = study._storage.get_trial(trial._trial_id)
    if frozen.state == TrialState.RUNNING:
        give_up(study, frozen, f"The storage failed in the middle of the trial: {error!r}")
    elif frozen.state == TrialState.FAIL and not is_requeued(study, frozen):
        requeue(study, frozen)


def _connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    """Connect as SQLAlchemy would have."""
    give_up_at = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(RETRY_SECONDS)
