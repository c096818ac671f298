"""Trials in worker processes, some of which are killed in the middle of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import joblib
import optuna
import pytest
from joblib._parallel_backends import LokyBackend
from optuna.exceptions import StorageInternalError
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import TrialState

from metafe.contracts import SearchError
from metafe.search import attributes as attribute
from metafe.search.attempts import Outcome
from metafe.search.progress import take_snapshot
from metafe.search.reclaiming import n_finished
from metafe.search.stops import TrialFailedError
from metafe.search.storage import open_study
from metafe.search.workers import Tickets, _direct, run
from tests.search.tiny import Tiny, is_gone, meanwhile, numbers_by_state, open_journal, wait_until, workers_of


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return open_journal(tmp_path)


def test_two_workers_share_the_trials_of_a_study_in_memory() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.25}, user_attrs={"known": True})
    run(study, Tiny(0.05), 6, 2)
    assert numbers_by_state(study) == {"COMPLETE": list(range(6))}
    assert study.trials[0].params == {"x": 0.25}
    assert study.trials[0].user_attrs["known"]
    assert len({trial.params["x"] for trial in study.trials}) == 6
    workers = set(workers_of(study, TrialState.COMPLETE))
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert {(trial.user_attrs["copied"], trial.user_attrs["threads"]) for trial in study.trials} == {(False, 1)}


def test_a_killed_worker_costs_neither_its_trial_nor_those_of_others(study: Study) -> None:
    def kill() -> None:
        wait_until(lambda: n_finished(study) >= 2)
        victim = wait_until(lambda: study.trials[1].user_attrs.get(attribute.WORKER))
        wait_until(lambda: study.trials[1].params)
        os.kill(victim["pid"], signal.SIGKILL)

    with meanwhile(kill):
        run(study, Tiny(0.05, waiting=[1]), 6, 2)
    states = numbers_by_state(study)
    assert states["FAIL"] == [1]
    assert len(states["COMPLETE"]) == 6
    again = next(trial for trial in study.trials if trial.system_attrs.get("retry_history") == [1])
    assert again.params == study.trials[1].params
    assert study.trials[1].user_attrs[attribute.ERROR]["type"] == "WorkerDied"


class Foreign(LokyBackend):
    """A backend of joblib that metafe does not know, as Ray's is."""


def test_workers_of_any_backend_of_joblib_survive_the_death_of_one(study: Study) -> None:
    def kill() -> None:
        wait_until(lambda: n_finished(study) >= 2)
        victim = wait_until(lambda: study.trials[1].user_attrs.get(attribute.WORKER))
        wait_until(lambda: study.trials[1].params)
        os.kill(victim["pid"], signal.SIGKILL)

    joblib.register_parallel_backend("foreign", Foreign)
    with meanwhile(kill), joblib.parallel_config(backend="foreign", n_jobs=2):
        run(study, Tiny(0.05, waiting=[1]), 6)
    states = numbers_by_state(study)
    assert set(states) == {"FAIL", "COMPLETE"}
    assert 1 in states["FAIL"]
    # Each runs one trial after another, so that one more than wanted may have begun.
    assert 6 <= n_finished(study) <= 7
    assert os.getpid() not in workers_of(study, TrialState.COMPLETE)


def test_what_an_objective_raises_by_mistake_reaches_the_caller(study: Study) -> None:
    class Mistaken(Tiny):
        def __call__(self, trial: Any) -> float:
            raise ZeroDivisionError

    for n_jobs in (1, 2):
        with pytest.raises(ZeroDivisionError):
            run(study, Mistaken(), 6, n_jobs)
    # One whose worker was sent home before it had written its name is given up later, when time tells.
    assert workers_of(study, TrialState.RUNNING) == []


def test_an_interrupted_parent_takes_its_workers_with_it(study: Study) -> None:
    def interrupt() -> None:
        wait_until(lambda: len(workers_of(study, TrialState.RUNNING)) == 2)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    objective = Tiny(waiting=[0, 1])
    with meanwhile(interrupt):
        run(study, objective, 6, 2)
    assert objective.interrupted
    # What was cut off is enqueued again, and has not failed.
    assert numbers_by_state(study) == {"FAIL": [0, 1], "WAITING": [2, 3]}
    assert n_finished(study) == 0
    assert all(is_gone(trial.user_attrs[attribute.WORKER]["pid"]) for trial in study.trials[:2])
    assert "0 failed, 0 running, 2 cut off" in take_snapshot(study, 6, None).text
    run(study, Tiny(), 6)
    assert numbers_by_state(study) == {"FAIL": [0, 1], "COMPLETE": [2, 3, 4, 5, 6, 7]}
    assert [study.trials[number].params for number in (2, 3)] == [trial.params for trial in study.trials[:2]]


