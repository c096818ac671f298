"""Probabilistic linear discriminant analysis."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.covariance import ShrunkCovariance, ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold
from torch import nn

from metafe.contracts import Backbone, Categorical, Problem, Seeds, check_choice
from metafe.contracts.spaces import SearchSpace

# Covariances of more columns take too long to decompose, and are mostly noise.
MOST_COMPONENTS = 256
SHRINKAGES = [1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0]
N_PARTS = 3


class PLDA(Backbone):
    r"""Linear features in which rows of one class vary alike in every direction, and directions that tell no classes apart vanish.

    Fitted in closed form on the training classes, a strong choice for tables, embeddings and other rows on which linear
    methods do well. Nothing is trained after that.

    Parameters
    ----------
    scaling : {"feature", "all"}, default="feature"
        ``"feature"`` gives each column a scale of its own before anything else; ``"all"`` leaves the proportions of columns
        that share a unit, as pixels or counts do. Only shrinkage makes a difference between them.

    Attributes
    ----------
    mean_ : ndarray of shape (n_values,)
        Mean of the training rows.
    projection_ : ndarray of shape (n_values, n_features)
        What centred rows are multiplied by.

    Notes
    -----
    The model of Ioffe, "Probabilistic Linear Discriminant Analysis", 2006: a row is :math:`x = m + h + e`, where :math:`h`
    is normal with the covariance :math:`B` and shared by the rows of a class, and :math:`e` is normal with the covariance
    :math:`W`. In coordinates where :math:`W` is the identity and :math:`B` diagonal with :math:`b_i`, the feature of a row is the
    expected :math:`h_i`, which is :math:`b_i / (b_i + 1)` times its coordinate. :math:`W` is shrunk towards a multiple of the
    identity by what makes held-out rows likeliest, :math:`B` as Ledoit and Wolf, "A well-conditioned estimator for
    large-dimensional covariance matrices", 2004, describe: with few classes, the directions between their means tell little
    of those between others, and weights become more alike.
    Rows of more than 256 values are first reduced to 256 principal components. Without classes, rows are whitened.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metafe import MetaFeatureExtractor
    >>> X, y = load_digits(return_X_y=True)
    >>> MetaFeatureExtractor("plda", "untrained", validation_fraction=0).fit(X[y < 7], y[y < 7]).transform(X[y >= 7]).shape
    (533, 61)
    """

    name = "plda"
    trains = False
    standardise = "none"

    def __init__(self, scaling: Literal["feature", "all"] = "feature") -> None:
        self.scaling = scaling

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the scaling."""
        return {"scaling": Categorical(["feature", "all"])}

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> PLDA:
        """Estimate the two covariances from training rows, flattened.

        Raises
        ------
        InvalidParameterError
            An unknown scaling.
        """
        check_choice(self.name, "scaling", self.scaling, ("feature", "all"))
        rows = _flat(X)
        self.mean_ = rows.mean(0)
        projection = _scaling(rows.std(0), self.scaling)
        if projection.shape[1] > MOST_COMPONENTS:
            n_components = min(MOST_COMPONENTS, len(rows) - 1)
            components = PCA(n_components, svd_solver="randomized", random_state=seeds.integer("plda") % 2**32)
            projection = projection @ components.fit((rows - self.mean_) @ projection).components_.T
        has_classes = y is not None and y.ndim == 1
        discriminants = _discriminants((rows - self.mean_) @ projection, y if has_classes else None)
        self.projection_ = projection @ discriminants
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Project rows.

        Parameters
        ----------
        X : array-like of shape (n, ...)

        Returns
        -------
        ndarray of shape (n, n_features) float32
        """
        return ((_flat(X) - self.mean_) @ self.projection_).astype(np.float32)

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that passes ``(b, n_features)`` through."""
        return nn.Identity()


def _discriminants(rows: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Return the matrix that takes centred rows ``(n, d)`` to the expected variables of their classes ``(n, k)``."""
    if labels is None:
        return _whitening(rows, len(rows))
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(sizes), rows.shape[1]))
    np.add.at(means, codes, rows)
    means /= sizes[:, None]
    whitening = _whitening(rows - means[codes], max(1, len(rows) - len(sizes)))
    between, _ = ledoit_wolf((means - means.mean(0)) @ whitening, assume_centered=True)
    # The means of finite classes also differ by what varies within classes.
    variances, directions = np.linalg.eigh(between - np.eye(len(between)) * np.mean(1 / sizes))
    telling = variances > 0
    if not telling.any():
        return whitening
    weights = variances[telling] / (variances[telling] + 1)
    discriminants: np.ndarray = whitening @ (directions[:, telling] * weights)
    return discriminants


def _whitening(rows: np.ndarray, degrees_of_freedom: int) -> np.ndarray:
    """Return the matrix that makes the covariance of centred rows the identity."""
    covariance = _shrunk_covariance(rows) * (len(rows) / degrees_of_freedom)
    variances, directions = np.linalg.eigh(covariance)
    smallest = np.finfo(np.float32).eps * max(variances.max(), np.finfo(np.float32).tiny)
    whitening: np.ndarray = directions / np.sqrt(np.maximum(variances, smallest))
    return whitening


def _shrunk_covariance(rows: np.ndarray) -> np.ndarray:
    """Shrink by what makes held-out rows likeliest.

    Ledoit and Wolf's amount is best for the covariance itself, where large variances count most. Whitening divides by the
    small ones, which likelihood does not drown.
    """
    if len(rows) < 2 * N_PARTS or not rows.any():
        shrunk: np.ndarray = ledoit_wolf(rows, assume_centered=True)[0]
        return shrunk
    parts = KFold(N_PARTS, shuffle=True, random_state=0)
    search = GridSearchCV(ShrunkCovariance(assume_centered=True), {"shrinkage": SHRINKAGES}, cv=parts).fit(rows)
    covariance: np.ndarray = search.best_estimator_.covariance_
    return covariance


def _scaling(deviations: np.ndarray, scaling: str) -> np.ndarray:
    """Return the matrix that scales columns and leaves out constant ones, unless all are."""
    varies = deviations > 0 if deviations.any() else np.ones_like(deviations, dtype=bool)
    scales = np.where(deviations > 0, deviations, 1) if scaling == "feature" else np.ones_like(deviations)
    matrix: np.ndarray = np.diag(1 / scales)[:, varies]
    return matrix


def _flat(X: Any) -> np.ndarray:
    rows = np.asarray(X, dtype=np.float64)
    return rows.reshape(len(rows), -1)
