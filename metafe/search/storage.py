"""Where a study is kept, and how it is found again."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import Study
from sklearn.utils import _safe_indexing
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, IntegrityError, ProgrammingError

from metafe.contracts import InvalidParameterError, MetafeWarning, SearchError, TaskData
from metafe.search.journal import open_journal
from metafe.search.reclaiming import requeue

Direction = Literal["minimize", "maximize"]

# Study attributes.
FINGERPRINT = "metafe_fingerprint"
SEED = "metafe_seed"

# Of a worker that dies, a relational storage notices after this many seconds without a sign of life.
HEARTBEAT_SECONDS = 15
GRACE_SECONDS = 60
# Larger data is told apart by this many rows spread over it, and by all labels and groups.
WHOLE_BYTES = 2**26
HASHED_ROWS = 1024
SERVER_SECONDS = 10
# A study without trials is one that another process is about to begin, unless that has died.
BEGIN_SECONDS = 5.0
# In which another process makes the tables of a database.
TABLES_SECONDS = 0.5


@dataclass(frozen=True)
class Address:
    """Which study it is; any process can open it.

    Parameters
    ----------
    storage : None, str, Path or optuna storage
    name : str
    directions : tuple of str
    """

    storage: Any
    name: str
    directions: tuple[Direction, ...] = ("maximize",)

    def open(self, sampler: BaseSampler | None = None, pruner: BasePruner | None = None) -> Study:
        """Return the study, made where there is none.

        Raises
        ------
        SearchError
            The storage cannot be reached.
        InvalidParameterError
            It is none.
        """
        storage = make_storage(self.storage)
        with reaching(self.storage):
            common: dict[str, Any] = {"sampler": sampler, "pruner": pruner}
            try:
                return optuna.create_study(
                    storage=storage, study_name=self.name, directions=list(self.directions), **common
                )
            except DuplicatedStudyError:
                study = optuna.load_study(storage=storage, study_name=self.name, **common)
                _wait_for_first_trials(study)
                return study


def open_study(
    storage: Any,
    study_name: str | None,
    fingerprint: Mapping[str, str],
    directions: Sequence[Direction],
    *,
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
) -> Study:
    """Open the study of some data and space, or begin it.

    Parameters
    ----------
    storage : None, str, Path or optuna storage
        As `make_storage` takes it.
    study_name : str or None
        None derives it from the fingerprint, so that the same search finds its study again.
    fingerprint : mapping of str to str
        From a word for what must be the same, such as "data", to its hash.
    directions : sequence of str
    sampler : optuna sampler
    pruner : optuna pruner

    Returns
    -------
    optuna.study.Study

    Raises
    ------
    SearchError
        The storage cannot be reached, or holds another search under that name.
    """
    if isinstance(storage, BaseHeartbeat) and storage.get_heartbeat_interval() is None:
        # Of an object that someone else has made, it cannot be switched on.
        warnings.warn(
            f"storage should have heartbeats; got {type(storage).__name__} with heartbeat_interval=None, so that a trial whose "
            "worker dies on another computer stays marked as running. Pass its URL, or set heartbeat_interval and "
            "heartbeat_stale_trial_callback.",
            MetafeWarning,
            stacklevel=6,
        )
    name = study_name or f"metafe-{joblib.hash(sorted(fingerprint.items()))[:12]}"
    study = Address(storage, name, tuple(directions)).open(sampler, pruner)
    with reaching(storage):
        known = study.user_attrs.get(FINGERPRINT)
        others = [direction.name.lower() for direction in study.directions] != list(directions)
        if known is None and (others or study.get_trials(deepcopy=False)):
            raise SearchError(
                f"Study {name!r} must be one of metafe's; it has other {'directions' if others else 'trials'}. Choose another "
                "study_name."
            )
        if known is None:
            study.set_user_attr(FINGERPRINT, dict(fingerprint))
        elif differing := [word for word in fingerprint if known.get(word) != fingerprint[word]]:
            raise SearchError(
                f"Study {name!r} must be continued with what it was begun with; got another {' and '.join(differing)}. "
                "Choose another study_name, or none, which finds the study that fits."
            )
    return study


def _wait_for_first_trials(study: Study) -> None:
    """Let the machine that has made the study enqueue what comes first, so that two that begin together do it once."""
    give_up_at = time.monotonic() + BEGIN_SECONDS
    while not study.get_trials(deepcopy=False) and time.monotonic() < give_up_at:
        time.sleep(0.1)


def make_storage(storage: Any) -> BaseStorage:
    """Return the storage.

    Parameters
    ----------
    storage : None, str, Path or optuna storage
        None is in memory; ``"sqlite:///..."`` or another URL of a relational database, whose dead workers are noticed and
        their trials tried again; a path or ``"journal:///..."`` is a journal file (of a URL, four slashes begin an absolute path); ``"grpc://host:port"`` a proxy.

    Raises
    ------
    SearchError
        It cannot be reached.
    InvalidParameterError
        It is none.
    """
    if storage is None:
        return optuna.storages.InMemoryStorage()
    if isinstance(storage, BaseStorage):
        return storage
    if not isinstance(storage, str | Path):
        raise InvalidParameterError(f"storage must be None, a URL, a path or a storage of optuna; got {storage!r}.")
    scheme, _, rest = str(storage).partition("://")
    with reaching(storage), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if (journal := _journal_of(storage)) is not None:
            return open_journal(journal)
        if scheme == "grpc":
            return _proxy(rest)
        return _relational(str(storage), scheme)


def file_of(storage: str | Path) -> Path | None:
    """Return the file that a URL or path stands for; None for a server or memory, or where SQLite's own URI tells."""
    if (journal := _journal_of(storage)) is not None:
        return journal
    if not str(storage).startswith("sqlite"):
        return None
    with reaching(storage):
        url = make_url(str(storage))
    is_path = url.database not in (None, "", ":memory:") and "uri" not in url.query
    return Path(str(url.database)) if is_path else None


