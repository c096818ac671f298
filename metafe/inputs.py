"""Checking what the user passed, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _check_y, _num_samples, column_or_1d, validate_data

from metafe.contracts import InvalidInputError, ProblemKind
from metafe.contracts.input_kinds import is_data_frame

FEWEST_ROWS = 2
# Floats of so many whole values, each of so few rows on average, are measured: classes are few, or have rows to learn from.
MANY_VALUES, FEW_ROWS_OF_A_VALUE = 50, 5

# What to do about what scikit-learn found: a part of its message, and the fix that it leaves out.
_ENCODE = (
    "Encode strings first, for example with sklearn.preprocessing.OneHotEncoder, or pass a data frame, which metafe-tabular "
    "reads."
)
_FIXES = (
    (
        "contains NaN",
        "All values must be finite. Fill gaps, for example with sklearn.impute.SimpleImputer, or drop rows; "
        "metafe-tabular reads data frames that have some, and encoder='series' of metafe-series fills those of series.",
    ),
    ("contains infinity", "All values must be finite. Replace those that are not, or drop their rows."),
    ("could not convert", f"All values must be numbers. {_ENCODE}"),
    ("arrays of bytes/strings", _ENCODE),
    ("Complex data", "Pass real and imaginary parts as columns of their own."),
    ("sample(s)", "Pass more rows."),
    ("feature(s)", "Pass at least one column."),
    ("Expected 2D", "Reshape your data: X.reshape(-1, 1) makes one column of it, X.reshape(1, -1) one row."),
    ("expecting", "Pass the same columns as in fit."),
)


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
    mean, scale : ndarray of shape (n_targets,) or None
        By which continuous targets are standardised.
    """

    kind: ProblemKind
    y: np.ndarray | None = None
    classes: np.ndarray | None = None
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None


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
        check_number_of_rows(X, FEWEST_ROWS if reset else 1)
        return X
    check_column_names(X)
    with _saying_the_fix():
        rows = validate_data(
            estimator,
            _without_torch(X),
            reset=reset,
            dtype="numeric",
            allow_nd=True,
            ensure_min_samples=FEWEST_ROWS if reset else 1,
        )
    if rows.dtype.kind not in "biuf":
        raise InvalidInputError(f"X must hold numbers; got values of type {rows.dtype}. Convert them to numbers first.")
    # No other library knows numbers wider than float64.
    return rows.astype(np.float64) if rows.dtype.itemsize > 8 else rows


def check_column_names(X: Any) -> None:
    """Check that the columns of a data frame can be told apart by their names, which are all strings or all something else.

    Raises
    ------
    InvalidInputError
        Two columns have one name, or some names are strings and others are not.
    """
    if not is_data_frame(X):
        return
    names = list(X.columns)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InvalidInputError(
            f"X must have columns of different names; got {repeated[0]!r} more than once. Rename them."
        )
    strings = [name for name in names if isinstance(name, str)]
    if strings and len(strings) < len(names):
        other = next(name for name in names if not isinstance(name, str))
        raise InvalidInputError(
            f"X must have columns whose names are all strings, or none; got {strings[0]!r} and {other!r}. Rename them, for "
            "example with X.columns = X.columns.astype(str)."
        )


def check_number_of_rows(X: Any, fewest: int = 1) -> None:
    """Check that there are as many rows as are needed.

    Raises
    ------
    InvalidInputError
        There are fewer.
    """
    n_rows = _num_samples(X)
    if n_rows < fewest:
        raise InvalidInputError(f"X must have at least {fewest} samples; got {n_rows}. Pass more rows.")


