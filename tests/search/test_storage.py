"""Where a study is kept, and how it is found again."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from sklearn.metrics import make_scorer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sqlalchemy.exc import IntegrityError, OperationalError

from metafe import MetaFeatureExtractor
from metafe.backbones import SklearnTransformer
from metafe.contracts import InvalidParameterError, MetafeWarning, SearchError
from metafe.search.describing import described
from metafe.search.storage import Address, make_storage, open_study, quiet, without_password


@pytest.fixture(params=["sqlite", "journal", "journal-url", "path", "object"])
def storage(request, tmp_path):
    """A place to keep a study, of each kind."""
    return {
        "sqlite": f"sqlite:///{tmp_path}/study.db",
        "journal": str(tmp_path / "deep" / "study.log"),
        "journal-url": f"journal:///{tmp_path}/study.log",
        "path": tmp_path / "study.log",
        "object": optuna.storages.InMemoryStorage(),
    }[request.param]


def test_a_second_call_goes_on(brief, blobs, storage):
    first = brief(storage=storage, n_trials=3).fit(*blobs)
    second = brief(storage=storage, n_trials=5).fit(*blobs)
    third = brief(storage=storage, n_trials=5).fit(*blobs)
    assert first.study_.study_name == second.study_.study_name
    for earlier, later in [(first, second), (second, third)]:
        kept = later.study_.trials[: len(earlier.cv_results_["trial"])]
        assert [t.value for t in kept] == earlier.cv_results_["mean_test_score"].tolist()
    assert [len(s.cv_results_["trial"]) for s in (first, second, third)] == [3, 5, 5]
    assert third.best_score_ == second.best_score_


def test_a_path_of_a_journal_url_may_be_absolute_or_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in (f"journal:///{tmp_path}/absolute.log", "journal:///relative.log"):
        make_storage(url)
    assert {p.name for p in tmp_path.iterdir()} >= {"absolute.log", "relative.log"}


def test_other_data_or_another_space_is_another_study(brief, blobs, tmp_path):
    X, y = blobs
    storage = tmp_path / "study.log"
    names = {
        brief(storage=storage, n_trials=1, **other).fit(rows, labels).study_.study_name
        for rows, labels, other in [
            (X, y, {}),
            (X + 1, y, {}),
            (X, y[::-1], {}),
            (X, y, {"cv": 3}),
            (X, y, {"objectives": ("score", "latency")}),
            (X, y, {"algorithms": None, "extractor": None, "backbones": ["mlp"]}),
        ]
    }
    assert len(names) == 6


@pytest.mark.parametrize(
    ("change", "word"), [({"X": 1}, "data"), ({"cv": 3}, "cv"), ({"backbones": ["mlp"], "extractor": None}, "space")]
)
def test_a_name_with_another_fingerprint_is_an_error_that_says_what_differs(brief, blobs, tmp_path, change, word):
    X, y = blobs
    named = {"storage": tmp_path / "study.log", "study_name": "mine", "n_trials": 1}
    brief(**named).fit(X, y)
    shift = change.get("X", 0)
    search = brief(**named, **{name: value for name, value in change.items() if name != "X"})
    with pytest.raises(SearchError, match=f"'mine' must be continued .* another .*{word}"):
        search.fit(X + shift, y)


def score_of_classifier(estimator, X, y):
    """A scorer of one's own."""
    return estimator.score(X, y)


def scaling(scale):
    """Return a function that no name tells apart."""
    return lambda X: X * scale


SCRIPT = """
import sys
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tests.search.test_storage import scaling, score_of_classifier
from metafe import MetaFeatureExtractor, MetaFeatureSearchCV
from metafe.backbones import SklearnTransformer
X, y = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 4
final = make_pipeline(FunctionTransformer(lambda X: X + 1), FunctionTransformer(scaling(2)), LogisticRegression())
backbone = SklearnTransformer(FunctionTransformer(scaling(3)))
search = MetaFeatureSearchCV(
    MetaFeatureExtractor(backbone), scoring=score_of_classifier, final_estimator=final, n_trials=1
)
print(search.fit(X, y).study_.study_name)
"""


def test_functions_of_ones_own_have_the_same_study_in_every_process():
    names = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }
    assert len(names) == 1


def test_final_estimators_are_told_apart_by_every_setting(brief, blobs, tmp_path):
    def long_pipeline(shift):
        scalers = [MinMaxScaler((0, n)) for n in range(1, 40)]
        return make_pipeline(*scalers, MinMaxScaler((shift, 100)), *scalers, GaussianNB())

    # scikit-learn leaves the middle out.
    assert repr(long_pipeline(1)) == repr(long_pipeline(2))
    judged = {"scoring": "accuracy", "storage": tmp_path / "study.log", "n_trials": 1}
    searches = [brief(**judged, final_estimator=long_pipeline(shift)).fit(*blobs) for shift in (1, 2)]
    assert len({search.study_.study_name for search in searches}) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"final_estimator": make_pipeline(FunctionTransformer(lambda X: X + 2), GaussianNB())},
        {"final_estimator": make_pipeline(FunctionTransformer(scaling(2)), GaussianNB())},
        {"scoring": lambda estimator, X, y: 0.5 * estimator.score(X, y)},
        {"scoring": make_scorer(lambda y, predicted: (y == predicted).mean())},
        {"scoring": partial(score_of_classifier)},
        {"extractor": MetaFeatureExtractor(SklearnTransformer(FunctionTransformer(scaling(2))))},
    ],
)
def test_functions_of_ones_own_are_told_apart(brief, blobs, other):
    usual = {
        "scoring": lambda estimator, X, y: estimator.score(X, y),
        "final_estimator": make_pipeline(FunctionTransformer(scaling(3)), GaussianNB()),
        "extractor": MetaFeatureExtractor(SklearnTransformer(FunctionTransformer(scaling(3)))),
    }
    changes = (usual, usual | other)
    names = {brief(**change, n_trials=1).fit(*blobs).study_.study_name for change in changes}
    assert len(names) == 2


