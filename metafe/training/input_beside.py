"""The rows themselves beside what has been learned from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from metafe.contracts import TaskData
from metafe.training.normalisation import Normaliser

Scaling = Literal["feature", "all"]
# How rows stand beside features: standardised, or as the directions in which classes differ.
Beside = Literal["feature", "all", "discriminants"]
# Enough for the variance of rows and features.
ROWS_TO_WEIGH = 1024


@dataclass(frozen=True)
class InputBeside:
    """Standardised rows that stand beside the features.

    Parameters
    ----------
    normaliser : Normaliser
        Of the rows.
    weight : float
        What the rows are multiplied by, so that they vary as much as the features do: half of a squared distance is
        theirs on average.
    """

    normaliser: Normaliser
    weight: float

    def join(self, features: Tensor, rows: Tensor) -> Tensor:
        """Return features ``(b, n_features)`` with the rows ``(b, *input_shape)`` beside them, flattened."""
        return torch.cat([features, self.weight * self.normaliser(rows).flatten(1)], dim=1)


def rows_to_weigh(train: TaskData) -> np.ndarray:
    """Return the numbers of some training rows, evenly spread."""
    chosen = np.linspace(0, len(train.rows) - 1, min(len(train.rows), ROWS_TO_WEIGH), dtype=np.int64)
    return np.sort(train.rows)[np.unique(chosen)]


def fit_input_beside(train: TaskData, features: np.ndarray, normaliser: Normaliser) -> InputBeside:
    """Weigh standardised rows against features.

    Parameters
    ----------
    train : TaskData
        Encoded training rows.
    features : ndarray of shape (n, n_features)
        Of `rows_to_weigh`.
    normaliser : Normaliser
        Of the rows.

    Returns
    -------
    InputBeside
    """
    rows = normaliser(torch.as_tensor(train.take(rows_to_weigh(train)))).flatten(1).numpy()
    of_features, of_rows = (float(a.var(axis=0, dtype=np.float64).sum()) for a in (features, rows))
    # Features that are the same for every row leave all to the rows.
    return InputBeside(normaliser, float(np.sqrt(of_features / of_rows)) if of_features and of_rows else 1.0)
