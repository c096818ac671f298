"""Histograms over a grid of cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metafe.contracts import InvalidParameterError, check_sizes


def check_grid(owner: str, grid: int, shape: tuple[int, ...]) -> None:
    """Check that images ``(..., H, W)`` have at least a pixel for each row and column of the grid.

    Raises
    ------
    InvalidParameterError
        A grid that is no size, or finer than the pixels.
    """
    check_sizes(owner, grid=grid)
    height, width = shape[-2:]
    if grid > min(height, width):
        raise InvalidParameterError(
            f"{owner} grid must be at most {min(height, width)} for images of {height}×{width}; got {grid!r}."
        )


def cell_shares(codes: np.ndarray, n_codes: int, grid: int) -> np.ndarray:
    """Return how often each code occurs in each cell.

    Parameters
    ----------
    codes : ndarray of shape (H, W) int
        From 0 to ``n_codes - 1``.
    n_codes : int
    grid : int
        Cells a side, of sizes that differ by one pixel at most.

    Returns
    -------
    ndarray of shape (grid * grid, n_codes)
        Each row sums to one.

    Examples
    --------
    >>> cell_shares(np.array([[0, 0, 1, 1], [0, 1, 1, 1]]), n_codes=2, grid=2)
    array([[1. , 0. ],
           [0. , 1. ],
           [0.5, 0.5],
           [0. , 1. ]])
    """
    row, column = (np.arange(side) * grid // side for side in codes.shape)
    cells = row[:, None] * grid + column
    counts = np.bincount((cells * n_codes + codes).ravel(), minlength=grid**2 * n_codes).reshape(grid**2, n_codes)
    shares: np.ndarray = counts / counts.sum(axis=1, keepdims=True)
    return shares


def hellinger(histograms: Sequence[np.ndarray]) -> np.ndarray:
    """Return one vector of unit length of histograms ``(n_cells, n_codes)``, each of whose rows sums to one.

    The square root of a share varies about as much for rare as for common codes, so that no common code, such as that of
    the background, outweighs all others; and the Euclidean distance of two such vectors is the mean Hellinger distance
    (as a root mean square) of the images' histograms, whatever the number of cells. That is the distance which class
    means and nearest neighbours see.
    """
    shares = np.concatenate([histogram.ravel() for histogram in histograms])
    root: np.ndarray = np.sqrt(shares / shares.sum())
    return root
