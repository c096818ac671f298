"""What rows are clustered by, where that is not the rows themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from metafe.contracts import InvalidInputError, InvalidParameterError, Seeds


def check_embedding(embedding: Any) -> None:
    """Refuse what can be no embedding.

    Raises
    ------
    InvalidParameterError
        Neither None nor a transformer.
    """
    transforms = hasattr(embedding, "transform") or hasattr(embedding, "fit_transform")
    if embedding is not None and (isinstance(embedding, type) or not transforms):
        raise InvalidParameterError(
            f"clusters embedding must be None or a scikit-learn transformer; got {embedding!r}. Pass one such as "
            "PCA(n_components=32)."
        )


def embedded(rows: np.ndarray, embedding: Any, seeds: Seeds) -> np.ndarray:
    """Fit a clone of a transformer on rows and transform them.

    Parameters
    ----------
    rows : ndarray of shape (n, ...)
    embedding : transformer
        Each ``random_state`` that it leaves open is set.
    seeds : Seeds

    Returns
    -------
    ndarray of shape (n, d)

    Raises
    ------
    InvalidInputError
        The transformer gives anything but a row of finite numbers for each row.
    """
    transformer = clone(embedding)
    seed = seeds.integer("embedding") % 2**32
    unset = [k for k, v in transformer.get_params().items() if k.endswith("random_state") and v is None]
    transformer.set_params(**dict.fromkeys(unset, seed))
    given = _shaped_for(transformer, rows)
    if hasattr(transformer, "transform"):
        points = transformer.fit(given, None).transform(given)
    else:
        points = transformer.fit_transform(given)
    points = np.asarray(points.toarray() if hasattr(points, "toarray") else points)
    if points.ndim != 2 or len(points) != len(rows) or points.dtype.kind not in "biuf" or not np.isfinite(points).all():
        raise InvalidInputError(
            f"clusters embedding must give {len(rows)} rows of finite numbers; got {points.dtype} of shape {points.shape} "
            f"from {embedding!r}. Pass another one."
        )
    return points


def _shaped_for(transformer: Any, rows: np.ndarray) -> np.ndarray:
    """Return rows as an extractor has seen them when it was fitted, and flat for anything else."""
    seen = getattr(transformer, "input_shape_", ())
    is_same = [n for n in seen if n > 1] == [n for n in rows.shape[1:] if n > 1]
    # Many transformers would compute in float16, which loses all but three digits.
    rows = rows.astype(np.float32) if rows.dtype == np.float16 else rows
    return rows.reshape(len(rows), *seen) if seen and is_same else rows.reshape(len(rows), -1)
