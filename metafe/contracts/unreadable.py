"""Naming rows that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from metafe.contracts.input_kinds import is_missing

N_NAMED = 5


def name_row(i: int, rows: Sequence[Any] = ()) -> str:
    """Return what a message calls a row: its number, and its path where it is a file.

    Parameters
    ----------
    i : int
        Position of the row.
    rows : sequence, default=()
        All rows, where they are something that may be paths.

    Examples
    --------
    >>> name_row(1, ["a.wav", "b.wav"])
    "row 1, 'b.wav'"
    """
    # The repr of a string of NumPy says more than the path.
    is_path = len(rows) > 0 and isinstance(rows[i], str | os.PathLike)
    return f"row {i}, {str(os.fspath(rows[i]))!r}" if is_path else f"row {i}"


def name_rows(reasons: Mapping[int, str], rows: Sequence[Any] = ()) -> str:
    """Return the first five of some rows, why each of them is named, and how many more there are.

    Parameters
    ----------
    reasons : mapping of int to str
        Positions of rows, and what is to be said of each.
    rows : sequence, default=()
        All rows, where they are something that may be paths.

    Examples
    --------
    >>> name_rows({3: "no samples", 0: "no such file"})
    'row 0 (no such file); row 3 (no samples)'
    """
    named = [f"{name_row(i, rows)} ({reasons[i]})" for i in sorted(reasons)[:N_NAMED]]
    more = [f"and {len(reasons) - N_NAMED} more"] if len(reasons) > N_NAMED else []
    return "; ".join(named + more)


def say_kind(row: Any) -> str:
    """Return what a message calls a row of another kind than it should be.

    Parameters
    ----------
    row : object

    Examples
    --------
    >>> say_kind(3), say_kind(float("nan"))
    ('a int', 'missing')
    """
    return "missing" if is_missing(row) else f"a {type(row).__name__}"


def first_misfit(rows: Iterable[Any], why_not: Callable[[Any], str | None]) -> tuple[int, str] | None:
    """Return the first row of another kind than it should be, unless most rows are of the right one.

    Where most are, an encoder takes the others for rows that cannot be read, as it does those that are missing.

    Parameters
    ----------
    rows : iterable
    why_not : callable
        Takes a row, and returns what it is in place of what it should be, or None where it is.

    Returns
    -------
    tuple of int and str, or None
        Its position and what it is; None where most of the rows that are not missing are of the right kind.

    Examples
    --------
    >>> def why_no_string(row):
    ...     return None if isinstance(row, str) else say_kind(row)
    >>> first_misfit(["one", None, 3, "four"], why_no_string)
    >>> first_misfit(["one", 2, 3, None], why_no_string)
    (1, 'a int')
    """
    n_fitting, others = 0, []
    for i, row in enumerate(rows):
        if is_missing(row):
            continue
        if reason := why_not(row):
            others.append((i, reason))
        else:
            n_fitting += 1
    return others[0] if others and n_fitting <= len(others) else None


def say_none_readable(owner: str, what: str, reasons: Mapping[int, str], rows: Sequence[Any]) -> str:
    """Return the sentence of the error of `fit` where none of the rows that were looked at can be read.

    Parameters
    ----------
    owner : str
        Name of the encoder.
    what : str
        What a row is, in the plural.
    reasons : mapping of int to str
        Positions of the rows that were looked at, and why each cannot be read.
    rows : sequence
        All rows.

    Examples
    --------
    >>> say_none_readable("log-mel", "clips", {0: "no samples"}, ["a.wav", "b.wav"])
    "log-mel needs clips that can be read; got 2, and none of 1 that were looked at can, such as row 0, 'a.wav' (no samples)."
    """
    first = min(reasons)
    return (
        f"{owner} needs {what} that can be read; got {len(rows)}, and none of {len(reasons)} that were looked at can, such as "
        f"{name_row(first, rows)} ({reasons[first]})."
    )


def say_unreadable(owner: str, what: str, become: str, reasons: Mapping[int, str], rows: Sequence[Any]) -> str:
    """Return the sentence of an `UnreadableRowWarning`.

    Parameters
    ----------
    owner : str
        Name of the encoder.
    what : str
        What a row is, in the plural.
    become : str
        What stands in their places.
    reasons : mapping of int to str
        Positions of the rows, and why each cannot be read.
    rows : sequence
        All rows.

    Examples
    --------
    >>> say_unreadable("log-mel", "clips", "zeros", {1: "no samples"}, ["a.wav", "b.wav"])
    "log-mel could not read 1 of 2 clips, which are zeros: row 1, 'b.wav' (no samples)."
    """
    return (
        f"{owner} could not read {len(reasons)} of {len(rows)} {what}, which are {become}: {name_rows(reasons, rows)}."
    )
