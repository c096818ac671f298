"""Encoded rows, kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

FOLDER_VARIABLE, SIZE_VARIABLE = "METAFE_CACHE", "METAFE_CACHE_MEGABYTES"
DEFAULT_MEGABYTES = 4096
# Of one query; SQLite allows at least 999 values.
KEYS_AT_ONCE = 900
# Larger results lie on disk, so that memory does not grow with the number of rows.
LARGEST_IN_MEMORY = 2**28
SECONDS_TO_WAIT = 60.0
PAGE_BYTES, CHUNK_KILOBYTES = 2**14, 2**15
# What is thrown away when the cache is full, so that the next rows find room.
SHARE_FREED = 0.2

_TABLES = """
CREATE TABLE IF NOT EXISTS layouts (configuration BLOB PRIMARY KEY, dtype TEXT NOT NULL, shape TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, used INTEGER NOT NULL, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON rows (used);
"""

_log = logging.getLogger("metafe")

_Layout = tuple[np.dtype[Any], tuple[int, ...]]
Compute = Callable[[Sequence[int]], np.ndarray]


class RowCache:
    """Rows that are expensive to encode, computed once for all processes of a user.

    A row is found by its own key and the configuration of what encodes it. The rows lie in one SQLite file, which several
    processes may use at once. Where it cannot be used, on a disk that is full for example, rows are computed and one line
    is logged.

    Parameters
    ----------
    configuration : mapping
        Everything that the values depend on beside the row: name, version and parameters of the encoder. JSON types.
    folder : str or Path or None, default=None
        Where the file lies. None takes what the environment variable ``METAFE_CACHE`` says: a folder, or ``off`` for no
        cache; without it, ``metafe`` in the user's cache folder.

    Notes
    -----
    The file is kept below ``METAFE_CACHE_MEGABYTES`` (4096 unless set): what was not used for longest makes room. A large
    result lies beside it while it is used.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     cache = RowCache({"encoder": "lengths"}, folder)
    ...     words = ["one", "three"]
    ...     first = cache.rows([content_key(w) for w in words], lambda which: np.array([[len(words[i])] for i in which]))
    ...     second = cache.rows([content_key("three")], lambda which: None)
    >>> first.tolist(), second.tolist()
    ([[3], [5]], [[5]])
    """

    def __init__(self, configuration: Mapping[str, Any], folder: str | Path | None = None) -> None:
        described = json.dumps(configuration, sort_keys=True, default=repr)
        self._configuration = hashlib.blake2b(described.encode(), digest_size=16).digest()
        self._folder = cache_folder() if folder is None else Path(folder)

    def rows(
        self, keys: Sequence[bytes], compute: Compute, chunk: int = 256, unreadable: Container[int] = ()
    ) -> np.ndarray:
        """Return a row for each key: those that are known from disk, the others computed and kept.

        Parameters
        ----------
        keys : sequence of bytes
            One for each row, such as `content_key` and `file_key` make.
        compute : callable
            Takes positions in ``keys``, at most ``chunk`` of them, and returns an array ``(len(positions), *row_shape)``
            of one type and row shape for all calls. Each row must depend on its own input alone.
        chunk : int, default=256
            Rows are kept after each chunk, so that an interrupted call has lost one at most.
        unreadable : container of int, default=()
            Positions whose rows are not kept but tried again next time, such as those of damaged files; ``compute`` may
            add to it.

        Returns
        -------
        ndarray of shape (n, *row_shape)
            Memory-mapped where it is above 256 MB; of shape (0, 0) without keys, since no row tells its shape.

        Raises
        ------
        InvalidParameterError
            ``METAFE_CACHE_MEGABYTES`` is no number of megabytes.
        """
        full = [self._configuration + key for key in keys]
        result = _Result(len(full), self._folder)
        with self._store() as store:
            found = store.fill(result, full, self._configuration) if store else np.zeros(len(full), dtype=bool)
            missing = np.flatnonzero(~found)
            for start in range(0, len(missing), chunk):
                which = missing[start : start + chunk].tolist()
                values = _one_for_each(which, compute(which))
                result.put(which, values)
                if store:
                    good = [k for k, i in enumerate(which) if i not in unreadable]
                    kept = values if len(good) == len(which) else values[good]
                    store.keep(self._configuration, [full[which[k]] for k in good], kept)
        return result.array()

    @contextmanager
    def _store(self) -> Iterator[_Store | None]:
        store = None if self._folder is None else _opened(self._folder)
        try:
            yield store
        finally:
            if store:
                store.close()


def cache_folder() -> Path | None:
    """Return the folder of the cache, or None where ``METAFE_CACHE`` is ``off``."""
    chosen = os.environ.get(FOLDER_VARIABLE, "")
    if chosen.lower() == "off":
        return None
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metafe"


def content_key(row: str | bytes | np.ndarray) -> bytes:
    """Return a key that two rows share if their contents are the same."""
    if isinstance(row, np.ndarray):
        layout = f"{row.dtype.str}{row.shape}".encode()
        return hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16, person=_short(layout)).digest()
    content = row.encode("utf-8", "surrogatepass") if isinstance(row, str) else row
    return hashlib.blake2b(content, digest_size=16).digest()


def file_key(path: str | os.PathLike[str]) -> bytes:
    """Return a key of a file by its path, size and time of change: a file written anew is another row.

    A file that does not exist has a key too.
    """
    full = os.path.abspath(path)  # noqa: PTH100 - a Path for each of a million files takes ten times as long
    try:
        found = os.stat(full)  # noqa: PTH116 - as above
        state = f"{found.st_size}/{found.st_mtime_ns}"
    except (OSError, ValueError):
        # A path that no file can have, such as one with a NUL, raises the second.
        state = "missing"
    return hashlib.blake2b(f"{full}\0{state}".encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _one_for_each(which: Sequence[int], values: np.ndarray) -> np.ndarray:
    if len(values) != len(which):
        raise ValueError(f"compute must return one row for each of {len(which)} positions; got {len(values)}.")
    return np.ascontiguousarray(values)


def _short(layout: bytes) -> bytes:
    return hashlib.blake2b(layout, digest_size=16).digest()


class _Result:
    """The rows of one call; memory is taken when the first row tells their shape."""

    def __init__(self, n_rows: int, folder: Path | None) -> None:
        self._n_rows = n_rows
        self._folder = folder
        self._array: np.ndarray | None = None

    def put(self, which: Sequence[int], values: np.ndarray) -> None:
        if self._array is None:
            self._take_memory((values.dtype, values.shape[1:]))
        assert self._array is not None
        self._array[which] = values

    def put_bytes(self, position: int, value: bytes, layout: _Layout) -> None:
        if self._array is None:
            self._take_memory(layout)
        self._as_bytes[position] = np.frombuffer(value, np.uint8)

    def _take_memory(self, layout: _Layout) -> None:
        dtype, shape = layout
        self._array = _empty((self._n_rows, *shape), dtype, self._folder)
        self._as_bytes = self._array.reshape(self._n_rows, -1).view(np.uint8)

    def array(self) -> np.ndarray:
        return np.empty((0, 0), np.float32) if self._array is None else self._array


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None) -> np.ndarray:
    if math.prod(shape) * dtype.itemsize <= LARGEST_IN_MEMORY:
        return np.empty(shape, dtype)
    with _file_without_name(folder) as file:
        # It lives as long as the mapping does.
        return np.memmap(file, dtype, "w+", shape=shape)


def _file_without_name(folder: Path | None) -> IO[bytes]:
    """Open a file in the folder of the cache, since that for temporary files often lies in memory."""
    if folder is not None:
        with suppress(OSError):
            return tempfile.TemporaryFile(dir=folder)
    return tempfile.TemporaryFile()


def _most_bytes() -> int:
    """Return how large the file may grow."""
    given = os.environ.get(SIZE_VARIABLE) or str(DEFAULT_MEGABYTES)
    with suppress(ValueError):
        if 0 <= float(given) < math.inf:
            return int(float(given) * 2**20)
    # Not before it is needed: several processes begin with this module alone, which is quick.
    from metafe.contracts.errors import InvalidParameterError

    raise InvalidParameterError(
        f"{SIZE_VARIABLE} must be a finite number of megabytes of at least 0; got {given!r}. Set it to a number such as "
        f"{DEFAULT_MEGABYTES}, or leave it unset."
    )


def _opened(folder: Path) -> _Store | None:
    path = folder / "rows.sqlite"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return _Store(path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            _throw_away(path)
            return _Store(path)
    except (OSError, sqlite3.Error) as error:
        _log.warning(f"Encoded rows are not cached: {folder} cannot be used ({error}). {FOLDER_VARIABLE} moves it.")
        return None


def _is_damage(error: sqlite3.Error) -> bool:
    """Tell a file that is damaged from one that is locked, full or not ours to write."""
    # The lowest byte is the kind of error, and the others tell more of it.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _throw_away(path: Path) -> None:
    """Remove a damaged file. A process that has it open goes on with what no longer has a name."""
    _log.warning(f"The cache of encoded rows is damaged and begins anew: {path}.")
    with suppress(OSError):
        for suffix in ("", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


class _Store:
    """The SQLite file. Every error on the way costs the cache and nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._most_bytes = _most_bytes()
        self._connection = sqlite3.connect(path, timeout=SECONDS_TO_WAIT, isolation_level=None)
        self._works = True
        try:
            # Rows are often larger than a page of the usual size.
            self._connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            if not path.stat().st_size:
                # So that a file that has become too large can give back what is free in it.
                self._connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            # A write-ahead log would write each row twice. A chunk of rows stays in memory until it is written as a whole.
            self._connection.execute("PRAGMA journal_mode=TRUNCATE")
            self._connection.execute(f"PRAGMA cache_size=-{CHUNK_KILOBYTES}")
            self._connection.execute("PRAGMA synchronous=OFF")
            # The first part of the file is read where the kernel keeps it, without a copy of each page.
            self._connection.execute(f"PRAGMA mmap_size={LARGEST_IN_MEMORY}")
            self._connection.executescript(_TABLES)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def fill(self, result: _Result, keys: Sequence[bytes], configuration: bytes) -> np.ndarray:
        """Put the rows that are known, and return which these are."""
        found = np.zeros(len(keys), dtype=bool)
        with self._costing_nothing_else():
            layout = self._layout(configuration)
            if layout is None:
                return found
            for start in range(0, len(keys), KEYS_AT_ONCE):
                some = slice(start, start + KEYS_AT_ONCE)
                found[some] = self._fill(result, keys[some], start, layout)
        return found

    def keep(self, configuration: bytes, keys: Sequence[bytes], values: np.ndarray) -> None:
        """Add rows."""
        with self._costing_nothing_else():
            if not self._works or not len(values) or values.nbytes > self._most_bytes:
                return
            now, run = int(time.time()), self._connection.execute
            run("BEGIN IMMEDIATE")
            self._make_room(values.nbytes)
            layout = (configuration, values.dtype.str, json.dumps(values.shape[1:]))
            run("INSERT OR REPLACE INTO layouts VALUES (?, ?, ?)", layout)
            self._connection.executemany(
                "INSERT OR REPLACE INTO rows (key, used, value) VALUES (?, ?, ?)",
                ((key, now, row.data) for key, row in zip(keys, values, strict=True)),
            )
            # Rows take more room than their values have bytes.
            self._make_room(0)
            run("COMMIT")
            self._give_back()

    def _layout(self, configuration: bytes) -> _Layout | None:
        row = self._connection.execute(
            "SELECT dtype, shape FROM layouts WHERE configuration = ?", (configuration,)
        ).fetchone()
        return None if row is None else (np.dtype(row[0]), tuple(json.loads(row[1])))

    def _fill(self, result: _Result, keys: Sequence[bytes], start: int, layout: _Layout) -> np.ndarray:
        found = np.zeros(len(keys), dtype=bool)
        positions = _positions(keys)
        marks, distinct = ",".join("?" * len(positions)), list(positions)
        rows = self._connection.execute(f"SELECT key, value FROM rows WHERE key IN ({marks})", distinct)  # noqa: S608
        # One after the other, so that the memory does not hold large rows twice.
        for key, value in rows:
            if len(value) == _n_bytes(layout):
                for position in positions[key]:
                    result.put_bytes(start + position, value, layout)
                    found[position] = True
        if found.any():
            self._touch(marks, distinct)
        return found

    def _touch(self, marks: str, keys: Sequence[bytes]) -> None:
        """Mark rows as used, once an hour at most, since a reader that writes waits for writers."""
        now = int(time.time())
        stale = f"used < {now - 3600} AND key IN ({marks})"
        if self._connection.execute(f"SELECT 1 FROM rows WHERE {stale} LIMIT 1", keys).fetchone():  # noqa: S608
            # What may only be read, in a folder that others fill, can still be read.
            with suppress(sqlite3.OperationalError):
                self._connection.execute(f"UPDATE rows SET used = {now} WHERE {stale}", keys)  # noqa: S608

    def _make_room(self, n_bytes: int) -> None:
        """Throw away what was not used for longest, until ``n_bytes`` more stay below the bound."""
        n_thrown = 1
        while n_thrown and self._bytes("page_count") - self._bytes("freelist_count") + n_bytes > self._most_bytes:
            (n_rows,) = self._connection.execute("SELECT count(*) FROM rows").fetchone()
            n_thrown = self._connection.execute(
                "DELETE FROM rows WHERE key IN (SELECT key FROM rows ORDER BY used, rowid LIMIT ?)",
                (math.ceil(SHARE_FREED * n_rows),),
            ).rowcount

    def _give_back(self) -> None:
        """Shrink a file that is above the bound by what is free in it."""
        excess = math.ceil((self._bytes("page_count") - self._most_bytes) / PAGE_BYTES)
        if excess > 0:
            # A step of this pragma gives back one page; executing it as a script takes all of them.
            self._connection.executescript(f"PRAGMA incremental_vacuum({excess})")

    def _bytes(self, pages: str) -> int:
        """Return the bytes of pages that SQLite counts."""
        (n_pages,), (size,) = (self._connection.execute(f"PRAGMA {what}").fetchone() for what in (pages, "page_size"))
        return int(n_pages * size)

    @contextmanager
    def _costing_nothing_else(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _is_damage(error):
                _throw_away(self._path)
            elif self._works:
                _log.warning(f"Encoded rows are not cached: the cache cannot be used ({error}).")
            self._works = False
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def _positions(keys: Sequence[bytes]) -> dict[bytes, list[int]]:
    positions: dict[bytes, list[int]] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, []).append(position)
    return positions


def _n_bytes(layout: _Layout) -> int:
    dtype, shape = layout
    return dtype.itemsize * math.prod(shape)
