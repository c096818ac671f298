"""What scikit-learn asks of any estimator, asked of metafe's with several plugins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from metafe import FewShotClassifier, MetaFeatureExtractor
from metafe.algorithms import ProtoNet
from metafe.backbones import MLP

# Data that a check fits with these is not accepted for a reason; none so far.
EXPECTED_FAILURES: dict[str, str] = {}


def _brief(backbone: Any, algorithm: Any, **parameters: Any) -> MetaFeatureExtractor:
    return MetaFeatureExtractor(backbone, algorithm, max_steps=3, random_state=0, **parameters)


ESTIMATORS = [
    MetaFeatureExtractor(max_steps=3),
    _brief(MLP(depth=1, width=8, normalisation="batch"), ProtoNet(distance="cosine"), validation_fraction=0.0),
    _brief(MLP(depth=1, width=8, n_features=None, dropout=0.5), "supervised"),
    _brief("identity", "protonet"),
    _brief("sklearn", "untrained"),
    FewShotClassifier(),
    FewShotClassifier(head=LogisticRegression()),
]


# metafe is expected to say that what these checks fit is not worth learning from.
@pytest.mark.filterwarnings("ignore::metafe.MetafeWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: EXPECTED_FAILURES)
def test_every_check_of_scikit_learn(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
