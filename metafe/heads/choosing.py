"""From what the user asked for to a head."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.linear_model import RidgeCV

from metafe.contracts import InvalidParameterError
from metafe.contracts.errors import suggest
from metafe.heads.nearest_mean import NearestMeanClassifier
from metafe.heads.pt_map import PTMAP
from metafe.heads.tim import TIM

_CLASSIFIERS = {"auto": NearestMeanClassifier, "centroid": NearestMeanClassifier, "tim": TIM, "pt-map": PTMAP}
CLASSIFIER_NAMES = (*_CLASSIFIERS, "own")
REGRESSOR_NAMES = ("auto", "own", "ridge")
JUDGING_NAMES = (*CLASSIFIER_NAMES, "ridge")
# Features have any scale, and a few rows are too few to standardise by, so the strength is chosen over a wide range.
_STRENGTHS = np.logspace(-5, 5, 21)


def check_head(head: Any, names: tuple[str, ...], kind: str) -> None:
    """Raise unless ``head`` is one of the names or a scikit-learn estimator.

    Parameters
    ----------
    head : object
        What the user passed.
    names : tuple of str
        Known names.
    kind : {"a classifier", "a regressor", "an estimator"}

    Raises
    ------
    InvalidParameterError
        Anything else.
    """
    known = head in names if isinstance(head, str) else hasattr(head, "fit") and hasattr(head, "predict")
    opposite = {"a classifier": is_regressor, "a regressor": is_classifier}.get(kind)
    is_opposite = isinstance(head, BaseEstimator) and opposite is not None and opposite(head)
    if not known or isinstance(head, type) or is_opposite:
        hint = suggest(head if isinstance(head, str) else "", names)
        raise InvalidParameterError(f"head must be a known name or {kind}; got {head!r}. {hint}")


def make_classifier(head: Any) -> Any:
    """Return an unfitted classifier for a checked name but ``"own"``, or a clone of a given one."""
    return _CLASSIFIERS[head]() if isinstance(head, str) else clone(head)


def make_regressor(head: Any) -> Any:
    """Return unfitted ridge regression for a checked name but ``"own"``, or a clone of a given regressor."""
    return RidgeCV(_STRENGTHS) if isinstance(head, str) else clone(head)
