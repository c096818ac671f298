"""What the networks for rows of numbers share: how each number becomes a vector."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from metafe.contracts import (
    Backbone,
    Categorical,
    Distribution,
    Float,
    Int,
    InvalidParameterError,
    Seeds,
    When,
    check_choice,
    check_numbers,
    check_sizes,
)

Embeddings = Literal["none", "piecewise-linear", "periodic"]

EMBEDDING_SPACE: dict[str, Distribution | When] = {
    "embeddings": Categorical(get_args(Embeddings)),
    "n_bins": When(Int(4, 32, log=True), {"embeddings": ["piecewise-linear"]}),
    "frequency_scale": When(Float(0.01, 1.0, log=True), {"embeddings": ["periodic"]}),
}


class NumbersBackbone(Backbone):
    """Base of networks for flat rows, each number of which may first become a vector.

    A subclass names these parameters in a constructor of its own, as scikit-learn wants it.

    Parameters
    ----------
    depth, width, n_features : int
        Number of blocks, what goes from block to block, and what comes out.
    dropout : float
        Share of the activations inside a block set to zero in training.
    embeddings : {"none", "piecewise-linear", "periodic"}
        How a number becomes a vector.
    n_bins : int
        Bins of each column, for piecewise-linear embeddings.
    n_frequencies : int
        Frequencies of each column, for periodic embeddings.
    frequency_scale : float
        Scale of the frequencies to begin with, for periodic embeddings.

    Attributes
    ----------
    edges_ : list of ndarray of float32
        Edges of the bins of each column, standardised; only with piecewise-linear embeddings.
    """

    encode_is_view = True

    edges_: list[np.ndarray]

    def __init__(
        self,
        depth: int,
        width: int,
        n_features: int,
        dropout: float,
        embeddings: Embeddings,
        n_bins: int,
        n_frequencies: int,
        frequency_scale: float,
    ) -> None:
        self.depth = depth
        self.width = width
        self.n_features = n_features
        self.dropout = dropout
        self.embeddings = embeddings
        self.n_bins = n_bins
        self.n_frequencies = n_frequencies
        self.frequency_scale = frequency_scale

    def accepts(self, X: Any) -> str | None:
        """Say why rows are not flat."""
        if np.ndim(X) == 2:
            return None
        return f"{self.name} needs flat rows of numbers; got shape {np.shape(X)}. Reshape them to (n_rows, n_columns)."

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> NumbersBackbone:
        """Find the bins of each column, for piecewise-linear embeddings.

        Parameters
        ----------
        X : array-like of shape (n, n_columns)
            Training rows.
        y : ndarray or None
            Not used.
        seeds : Seeds
            Not used.
        """
        self._check_parameters()
        if hasattr(self, "edges_"):
            del self.edges_
        if self.embeddings == "piecewise-linear":
            rows = np.asarray(X, dtype=np.float64)
            scale = rows.std(axis=0)
            standardised = (rows - rows.mean(axis=0)) / np.where(scale > 0, scale, 1)
            self.edges_ = [_edges(column, self.n_bins) for column in standardised.T]
        return self

    def number_embeddings(self, n_columns: int, width: int) -> nn.Module:
        """Return a module from ``(b, n_columns)`` to ``(b, n_columns, width)``.

        Raises
        ------
        InvalidParameterError
            The bins of piecewise-linear embeddings have not been found.
        """
        from rtdl_num_embeddings import LinearEmbeddings, PeriodicEmbeddings, PiecewiseLinearEmbeddings

        if self.embeddings == "none":
            return LinearEmbeddings(n_columns, width)
        if self.embeddings == "periodic":
            return PeriodicEmbeddings(
                n_columns,
                width,
                n_frequencies=self.n_frequencies,
                frequency_init_scale=self.frequency_scale,
                lite=False,
            )
        if not hasattr(self, "edges_"):
            raise InvalidParameterError(
                f"{self.name} with embeddings='piecewise-linear' must be fitted before its network is built; call fit "
                "with training rows."
            )
        edges = [torch.from_numpy(column) for column in self.edges_]
        return PiecewiseLinearEmbeddings(edges, width, activation=False, version="B")

    def _check_parameters(self) -> None:
        check_sizes(self.name, depth=self.depth, width=self.width, n_features=self.n_features)
        check_choice(self.name, "embeddings", self.embeddings, get_args(Embeddings))
        check_sizes(self.name, minimum=2, n_bins=self.n_bins)
        check_sizes(self.name, n_frequencies=self.n_frequencies)
        check_numbers(self.name, dropout=self.dropout, frequency_scale=self.frequency_scale)
        if not self.frequency_scale:
            raise InvalidParameterError(f"{self.name} frequency_scale must be above 0; got {self.frequency_scale!r}.")
        if self.dropout >= 1:
            raise InvalidParameterError(f"{self.name} dropout must be below 1; got {self.dropout!r}.")


def _edges(column: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the different quantiles of a column, at least three of them."""
    edges = np.unique(np.quantile(column, np.linspace(0, 1, n_bins + 1)).astype(np.float32))
    if len(edges) == 1:
        return np.array([edges[0] - 1, edges[0], edges[0] + 1], dtype=np.float32)
    # Two bins of equal width say the same as one, of which the library warns.
    return edges if len(edges) > 2 else np.array([edges[0], edges.mean(), edges[1]], dtype=np.float32)
