"""Any scikit-learn transformer as a backbone."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_approximation import Nystroem
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import resample
from torch import nn

from metafe.contracts import Backbone, Categorical, InvalidParameterError, Problem, Seeds
from metafe.contracts.errors import suggest
from metafe.contracts.spaces import SearchSpace

_BY_NAME = {
    "pca": lambda shape: [PCA(n_components=0.95, svd_solver="full")],
    "lda": lambda shape: [LinearDiscriminantAnalysis()],
    "nca": lambda shape: [*_fewer_columns(shape), NeighborhoodComponentsAnalysis()],
    # Each component is a training row.
    "nystroem": lambda shape: [Nystroem(n_components=min(100, shape[0]))],
}
# Its time and memory grow with the square of the rows, and its time with the columns.
MOST_ROWS_FOR_NCA, MOST_COLUMNS_FOR_NCA = 1500, 100


class SklearnTransformer(Backbone):
    """A scikit-learn transformer, fitted on the training rows; nothing is trained after that.

    Parameters
    ----------
    transformer : {"pca", "lda", "nca", "nystroem"} or transformer, default="pca"
        A name stands for that transformer on standardised rows: principal components that keep 95 % of the variance,
        linear discriminant analysis, neighbourhood components analysis (fitted on 1500 random rows at most, of all
        classes alike, and on 100 principal components at most) or a Nyström approximation of the RBF kernel.
        An object is used as it is; it is cloned, so yours stays unfitted.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> SklearnTransformer(PCA(n_components=2))
    SklearnTransformer(transformer=PCA(n_components=2))
    """

    name = "sklearn"
    trains = False
    standardise = "none"

    def __init__(self, transformer: str | BaseEstimator = "pca") -> None:
        self.transformer = transformer

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the named transformers that fit the target."""
        supervised = ["lda", "nca"] if problem.kind == "classification" else []
        return {"transformer": Categorical(["pca", "nystroem", *supervised])}

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> SklearnTransformer:
        """Fit a clone of the transformer on training rows, flattened.

        Raises
        ------
        InvalidParameterError
            An unknown name, or something that cannot transform.
        """
        transformer = self._new_transformer(_flat(X).shape)
        seed = seeds.integer("sklearn") % 2**32
        random_states = [k for k in transformer.get_params() if k.endswith("random_state")]
        unset = {k: seed for k in random_states if transformer.get_params()[k] is None}
        rows = _flat(X)
        if isinstance(self.transformer, str) and self.transformer == "nca" and len(rows) > MOST_ROWS_FOR_NCA:
            rows, y = resample(rows, y, replace=False, n_samples=MOST_ROWS_FOR_NCA, stratify=y, random_state=seed)
        self.transformer_ = transformer.set_params(**unset).fit(rows, y)
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Transform rows.

        Parameters
        ----------
        X : array-like of shape (n, ...)

        Returns
        -------
        ndarray of shape (n, n_components) float32
        """
        transformed = self.transformer_.transform(_flat(X))
        dense = transformed.toarray() if hasattr(transformed, "toarray") else transformed
        return np.asarray(dense, dtype=np.float32)

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that passes ``(b, n_components)`` through."""
        return nn.Identity()

    def _new_transformer(self, shape: tuple[int, ...]) -> Any:
        if isinstance(self.transformer, str):
            if self.transformer not in _BY_NAME:
                known = suggest(self.transformer, _BY_NAME)
                raise InvalidParameterError(
                    f"sklearn transformer must be a known name or an object; got {self.transformer!r}. {known}"
                )
            return make_pipeline(StandardScaler(), *_BY_NAME[self.transformer](shape))
        if not hasattr(self.transformer, "transform"):
            raise InvalidParameterError(f"sklearn transformer must have a transform method; got {self.transformer!r}.")
        return clone(self.transformer)


def _fewer_columns(shape: tuple[int, ...]) -> list[PCA]:
    n_rows, n_columns = shape
    return [PCA(min(MOST_COLUMNS_FOR_NCA, n_rows), svd_solver="full")] if n_columns > MOST_COLUMNS_FOR_NCA else []


def _flat(X: Any) -> np.ndarray:
    rows = np.asarray(X)
    # Many transformers would compute in float16, which loses all but three digits.
    rows = rows.astype(np.float32) if rows.dtype == np.float16 else rows
    return rows.reshape(len(rows), -1)
