"""Rows of different lengths in a cache of rows of one length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from metafe.contracts import RowCache

# Vectors on a page: few enough that the page of a row with few is small.
PAGE = 32


def cached_vectors(
    cache: RowCache, keys: Sequence[bytes], compute: Callable[[Sequence[int]], Sequence[np.ndarray]]
) -> list[np.ndarray]:
    """Return the vectors of each row, of which rows have different numbers.

    They are cut into pages; a page says how many vectors are on it, and a full one is followed by another.

    Parameters
    ----------
    cache : RowCache
    keys : sequence of bytes
        One for each row.
    compute : callable
        Takes positions in ``keys`` and returns the vectors of each, ``(n_vectors, width)`` uint8.

    Returns
    -------
    list of ndarray of shape (n_vectors, width) uint8

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> rows = [np.ones((n, 2), dtype=np.uint8) for n in (3, 0, 70)]
    >>> with TemporaryDirectory() as folder:
    ...     cache = RowCache({}, folder)
    ...     first = cached_vectors(cache, [b"a", b"b", b"c"], lambda which: [rows[i] for i in which])
    ...     second = cached_vectors(cache, [b"c"], lambda which: [])
    >>> [len(vectors) for vectors in first], [len(vectors) for vectors in second]
    ([3, 0, 70], [70])
    """
    computed: dict[int, np.ndarray] = {}

    def pages(unfinished: Sequence[int], number: int, which: Sequence[int]) -> np.ndarray:
        rows = [unfinished[k] for k in which]
        new = [row for row in rows if row not in computed]
        computed.update(zip(new, compute(new), strict=True))
        return np.stack([_page(computed[row], number) for row in rows])

    parts: list[list[np.ndarray]] = [[] for _ in keys]
    unfinished, number = list(range(len(keys))), 0
    while unfinished:
        of_page = [keys[row] + number.to_bytes(4) for row in unfinished]
        for row, page in zip(unfinished, cache.rows(of_page, partial(pages, unfinished, number)), strict=True):
            parts[row].append(page[1 : 1 + page[0, 0]])
        unfinished, number = [row for row in unfinished if len(parts[row][-1]) == PAGE], number + 1
    return [np.concatenate(pages_of_row) for pages_of_row in parts]


def _page(vectors: np.ndarray, number: int) -> np.ndarray:
    """Return a page, ``(1 + PAGE, width)``: a row of the number of vectors on it, and then the vectors."""
    some = vectors[number * PAGE : (number + 1) * PAGE]
    page = np.zeros((1 + PAGE, vectors.shape[1]), dtype=np.uint8)
    page[0], page[1 : 1 + len(some)] = len(some), some
    return page
