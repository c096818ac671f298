"""Telling what kind of thing the rows are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import PurePath
from typing import Any

import numpy as np

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"})
SOUND_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".au"})
# Rows that are looked at to tell names of files from text.
LOOKED_AT = 20
# A tenth of a second of speech has about as many values; few series that are not sound are as long.
SHORTEST_SOUND = 1000


def kind_of_input(X: Any) -> str:
    """Tell the kind of input by rule, from what it is and not from how often.

    Parameters
    ----------
    X : object
        What the user passed as rows.

    Returns
    -------
    str
        ``"image files"`` or ``"sound files"`` for a sequence of paths with such suffixes, ``"text"`` for a sequence of other
        strings, with gaps or not, ``"table"`` for a data frame with gaps or columns that are not numbers, ``"sound"`` for a sequence of
        one-dimensional arrays of unequal lengths of a median of 1000 or more, ``"series"`` for other arrays of unequal
        lengths, and ``"array"`` for everything else.

    Examples
    --------
    >>> kind_of_input(np.zeros((3, 4)))
    'array'
    >>> kind_of_input(["a.png", "b.png"])
    'image files'
    >>> kind_of_input(["Where is my card?", "I was charged twice."])
    'text'
    >>> kind_of_input([np.zeros(30), np.zeros(40)])
    'series'
    """
    if is_data_frame(X):
        return "table" if has_words(X) or _has_gaps(X) else "array"
    rows = _as_sequence(X)
    if rows is None or not len(rows):
        return "array"
    looked_at = list(islice(iter(rows), LOOKED_AT))
    # A text that is missing is for the encoder to name.
    written = [row for row in looked_at if not is_missing(row)]
    if written and all(isinstance(row, str | os.PathLike) for row in written):
        return _kind_of_strings(written)
    if all(isinstance(row, np.ndarray) and row.dtype.kind in "biuf" for row in looked_at):
        return _kind_of_arrays(rows)
    return "array"


def is_missing(row: Any) -> bool:
    """Tell whether a row is None, NaN or pandas' NA."""
    return row is None or type(row).__name__ == "NAType" or (isinstance(row, float) and row != row)


def is_data_frame(X: Any) -> bool:
    """Tell whether ``X`` is a pandas or polars data frame, without importing either."""
    return type(X).__name__ == "DataFrame" and type(X).__module__.split(".")[0] in ("pandas", "polars")


def has_words(frame: Any) -> bool:
    """Tell whether a data frame has columns that are not numbers."""
    if _is_polars(frame):
        return not all(dtype.is_numeric() or str(dtype) == "Boolean" for dtype in frame.dtypes)
    return any(dtype.kind not in "biuf" for dtype in frame.dtypes)


def _has_gaps(frame: Any) -> bool:
    if _is_polars(frame):
        return any(
            frame[name].null_count() or (frame[name].dtype.is_float() and frame[name].is_nan().any())
            for name in frame.columns
        )
    return bool(frame.isna().to_numpy().any())


def _is_polars(frame: Any) -> bool:
    return type(frame).__module__.startswith("polars")


def _as_sequence(X: Any) -> Sequence[Any] | None:
    """Return rows that are single objects; None for what has columns."""
    is_column = isinstance(X, list | tuple) or (
        getattr(X, "ndim", None) == 1 or (type(X).__name__ == "Series" and hasattr(X, "to_numpy"))
    )
    return X if is_column else None


def _kind_of_strings(rows: Sequence[str | os.PathLike[str]]) -> str:
    suffixes = {PurePath(row).suffix.lower() for row in rows}
    if suffixes <= IMAGE_SUFFIXES:
        return "image files"
    if suffixes <= SOUND_SUFFIXES:
        return "sound files"
    return "text"


def _kind_of_arrays(rows: Sequence[np.ndarray]) -> str:
    shapes = {np.shape(row) for row in rows}
    if len(shapes) == 1:
        return "array"
    lengths = [row.shape[-1] if np.ndim(row) else 0 for row in rows]
    is_sound = all(np.ndim(row) == 1 for row in rows) and np.median(lengths) >= SHORTEST_SOUND
    return "sound" if is_sound else "series"
