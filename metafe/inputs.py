"""Checking what the user passed, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _check_y, _num_samples, check_consistent_length, column_or_1d, validate_data

from metafe.contracts import InvalidInputError, ProblemKind

FEWEST_ROWS = 2


@dataclass(frozen=True)
class Target:
    """A checked target.

    Parameters
    ----------
    kind : {"classification", "regression", "unlabelled"}
    y : ndarray of shape (n,) int64, of shape (n, n_targets) float32, or None
        Class codes, or standardised targets.
    classes : ndarray of shape (n_classes,) or None
        The labels that the codes stand for.
    """

    kind: ProblemKind
    y: np.ndarray | None = None
    classes: np.ndarray | None = None


def check_rows(estimator: BaseEstimator, X: Any, *, raw: bool, reset: bool) -> Any:
    """Check the rows, and at ``reset`` remember their number of features and names on the estimator.

    Parameters
    ----------
    estimator : BaseEstimator
        Its ``n_features_in_`` and ``feature_names_in_`` are set or compared.
    X : array-like of shape (n, ...), numbers; anything that has a length if ``raw``
        NumPy arrays keep their type and are not copied; pandas, polars, lists and torch tensors become arrays.
    raw : bool
        True for backbones that want the input as it is.
    reset : bool
        True in ``fit``.

    Returns
    -------
    ndarray of shape (n, ...), or ``X`` itself if ``raw``

    Raises
    ------
    InvalidInputError
        Not numeric, not finite, or too few rows.
    """
    if raw:
        n_rows = _num_samples(X)
        if n_rows < (FEWEST_ROWS if reset else 1):
            raise InvalidInputError(f"X must have at least {FEWEST_ROWS} samples to learn from; got {n_rows}. Pass more rows.")
        return X
    return validate_data(
        estimator,
        _without_torch(X),
        reset=reset,
        dtype="numeric",
        allow_nd=True,
        ensure_min_samples=FEWEST_ROWS if reset else 1,
    )


def check_target(X: Any, y: Any) -> Target:
    """Check the target and tell classes from continuous values, as scikit-learn does.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        Checked rows.
    y : array-like of shape (n,) or (n, n_targets), or None

    Returns
    -------
    Target

    Raises
    ------
    InvalidInputError
        Another length, missing values, or several columns of classes.
    """
    if y is None:
        return Target("unlabelled")
    y = _without_torch(y)
    check_consistent_length(X, y)
    y = _check_y(y, multi_output=True)
    kind = type_of_target(y, input_name="y")
    if kind in ("binary", "multiclass"):
        classes, codes = np.unique(column_or_1d(y), return_inverse=True)
        return Target("classification", codes.astype(np.int64), classes)
    if kind in ("continuous", "continuous-multioutput"):
        targets = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y").reshape(len(y), -1)
        scale = targets.std(axis=0)
        return Target("regression", ((targets - targets.mean(axis=0)) / np.where(scale > 0, scale, 1)).astype(np.float32))
    raise InvalidInputError(f"y must hold one column of classes, or continuous targets; got {kind} of shape {y.shape}. Pass one column.")


def check_groups(X: Any, groups: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Check the groups.

    Parameters
    ----------
    X : array-like of shape (n, ...)
        Checked rows.
    groups : array-like of shape (n,) or None

    Returns
    -------
    labels : ndarray of shape (n_groups,) or None
        Distinct groups, sorted.
    codes : ndarray of shape (n,) int64 or None
        Position of each row's group in ``labels``.

    Raises
    ------
    ValueError
        Another length.
    """
    if groups is None:
        return None, None
    groups = column_or_1d(_without_torch(groups))
    check_consistent_length(X, groups)
    labels, codes = np.unique(groups, return_inverse=True)
    return labels, codes.astype(np.int64)


def _without_torch(array: Any) -> Any:
    """Return a torch tensor as an array without importing torch; anything else as it is."""
    return array.detach().cpu().numpy() if type(array).__module__.split(".")[0] == "torch" else array
