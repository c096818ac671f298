"""The order of values in memory, by which kernels choose their path: the last bits of features depend on it."""

from __future__ import annotations

from collections.abc import Sequence


def memory_order(strides: Sequence[int]) -> list[int]:
    """Return the dimensions from the widest stride to the narrowest; permuted so, a dense array is contiguous.

    Examples
    --------
    >>> memory_order((4, 12)), memory_order((12, 4))
    ([1, 0], [0, 1])
    """
    return sorted(range(len(strides)), key=lambda dimension: -abs(strides[dimension]))


def inverse(order: Sequence[int]) -> list[int]:
    """Return the permutation that undoes ``order``.

    Examples
    --------
    >>> inverse([2, 0, 1])
    [1, 2, 0]
    """
    return sorted(range(len(order)), key=lambda position: order[position])
