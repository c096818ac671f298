"""Searches on a PostgreSQL server, which goes away in the middle of one and comes back."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study

from metafe.contracts import SearchError
from metafe.search import attempts
from metafe.search.reclaiming import n_finished
from metafe.search.storage import make_storage
from metafe.search.workers import run
from tests.search.postgres import Server, find
from tests.search.tiny import Tiny, meanwhile, numbers_by_state, wait_until

pytestmark = pytest.mark.skipif(
    find("initdb") is None and "CI" not in os.environ, reason="needs the programs of a PostgreSQL server"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="metafe-postgresql-") as folder:
        server = Server(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def study(server: Server) -> Iterator[Study]:
    storage = make_storage(server.url)
    yield optuna.create_study(storage=storage)
    storage.remove_session()
    storage.engine.dispose()


def test_a_search_outlives_its_server(server: Server, study: Study) -> None:
    finished = []

    def restart() -> None:
        wait_until(lambda: n_finished(study) >= 3)
        finished.extend(trial for trial in study.trials if trial.state.is_finished())
        server.stop()
        server.wait_for_someone_who_connects()
        server.start()

    with meanwhile(restart):
        run(study, Tiny(0.1, n_steps=3), 12, 2)
    assert n_finished(study) == 12
    states = numbers_by_state(study)
    assert len(states["COMPLETE"]) == 12
    # What the server had begun when it stopped may wait for another search.
    assert set(states) <= {"COMPLETE", "FAIL", "WAITING"}
    assert finished
    assert [study.trials[trial.number] for trial in finished] == finished


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_stays_away_ends_the_search_and_keeps_its_trials(
    server: Server, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Last(Tiny):
        def __call__(self, trial: Any) -> float:
            value = super().__call__(trial)
            if trial.number == 2:
                server.stop()
            return value

    monkeypatch.setattr(attempts, "OUTAGE_SECONDS", 0.0)
    try:
        with pytest.raises(SearchError, match="must be reachable; got StorageInternalError"):
            run(study, Last(), 6)
    finally:
        server.start()
    assert numbers_by_state(study)["COMPLETE"] == [0, 1]


def test_a_server_that_is_not_there_is_one_clear_error(server: Server) -> None:
    server.stop()
    try:
        with pytest.raises(SearchError, match="must be reachable") as caught:
            make_storage(server.url)
    finally:
        server.start()
    assert "secret" not in str(caught.value)
