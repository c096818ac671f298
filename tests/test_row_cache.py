"""The cache of encoded rows: what is kept is found again, and nothing that goes wrong with it costs more than the cache."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from metafe.contracts import InvalidParameterError, RowCache, content_key, file_key, row_cache
from metafe.contracts.row_cache import cache_folder

CONFIGURATION = {"encoder": "squares", "version": "1"}
NOBODY = 65534


class Squares:
    """Computes rows and remembers for which positions."""

    def __init__(self, n_columns: int = 3) -> None:
        self.n_columns = n_columns
        self.computed: list[int] = []

    def __call__(self, which: Sequence[int]) -> np.ndarray:
        self.computed += which
        return rows_of(which, self.n_columns)


def rows_of(which: Sequence[int], n_columns: int = 3) -> np.ndarray:
    return np.arange(n_columns) + np.square(which, dtype=np.int64)[:, None]


def keys_of(which: Sequence[int]) -> list[bytes]:
    return [content_key(str(i)) for i in which]


def fill(folder: Path, n: int, n_columns: int = 3) -> Squares:
    squares = Squares(n_columns)
    rows = RowCache(CONFIGURATION, folder).rows(keys_of(range(n)), squares, chunk=50)
    np.testing.assert_array_equal(rows, rows_of(range(n), n_columns))
    return squares


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder that can be read; the test runs as a user who may not write to it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path
        if os.getuid() == 0:
            os.seteuid(0)
        path.chmod(0o755)


def lose_rights(folder: Path) -> None:
    folder.chmod(0o555)
    if os.getuid() == 0:
        os.seteuid(NOBODY)


def test_rows_are_computed_once(tmp_path):
    assert fill(tmp_path, 120).computed == list(range(120))
    assert fill(tmp_path, 120).computed == []


def test_only_what_is_missing_is_computed(tmp_path):
    fill(tmp_path, 100)
    assert fill(tmp_path, 130).computed == list(range(100, 130))


def test_rows_are_found_in_any_order_and_number(tmp_path):
    fill(tmp_path, 2000)
    order = [*np.random.default_rng(0).permutation(2000).tolist()[:1500], 7, 7]
    rows = RowCache(CONFIGURATION, tmp_path).rows(keys_of(order), Squares())
    np.testing.assert_array_equal(rows, rows_of(order))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64, bool])
def test_type_and_shape_are_kept(tmp_path, dtype):
    rows = np.random.default_rng(0).integers(0, 2, size=(5, 2, 3, 4)).astype(dtype)
    for _ in range(2):
        found = RowCache(CONFIGURATION, tmp_path).rows(keys_of(range(5)), lambda which: rows[which])
        np.testing.assert_array_equal(found, rows)
        assert found.dtype == rows.dtype


def test_another_configuration_has_rows_of_its_own(tmp_path):
    fill(tmp_path, 5)
    others = RowCache({**CONFIGURATION, "version": "2"}, tmp_path).rows(
        keys_of(range(5)), lambda which: np.ones((5, 1))
    )
    np.testing.assert_array_equal(others, np.ones((5, 1)))
    assert fill(tmp_path, 5).computed == []


def test_unreadable_rows_are_tried_again(tmp_path):
    damaged: set[int] = set()

    def read(which):
        damaged.update({3, 60} & set(which))
        return rows_of(which)

    RowCache(CONFIGURATION, tmp_path).rows(keys_of(range(100)), read, chunk=30, unreadable=damaged)
    assert fill(tmp_path, 100).computed == [3, 60]


def test_an_interrupted_call_keeps_the_chunks_before(tmp_path):
    def interrupted(which):
        if which[0] == 100:
            raise KeyboardInterrupt
        return rows_of(which)

    with pytest.raises(KeyboardInterrupt):
        RowCache(CONFIGURATION, tmp_path).rows(keys_of(range(200)), interrupted, chunk=50)
    assert fill(tmp_path, 200).computed == list(range(100, 200))


def test_large_results_lie_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("metafe.contracts.row_cache.LARGEST_IN_MEMORY", 100)
    for folder in (tmp_path, tmp_path, None):
        monkeypatch.setenv("METAFE_CACHE", "off")
        rows = RowCache(CONFIGURATION, folder).rows(keys_of(range(20)), Squares())
        assert isinstance(rows, np.memmap)
        np.testing.assert_array_equal(rows, rows_of(range(20)))


def test_large_results_lie_in_the_folder_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("metafe.contracts.row_cache.LARGEST_IN_MEMORY", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    fill(tmp_path, 20)
    with pytest.raises(FileNotFoundError):
        RowCache(CONFIGURATION, tmp_path / "rows.sqlite").rows(keys_of(range(20)), Squares())


@pytest.mark.parametrize("setting", ["off", ""])
def test_no_keys_give_no_rows(tmp_path, monkeypatch, setting):
    monkeypatch.setenv("METAFE_CACHE", setting or str(tmp_path))
    squares = Squares()
    assert RowCache(CONFIGURATION).rows([], squares).shape == (0, 0)
    assert squares.computed == []


@pytest.mark.parametrize("folder", ["cache", None])
def test_a_row_for_each_position_is_asked_for(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("METAFE_CACHE", "off")
    with pytest.raises(ValueError, match=r"one row for each of 5 positions; got 1\."):
        RowCache(CONFIGURATION, folder and tmp_path / folder).rows(keys_of(range(5)), lambda which: np.ones((1, 3)))


# Where it lies.


def test_off_computes_each_time(monkeypatch, tmp_path):
    monkeypatch.setenv("METAFE_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        squares = Squares()
        rows = RowCache(CONFIGURATION).rows(keys_of(range(5)), squares)
        np.testing.assert_array_equal(rows, rows_of(range(5)))
        assert squares.computed == list(range(5))
    assert not list(tmp_path.iterdir())


def test_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.setenv("METAFE_CACHE", str(tmp_path / "there"))
    RowCache(CONFIGURATION).rows(keys_of(range(5)), Squares())
    assert fill(tmp_path / "there", 5).computed == []
    monkeypatch.delenv("METAFE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_folder() == tmp_path / "caches" / "metafe"


# Several processes.

# The module is loaded by itself, which is quick; it needs NumPy alone.
FILL = """
import runpy, sys
import numpy as np
start, folder = int(sys.argv[1]), sys.argv[2]
module = runpy.run_path(sys.argv[3])
def compute(which):
    print(len(which), flush=True)
    return np.arange(300) + np.square(np.array(which) + start, dtype=np.int64)[:, None]
