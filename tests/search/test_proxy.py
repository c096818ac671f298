"""Searches through Optuna's gRPC proxy, which stands between many workers and a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.storages._grpc.server import make_server

from metafe.contracts import InvalidParameterError, SearchError
from metafe.search import attributes as attribute
from metafe.search import storage as storages
from metafe.search.storage import make_storage
from tests.search.postgres import free_port
from tests.search.tiny import numbers_by_state

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    database = RDBStorage(f"sqlite:///{tmp_path}/study.db")
    server = make_server(database, "127.0.0.1", port)
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


def test_two_workers_search_through_a_proxy(brief: Any, blobs: tuple[np.ndarray, np.ndarray], proxy: str) -> None:
    search = brief(storage=proxy, n_jobs=2, n_trials=8).fit(*blobs)
    assert set(numbers_by_state(search.study_)) <= {"COMPLETE", "PRUNED"}
    assert len({trial.user_attrs[attribute.WORKER]["pid"] for trial in search.study_.trials}) == 2
    again = brief(storage=proxy, n_trials=9).fit(*blobs)
    assert len(again.cv_results_["trial"]) == 9
    names = optuna.get_all_study_names(make_storage(proxy))
    assert names == [search.study_.study_name]


def test_a_proxy_that_is_not_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages, "SERVER_SECONDS", 0.5)
    with pytest.raises(SearchError, match="must be reachable"):
        make_storage(f"grpc://127.0.0.1:{free_port()}")
    with pytest.raises(InvalidParameterError, match="grpc://host:port"):
        make_storage("grpc://localhost")
