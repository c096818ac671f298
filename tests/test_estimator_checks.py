"""What scikit-learn asks of any estimator, asked of metafe's with several plugins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from metafe import FewShotClassifier, FewShotRegressor, MetaFeatureExtractor
from metafe.algorithms import ProtoNet
from metafe.backbones import MLP
from metafe.heads import PTMAP, TIM, NearestMeanClassifier

TOGETHER = {
    "check_methods_subset_invariance": "rows given together are decided about together, so a part of them gets other answers"
}
TWO_COLUMNS = {
    "check_classifiers_train": "rows are divided by their lengths and centred, after which two columns keep too little"
}
EXPECTED_FAILURES: dict[str, dict[str, str]] = {"tim": TOGETHER, "pt-map": TOGETHER | TWO_COLUMNS}


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
    FewShotClassifier(head="tim"),
    FewShotClassifier(head="pt-map"),
    FewShotRegressor(),
    FewShotRegressor(head=LinearRegression()),
    NearestMeanClassifier(),
    TIM(),
    PTMAP(),
]


def _expected_failures(estimator: Any) -> dict[str, str]:
    heads = {TIM: "tim", PTMAP: "pt-map"}
    head = heads.get(type(estimator), getattr(estimator, "head", None))
    return EXPECTED_FAILURES.get(head, {}) if isinstance(head, str) else {}


# metafe is expected to say that what these checks fit is not worth learning from.
@pytest.mark.filterwarnings("ignore::metafe.MetafeWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=_expected_failures)
def test_every_check_of_scikit_learn(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
