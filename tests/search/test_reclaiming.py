"""Trials that a dead process has left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study
from optuna.trial import Trial

from metafe.search import attributes as attribute
from metafe.search import reclaiming
from metafe.search.reclaiming import RETRIES, is_alive, n_finished, reclaim, requeue
from metafe.search.storage import make_storage
from tests.search.tiny import Tiny, numbers_by_state, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return optuna.create_study(storage=JournalStorage(JournalFileBackend(str(tmp_path / "study.log"))))


@pytest.fixture(scope="module")
def dead() -> dict[str, Any]:
    """What told a process from all others that is gone."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = attribute.process_start(process.pid)
    process.communicate()
    return attribute.this_process() | {"pid": process.pid, "started": started}


def begin(study: Study, worker: dict[str, Any]) -> Trial:
    trial = study.ask()
    trial.set_user_attr(attribute.WORKER, worker)
    trial.suggest_float("x", 0.0, 1.0)
    return trial


def test_the_trial_of_a_dead_process_is_enqueued_again(study: Study, dead: dict[str, Any]) -> None:
    study.enqueue_trial({"x": 0.25}, user_attrs={"baseline": "PCA"})
    begin(study, dead)
    reclaim(study)
    assert numbers_by_state(study) == {"FAIL": [0], "WAITING": [1]}
    assert (
        study.trials[0].user_attrs[attribute.ERROR]["message"] == "The process of the trial ended in the middle of it."
    )
    assert study.trials[1].params == {"x": 0.25}
    assert study.trials[1].user_attrs == {"baseline": "PCA"}
    study.optimize(Tiny(), n_trials=1)
    assert study.trials[1].value == 0.25
    assert n_finished(study) == 1


def test_what_runs_is_left_alone(study: Study, dead: dict[str, Any]) -> None:
    begin(study, attribute.this_process())
    begin(study, dead | {"host": "elsewhere"})
    study.ask()
    reclaim(study)
    assert numbers_by_state(study) == {"RUNNING": [0, 1, 2]}


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it() -> None:
    this = attribute.this_process()
    assert is_alive(this)
    assert not is_alive(this | {"started": this["started"] - 1})


def test_a_process_that_has_ended_is_dead_before_its_parent_asks_for_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    worker = attribute.this_process() | {"pid": process.pid, "started": attribute.process_start(process.pid)}
    assert is_alive(worker)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(worker))
    process.communicate()


def test_a_trial_without_a_name_is_given_up_after_some_time(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.ask()
    monkeypatch.setattr(reclaiming, "NAMELESS", timedelta(0))
    reclaim(study)
    assert numbers_by_state(study) == {"FAIL": [0], "WAITING": [1]}


def test_a_trial_that_kills_every_worker_fails_for_good(study: Study, dead: dict[str, Any]) -> None:
    for n in range(RETRIES + 1):
        begin(study, dead)
        reclaim(study)
        assert n_finished(study) == (n == RETRIES)
    assert numbers_by_state(study) == {"FAIL": list(range(RETRIES + 1))}
    last = study.trials[-1]
    assert RetryHeartbeatStaleTrialCallback.retried_trial_number(last) == 0
    assert RetryHeartbeatStaleTrialCallback.retry_history(last) == list(range(RETRIES))


def test_two_that_reclaim_the_same_trial_enqueue_it_once(study: Study, dead: dict[str, Any]) -> None:
    begin(study, dead)
    stale = study.trials[0]
    reclaiming.give_up(study, stale, "first")
    reclaiming.give_up(study, stale, "second")
    assert numbers_by_state(study) == {"FAIL": [0], "WAITING": [1]}
    assert study.trials[0].user_attrs[attribute.ERROR]["message"] == "first"


def test_relational_storages_notice_by_themselves(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    storage = make_storage(url)
    assert storage.get_heartbeat_interval() < storage.grace_period
    assert storage.get_heartbeat_stale_trial_callback() is requeue


def test_a_worker_of_another_host_that_was_killed_is_noticed_by_its_heartbeat(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    storage = RDBStorage(url, heartbeat_interval=1, grace_period=2, heartbeat_stale_trial_callback=requeue)
    study = optuna.create_study(storage=storage, study_name="tiny")
    code = (
        "import optuna, time; from optuna.storages import RDBStorage\n"
        f"study = optuna.load_study(study_name='tiny', storage=RDBStorage({url!r}, heartbeat_interval=1, grace_period=2))\n"
        "def objective(trial):\n"
        "    trial.set_user_attr('worker', {'host': 'elsewhere', 'pid': 1, 'started': 1})\n"
        "    trial.suggest_float('x', 0, 1)\n"
        "    time.sleep(100)\n"
        "study.optimize(objective)"
    )
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
    try:
        wait_until(lambda: study.trials and study.trials[0].params)
        reclaim(study)
        assert numbers_by_state(study) == {"RUNNING": [0]}
    finally:
        process.kill()
        process.wait()

    def is_reclaimed() -> bool:
        reclaim(study)
        return len(study.trials) == 2

    wait_until(is_reclaimed)
    assert numbers_by_state(study) == {"FAIL": [0], "WAITING": [1]}
    assert study.trials[1].params == study.trials[0].params
    assert attribute.WORKER not in study.trials[1].user_attrs
