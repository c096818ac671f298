"""MiniRocket: fixed convolutions, of which the share of positive values counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from torch import nn

from metafe.contracts import Distribution, Int, Problem, RowCache, Seeds, When, check_sizes, content_key
from metafe_series.network import SeriesBackbone

# Kernels have nine weights, and there are 84 of them.
SHORTEST, N_WEIGHTS = 9, 84
# Keeping a row on disk and looking it up takes as long as convolving this many values.
SHORTEST_CACHED = 128
_one_at_a_time = threading.Lock()


class MiniRocket(SeriesBackbone):
    """The share of each series in which a convolution exceeds a threshold, for thousands of convolutions: nothing is trained.

    Parameters
    ----------
    n_kernels : int, default=10000
        Number of features, rounded down to a multiple of 84, and 84 at least.
    max_dilations : int, default=32
        Most dilations of each of the 84 kernels.

    Attributes
    ----------
    parameters_ : list of ndarray
        Channels, dilations and thresholds, chosen on the training rows.

    Notes
    -----
    Dempster, Schmidt and Webb, "MiniRocket: A Very Fast (Almost) Deterministic Transform for Time Series Classification",
    2021, by aeon. Series of at least 9 values. The first call compiles, which takes a minute; aeon keeps the result on disk.
    Features of series of 128 values or more are kept by `metafe.contracts.RowCache`.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(5, 1, 20))
    >>> MiniRocket(n_kernels=84).fit(rows, None, Seeds(0)).encode(rows).shape
    (5, 84)
    """

    name = "minirocket"
    standardise = "feature"
    encode_is_view = False
    encode_is_rowwise = True
    trains = False

    def __init__(self, n_kernels: int = 10_000, max_dilations: int = 32) -> None:
        self.n_kernels = n_kernels
        self.max_dilations = max_dilations

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare the number of kernels."""
        return {"n_kernels": Int(500, 10_000, log=True)}

    def accepts(self, X: Any) -> str | None:
        """Say why rows are no series, or too short."""
        if reason := super().accepts(X):
            return reason
        length = np.shape(X)[2]
        if length >= SHORTEST:
            return None
        return f"minirocket needs series of at least {SHORTEST} values; got {length}. Use the encoder Series(length=9)."

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> MiniRocket:
        """Choose channels and thresholds.

        Parameters
        ----------
        X : array-like of shape (n, n_channels, length)
            Training rows.
        y : ndarray or None
            Not used.
        seeds : Seeds

        Raises
        ------
        InvalidParameterError
            A size that cannot be.
        """
        check_sizes("minirocket", n_kernels=self.n_kernels, max_dilations=self.max_dilations)
        from aeon.transformations.collection.convolution_based import MiniRocket as Transformer

        transformer = Transformer(self.n_kernels, self.max_dilations, random_state=seeds.integer("minirocket") % 2**31)
        with _alone():
            transformer.fit(np.asarray(X, dtype=np.float32))
        self.parameters_ = list(transformer.parameters)
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Convolve each series, or look up what came of it.

        Parameters
        ----------
        X : array-like of shape (n, n_channels, length)

        Returns
        -------
        ndarray of shape (n, n_features) float32
        """
        rows = np.asarray(X, dtype=np.float32)
        if rows.shape[2] < SHORTEST_CACHED:
            return self._convolved(rows)
        return self._cache().rows([content_key(row) for row in rows], lambda which: self._convolved(rows[which]))

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that passes ``(b, n_features)`` through: nothing is trained."""
        return nn.Identity()

    def _cache(self) -> RowCache:
        versions = {name: version(name) for name in ("metafe-series", "aeon")}
        chosen = [content_key(values).hex() for values in self.parameters_]
        return RowCache({"backbone": self.name, "parameters": chosen, **versions})

    def _convolved(self, rows: np.ndarray) -> np.ndarray:
        from aeon.transformations.collection.convolution_based import MiniRocket as Transformer

        with _alone():
            # The smallest one that aeon takes for fitted; all that it computes with are these parameters.
            transformer = Transformer(N_WEIGHTS, 1, random_state=0).fit(np.zeros_like(rows[:1]))
            transformer.parameters = tuple(self.parameters_)
            return np.asarray(transformer.transform(rows))


@contextmanager
def _alone() -> Iterator[None]:
    """Let one thread in, and put NumPy's global generator back, which aeon seeds."""
    with _one_at_a_time:
        before = np.random.get_state()  # noqa: NPY002 - it is put back, not used
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
