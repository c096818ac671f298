"""What heads share that look at all query rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class TransductiveClassifier(ClassifierMixin, BaseEstimator):
    """Base of classifiers that keep the support set and decide about all query rows together.

    A subclass writes `_probabilities`. The rows given to one call of `predict` are one query set: the same row may get
    another class in other company, and rows should come together, not one by one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels.
    support_ : ndarray of shape (n_support, n_features) float64
        The labelled rows.
    codes_ : ndarray of shape (n_support,)
        Position of each row's label in ``classes_``.
    """

    def fit(self, X: Any, y: Any) -> TransductiveClassifier:
        """Keep the support set.

        Parameters
        ----------
        X : array-like of shape (n_support, n_features)
        y : array-like of shape (n_support,)

        Returns
        -------
        TransductiveClassifier
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, self.codes_ = np.unique(y, return_inverse=True)
        self.support_ = X
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each row of a query set.

        Parameters
        ----------
        X : array-like of shape (n_query, n_features)
            The whole query set.

        Returns
        -------
        ndarray of shape (n_query,)
        """
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class for each row of a query set.

        Parameters
        ----------
        X : array-like of shape (n_query, n_features)
            The whole query set.

        Returns
        -------
        ndarray of shape (n_query, n_classes)
        """
        check_is_fitted(self)
        query = validate_data(self, X, reset=False, dtype=np.float64)
        return self._probabilities(self.support_, np.eye(len(self.classes_))[self.codes_], query)

    def _check_parameters(self) -> None:
        """Raise where a parameter cannot work."""

    def _probabilities(self, support: np.ndarray, labels: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Return ``(n_query, n_classes)`` from rows and one-hot labels ``(n_support, n_classes)``."""
        raise NotImplementedError


def class_means(support: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean row of each class, ``(n_classes, n_features)``."""
    return (labels.T @ support) / labels.sum(axis=0)[:, None]


def to_unit_length(rows: np.ndarray) -> np.ndarray:
    """Divide each row by its length; a row of zeros stays."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def centred(support: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the mean of all rows."""
    mean = np.concatenate([support, query]).mean(axis=0)
    return support - mean, query - mean


def squared_distances(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the squared distance of each row to each centre, ``(n_rows, n_centres)``."""
    squares = (rows**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    distances: np.ndarray = np.maximum(squares - 2 * rows @ centres.T, 0.0)
    return distances