def test_what_contains_itself_can_be_described():
    def recursive(x):
        return recursive(x - 1)

    assert described(recursive) == described(recursive)


def test_a_study_of_someone_else_is_an_error():
    storage = optuna.storages.InMemoryStorage()
    with quiet(0):
        other = optuna.create_study(storage=storage, study_name="theirs")
        other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(SearchError, match="has other trials"):
        open_study(storage, "theirs", {"data": "1"}, ["minimize"])


def test_a_study_with_other_directions_is_an_error(monkeypatch):
    monkeypatch.setattr("metafe.search.storage.BEGIN_SECONDS", 0.0)
    storage = optuna.storages.InMemoryStorage()
    with quiet(0):
        optuna.create_study(storage=storage, study_name="theirs", directions=["minimize", "maximize"])
    with pytest.raises(SearchError, match="has other directions"):
        open_study(storage, "theirs", {"data": "1"}, ["maximize"])


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite:////nowhere/at/all/study.db",
        "postgresql+nodriver://me:secret@localhost:1/db",
        "grpc://localhost:1",
        "/proc/study.log",
    ],
)
def test_a_storage_that_cannot_be_reached_is_one_error_before_any_training(
    brief, blobs, storage, count_steps, monkeypatch
):
    monkeypatch.setattr("metafe.search.storage.SERVER_SECONDS", 0.01)
    with pytest.raises(SearchError, match="must be reachable") as caught:
        brief(storage=storage, algorithms=["counting"], extractor=None, backbones=["mlp"]).fit(*blobs)
    assert "secret" not in str(caught.value)
    assert not count_steps


@pytest.mark.parametrize(
    "error",
    [
        IntegrityError("INSERT", None, ValueError("UNIQUE constraint failed: alembic_version.version_num")),
        OperationalError("CREATE TABLE", None, ValueError("table studies already exists")),
    ],
)
def test_tables_that_another_process_has_just_made_are_taken(tmp_path, monkeypatch, error):
    raised = [error]

    def race(*args, **settings):
        if raised:
            raise raised.pop()
        return RDBStorage(*args, **settings)

    monkeypatch.setattr("metafe.search.storage.RDBStorage", race)
    monkeypatch.setattr("metafe.search.storage.TABLES_SECONDS", 0.0)
    assert isinstance(make_storage(f"sqlite:///{tmp_path}/study.db"), RDBStorage)
    assert not raised


@pytest.mark.parametrize("storage", [3, "grpc://localhost", object()])
def test_what_is_no_storage_is_an_error(storage):
    with pytest.raises(InvalidParameterError, match="storage"):
        make_storage(storage)


@pytest.mark.parametrize("content", [b"x", b"a,b\n1,2\n", b"SQLite format 3\0", None])
def test_a_file_of_something_else_is_no_journal_and_left_alone(tmp_path, content):
    path = tmp_path / "study"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InvalidParameterError, match="must be the path of a journal file"):
        make_storage(path)
    assert content is None or path.read_bytes() == content


def test_passwords_are_left_out():
    assert without_password("no postgresql://me:pa:ss@h/db here") == "no postgresql://me:***@h/db here"
    assert without_password("sqlite:///a.db") == "sqlite:///a.db"


def test_relational_storage_notices_dead_workers(tmp_path):
    storage = make_storage(f"sqlite:///{tmp_path}/study.db")
    assert storage.get_heartbeat_interval() > 0
    assert storage.get_heartbeat_stale_trial_callback() is not None


def test_a_relational_storage_without_heartbeats_is_one_warning(brief, blobs, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    with pytest.warns(MetafeWarning, match="should have heartbeats") as warned:
        brief(storage=optuna.storages.RDBStorage(url), n_trials=1).fit(*blobs)
    assert len(warned) == 1
    brief(storage=make_storage(url), n_trials=1).fit(*blobs)


def test_optuna_says_what_it_did_before(brief, blobs):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    brief(n_trials=1).fit(*blobs)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING


def test_any_process_can_open_a_study_by_its_address(tmp_path):
    address = Address(str(tmp_path / "study.log"), "mine")
    with quiet(0):
        address.open().enqueue_trial({"x": 1})
        assert len(address.open().trials) == 1


def test_a_continued_study_keeps_its_seed_and_draws_something_else(brief, blobs, tmp_path):
    first = brief(storage=tmp_path / "study.log", n_trials=9).fit(*blobs)
    second = brief(storage=tmp_path / "study.log", n_trials=12, random_state=3).fit(*blobs)
    assert second.best_estimator_.random_state == first.best_estimator_.random_state
    drawn = [str(p) for p in second.cv_results_["params"]]
    assert len(set(drawn)) == len(drawn)
