"""Naming rows that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

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
    is_path = len(rows) > 0 and isinstance(rows[i], str | os.PathLike)
    return f"row {i}, {os.fspath(rows[i])!r}" if is_path else f"row {i}"


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
