"""What the in-context models for tables share: a context of training rows, against which each row is embedded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metafe.contracts import (
    Backbone,
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
    RowCache,
    Seeds,
    check_sizes,
    content_key,
)

if TYPE_CHECKING:
    from torch import nn

# A constant number, so that what comes with a row cannot change it. Larger parts are hardly faster on a CPU.
ROWS_AT_ONCE = 32
# Of what a library says about a file or rows, which can be a page.
MOST_LETTERS = 200

# From rows (ROWS_AT_ONCE, n_columns) float64 to embeddings (ROWS_AT_ONCE, n_features) float32.
Embed = Callable[[np.ndarray], np.ndarray]


class InContextBackbone(Backbone):
    """Base of frozen backbones that are in-context models, from weights in a file.

    `fit` keeps labelled training rows as the context. Every row is embedded against this context alone, as a row whose label
    is not known, whether or not it is in the context. Embeddings are kept on disk, see `metafe.contracts.RowCache`.

    A subclass has ``weights`` and ``context_size`` in its constructor, and writes `_read_context`.

    Attributes
    ----------
    weights_ : str
        Digest of the file of weights.
    context_ : ndarray of shape (n_context, n_columns) float64
        The training rows that are the context.
    labels_ : ndarray of shape (n_context,) int64 or float32, or (0,)
        Their class codes or targets; empty where there are none.
    """

    trains = False
    encode_is_rowwise = True

    library: ClassVar[str]
    origin: ClassVar[str]

    weights: str | None
    context_size: int
    weights_: str
    context_: np.ndarray
    labels_: np.ndarray

    def accepts(self, X: Any) -> str | None:
        """Say what is missing, or why rows are not flat."""
        if reason := self._why_no_weights():
            return reason
        if find_spec(self.library) is None:
            return self._how_to_install(f"no module named {self.library!r}")
        if np.ndim(X) == 2:
            return None
        return f"{self.name} needs flat rows of numbers; got shape {np.shape(X)}. Reshape them to (n_rows, n_columns)."

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> InContextBackbone:
        """Choose the context, and load the model.

        Parameters
        ----------
        X : array-like of shape (n, n_columns)
            Training rows.
        y : ndarray of shape (n,) or (n, 1), or None
            Their class codes, or targets.
        seeds : Seeds
            Of the rows that are chosen, where there are more than ``context_size``.

        Raises
        ------
        InvalidInputError
            No such file of weights, one that the library cannot read, or one for another kind of labels.
        InvalidParameterError
            No file of weights is given, or a context of fewer than two rows.
        MissingDependencyError
            The library is not installed.
        """
        check_sizes(self.name, minimum=2, context_size=self.context_size)
        self.weights_ = _digest(self._file())
        labels = self._one_column(y)
        chosen = choose_context(labels, len(X), self.context_size, self._most_classes(labels), seeds.numpy("context"))
        self.context_ = np.asarray(X)[chosen].astype(np.float64)
        self.labels_ = _dense(labels[chosen] if len(labels) else labels)
        self._embed()
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Embed each row against the context.

        Parameters
        ----------
        X : array-like of shape (n, n_columns)

        Returns
        -------
        ndarray of shape (n, n_features) float32

        Raises
        ------
        InvalidInputError
            The file of weights is gone, or another one than in `fit`.
        """
        rows = np.ascontiguousarray(X, dtype=np.float64)
        return self._cache().rows([content_key(row) for row in rows], lambda which: self._in_parts(rows[which]))

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that passes ``(b, n_features)`` through: nothing is trained."""
        from torch import nn

        return nn.Identity()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the loaded model, which is read again from its file."""
        return {name: value for name, value in super().__getstate__().items() if name != "_loaded"}

    def _read_context(self, path: str) -> Embed:
        """Load the model and let it read ``context_`` and ``labels_``; return what embeds rows."""
        raise NotImplementedError(f"{type(self).__name__} needs a _read_context method.")

    def _most_classes(self, labels: np.ndarray) -> int | None:
        """Return how many classes the model takes; None for any number."""
        return None

    def _embed(self) -> Embed:
        """Return what embeds rows, made once for a context."""
        known: tuple[np.ndarray, Embed] | None = vars(self).get("_loaded")
        if known is None or known[0] is not self.context_:
            path = self._file()
            if _digest(path) != self.weights_:
                raise InvalidInputError(
                    f"{self.name} needs the weights that it was fitted with; {self.weights!r} holds others. Restore the "
                    "file, or fit again."
                )
            known = self._loaded = self.context_, self._read_context(str(path))
        return known[1]

    def _in_parts(self, rows: np.ndarray) -> np.ndarray:
        embed, n_missing = self._embed(), -len(rows) % ROWS_AT_ONCE
        filled = np.concatenate([rows, np.repeat(rows[-1:], n_missing, axis=0)])
        parts = filled.reshape(-1, ROWS_AT_ONCE, rows.shape[1])
        return np.concatenate([embed(part) for part in parts])[: len(rows)]

    def _cache(self) -> RowCache:
        context = [content_key(array).hex() for array in (self.context_, self.labels_)]
        versions = {name: version(name) for name in ("metafe-tabular", self.library, "torch")}
        return RowCache({"backbone": self.name, "weights": self.weights_, "context": context, **versions})

    def _one_column(self, y: np.ndarray | None) -> np.ndarray:
        labels: np.ndarray = np.zeros(0, dtype=np.int64) if y is None else np.asarray(y)
        if labels.ndim == 1:
            return labels
        if labels.shape[1] > 1:
            raise InvalidInputError(
                f"{self.name} needs one column of labels as context; got targets of shape {labels.shape}. Fit on one of them."
            )
        return labels[:, 0]

    def _file(self) -> Path:
        if reason := self._why_no_weights():
            raise InvalidParameterError(reason) if self.weights is None else InvalidInputError(reason)
        return Path(str(self.weights)).resolve()

    def _why_no_weights(self) -> str | None:
        if self.weights is not None and Path(self.weights).is_file():
            return None
        received = "None" if self.weights is None else f"{self.weights!r}, which is no file"
        return f"{self.name} weights must be the path of a file on this machine; got {received}. {self.origin}"

    def _how_to_install(self, reason: str) -> str:
        return (
            f"{self.name} needs the library {self.library}, which cannot be imported: {reason}. "
            "Run: pip install 'metafe-tabular[in-context]'."
        )

    def _not_installed(self, error: ImportError) -> MissingDependencyError:
        return MissingDependencyError(self._how_to_install(str(error)))

    def _unreadable(self, error: Exception) -> InvalidInputError:
        return InvalidInputError(
            f"{self.name} weights must be a file that {self.library} {version(self.library)} can read; {self.weights!r} is "
            f"not ({brief(error)}). {self.origin}"
        )


