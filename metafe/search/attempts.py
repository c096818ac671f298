"""One trial, whatever happens to the storage meanwhile."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy
from optuna.exceptions import OptunaError, TrialPruned
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from metafe.contracts import SearchError
from metafe.search.objective import finish_trial
from metafe.search.reclaiming import give_up, give_up_nameless, is_requeued, requeue
from metafe.search.stops import StorageTroubleError, TrialCutOffError, TrialFailedError

# A server that is restarted, or a network that is down, is waited for so long.
OUTAGE_SECONDS = 300.0
RETRY_SECONDS = 0.25


T = TypeVar("T")


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
    except KeyboardInterrupt:
        once_reachable(lambda: _reopen(study, attempt.trial, "The user ended the search."))
        raise
    except Exception as error:
        # Around an objective that makes no mistake, Optuna raises for the storage's sake alone, if not always what that did.
        if attempt.made_mistake or (attempt.trial is None and not _is_trouble(error)):
            raise
        trouble = repr(error)
        once_reachable(lambda: _reopen(study, attempt.trial, f"The storage failed: {trouble}"))
        if attempt.trial is None:
            once_reachable(lambda: give_up_nameless(study, attempt.began))
        return Outcome(trouble=trouble)
    if attempt.was_cut_off:
        once_reachable(lambda: _reopen(study, attempt.trial, "The search ended."))
    return Outcome(study._stop_flag, getattr(objective, "interrupted", False))


def wait_for_server(study: Study, patient: bool = True) -> None:
    """Wait for the server of a relational storage where it cannot be connected to, in place of raising; or no longer."""
    engine = getattr(getattr(study._storage, "_backend", None), "engine", None)
    if engine is not None:
        (sqlalchemy.event.listen if patient else sqlalchemy.event.remove)(engine, "do_connect", _connect)


def once_reachable(act: Callable[[], T]) -> T:
    """Return what an action on the storage returns, tried again until the storage can be reached.

    Raises
    ------
    SearchError
        It could not for `OUTAGE_SECONDS`.
    """
    give_up_at = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return act()
        except Exception as error:
            if not _is_trouble(error):
                raise
            if time.monotonic() > give_up_at:
                raise SearchError(
                    f"The storage of a search must be reachable; got {type(error).__name__} for {OUTAGE_SECONDS:.0f} s. "
                    "Every finished trial is in it: fit again once it is back."
                ) from error
            time.sleep(RETRY_SECONDS)


class _Attempt:
    """An objective, and how far it got.

    Parameters
    ----------
    objective : callable
    """

    def __init__(self, objective: Any) -> None:
        self.objective = objective
        self.began = datetime.now()
        self.trial: Trial | None = None
        self.made_mistake = False
        self.was_cut_off = False

    def __call__(self, trial: Trial) -> Any:
        self.trial = trial
        try:
            return self.objective(trial)
        except TrialCutOffError:
            self.was_cut_off = True
            raise
        except (TrialPruned, TrialFailedError):
            raise
        except Exception as error:
            self.made_mistake = not _is_trouble(error)
            raise


def _is_trouble(error: Exception) -> bool:
    kinds: tuple[type[Exception], ...] = (StorageTroubleError, OptunaError, SQLAlchemyError, OSError)
    # Only a proxy needs it, and whoever uses one has loaded it.
    rpc = getattr(sys.modules.get("grpc"), "RpcError", None)
    return isinstance(error, kinds if rpc is None else (*kinds, rpc))


def _reopen(study: Study, trial: Trial | None, reason: str) -> None:
    """Enqueue a trial again, unless another process has taken care of it."""
    if trial is None:
        study.get_trials(deepcopy=False)
        return
    frozen = study._storage.get_trial(trial._trial_id)
    if frozen.state == TrialState.RUNNING:
        give_up(study, frozen, f"{reason} That was in the middle of the trial.")
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