def test_an_interrupt_while_a_trial_is_handed_out_leaves_no_worker_behind(study: Study) -> None:
    class Team:
        size = 2
        stopped: Collection[int] = ()

        def submit(self, seat: int) -> Future[Outcome]:
            raise KeyboardInterrupt

        def renew(self, seat: int) -> None:
            pass

        def stop(self, busy: Collection[int]) -> None:
            self.stopped = busy

    team = Team()
    with pytest.raises(KeyboardInterrupt):
        _direct(team, Tickets(study, Tiny(), 3))
    assert len(team.stopped) == 1


def search_in(folder: str) -> None:
    """Run two workers, one of which never ends."""
    run(open_journal(Path(folder)), Tiny(0.05, waiting=[1]), 100, 2)


def test_a_search_whose_parent_was_killed_goes_on_where_it_was(study: Study, tmp_path: Path) -> None:
    code = f"from tests.search.test_workers import search_in; search_in({str(tmp_path)!r})"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=environment)
    try:
        wait_until(lambda: n_finished(study) >= 3 and study.trials[1].user_attrs.get(attribute.WORKER))
    finally:
        parent.kill()
        parent.wait()
    waiting = study.trials[1].user_attrs[attribute.WORKER]["pid"]
    others = set(workers_of(study, TrialState.COMPLETE)) - {waiting}
    # What was given out already is done; then a worker without a parent ends by itself.
    wait_until(lambda: all(is_gone(pid) for pid in others))
    os.kill(waiting, signal.SIGKILL)
    wait_until(lambda: is_gone(waiting))
    wait_until(lambda: not list(temporary.glob("metafe-*")))
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    run(study, Tiny(), len(finished) + 3)
    states = numbers_by_state(study)
    assert states["FAIL"] == [1]
    assert set(states) == {"FAIL", "COMPLETE"}
    assert len(states["COMPLETE"]) == len(finished) + 3
    assert [study.trials[trial.number].value for trial in finished] == [trial.value for trial in finished]


def test_failed_trials_count_and_stopping_the_study_ends_it(study: Study) -> None:
    class Stopping(Tiny):
        def __call__(self, trial: Any) -> float:
            if trial.number == 0:
                raise TrialFailedError
            if trial.number == 2:
                trial.study.stop()
            return super().__call__(trial)

    run(study, Stopping(), 2)
    assert numbers_by_state(study) == {"FAIL": [0], "COMPLETE": [1]}
    run(study, Stopping(), 9)
    assert numbers_by_state(study) == {"FAIL": [0], "COMPLETE": [1, 2]}


def test_workers_that_die_whatever_they_do_end_the_search(study: Study) -> None:
    class Doomed:
        size = 2
        n_renewed = 0

        def submit(self, seat: int) -> Future[Outcome]:
            future: Future[Outcome] = Future()
            future.set_exception(RuntimeError("killed"))
            return future

        def renew(self, seat: int) -> None:
            self.n_renewed += 1

        def stop(self, busy: Collection[int]) -> None:
            pass

    team = Doomed()
    with pytest.raises(SearchError, match=r"must be able to finish trials; 9 in a row did not.*killed"):
        _direct(team, Tickets(study, Tiny(), 3))
    assert team.n_renewed == 8


def test_who_comes_second_waits_for_the_trials_that_the_first_enqueues(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    first = open_study(path, "shared", {"data": "1"}, ["maximize"])

    def begin() -> None:
        first.enqueue_trial({"x": 0.5})

    with meanwhile(begin):
        second = open_study(path, "shared", {"data": "1"}, ["maximize"])
        assert len(second.trials) == 1


def test_a_trial_that_the_storage_began_and_did_not_hand_out_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study()
    ask, lost = Study.ask, []

    def ask_and_lose_the_answer(self: Study, *arguments: Any, **named: Any) -> Any:
        trial = ask(self, *arguments, **named)
        if not lost:
            lost.append(trial.number)
            raise StorageInternalError("The connection is gone.")
        return trial

    monkeypatch.setattr(Study, "ask", ask_and_lose_the_answer)
    run(study, Tiny(), 4, 1)
    assert lost == [0]
    states = numbers_by_state(study)
    assert states["FAIL"] == [0]
    assert len(states["COMPLETE"]) == n_finished(study) == 4
    assert "RUNNING" not in states


def test_a_trial_that_the_storage_began_twice_is_not_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study()
    create, doubled = InMemoryStorage.create_new_trial, []

    def create_twice_once(self: InMemoryStorage, *arguments: Any, **named: Any) -> int:
        if not doubled:
            doubled.append(create(self, *arguments, **named))
        return create(self, *arguments, **named)

    monkeypatch.setattr(InMemoryStorage, "create_new_trial", create_twice_once)
    run(study, Tiny(), 4, 1)
    # It counted as running until there was nobody left to run it.
    assert numbers_by_state(study) == {"FAIL": [0], "COMPLETE": [1, 2, 3], "WAITING": [4]}
    run(study, Tiny(), 4, 1)
    assert numbers_by_state(study) == {"FAIL": [0], "COMPLETE": [1, 2, 3, 4]}
