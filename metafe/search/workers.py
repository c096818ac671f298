"""Who runs the trials: this process, worker processes of this host, or those of a cluster."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np
import optuna
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.backend import resource_tracker
from joblib.parallel import get_active_backend
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import Study
from optuna.trial import TrialState

from metafe.contracts import SearchError
from metafe.search import attributes as attribute
from metafe.search.attempts import Outcome, once_reachable, run_trial, wait_for_server
from metafe.search.journal import open_journal
from metafe.search.objective import Objective
from metafe.search.parcels import Parcel
from metafe.search.reclaiming import RETRIES, give_up_nameless, is_alive, n_finished, reclaim

# A worker that has had nothing to do for so long ends, also where nobody is left to tell it to.
IDLE_SECONDS = 60
# A trial that kills its worker each time does so as often; more in a row for each worker is not the trial's doing.
DEATHS_IN_A_ROW = RETRIES + 1
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}


def run(study: Study, objective: Objective, n_trials: int, n_jobs: int | None = None) -> None:
    """Run trials until the study has as many finished ones as wanted, time is up or the user stops it.

    Several workers are processes of whatever `joblib.parallel_config` says: of this host by default, where each has one
    thread and maps large arrays into memory; ``"dask"`` or ``"ray"`` spread them over a cluster. One that dies leaves the
    others alone; its trial is enqueued again, and another worker takes its place. A server that is gone for a while is
    waited for.

    Parameters
    ----------
    study : optuna.study.Study
    objective : Objective
        Its ``interrupted`` is set where the user has stopped the search.
    n_trials : int
        Finished trials, those of earlier calls and of other processes included.
    n_jobs : int or None, default=None
        Workers, counted as joblib does: None is 1 unless `joblib.parallel_config` says otherwise. 1 is this process.

    Raises
    ------
    SearchError
        Workers die, or the storage fails, whatever they do.
    """
    began = datetime.now()
    backend, _ = get_active_backend()
    n_workers = joblib.effective_n_jobs(n_jobs)
    shares_memory = n_workers == 1 or getattr(backend, "supports_sharedmem", False)
    with _reachable(study, shares_memory), _patience(study):
        tickets = Tickets(study, objective, n_trials)
        try:
            if shares_memory:
                _here(tickets, n_workers)
            elif type(backend).__name__ == "LokyBackend":
                with _folder() as folder:
                    _direct(_Processes(n_workers, Parcel.pack(study, objective, folder)), tickets)
            elif type(backend).__name__ == "DaskDistributedBackend":
                _direct(_Cluster(backend.client, n_workers, Parcel.pack(study, objective)), tickets)
            else:
                _through_joblib(tickets, n_workers)
        except KeyboardInterrupt:
            objective.interrupted = True
        except Exception:
            # The trials of workers that were sent home are not left running, where the storage still answers.
            with suppress(Exception):
                reclaim(study)
            raise
        once_reachable(lambda: reclaim(study))
        # Optuna itself begins another where a database has begun one and failed before it said so.
        once_reachable(lambda: give_up_nameless(study, began))


class Tickets:
    """How many more trials there are to run, and whether there have been too many accidents to go on.

    Parameters
    ----------
    study : optuna.study.Study
    objective : Objective
    n_trials : int
        Finished trials that are wanted.
    """

    def __init__(self, study: Study, objective: Objective, n_trials: int) -> None:
        self.study = study
        self.objective = objective
        self.n_trials = n_trials
        self._stopped = False
        self._accidents = 0
        self._n_finished = -1

    def left(self, in_flight: int = 0) -> bool:
        """Tell whether another trial is to be run beside those in flight and those of other processes."""
        return not self._stopped and once_reachable(lambda: self._is_any_left(in_flight))

    def hand_in(self, outcome: Outcome, n_workers: int) -> None:
        """Note what came of a trial; raise what ends the search."""
        if outcome.error is not None:
            raise outcome.error
        self._stopped |= outcome.stops or outcome.interrupted
        self.objective.interrupted |= outcome.interrupted
        if outcome.trouble:
            self.note_accident(outcome.trouble, n_workers)

    def note_accident(self, what: str, n_workers: int) -> None:
        """Note that a worker died or lost its storage; an error where that happens without any trial being finished.

        Raises
        ------
        SearchError
        """
        finished = once_reachable(lambda: n_finished(self.study))
        self._accidents = 1 if finished > self._n_finished else self._accidents + 1
        self._n_finished = finished
        if self._accidents > DEATHS_IN_A_ROW * n_workers:
            raise SearchError(
                f"The workers of a search must be able to finish trials; {self._accidents} in a row did not, the last with: "
                f"{what} Every finished trial is kept in the study; lower n_jobs where memory has run out."
            )

    def _is_any_left(self, in_flight: int) -> bool:
        if _time_is_up(self.study, self.objective):
            return False
        reclaim(self.study)
        running = len(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        return n_finished(self.study) + max(in_flight, running) < self.n_trials


class _Team(Protocol):
    """Workers that take one trial at a time."""

    size: int

    def submit(self, seat: int) -> Future[Outcome]:
        """Let the worker in a seat run a trial."""

    def renew(self, seat: int) -> None:
        """Put another worker in the seat of one that died."""

    def stop(self, busy: Collection[int]) -> None:
        """Send all home, those in busy seats from the middle of their work."""


class _Processes:
    """Processes of this host, each with an executor of its own, since loky ends all processes of one where one dies.

    Parameters
    ----------
    size : int
    parcel : Parcel
    """

    def __init__(self, size: int, parcel: Parcel) -> None:
        self.size = size
        self.parcel = parcel
        self.parent = attribute.this_process()
        self.executors = [_hire() for _ in range(size)]

    def submit(self, seat: int) -> Future[Outcome]:
        try:
            return self.executors[seat].submit(_run_sent, self.parcel, self.parent)
        except BrokenExecutor as death:
            future: Future[Outcome] = Future()
            future.set_exception(death)
            return future

    def renew(self, seat: int) -> None:
        self.executors[seat].shutdown(kill_workers=True)
        self.executors[seat] = _hire()

    def stop(self, busy: Collection[int]) -> None:
        for seat, executor in enumerate(self.executors):
            if seat in busy:
                executor.shutdown(kill_workers=True)
            else:
                _resting.append(executor)


def _hire() -> Any:
    """Return an executor of one process, which takes seconds to begin unless one is left from an earlier search."""
    if _resting:
        return _resting.pop()
    return ProcessPoolExecutor(max_workers=1, timeout=IDLE_SECONDS, env=ONE_THREAD)


_resting: list[Any] = []
# A forked process is not the parent of these.
os.register_at_fork(after_in_child=_resting.clear)


class _Cluster:
    """Workers of a Dask cluster; what they need is sent to each once.

    joblib's own way to Dask waits for ever where workers have died four times at the same task.

    Parameters
    ----------
    client : distributed.Client
    size : int
    parcel : Parcel
    """

    def __init__(self, client: Any, size: int, parcel: Parcel) -> None:
        self.size = size
        self.parcel = parcel
        self.client = client
        self.executor = client.get_executor(pure=False)
        self.sent = self._send()

    def submit(self, seat: int) -> Future[Outcome]:
        return self.executor.submit(_run_scattered, self.parcel.key, self.sent)

    def renew(self, seat: int) -> None:
        # Dask starts processes again by itself, but does not bring back what only they had.
        self.sent = self._send()

    def stop(self, busy: Collection[int]) -> None:
        self.executor.shutdown(wait=False)

    def _send(self) -> Any:
        return self.client.scatter(self.parcel.content, broadcast=True, hash=False)


def _direct(team: _Team, tickets: Tickets) -> None:
    """Let each worker of a team run one trial after another."""
    seats: dict[Future[Outcome], int] = {}
    free = set(range(team.size))
    try:
        while True:
            while free and tickets.left(len(seats)):
                seat = free.pop()
                seats[team.submit(seat)] = seat
            if not seats:
                return
            for future in _first_done(seats):
                free.add(seat := seats.pop(future))
                if (death := future.exception()) is None:
                    tickets.hand_in(future.result(), team.size)
                else:
                    # What a trial raises is in its outcome.
                    tickets.note_accident(repr(death), team.size)
                    team.renew(seat)
    finally:
        # A seat that an interrupt has caught between two lines counts as busy.
        team.stop(busy=set(range(team.size)) - free)


def _first_done(futures: Collection[Future[Outcome]]) -> set[Future[Outcome]]:
    """Wait for the first of some futures.

    An interrupt that comes in the moment before a thread begins to wait is only noticed when the waiting is over, which may
    be a whole trial later; so it is over every second.
    """
    while not (done := wait(futures, timeout=1.0, return_when=FIRST_COMPLETED).done):
        pass
    return done


def _here(tickets: Tickets, n_threads: int) -> None:
    """Run trials in threads of this process, which may be a worker of something else."""
    if n_threads == 1:
        _work(tickets)
    else:
        joblib.Parallel(n_jobs=n_threads)(joblib.delayed(_work)(tickets) for _ in range(n_threads))


def _through_joblib(tickets: Tickets, n_workers: int) -> None:
    """Run trials in workers that joblib knows how to reach, each until there are enough."""
    parcel = Parcel.pack(tickets.study, tickets.objective)
    work = joblib.delayed(_work_sent)(parcel.key, parcel.content, tickets.n_trials)
    while tickets.left():
        try:
            outcomes = joblib.Parallel(n_jobs=n_workers)(work for _ in range(n_workers))
        except Exception as error:
            tickets.note_accident(repr(error), n_workers)
        else:
            for outcome in outcomes:
                tickets.hand_in(outcome, n_workers)


def _run_sent(parcel: Parcel, parent: Mapping[str, Any]) -> Outcome:
    outcome = _run_parcel(parcel)
    if not is_alive(parent):
        # Nobody is left to take the outcome, for which loky would wait; the study has it.
        os._exit(0)
    return outcome


def _run_scattered(key: str, content: np.ndarray) -> Outcome:
    return _run_parcel(Parcel(key, content))


def _run_parcel(parcel: Parcel) -> Outcome:
    return _told(lambda: run_trial(*parcel.open()))


def _work_sent(key: str, content: np.ndarray, n_trials: int) -> Outcome:
    def work() -> Outcome:
        return _work(Tickets(*Parcel(key, content).open(), n_trials))

    return _told(work)


def _told(run: Callable[[], Outcome]) -> Outcome:
    """Return an outcome whatever happens: what is raised in a worker process then stands for its death."""
    try:
        return run()
    except KeyboardInterrupt:
        return Outcome(stops=True, interrupted=True)
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        return Outcome(error=error)


def _work(tickets: Tickets) -> Outcome:
    """Run one trial after another in this process."""
    outcome = Outcome()
    while tickets.left():
        outcome = run_trial(tickets.study, tickets.objective)
        tickets.hand_in(outcome, 1)
    return outcome


def _time_is_up(study: Study, objective: Objective) -> bool:
    if objective.deadline is None:
        return False
    return time.time() + objective.refit_seconds(study.get_trials(deepcopy=False)) >= objective.deadline


@contextmanager
def _patience(study: Study) -> Iterator[None]:
    wait_for_server(study)
    try:
        yield
    finally:
        wait_for_server(study, patient=False)


@contextmanager
def _reachable(study: Study, shares_memory: bool) -> Iterator[None]:
    """Keep a study that is in memory in a file while other processes work on it."""
    memory = study._storage
    if shares_memory or not isinstance(memory, InMemoryStorage):
        yield
        return
    with _folder() as folder:
        _move(study, open_journal(folder / "study.log"))
        try:
            yield
        finally:
            _move(study, memory)


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that goes away in the end, also where that is the end of this process by a kill."""
    with tempfile.TemporaryDirectory(prefix="metafe-search-") as folder:
        resource_tracker.register(folder, "folder")
        try:
            yield Path(folder)
        finally:
            resource_tracker.unregister(folder, "folder")


def _move(study: Study, storage: BaseStorage) -> None:
    former, former_id = study._storage, study._study_id
    optuna.copy_study(from_study_name=study.study_name, from_storage=former, to_storage=storage)
    study._storage, study._study_id = storage, storage.get_study_id_from_name(study.study_name)
    former.delete_study(former_id)
