"""Classifying a new problem from a handful of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from metafe.contracts import InvalidInputError, InvalidParameterError
from metafe.contracts.errors import suggest

HEADS = ("auto", "centroid")


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
        return self.classes_[self._squared_distances(X).argmin(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, ``(n_rows, n_classes)``."""
        return softmax(-self._squared_distances(X), axis=1)

    def _squared_distances(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return euclidean_distances(rows, self.centroids_, squared=True)


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Adapt a fitted extractor to a few labelled rows of a new problem, then classify.

    Parameters
    ----------
    extractor : transformer or None, default=None
        ``None`` classifies the rows themselves. A fitted extractor is passed as
        ``sklearn.frozen.FrozenEstimator(extractor)``, since `sklearn.base.clone` unfits anything else.
    head : {"auto", "centroid"} or classifier, default="auto"
        What tells the classes apart on the features. ``"auto"`` is the nearest class mean; any scikit-learn
        classifier is cloned and fitted.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels.
    extractor_ : transformer or None
        The extractor, adapted to the labelled rows where it is one of metafe's.
    head_ : classifier
        The fitted head.
    n_features_in_ : int
        Size of the second dimension of ``X``.

    Examples
    --------
    >>> FewShotClassifier().fit([[0.0, 0.0], [4.0, 4.0]], ["a", "b"]).predict([[1.0, 0.0]])
    array(['a'], dtype='<U1')
    """

    def __init__(self, extractor: Any = None, head: Any = "auto") -> None:
        self.extractor = extractor
        self.head = head

    def fit(self, X: Any, y: Any) -> FewShotClassifier:
        """Adapt to labelled rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Support rows, as the extractor takes them.
        y : array-like of shape (n_rows,)
            Their classes.

        Returns
        -------
        FewShotClassifier

        Raises
        ------
        InvalidParameterError
            An extractor that is not fitted, or an unknown head.
        InvalidInputError
            No labels.
        """
        head = _make_head(self.head)
        if y is None:
            raise InvalidInputError(
                "FewShotClassifier requires y to be passed, but the target y is None. Pass the labels."
            )
        if self.extractor is None:
            X, y = validate_data(self, X, y, dtype="numeric")
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        extractor = _adapted(self.extractor, X, labels)
        features = X if extractor is None else np.asarray(extractor.transform(X))
        self.head_ = head.fit(features, labels)
        self.extractor_ = extractor
        self.classes_ = self.head_.classes_
        if extractor is not None:
            self.n_features_in_ = getattr(extractor, "n_features_in_", np.shape(X)[1:])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        features = self._features(X)
        return self.head_.predict(features)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Columns in the order of ``classes_``.

        Raises
        ------
        AttributeError
            The head gives no probabilities.
        """
        features = self._features(X)
        return self.head_.predict_proba(features)

    def _features(self, X: Any) -> Any:
        check_is_fitted(self)
        if self.extractor_ is None:
            return validate_data(self, X, reset=False, dtype="numeric")
        return np.asarray(self.extractor_.transform(X))


def _make_head(head: Any) -> Any:
    if isinstance(head, str):
        if head not in HEADS:
            raise InvalidParameterError(
                f"head must be a known name or a classifier; got {head!r}. {suggest(head, HEADS)}"
            )
        return NearestMeanClassifier()
    if not hasattr(head, "fit") or not hasattr(head, "predict"):
        raise InvalidParameterError(f"head must be a known name or a classifier; got {head!r}. {suggest('', HEADS)}")
    return clone(head)


def _adapted(extractor: Any, X: Any, y: np.ndarray) -> Any:
    """Return the extractor adapted to a support set, or as it is where it cannot adapt."""
    if extractor is None:
        return None
    inner = extractor.estimator if isinstance(extractor, FrozenEstimator) else extractor
    try:
        check_is_fitted(inner)
    except NotFittedError as error:
        raise InvalidParameterError(
            f"extractor must be fitted, and passed as sklearn.frozen.FrozenEstimator(extractor) so that it stays so; "
            f"got an unfitted {type(inner).__name__}. Fit it on the old problems first."
        ) from error
    return inner.adapt(X, y) if hasattr(inner, "adapt") else inner