def brief(error: Exception) -> str:
    """Return the kind of an error and the beginning of what it says."""
    return shorten(f"{type(error).__name__}: {error}", MOST_LETTERS)


def choose_context(
    labels: np.ndarray, n_rows: int, size: int, most_classes: int | None, rng: np.random.Generator
) -> np.ndarray:
    """Choose the rows of a context.

    Parameters
    ----------
    labels : ndarray of shape (n_rows,) or (0,)
        Whole numbers are classes, of which each gives equally many rows, as far as it has them.
    n_rows : int
    size : int
        At most so many are chosen.
    most_classes : int or None
        Only so many classes take part, the largest.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_context,) int64
        Ascending positions.
    """
    order = rng.permutation(n_rows)
    if len(labels) and labels.dtype.kind != "f":
        _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        largest = np.argsort(-sizes, kind="stable")[:most_classes]
        order = order[np.isin(codes[order], largest)]
        order = order[np.argsort(_turns(codes[order]), kind="stable")]
    return np.sort(order[:size])


def _turns(codes: np.ndarray) -> np.ndarray:
    """Count how often each code has come before."""
    by_code = np.argsort(codes, kind="stable")
    _, starts, sizes = np.unique(codes[by_code], return_index=True, return_counts=True)
    turns = np.empty(len(codes), dtype=np.int64)
    turns[by_code] = np.arange(len(codes)) - np.repeat(starts, sizes)
    return turns


def _dense(labels: np.ndarray) -> np.ndarray:
    """Return targets as float32, and classes as codes from 0 without a gap."""
    if labels.dtype.kind == "f":
        return labels.astype(np.float32)
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _digest(path: Path) -> str:
    state = path.stat()
    return _digest_of(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)
def _digest_of(path: Path, size: int, changed: int) -> str:
    """Return what tells two files apart, read once for each state of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
