"""A few cheap numbers that tell how alike two data sets are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from metafe.contracts import TaskData

SAMPLED_ROWS = 400
SAMPLED_VALUES = 1024
# Directions that hold most of the variance of simple data.
FEW_COMPONENTS = 10


def meta_features(data: TaskData) -> dict[str, float]:
    """Describe a data set by numbers between about 0 and 5, none of which takes longer than a fraction of a second.

    Parameters
    ----------
    data : TaskData
        Raw rows.

    Returns
    -------
    dict of str to float
        ``log10_rows``; ``classification``, ``regression``, ``images`` and ``groups``, 1 where it is so;
        ``log10_classes``, ``log10_rows_per_class`` (the median) and ``balance`` (entropy of the classes over its maximum), 0 without
        classes. For rows of numbers also ``log10_values`` of a row; ``simplicity``, the share of variance along the ten
        first principal components; and, with classes, ``neighbours``, how often the nearest row is of the same class: the two
        by at most 400 rows and 1024 values of each.
    """
    found = {
        "log10_rows": float(np.log10(len(data))),
        "classification": float(data.kind == "classification"),
        "regression": float(data.kind == "regression"),
        "groups": float(data.groups is not None),
        **_of_classes(data),
    }
    return found | _of_values(data) if isinstance(data.x, np.ndarray) else found


def distance(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Return the Euclidean distance of two descriptions; what one of them lacks counts as 0 there."""
    return float(np.sqrt(sum((a.get(name, 0.0) - b.get(name, 0.0)) ** 2 for name in {*a, *b})))


def _of_classes(data: TaskData) -> dict[str, float]:
    if data.kind != "classification":
        return {"log10_classes": 0.0, "log10_rows_per_class": 0.0, "balance": 0.0}
    sizes = data.class_sizes
    shares = sizes / sizes.sum()
    entropy = -(shares * np.log(shares)).sum()
    return {
        "log10_classes": float(np.log10(len(sizes))),
        "log10_rows_per_class": float(np.log10(np.median(sizes))),
        "balance": float(entropy / np.log(len(sizes))) if len(sizes) > 1 else 0.0,
    }


def _of_values(data: TaskData) -> dict[str, float]:
    chosen = data.rows[_spread(len(data), SAMPLED_ROWS)]
    rows = np.asarray(data.take(chosen), dtype=np.float64).reshape(len(chosen), -1)
    n_values = rows.shape[1]
    rows = StandardScaler().fit_transform(rows[:, _spread(n_values, SAMPLED_VALUES)])
    variances = np.linalg.svd(rows, compute_uv=False) ** 2
    found = {
        "log10_values": float(np.log10(n_values)),
        "images": float(np.ndim(data.x) > 2),
        "simplicity": float(variances[:FEW_COMPONENTS].sum() / max(variances.sum(), np.finfo(float).tiny)),
    }
    if data.kind == "classification":
        assert data.y is not None
        found["neighbours"] = _nearest_of_same_class(rows, data.y[chosen])
    return found


def _nearest_of_same_class(rows: np.ndarray, labels: np.ndarray) -> float:
    nearest = KNeighborsClassifier(1).fit(rows, labels).kneighbors(return_distance=False)[:, 0]
    return float((labels[nearest] == labels).mean())


def _spread(n: int, at_most: int) -> Any:
    """Return numbers that are spread evenly over a range."""
    return np.unique(np.linspace(0, n - 1, min(n, at_most)).astype(np.int64))
