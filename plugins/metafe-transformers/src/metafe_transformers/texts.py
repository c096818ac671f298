"""Rows of text, and their tokens."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from metafe.contracts import InvalidInputError, UnreadableRowWarning, first_misfit, say_kind, say_unreadable
from metafe_transformers.frozen import Errors, refuse_unreadable


def why_not_text(owner: str, X: Any) -> str | None:
    """Say why rows are not texts: one sentence, or None when they are."""
    if isinstance(X, str) or not hasattr(X, "__len__") or getattr(X, "ndim", 1) != 1 or not len(X):
        return f"{owner} needs a sequence of strings; got {_described(X)}. Pass a list or one column of them."
    misfit = first_misfit(X, why_no_string)
    return misfit and f"{owner} needs a sequence of strings; got {misfit[1]}. Convert rows with str."


def why_no_string(row: Any) -> str | None:
    """Say what a row is that is no string."""
    return None if isinstance(row, str) else say_kind(row)


def readable_texts(owner: str, X: Any) -> tuple[list[str], dict[int, str]]:
    """Return the texts, empty where there is none, and why there is none in these rows.

    Parameters
    ----------
    owner : str
        Name of the plugin, for messages.
    X : sequence of length n
        Strings; None, NaN and pandas' NA are missing.

    Returns
    -------
    texts : list of str
    reasons : dict of int to str

    Raises
    ------
    InvalidInputError
        Something else than strings.
    """
    if reason := why_not_text(owner, X):
        raise InvalidInputError(reason)
    reasons = {i: reason for i, row in enumerate(X) if (reason := why_no_string(row))}
    return ["" if i in reasons else row for i, row in enumerate(X)], reasons


def report_unreadable(owner: str, rows: Sequence[Any], reasons: dict[int, str], errors: Errors) -> None:
    """Warn of texts that are missing, or refuse them.

    Raises
    ------
    InvalidInputError
        There are some, and ``errors`` is ``"raise"``.
    """
    if errors == "raise":
        refuse_unreadable(owner, rows, reasons)
    if reasons:
        warnings.warn(say_unreadable(owner, "texts", "zeros", reasons, rows), UnreadableRowWarning, stacklevel=3)


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


def _described(X: Any) -> str:
    return f"an array of shape {np.shape(X)}" if isinstance(X, np.ndarray) else f"a {type(X).__name__}"
