"""The nearest class mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class NearestMeanClassifier(ClassifierMixin, BaseEstimator):
    """The class whose mean is nearest; unlike scikit-learn's ``NearestCentroid`` it also works with one row a class.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels.
    centroids_ : ndarray of shape (n_classes, n_features)
        Mean row of each class.

    Notes
    -----
    Probabilities are the softmax of negative squared distances, as in Snell, Swersky and Zemel, "Prototypical
    Networks for Few-shot Learning", 2017.

    Examples
    --------
    >>> NearestMeanClassifier().fit([[0.0], [4.0]], ["a", "b"]).predict([[1.0], [3.0]])
    array(['a', 'b'], dtype='<U1')
    """

    def fit(self, X: Any, y: Any) -> NearestMeanClassifier:
        """Compute the means.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)

        Returns
        -------
        NearestMeanClassifier
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.centroids_ = np.stack([X[codes == k].mean(axis=0) for k in range(len(self.classes_))])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of the nearest mean, ``(n_rows,)``."""
        distances = self._squared_distances(X)
        return self.classes_[distances.argmin(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, ``(n_rows, n_classes)``."""
        return softmax(-self._squared_distances(X), axis=1)

    def _squared_distances(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return euclidean_distances(rows, self.centroids_, squared=True)
