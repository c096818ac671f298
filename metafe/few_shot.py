"""Classifying, or predicting targets of, a new problem from a handful of labelled rows."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from metafe.contracts import InvalidInputError, InvalidParameterError, ProblemKind
from metafe.heads.choosing import CLASSIFIER_NAMES, REGRESSOR_NAMES, check_head, make_classifier, make_regressor
from metafe.heads.own import OwnClassifier, OwnRegressor, brings_head


class FewShotEstimator(BaseEstimator):
    """What `FewShotClassifier` and `FewShotRegressor` share."""

    _kind: ClassVar[ProblemKind]
    extractor: Any
    head: Any

    def predict(self, X: Any) -> np.ndarray:
        """Return the class, or the targets, of each row.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            All rows to be judged, where the head decides about them together.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets)
        """
        seen = self._seen_by_head(X)
        return self.head_.predict(seen)

    def _require_y(self, y: Any) -> None:
        if y is None:
            name = type(self).__name__
            raise InvalidInputError(f"{name} requires y to be passed, but the target y is None. Pass the labels.")

    def _takes_own_head(self) -> bool:
        """Tell whether the head is the one that the extractor's algorithm adapts.

        Raises
        ------
        InvalidParameterError
            It was asked for, and there is none.
        """
        if not isinstance(self.head, str) or self.head not in ("auto", "own"):
            return False
        inner = _fitted(self.extractor)
        if brings_head(inner, self._kind):
            return self.head == "own" or self._kind == "regression"
        if self.head == "auto":
            return False
        algorithm = getattr(getattr(inner, "model_", None), "algorithm", None)
        received = type(inner).__name__ if algorithm is None else f"one with {algorithm.name!r}"
        raise InvalidParameterError(
            f"head='own' needs an extractor whose algorithm has learned to adapt a head for {self._kind}; got {received}. "
            "Choose another head, or train with another algorithm."
        )

    def _adapted(self, X: Any, y: np.ndarray) -> Any:
        """Return the extractor adapted to a support set, or as it is where it has not learned to adapt to such a one."""
        inner = _fitted(self.extractor)
        learned = inner.model_.learner.problem.kind if hasattr(inner, "model_") else self._kind
        return inner.adapt(X, y) if hasattr(inner, "adapt") and learned in (self._kind, "unlabelled") else inner

    def _keep(self, extractor: Any, head: Any) -> None:
        """Set the fitted attributes."""
        self.extractor_ = extractor
        self.head_ = head
        if hasattr(extractor, "n_features_in_"):  # not where an encoder reads what has no columns
            self.n_features_in_ = extractor.n_features_in_

    def _seen_by_head(self, X: Any) -> Any:
        """Return the rows themselves for a head of the extractor's own, features for any other."""
        check_is_fitted(self)
        if self.extractor_ is None:
            return validate_data(self, X, reset=False, dtype="numeric")
        return X if isinstance(self.head_, OwnClassifier | OwnRegressor) else _features(self.extractor_, X)


