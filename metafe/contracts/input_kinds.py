"""Telling what kind of thing the rows are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import PurePath
from typing import Any

import numpy as np

from metafe.contracts.image_arrays import CHANNELS


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


# Common ones that Pillow reads.
IMAGE_SUFFIXES = _suffixes(
    "apng avif bmp dib gif ico j2k jfif jp2 jpe jpeg jpg jpx pbm pcx pgm png pnm ppm psd sgi tga tif tiff webp"
)
# Common ones that soundfile reads.
SOUND_SUFFIXES = _suffixes("aif aifc aiff au caf flac mp3 oga ogg opus rf64 snd voc w64 wav wave")
# Rows that are looked at to tell names of files, text and numbers apart; what most of them are decides.
LOOKED_AT = 20
# A tenth of a second of speech has about as many values; few series that are not sound are as long.
SHORTEST_SOUND = 1000
# Fewer pixels are a series of as many channels.
SMALLEST_IMAGE = 8


def kind_of_input(X: Any) -> str:
    """Tell the kind of input by rule, from what it is and not from how often.

    Parameters
    ----------
    X : object
        What the user passed as rows.

    Returns
    -------
    str
        ``"image files"`` or ``"sound files"`` for a sequence of strings or paths most of which have such suffixes,
        ``"files"`` for other `os.PathLike` objects and names of which some are images and some sound,
        ``"text"`` for a sequence of other strings, with gaps or not (most rows that are not missing decide; one of another kind
        is for the encoder to name),
        ``"table"`` for a data frame with gaps or columns that are not numbers, ``"images"``, ``"sound"`` or ``"series"``
        for arrays of unequal shapes or with gaps among them, and ``"array"`` for everything else, such as arrays of one
        shape, which can be stacked. Lists of numbers and torch tensors are arrays.

    Notes
    -----
    Of arrays that cannot be stacked, most decide. They are

    - ``"images"`` where they have three dimensions, of which the first or the last is 1, 3 or 4 channels, or two of at least
      8 pixels and are of type uint8, square, or of heights and widths that most rows do not share: series have as many
      channels as each other;
    - ``"sound"`` where they have one dimension, and a median length of 1000 or more;
    - ``"series"`` otherwise.

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
    >>> kind_of_input([np.zeros((30, 20)), np.zeros((25, 40))])
    'images'
    """
    if is_data_frame(X):
        return "table" if has_words(X) or _has_gaps(X) else "array"
    rows = _as_sequence(X)
    if rows is None or not len(rows):
        return "array"
    # A row that is missing is for the encoder to name.
    looked_at = list(islice((row for row in rows if not is_missing(row)), LOOKED_AT))
    strings = [row for row in looked_at if isinstance(row, str | os.PathLike)]
    if 2 * len(strings) > len(looked_at):
        return _kind_of_strings(strings)
    return _kind_of_arrays(rows) if _most(map(_is_numbers, looked_at)) else "array"


def is_missing(row: Any) -> bool:
    """Tell whether a row is None, NaN or pandas' NA."""
    return row is None or type(row).__name__ == "NAType" or (isinstance(row, float | np.floating) and row != row)


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
    suffixes = [PurePath(row).suffix.lower() for row in rows]
    if _most(suffix in IMAGE_SUFFIXES for suffix in suffixes):
        return "image files"
    if _most(suffix in SOUND_SUFFIXES for suffix in suffixes):
        return "sound files"
    # Of both kinds, and none of them most: still no text.
    are_files = _most(suffix in IMAGE_SUFFIXES | SOUND_SUFFIXES for suffix in suffixes)
    return "text" if all(isinstance(row, str) for row in rows) and not are_files else "files"


def _kind_of_arrays(rows: Sequence[Any]) -> str:
    shapes = [_shape(row) for row in rows if not is_missing(row)]
    if len(set(shapes)) == 1 and len(shapes) == len(rows):
        return "array"
    if _are_images(rows, shapes):
        return "images"
    lengths = [shape[0] for shape in shapes if len(shape) == 1]
    # A single row of another shape is for the encoder to name.
    is_sound = 2 * len(lengths) > len(shapes) and np.median(lengths) >= SHORTEST_SOUND
    return "sound" if is_sound else "series"


def _are_images(rows: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> bool:
    n_coloured = sum(len(shape) == 3 and not {shape[0], shape[2]}.isdisjoint(CHANNELS) for shape in shapes)
    planes = [shape for shape in shapes if len(shape) == 2 and min(shape) >= SMALLEST_IMAGE]
    if 2 * (n_coloured + len(planes)) <= len(shapes):
        return False
    if n_coloured > len(planes) or _most(_is_uint8(row) for row in rows if not is_missing(row)):
        return True
    sides_differ = all(2 * max(Counter(sides).values()) <= len(planes) for sides in zip(*planes, strict=True))
    return sides_differ or _most(height == width for height, width in planes)


def _is_uint8(row: Any) -> bool:
    """Tell whether a row is an array of NumPy or torch of this type."""
    return str(getattr(row, "dtype", "")).endswith("uint8")


def _is_numbers(row: Any) -> bool:
    """Tell whether a row is an array of numbers: of NumPy, of torch (without importing it), or in lists."""
    if type(row).__module__.split(".")[0] == "torch":
        return np.ndim(row) > 0
    try:
        return np.ndim(row) > 0 and np.asarray(row).dtype.kind in "biuf"
    except ValueError:  # lists of unequal length
        return False


def _shape(row: Any) -> tuple[int, ...]:
    """Return the shape of a row; that of a single thing for what is no array."""
    try:
        return tuple(np.shape(row))
    except ValueError:  # lists of unequal length
        return ()


def _most(answers: Iterable[bool]) -> bool:
    given = list(answers)
    return 2 * sum(given) > len(given)