def _journal_of(storage: str | Path) -> Path | None:
    """Return the path of a journal file; None for another storage."""
    scheme, separator, rest = str(storage).partition("://")
    if not separator:
        return Path(storage)
    # As in SQLAlchemy's URLs, three slashes stand before a relative path and four before an absolute one.
    return Path(rest.removeprefix("/")) if scheme == "journal" else None


def fingerprint_of(data: TaskData, **parts: Any) -> dict[str, str]:
    """Return hashes of the data and of whatever else must be the same to continue a study.

    Parameters
    ----------
    data : TaskData
        All raw rows.
    **parts : object
        JSON types, or what joblib can hash.
    """
    whole = isinstance(data.x, np.ndarray) and data.x.nbytes <= WHOLE_BYTES
    some = np.linspace(0, len(data.x) - 1, min(len(data.x), HASHED_ROWS), dtype=np.int64)
    rows = np.asarray(data.x) if whole else _safe_indexing(data.x, some)
    found = {"data": (np.shape(data.x)[:1], rows, data.y, data.groups)} | parts
    return {word: str(joblib.hash(value)) for word, value in found.items()}


@contextmanager
def quiet(verbose: int) -> Iterator[None]:
    """Keep optuna from logging each trial, and from warning that what metafe uses is experimental; restored after."""
    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            if verbose < 2:
                optuna.logging.set_verbosity(optuna.logging.CRITICAL)
            yield
        finally:
            optuna.logging.set_verbosity(before)


def _proxy(address: str) -> GrpcStorageProxy:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidParameterError(f"storage of a proxy must be 'grpc://host:port'; got 'grpc://{address}'.")
    proxy = GrpcStorageProxy(host=host, port=int(port))
    proxy.wait_server_ready(timeout=SERVER_SECONDS)
    return proxy


def _relational(url: str, scheme: str, attempts: int = 3) -> RDBStorage:
    try:
        return RDBStorage(
            url,
            engine_kwargs=_engine_options(scheme),
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=requeue,
        )
    except DatabaseError as error:
        # Of several that begin with an empty database together, one makes the tables.
        made_meanwhile = isinstance(error, IntegrityError | ProgrammingError) or "already exists" in str(error)
        if attempts == 1 or not made_meanwhile:
            raise
    time.sleep(TABLES_SECONDS)
    return _relational(url, scheme, attempts - 1)


def _engine_options(scheme: str) -> dict[str, Any]:
    # A connection that a restarted server has closed is replaced in place of raising.
    return {} if scheme.startswith("sqlite") else {"pool_pre_ping": True}


@contextmanager
def reaching(storage: Any) -> Iterator[None]:
    """Turn whatever a storage raises into one error that says which could not be reached."""
    try:
        yield
    except (SearchError, InvalidParameterError):
        raise
    except Exception as error:  # every driver has exceptions of its own
        message = without_password(str(error).splitlines()[0] if str(error) else "")
        raise SearchError(
            f"The storage of a search must be reachable; got {type(error).__name__}: {message} for "
            f"{without_password(str(storage))!r}. Check that the server runs, that the folder exists and may be written, and "
            "that the driver is installed."
        ) from None


def without_password(text: str) -> str:
    """Return text with the password of every URL in it left out.

    Examples
    --------
    >>> without_password("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)
