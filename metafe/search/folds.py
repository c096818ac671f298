"""How rows are split: by class, by group or by row."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from metafe.class_folds import MANY_CLASSES, MOST_FOLDS
from metafe.contracts import InvalidInputError, InvalidParameterError, TaskData

N_FOLDS = 3
# With fewer, too few would be left to learn from or to judge on.
FEWEST_CLASSES = 4
CLASSES_IN_TEST = 2
# Where classes are few, each that is held out is missed in training, so that a network looks worse than it will be; of many, a
# third is not.
CLASSES_IN_SMALL_TEST = 2


@dataclass(frozen=True)
class Folds:
    """Training and test rows of each fold.

    Parameters
    ----------
    parts : list of (ndarray of shape (n_train,), ndarray of shape (n_test,))
        Sorted row numbers.
    said : str
        How rows were split.
    hold_out : bool, default=True
        False where the test rows are those trained on, which says nothing about what is learned from them.
    """

    parts: list[tuple[np.ndarray, np.ndarray]]
    said: str
    hold_out: bool = True

    def __len__(self) -> int:
        return len(self.parts)

    @classmethod
    def make(cls, cv: Any, data: TaskData, by_row: bool = False) -> Folds:
        """Split the rows.

        Parameters
        ----------
        cv : "auto", int, splitter of scikit-learn or iterable of (train, test)
            ``"auto"`` splits by group where there are groups; by class where there are at least four classes; else by row.
        data : TaskData
        by_row : bool, default=False
            Never by class, for final estimators that must know every class.

        Returns
        -------
        Folds

        Raises
        ------
        InvalidParameterError
            Something else for ``cv``.
        InvalidInputError
            Too few rows, classes or groups for it.
        """
        splitter, said, units = _splitter(cv, data, by_row)
        rows = np.zeros(len(data))
        try:
            with warnings.catch_warnings():
                # Whether there is enough to judge on is decided when episodes are drawn.
                warnings.simplefilter("ignore", UserWarning)
                parts = splitter if isinstance(splitter, list) else list(splitter.split(rows, data.y, units))
        except ValueError as error:
            raise InvalidInputError(
                f"cv={cv!r} must be able to split the data; got: {str(error).rstrip('.')}. Lower it, or pass more rows."
            ) from error
        return cls([_checked(part, len(data)) for part in parts], f"{len(parts)} folds {said}")

    @classmethod
    def of_all(cls, data: TaskData) -> Folds:
        """Return one fold of all rows, for data that is too small to hold any out."""
        return cls([(data.rows, data.rows)], "no folds, since there are too few rows to hold any out", hold_out=False)


def _splitter(cv: Any, data: TaskData, by_row: bool) -> tuple[Any, str, np.ndarray | None]:
    """Return a splitter, how it splits, and the units that it keeps together."""
    automatic = isinstance(cv, str) and cv == "auto"
    if automatic:
        return _by_data(None, data, by_row)
    if isinstance(cv, int | np.integer) and cv >= 2:
        return _by_data(int(cv), data, by_row)
    if hasattr(cv, "split") and not isinstance(cv, str | type):
        return cv, f"by {cv!r}", data.groups
    if np.iterable(cv) and not isinstance(cv, str) and (given := list(cv)):
        return given, "as given", None
    raise InvalidParameterError(
        f"cv must be 'auto', a number of folds, a splitter of scikit-learn or pairs of row numbers; got {cv!r}. Leave it out for "
        "'auto'."
    )


def _checked(part: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted row numbers of a fold, which may be given as masks."""
    if not isinstance(part, Sequence | np.ndarray) or len(part) != 2:
        raise InvalidParameterError(
            f"cv must give a pair of training and test rows for each fold; got {reprlib.repr(part)}."
        )
    train, test = (_row_numbers(rows, n_rows) for rows in part)
    return train, test


def _row_numbers(rows: Any, n_rows: int) -> np.ndarray:
    numbers = np.asarray(rows)
    if numbers.dtype == bool and numbers.shape == (n_rows,):
        numbers = np.flatnonzero(numbers)
    is_right = numbers.ndim == 1 and len(numbers) and numbers.dtype.kind in "iu"
    if not is_right or numbers.min() < 0 or numbers.max() >= n_rows:
        raise InvalidParameterError(
            f"cv must give row numbers from 0 to {n_rows - 1} for each fold, at least one to train on and one to judge on; got "
            f"{reprlib.repr(rows)}."
        )
    return np.sort(numbers)


def _folds_of(n_classes: int) -> int:
    usual = min(N_FOLDS, n_classes // CLASSES_IN_TEST)
    return usual if n_classes >= MANY_CLASSES else max(usual, min(MOST_FOLDS, n_classes // CLASSES_IN_SMALL_TEST))


def _by_data(n_folds: int | None, data: TaskData, by_row: bool) -> tuple[Any, str, np.ndarray | None]:
    # Rows are shuffled the same way for every random_state, so that a study can be continued with any.
    shuffled = {"shuffle": True, "random_state": 0}
    if data.groups is not None and (n_groups := len(np.unique(data.groups))) >= 2:
        return GroupKFold(n_folds or min(N_FOLDS, n_groups), **shuffled), "by group", data.groups
    if data.kind != "classification":
        return KFold(n_folds or min(N_FOLDS, len(data) // 2), **shuffled), "by row", None
    assert data.y is not None
    n_classes = len(data.classes)
    if n_classes >= FEWEST_CLASSES and not by_row:
        return GroupKFold(n_folds or _folds_of(n_classes), **shuffled), "by class", data.y
    n_rows = int(np.sort(data.class_sizes)[-2:].min())
    return StratifiedKFold(n_folds or max(2, min(N_FOLDS, n_rows // 2)), **shuffled), "by row", None
