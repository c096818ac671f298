"""The search as its users see it."""

from __future__ import annotations

import numpy as np
import pytest

from metafe import MetaFeatureExtractor


@pytest.fixture(scope="module")
def found(brief, blobs):
    """A finished search over blobs."""
    return brief().fit(*blobs)


def test_baselines_come_first(found):
    names = ["standardised rows", "rows on one scale", "PCA", "LDA", "NCA", "supervised", None, None]
    assert found.cv_results_["baseline"] == names


def test_the_winner_can_be_made_again(found, blobs):
    X, y = blobs
    again = MetaFeatureExtractor(max_steps=4).set_params(**found.best_params_)
    again.set_params(random_state=found.best_estimator_.random_state, device="cpu").fit(X, y)
    np.testing.assert_array_equal(again.transform(X), found.transform(X))
