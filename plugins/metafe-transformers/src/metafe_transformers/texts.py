"""Rows of text, and their tokens."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from metafe.contracts import InvalidInputError, UnreadableRowWarning, check_choice, is_missing
from metafe_transformers.frozen import Errors

NAMED = 5


def why_not_text(owner: str, X: Any) -> str | None:
    """Say why rows are not texts: one sentence, or None when they are."""
    if isinstance(X, str) or not hasattr(X, "__len__") or getattr(X, "ndim", 1) != 1 or not len(X):
        return f"{owner} needs a sequence of strings; got {_described(X)}. Pass a list or one column of them."
    other = next((row for row in X if not isinstance(row, str) and not is_missing(row)), None)
    if other is not None:
        return f"{owner} needs a sequence of strings; got a {type(other).__name__}. Convert rows with str."
    return None


def readable_texts(owner: str, X: Any, errors: Errors) -> tuple[list[str], np.ndarray]:
    """Return the texts, empty where one is missing, and which are not.

    Parameters
    ----------
    owner : str
        Name of the plugin, for messages.
    X : sequence of length n
        Strings; None, NaN and pandas' NA are missing.
    errors : {"warn", "raise"}
        What to do about missing ones.

    Returns
    -------
    texts : list of str
    present : ndarray of shape (n,) bool

    Raises
    ------
    InvalidInputError
        Something else than strings, or a missing one with ``errors="raise"``.
    """
    check_choice(owner, "errors", errors, ("warn", "raise"))
    if reason := why_not_text(owner, X):
        raise InvalidInputError(reason)
    rows = list(X)
    present = np.array([isinstance(row, str) for row in rows])
    missing = np.flatnonzero(~present).tolist()
    if missing:
        _report(owner, missing, len(rows), errors)
    return [row if isinstance(row, str) else "" for row in rows], present


def token_ids(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Return the token ids of each text, special tokens included, cut to ``max_length``.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Its own padding and truncation are set aside.
    texts : sequence of str
    max_length : int
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    # Half of a surrogate pair, as of a text that was cut, is nothing that can be written in UTF-8.
    readable = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    return [encoding.ids for encoding in tokenizer.encode_batch(readable)]


def padded(ids: Sequence[Sequence[int]], length: int, padding: int) -> np.ndarray:
    """Return ids as an array ``(n, length)`` int32, padded on the right."""
    array = np.full((len(ids), length), padding, dtype=np.int32)
    for row, values in zip(array, ids, strict=True):
        row[: len(values)] = values
    return array


def _report(owner: str, missing: list[int], n_rows: int, errors: Errors) -> None:
    named = ", ".join(map(str, missing[:NAMED])) + (", ..." if len(missing) > NAMED else "")
    if errors == "raise":
        raise InvalidInputError(
            f"{owner} needs a string in each row; rows {named} are missing. Fill or drop them, or pass errors='warn'."
        )
    warnings.warn(
        f"{owner} needs a string in each row; {len(missing)} of {n_rows} are missing and become zeros: rows {named}. "
        "Fill or drop them.",
        UnreadableRowWarning,
        stacklevel=4,
    )


def _described(X: Any) -> str:
    return f"an array of shape {np.shape(X)}" if isinstance(X, np.ndarray) else f"a {type(X).__name__}"
