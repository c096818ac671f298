"""Trials in the workers of a Dask cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dask
import joblib
import pytest
from distributed import Client, LocalCluster
from optuna.trial import TrialState

from metafe.search import attributes as attribute
from metafe.search.reclaiming import n_finished
from metafe.search.workers import run
from tests.search.tiny import Tiny, meanwhile, numbers_by_state, open_journal, wait_until, workers_of


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "local_directory": str(tmp_path)}
    # By itself, Dask tries what has killed a worker in another; here metafe is told of the first death.
    at_once = dask.config.set({"distributed.scheduler.allowed-failures": 0})
    with at_once, LocalCluster(**settings) as cluster, Client(cluster) as client:
        yield client


def test_a_cluster_runs_the_trials_and_survives_the_death_of_a_worker(client: Client, tmp_path: Path) -> None:
    study = open_journal(tmp_path)

    def kill() -> None:
        wait_until(lambda: n_finished(study) >= 2)
        victim = wait_until(lambda: study.trials[1].user_attrs.get(attribute.WORKER))
        wait_until(lambda: study.trials[1].params)
        os.kill(victim["pid"], signal.SIGKILL)

    with meanwhile(kill), joblib.parallel_config(backend="dask"):
        run(study, Tiny(0.05, waiting=[1]), 6)
    states = numbers_by_state(study)
    assert states["FAIL"] == [1]
    assert len(states["COMPLETE"]) == 6
    again = next(trial for trial in study.trials if trial.system_attrs.get("retry_history") == [1])
    assert again.params == study.trials[1].params
    assert os.getpid() not in workers_of(study, TrialState.COMPLETE)
