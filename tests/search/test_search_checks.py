"""What scikit-learn asks of any estimator, asked of the search with three trials of few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from metafe import MetaFeatureExtractor, MetaFeatureSearchCV
from metafe.backbones import MLP

BRIEF = MetaFeatureExtractor(MLP(depth=1, width=8), max_steps=2)
SEARCHES = [MetaFeatureSearchCV(BRIEF, n_trials=3)]


# metafe is expected to say that what these checks fit is not worth learning from.
@pytest.mark.filterwarnings("ignore::metafe.MetafeWarning")
@parametrize_with_checks(SEARCHES)
def test_every_check_of_scikit_learn(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