class FewShotClassifier(ClassifierMixin, FewShotEstimator):
    """Adapt a fitted extractor to a few labelled rows of a new problem, then classify.

    Parameters
    ----------
    extractor : transformer or None, default=None
        ``None`` classifies the rows themselves. A fitted extractor is passed as
        ``sklearn.frozen.FrozenEstimator(extractor)``, since `sklearn.base.clone` unfits anything else.
    head : {"auto", "centroid", "own", "tim", "pt-map"} or classifier, default="auto"
        What tells the classes apart on the features. ``"auto"`` and ``"centroid"`` take the nearest class mean; ``"own"``
        the head that the extractor's algorithm adapts; any scikit-learn classifier is cloned and fitted. ``"tim"`` and
        ``"pt-map"`` (`metafe.heads.TIM`, `metafe.heads.PTMAP`) decide about all rows of one `predict` together, which
        helps most with one label a class, but expects about equally many rows of each class.

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

    _kind = "classification"

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
            An extractor that is not fitted, an unknown head, or ``"own"`` where the extractor has none.
        InvalidInputError
            No labels.
        """
        check_head(self.head, CLASSIFIER_NAMES, "a classifier")
        self._require_y(y)
        takes_own_head = self._takes_own_head()
        if self.extractor is None:
            X, y = validate_data(self, X, y, dtype="numeric")
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        extractor = self._adapted(X, labels)
        head = (
            OwnClassifier(extractor)
            if takes_own_head
            else make_classifier(self.head).fit(_features(extractor, X), labels)
        )
        self._keep(extractor, head)
        self.classes_ = self.head_.classes_
        return self

    @available_if(lambda self: isinstance(self.head, str) or hasattr(self.head, "predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            All rows to be judged, where the head decides about them together.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Columns in the order of ``classes_``.

        Raises
        ------
        AttributeError
            The head gives no probabilities.
        """
        seen = self._seen_by_head(X)
        return self.head_.predict_proba(seen)

    @available_if(lambda self: hasattr(self.head, "decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores that a given classifier decides by.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_classes)
            As the classifier gives them.
        """
        seen = self._seen_by_head(X)
        return self.head_.decision_function(seen)


class FewShotRegressor(RegressorMixin, FewShotEstimator):
    """Adapt a fitted extractor to a few rows with targets of a new problem, then predict targets.

    Parameters
    ----------
    extractor : transformer or None, default=None
        ``None`` regresses on the rows themselves. A fitted extractor is passed as
        ``sklearn.frozen.FrozenEstimator(extractor)``, since `sklearn.base.clone` unfits anything else.
    head : {"auto", "own", "ridge"} or regressor, default="auto"
        What predicts targets from the features. ``"own"`` is the predictor that the extractor's algorithm adapts;
        ``"ridge"`` is ridge regression, its strength chosen by leaving out one row at a time; ``"auto"`` takes the first
        where there is one; any scikit-learn regressor is cloned and fitted.

    Attributes
    ----------
    extractor_ : transformer or None
        The extractor, adapted to the rows where it has learned from continuous targets.
    head_ : regressor
        The fitted head.
    n_features_in_ : int
        Size of the second dimension of ``X``.

    Examples
    --------
    >>> regressor = FewShotRegressor().fit([[0.0], [1.0], [2.0], [3.0]], [0.0, 2.0, 4.0, 6.0])
    >>> regressor.predict([[1.5], [4.0]]).round(1)
    array([3., 8.])
    """

    _kind = "regression"

    def __init__(self, extractor: Any = None, head: Any = "auto") -> None:
        self.extractor = extractor
        self.head = head

    def fit(self, X: Any, y: Any) -> FewShotRegressor:
        """Adapt to rows with targets.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Support rows, as the extractor takes them.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Their targets.

        Returns
        -------
        FewShotRegressor

        Raises
        ------
        InvalidParameterError
            An extractor that is not fitted, an unknown head, or ``"own"`` where the extractor has none.
        InvalidInputError
            No targets, or another number of them than the extractor has learned from.
        """
        check_head(self.head, REGRESSOR_NAMES, "a regressor")
        self._require_y(y)
        takes_own_head = self._takes_own_head()
        if self.extractor is None:
            X, y = validate_data(self, X, y, dtype="numeric", multi_output=True, y_numeric=True)
        targets = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        check_consistent_length(X, targets)
        extractor = self._adapted(X, targets)
        head = (
            OwnRegressor(extractor)
            if takes_own_head
            else make_regressor(self.head).fit(_features(extractor, X), targets)
        )
        self._keep(extractor, head)
        self._target_shape = targets.shape[1:]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the targets of each row.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets)
            As ``y`` was.
        """
        predicted = super().predict(X)
        return predicted.reshape(len(predicted), *self._target_shape)

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that there may be several targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _fitted(extractor: Any) -> Any:
    """Return the extractor without its `FrozenEstimator`; raise unless it is fitted."""
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
    return inner


def _features(extractor: Any, X: Any) -> Any:
    return X if extractor is None else np.asarray(extractor.transform(X))