def check_target(X: Any, y: Any, known_scale: tuple[np.ndarray, np.ndarray] | None = None) -> Target:
    """Check the target and tell classes from continuous values, as scikit-learn does but for whole floats (`kind_of_target`).

    Parameters
    ----------
    X : array-like of shape (n, ...)
        Checked rows.
    y : array-like of shape (n,) or (n, n_targets), or None
    known_scale : tuple of ndarray of shape (n_targets,) or None, default=None
        Of the targets that were learned from: numbers are continuous, whole or not, and standardised by them. By
        their own if None.

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
    with _saying_the_fix(), _sorting_labels("y"):
        y = _check_y(y, multi_output=True)
        kind = kind_of_target(y)
    _check_length("y", y, X)
    learned_from_targets = known_scale is not None and not isinstance(y.flat[0], str)
    if learned_from_targets or kind in ("continuous", "continuous-multioutput"):
        with _saying_the_fix():
            targets = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y").reshape(len(y), -1)
        return _standardised(targets, known_scale)
    if kind in ("binary", "multiclass"):
        classes, codes = _distinct("y", column_or_1d(y))
        return Target("classification", codes, classes)
    if kind == "unknown":
        raise InvalidInputError(
            f"Unknown label type: y must hold whole numbers, strings or continuous targets; got objects of type "
            f"{type(y.flat[0]).__name__}. Convert them, for example with y.astype(str)."
        )
    raise InvalidInputError(
        f"y must hold one column of classes, or continuous targets; got {kind} of shape {y.shape}. Pass one column."
    )


def kind_of_target(y: np.ndarray) -> str:
    """Return the kind that scikit-learn has for a target, but ``"continuous"`` for whole floats that are hardly ever the same.

    Whole floats are classes for scikit-learn, however many there are; integers and strings are classes here too.

    Parameters
    ----------
    y : ndarray of shape (n,) or (n, n_targets)

    Returns
    -------
    str
        Of `sklearn.utils.multiclass.type_of_target`.

    Examples
    --------
    >>> kind_of_target(np.array([0.5, 1.0, 2.0])), kind_of_target(np.array([0.0, 1.0, 2.0]))
    ('continuous', 'multiclass')
    >>> kind_of_target(np.arange(100.0)), kind_of_target(np.arange(100))
    ('continuous', 'multiclass')
    """
    kind = str(type_of_target(y, input_name="y"))
    if kind != "multiclass" or y.dtype.kind != "f":
        return kind
    n_values = len(np.unique(y))
    is_measured = n_values > MANY_VALUES and len(y) < FEW_ROWS_OF_A_VALUE * n_values
    return "continuous" if is_measured else kind


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
    InvalidInputError
        Another length, or several columns.
    """
    if groups is None:
        return None, None
    with _saying_the_fix():
        groups = check_array(_without_torch(groups), dtype=None, ensure_2d=False, input_name="groups")
    if groups.ndim == 2 and groups.shape[1] != 1:
        raise InvalidInputError(f"groups must hold one group for each row; got shape {groups.shape}. Pass one column.")
    _check_length("groups", groups, X)
    return _distinct("groups", groups.ravel())


def _standardised(targets: np.ndarray, known_scale: tuple[np.ndarray, np.ndarray] | None) -> Target:
    if known_scale is None:
        scaler = StandardScaler().fit(targets)
        known_scale = scaler.mean_, scaler.scale_
    mean, scale = known_scale
    if targets.shape[1:] != mean.shape:
        raise InvalidInputError(
            f"y must have {len(mean)} targets, as in fit; got {targets.shape[1]}. Pass the same targets as in fit."
        )
    return Target("regression", ((targets - mean) / scale).astype(np.float32), mean=mean, scale=scale)


def _check_length(name: str, values: np.ndarray, X: Any) -> None:
    if len(values) != _num_samples(X):
        raise InvalidInputError(
            f"{name} must have one value for each row of X; got {len(values)} for {_num_samples(X)} rows. "
            "Pass rows and values in the same order."
        )


def _distinct(name: str, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted distinct labels, and the position of each label among them as int64."""
    with _sorting_labels(name):
        distinct, codes = np.unique(labels, return_inverse=True)
    return distinct, codes.astype(np.int64)


def _without_torch(array: Any) -> Any:
    """Return a torch tensor as an array without importing torch; anything else as it is."""
    if type(array).__module__.split(".")[0] != "torch":
        return array
    tensor = array.detach().cpu()
    return tensor.float().numpy() if str(tensor.dtype) == "torch.bfloat16" else tensor.numpy()


@contextmanager
def _saying_the_fix() -> Iterator[None]:
    """Turn scikit-learn's errors on values into metafe's, with what to do about them."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        first_line = message.splitlines()[0].rstrip(".:")
        fix = next((fix for part, fix in _FIXES if part in first_line), None)
        raise InvalidInputError(f"{first_line}. {fix}" if fix else message) from error


@contextmanager
def _sorting_labels(name: str) -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        reason = str(error).rstrip(".")
        raise InvalidInputError(
            f"{name} must hold labels of one type that sorts, none missing; got {reason}. Convert them to strings."
        ) from error
