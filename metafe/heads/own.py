"""The head that an extractor's algorithm brings."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax


class OwnClassifier:
    """Classify rows, not features, by the head of an adapted extractor.

    Parameters
    ----------
    extractor : MetaFeatureExtractor
        What its ``adapt`` returned.
    """

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor
        self.classes_: np.ndarray = extractor.adapted_classes_

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of the highest score of each row, ``(n_rows,)``."""
        return self.classes_[self.extractor.predict_adapted(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the softmax of the scores, ``(n_rows, n_classes)``."""
        return softmax(self.extractor.predict_adapted(X).astype(np.float64), axis=1)


class OwnRegressor:
    """Predict targets of rows, not features, by the head of an adapted extractor.

    Parameters
    ----------
    extractor : MetaFeatureExtractor
        What its ``adapt`` returned.
    """

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor

    def predict(self, X: Any) -> np.ndarray:
        """Return the targets in the units of the support set, ``(n_rows, n_targets)``."""
        return self.extractor.predict_adapted(X)


def brings_head(extractor: Any, kind: str) -> bool:
    """Tell whether an extractor has learned to adapt a head of its own to problems of a kind."""
    return hasattr(extractor, "adapts_head") and bool(extractor.adapts_head(kind))
