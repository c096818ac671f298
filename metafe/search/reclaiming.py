"""Trials that were cut off, since their worker died, lost its storage or was told to stop: they are tried again.

A relational storage notices by itself, through heartbeats, wherever the worker ran. Elsewhere (a journal file, a proxy)
the process number in each trial tells, which only says something of processes of the same host: a trial that another
host's dead process left behind there stays as it is. On a relational storage, the number is merely faster than the
heartbeat.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from metafe.search import attributes as attribute

# How often a trial is tried again; one that kills its worker each time must not go on for ever.
RETRIES = 3
# A process that died between taking a trial and writing its name into it leaves nothing to tell by but time.
NAMELESS = timedelta(minutes=10)
# As Optuna names them, so that its own functions understand them.
HISTORY = "retry_history"
FIRST = "failed_trial"


def reclaim(study: Study) -> None:
    """Fail the running trials of dead processes, and enqueue each again until it was tried `RETRIES` times more.

    Parameters
    ----------
    study : optuna.study.Study
        On any storage; only a relational one knows of processes of other hosts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_abandoned(trial):
            give_up(study, trial, "The process of the trial ended in the middle of it.")


def give_up(study: Study, trial: FrozenTrial, reason: str) -> None:
    """Fail a running trial and enqueue it again; nothing where someone else has done so.

    Parameters
    ----------
    study : optuna.study.Study
    trial : FrozenTrial
    reason : str
        Kept in the trial.
    """
    error = {"plugin": "its worker", "type": "WorkerDied", "message": reason, "traceback": ""}
    try:
        study._storage.set_trial_user_attr(trial._trial_id, attribute.ERROR, error)
        failed_here = study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return
    if failed_here:
        requeue(study, study._storage.get_trial(trial._trial_id))


def give_up_nameless(study: Study, since: datetime) -> None:
    """Fail running trials that no process has put its name into, and enqueue them again.

    The storage may have begun a trial and failed before it said so: then nobody runs it. A process that is about to put its
    name into such a trial learns that it is over, and takes another.

    Parameters
    ----------
    study : optuna.study.Study
    since : datetime
        When the asking began.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        began = trial.datetime_start
        if attribute.WORKER not in trial.user_attrs and began is not None and began >= since:
            give_up(study, trial, "The storage failed when the trial began.")


def requeue(study: Study, trial: FrozenTrial) -> None:
    """Enqueue a trial that was cut off with the parameters that it had, unless it was tried often enough.

    Counts as `optuna.storages.RetryHeartbeatStaleTrialCallback` does and serves in its place: the name of the dead process
    is left out, by which the next attempt would be taken for dead before it has written its own, and so are its results.

    Parameters
    ----------
    study : optuna.study.Study
    trial : FrozenTrial
    """
    history = [*trial.system_attrs.get(HISTORY, []), trial.number]
    if len(history) > RETRIES:
        return
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={name: value for name, value in trial.user_attrs.items() if name not in attribute.OF_ATTEMPT},
            system_attrs={**trial.system_attrs, FIRST: history[0], HISTORY: history},
        )
    )


def is_requeued(study: Study, trial: FrozenTrial) -> bool:
    """Tell whether another trial takes the place of a failed one."""
    return trial.number in _replaced(study.get_trials(deepcopy=False))


def requeue_cut_short(study: Study, n_folds: int) -> None:
    """Enqueue trials again that an earlier search had no time for: to go through all folds, or for networks as slow."""
    for trial in lasting(study.get_trials(deepcopy=False)):
        cut_short = trial.state == TrialState.COMPLETE and len(trial.user_attrs[attribute.FOLD_SCORES]) < n_folds
        if cut_short or attribute.is_too_slow(trial.user_attrs):
            requeue(study, trial)


def lasting(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count: those in whose place no other has been enqueued."""
    replaced = _replaced(trials)
    return [trial for trial in trials if trial.number not in replaced]


def n_finished(study: Study) -> int:
    """Return the number of trials that have ended, one way or another, and are not tried again."""
    return sum(trial.state.is_finished() for trial in lasting(study.get_trials(deepcopy=False)))


def is_alive(worker: Mapping[str, Any]) -> bool:
    """Tell whether a process runs, as far as is known: one of another host always does.

    Parameters
    ----------
    worker : mapping
        As `metafe.search.attributes.this_process` gives it: the time of its start tells it from a later process that got
        the same number.
    """
    if worker["host"] != attribute.this_process()["host"]:
        return True
    return attribute.process_start(worker["pid"]) == worker["started"]


def _is_abandoned(trial: FrozenTrial) -> bool:
    worker = trial.user_attrs.get(attribute.WORKER)
    if worker is not None:
        return not is_alive(worker)
    return trial.datetime_start is not None and datetime.now() - trial.datetime_start > NAMELESS


def _replaced(trials: Iterable[FrozenTrial]) -> set[int]:
    return {number for trial in trials for number in trial.system_attrs.get(HISTORY, [])}