keys = [module["content_key"](str(i)) for i in range(start, start + 600)]
module["RowCache"]({"encoder": "squares", "version": "1"}, folder).rows(keys, compute, chunk=20)
"""


def run_filler(start, folder):
    arguments = [str(start), str(folder), row_cache.__file__]
    return subprocess.Popen([sys.executable, "-c", FILL, *arguments], stdout=subprocess.PIPE, text=True)


def test_two_processes_fill_at_once(tmp_path):
    # Half of their rows are the same.
    fillers = [run_filler(start, tmp_path) for start in (0, 300)]
    assert [filler.wait(timeout=60) for filler in fillers] == [0, 0]
    for filler in fillers:
        filler.stdout.close()
    assert fill(tmp_path, 900, n_columns=300).computed == []


def test_a_process_that_is_killed_leaves_whole_rows(tmp_path):
    filler = run_filler(0, tmp_path)
    for _ in range(4):
        filler.stdout.readline()
    filler.kill()
    filler.wait(timeout=60)
    n_begun = 4 + len(filler.stdout.readlines())
    filler.stdout.close()
    n_computed = len(fill(tmp_path, 600, n_columns=300).computed)
    assert 600 - 20 * n_begun <= n_computed <= 600 - 3 * 20


# How large it grows.


def n_kept(folder: Path) -> int:
    with sqlite3.connect(folder / "rows.sqlite") as connection:
        return connection.execute("SELECT count(*) FROM rows").fetchone()[0]


def megabytes(folder: Path) -> float:
    return (folder / "rows.sqlite").stat().st_size / 2**20


def test_what_was_not_used_for_longest_makes_room(tmp_path, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE_MEGABYTES", "1")
    fill(tmp_path, 100, n_columns=500)
    with sqlite3.connect(tmp_path / "rows.sqlite") as connection:
        connection.execute("UPDATE rows SET used = used - 7200")
    connection.close()
    # Looked up, and so used.
    assert fill(tmp_path, 30, n_columns=500).computed == []
    RowCache({"another": 1}, tmp_path).rows(keys_of(range(150)), Squares(500), chunk=50)
    assert megabytes(tmp_path) <= 1
    assert fill(tmp_path, 30, n_columns=500).computed == []
    assert len(fill(tmp_path, 100, n_columns=500).computed) > 20


def test_rows_above_the_bound_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE_MEGABYTES", "0.1")
    fill(tmp_path, 100, n_columns=1000)
    assert n_kept(tmp_path) == 0


@pytest.mark.parametrize("n_columns", [10, 1100, 3000])
def test_the_bound_holds_after_many_small_rows_and_one_large_chunk(tmp_path, monkeypatch, n_columns):
    monkeypatch.setenv("METAFE_CACHE_MEGABYTES", "1")
    fill(tmp_path, 2000, n_columns=10)
    RowCache({"another": 1}, tmp_path).rows(keys_of(range(30)), Squares(n_columns))
    assert 0.3 < megabytes(tmp_path) <= 1
    assert RowCache({"another": 1}, tmp_path).rows(keys_of(range(30)), Squares(n_columns)).shape == (30, n_columns)
    assert n_kept(tmp_path) >= 30


def test_a_file_above_a_new_bound_shrinks(tmp_path, monkeypatch):
    fill(tmp_path, 200, n_columns=3000)
    assert megabytes(tmp_path) > 4
    monkeypatch.setenv("METAFE_CACHE_MEGABYTES", "2")
    assert fill(tmp_path, 201, n_columns=3000).computed == [200]
    assert 1 < megabytes(tmp_path) <= 2


@pytest.mark.parametrize("setting", ["abc", "inf", "nan", "-1"])
def test_a_bound_that_is_no_number_is_named(tmp_path, monkeypatch, setting):
    monkeypatch.setenv("METAFE_CACHE_MEGABYTES", setting)
    with pytest.raises(
        InvalidParameterError, match=f"^METAFE_CACHE_MEGABYTES must be .*; got '{setting}'. Set it to a number"
    ):
        fill(tmp_path, 2)


# What goes wrong.


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_file_is_begun_anew(tmp_path, caplog, content):
    (tmp_path / "rows.sqlite").write_bytes(content)
    assert fill(tmp_path, 5).computed == list(range(5))
    assert fill(tmp_path, 5).computed == []
    assert [record.message for record in caplog.records] == [
        f"The cache of encoded rows is damaged and begins anew: {tmp_path / 'rows.sqlite'}."
    ]


def test_damage_inside_costs_the_cache_and_nothing_else(tmp_path, caplog):
    fill(tmp_path, 600, n_columns=300)
    path = tmp_path / "rows.sqlite"
    content = bytearray(path.read_bytes())
    content[len(content) // 4 :] = b"\xff" * (len(content) - len(content) // 4)
    path.write_bytes(content)
    fill(tmp_path, 600, n_columns=300)
    assert "damaged" in caplog.text
    fill(tmp_path, 600, n_columns=300)
    assert fill(tmp_path, 600, n_columns=300).computed == []


def test_a_value_of_another_length_is_computed_again(tmp_path):
    fill(tmp_path, 10)
    with sqlite3.connect(tmp_path / "rows.sqlite") as connection:
        connection.execute("UPDATE rows SET value = x'00' WHERE rowid = 4")
    connection.close()
    assert fill(tmp_path, 10).computed == [3]
    assert fill(tmp_path, 10).computed == []


def test_a_folder_that_cannot_be_made_is_logged_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    assert fill(tmp_path / "file" / "cache", 120).computed == list(range(120))
    (record,) = caplog.records
    assert record.message.startswith(f"Encoded rows are not cached: {tmp_path / 'file' / 'cache'} cannot be used (")
    assert record.message.endswith("METAFE_CACHE moves it.")


@pytest.mark.parametrize("n_before", [0, 6])
def test_a_folder_that_may_only_be_read_is_read(nobody, caplog, n_before):
    if n_before:
        fill(nobody, n_before)
        with sqlite3.connect(nobody / "rows.sqlite") as connection:
            connection.execute("UPDATE rows SET used = used - 7200")
        connection.close()
        (nobody / "rows.sqlite").chmod(0o444)
    lose_rights(nobody)
    assert fill(nobody, 10).computed == list(range(n_before, 10))
    assert fill(nobody, 10).computed == list(range(n_before, 10))
    assert len(caplog.records) == 2
    assert all(record.message.startswith("Encoded rows are not cached:") for record in caplog.records)


def test_a_disk_that_is_full_is_logged_once(tmp_path, caplog, monkeypatch):
    fill(tmp_path, 10, n_columns=300)
    opened = row_cache._opened

    def full(folder):
        store = opened(folder)
        store._connection.execute("PRAGMA max_page_count = 5")
        return store

    monkeypatch.setattr(row_cache, "_opened", full)
    assert len(fill(tmp_path, 500, n_columns=300).computed) >= 490
    assert len(caplog.records) == 1
    assert "full" in caplog.text


# Keys.


def test_a_path_that_no_file_can_have_has_a_key():
    assert file_key("a\0.png") == file_key("a\0.png")
    assert file_key("a\0.png") != file_key("b\0.png")


def test_a_file_written_anew_has_another_key(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    missing = file_key(path)
    path.write_bytes(b"one")
    first = file_key(path)
    os.utime(path, ns=(0, 0))
    second = file_key(path)
    path.write_bytes(b"longer")
    os.utime(path, ns=(0, 0))
    assert len({missing, first, second, file_key(path)}) == 4
    monkeypatch.chdir(tmp_path)
    assert file_key("a.png") == file_key(path) == file_key(str(path))


def test_content_keys_tell_type_shape_and_values_apart():
    zeros = [np.zeros(4), np.zeros((2, 2)), np.zeros(4, np.float32), np.zeros(8, np.float32), np.arange(4.0)]
    assert len({content_key(row) for row in zeros}) == len(zeros)
    assert content_key(np.arange(4)[::-1]) == content_key(np.array([3, 2, 1, 0]))
    assert content_key("é") == content_key("é".encode())
    assert content_key("\udc80")
