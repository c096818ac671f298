"""Probabilistic linear discriminant analysis against what its model says."""

from __future__ import annotations

import numpy as np
import pytest

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.backbones import PLDA
from metafe.contracts import InvalidParameterError, Seeds

BETWEEN = np.array([9.0, 1.0, 0.0])
MIXING = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [1.0, 0.0, 1.0]])


def sample(n_classes: int, n_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the model: unit variance within classes, the variances of BETWEEN between them, then mixed."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), n_rows)
    means = rng.normal(size=(n_classes, 3)) * np.sqrt(BETWEEN)
    return (means[y] + rng.normal(size=(len(y), 3))) @ MIXING + 5, y


def within(features: np.ndarray, y: np.ndarray) -> np.ndarray:
    means = np.stack([features[y == k].mean(0) for k in np.unique(y)])
    return np.cov((features - means[np.unique(y, return_inverse=True)[1]]).T)


@pytest.mark.parametrize("scaling", ["feature", "all"])
def test_features_are_the_expected_variables_of_the_classes(scaling):
    X, y = sample(n_classes=600, n_rows=20)
    features = PLDA(scaling).fit(X, y, Seeds(0)).encode(X)
    told_apart = within(features, y)[-2:, -2:]
    expected = (BETWEEN / (BETWEEN + 1))[:2][::-1] ** 2
    np.testing.assert_allclose(np.diag(told_apart), expected, rtol=0.15)
    assert abs(told_apart[0, 1]) < 0.02
    third = features[:, :-2]
    assert third.size == 0 or third.var() < 0.02


def test_few_classes_make_weights_more_alike():
    weights = {}
    for n_classes in (4, 600):
        X, y = sample(n_classes, n_rows=12000 // n_classes)
        variances = np.diag(within(PLDA("all").fit(X, y, Seeds(0)).encode(X), y))
        weights[n_classes] = variances.min() / variances.max()
    assert weights[4] > weights[600]


def test_novel_classes_are_told_apart_better_than_by_the_rows():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(20, 20))

    def draw(n_classes):
        y = np.repeat(np.arange(n_classes), 20)
        means = rng.normal(size=(n_classes, 20)) * np.where(np.arange(20) < 3, 2.0, 0.0)
        return (means[y] + rng.normal(size=(len(y), 20))) @ mixing, y

    extractor = MetaFeatureExtractor("plda", "untrained", validation_fraction=0.0).fit(*draw(40))
    novel = draw(10)
    ours, rows = (few_shot_score(t, *novel, n_episodes=200, random_state=0).mean for t in (extractor, None))
    assert ours > rows + 0.2


def test_without_classes_rows_are_whitened():
    X, _ = sample(n_classes=500, n_rows=4)
    for y in (None, np.zeros((len(X), 1))):
        features = PLDA().fit(X, y, Seeds(0)).encode(X)
        np.testing.assert_allclose(np.cov(features.T), np.eye(3), atol=0.15)


def test_constant_columns_and_wide_rows():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(5), 8)
    X = rng.normal(size=(40, 700)) + y[:, None]
    X[:, ::2] = 3.0
    features = PLDA().fit(X, y, Seeds(0)).encode(X)
    assert np.isfinite(features).all()
    assert 0 < features.shape[1] <= 350
    wide = rng.normal(size=(40, 900)) + y[:, None]
    assert PLDA().fit(wide, y, Seeds(0)).encode(wide).shape[1] < 40
    equal = np.ones((6, 2))
    assert np.isfinite(PLDA().fit(equal, np.array([0, 0, 0, 1, 1, 1]), Seeds(0)).encode(equal)).all()


def test_one_row_in_each_class():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 3))
    assert np.isfinite(PLDA().fit(X, np.arange(6), Seeds(0)).encode(X)).all()


def test_an_unknown_scaling_is_an_error():
    with pytest.raises(InvalidParameterError, match="plda scaling must be"):
        PLDA("pixel").fit(np.eye(3), np.arange(3), Seeds(0))
