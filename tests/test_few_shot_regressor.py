"""`FewShotRegressor`: its heads, units and errors."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

import metafe
from metafe import FewShotRegressor, MetaFeatureExtractor, few_shot_score
from metafe.contracts import InvalidInputError, InvalidParameterError
from metafe.heads.own import OwnRegressor

pytestmark = pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")


@pytest.fixture(scope="module")
def families():
    """Sixty groups whose targets, in the thousands, depend on two of eight columns in a way of their own."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 20)
    X = rng.normal(size=(len(groups), 8))
    slopes, level = rng.normal(size=(60, 2)), rng.normal(size=60)
    y = 5000 + 300 * ((X[:, :2] * slopes[groups]).sum(axis=1) + level[groups])
    return X, y, groups


@pytest.fixture(scope="module")
def extractors(small, families):
    """Extractors that have learned from the first fifty groups, by the name of their algorithm."""
    X, y, groups = families
    old = groups < 50
    return {
        name: small("mlp", name, max_steps=60, validation_fraction=0).fit(X[old], y[old], groups=groups[old])
        for name in ("r2d2", "supervised")
    }


@pytest.fixture(scope="module")
def problem(families):
    """Eight rows of a new group, and the others."""
    X, y, groups = families
    rows = np.flatnonzero(groups == 55)
    return X[rows[:8]], y[rows[:8]], X[rows[8:]], y[rows[8:]]


class TestHeads:
    def test_auto_takes_the_head_that_the_algorithm_adapts(self, extractors, problem):
        X, y, query, expected = problem
        regressor = FewShotRegressor(FrozenEstimator(extractors["r2d2"])).fit(X, y)
        assert isinstance(regressor.head_, OwnRegressor)
        own = extractors["r2d2"].adapt(X, y).predict_adapted(query)
        np.testing.assert_array_equal(regressor.predict(query), own[:, 0])
        assert r2_score(expected, regressor.predict(query)) > 0.5

    @pytest.mark.parametrize("name", ["supervised", None])
    def test_auto_takes_ridge_where_the_algorithm_adapts_none(self, extractors, problem, name):
        X, y, query, _ = problem
        extractor = None if name is None else extractors[name]
        regressor = FewShotRegressor(None if name is None else FrozenEstimator(extractor)).fit(X, y)
        assert isinstance(regressor.head_, RidgeCV)
        features, query_features = (x if name is None else extractor.transform(x) for x in (X, query))
        expected = FewShotRegressor(head="ridge").fit(features, y).predict(query_features)
        np.testing.assert_allclose(regressor.predict(query), expected)

    def test_any_regressor_is_cloned_and_fitted(self, problem):
        X, y, query, _ = problem
        head = LinearRegression()
        regressor = FewShotRegressor(head=head).fit(X, y)
        np.testing.assert_allclose(regressor.predict(query), LinearRegression().fit(X, y).predict(query))
        assert not hasattr(head, "coef_")

    @pytest.mark.parametrize("factor", [1e-2, 1.0, 1e2])
    def test_ridge_fits_rows_of_any_scale(self, factor):
        rng = np.random.default_rng(0)
        X = factor * rng.normal(size=(40, 3))
        y = X.sum(axis=1) / factor + 0.01 * rng.normal(size=40)
        assert FewShotRegressor().fit(X[:8], y[:8]).score(X[8:], y[8:]) > 0.9

    def test_what_has_learned_from_classes_gives_features_but_does_not_adapt_to_targets(self, small, blobs):
        X, y = blobs
        extractor = small("mlp", "protonet", validation_fraction=0).fit(X, y)
        regressor = FewShotRegressor(FrozenEstimator(extractor)).fit(X[:8], X[:8, 0])
        expected = FewShotRegressor().fit(extractor.transform(X[:8]), X[:8, 0]).predict(extractor.transform(X[8:]))
        np.testing.assert_allclose(regressor.predict(X[8:]), expected)

    def test_any_transformer_is_an_extractor(self, problem):
        X, y, query, _ = problem
        scaler = StandardScaler().fit(X)
        regressor = FewShotRegressor(FrozenEstimator(scaler)).fit(X, y)
        expected = FewShotRegressor().fit(scaler.transform(X), y).predict(scaler.transform(query))
        np.testing.assert_allclose(regressor.predict(query), expected)


class TestUnits:
    def test_the_level_of_a_support_set_is_seen_in_the_units_of_fit(self, extractors, problem):
        X, y, query, expected = problem
        regressor = FewShotRegressor(FrozenEstimator(extractors["r2d2"]))
        here, above = (regressor.fit(X, y + shift).predict(query) for shift in (0.0, 300.0))
        assert 200 < np.mean(above - here) < 320
        assert abs(np.mean(here) - np.mean(expected)) < 200

    def test_whole_numbers_are_targets_too(self, extractors, problem):
        X, y, query, _ = problem
        regressor = FewShotRegressor(FrozenEstimator(extractors["r2d2"]))
        whole, real = (regressor.fit(X, targets).predict(query) for targets in (y.round(), y.round() + 1e-3))
        np.testing.assert_allclose(whole, real, atol=0.1)

    @pytest.mark.parametrize("n_targets", [1, 2])
    def test_several_targets_come_back_as_they_were_given(self, small, problem, families, n_targets):
        X, y, query, _ = problem
        targets = np.stack([y, -y], axis=1)[:, :n_targets]
        assert FewShotRegressor().fit(X, targets).predict(query).shape == (len(query), n_targets)
        old, old_y, _ = families
        learned_from = np.stack([old_y, -old_y], axis=1)[:, :n_targets]
        extractor = small("mlp", "r2d2", validation_fraction=0).fit(old, learned_from)
        own = FewShotRegressor(FrozenEstimator(extractor), "own").fit(X, targets)
        assert own.predict(query).shape == (len(query), n_targets)

    def test_another_number_of_targets_than_learned_from_is_refused(self, extractors, problem):
        X, y, _, _ = problem
        with pytest.raises(InvalidInputError, match=r"y must have 1 targets, as in fit; got 2\. Pass the same"):
            FewShotRegressor(FrozenEstimator(extractors["r2d2"])).fit(X, np.stack([y, y], axis=1))

    def test_an_extractor_fitted_again_on_classes_forgets_the_units(self, small, families, blobs):
        X, y, _ = families
        extractor = small("mlp", "r2d2", validation_fraction=0).fit(X, y)
        assert extractor.target_mean_.tolist() == pytest.approx([y.mean()])
        assert extractor.target_scale_.tolist() == pytest.approx([y.std()])
        extractor.fit(*blobs)
        assert not hasattr(extractor, "target_mean_")
        assert extractor.adapt(*blobs).adapted_classes_.tolist() == list(range(8))


class TestEstimator:
    def test_in_cross_validation(self, extractors, families):
        X, y, groups = families
        rows = groups == 57
        regressor = FewShotRegressor(FrozenEstimator(extractors["r2d2"]))
        assert cross_val_score(regressor, X[rows], y[rows], cv=4).mean() > 0.3

    def test_clone_keeps_the_extractor_fitted(self, extractors, problem):
        X, y, query, _ = problem
        regressor = FewShotRegressor(FrozenEstimator(extractors["r2d2"])).fit(X, y)
        np.testing.assert_array_equal(clone(regressor).fit(X, y).predict(query), regressor.predict(query))

    def test_pickle_keeps_the_prediction(self, extractors, problem):
        X, y, query, _ = problem
        regressor = FewShotRegressor(FrozenEstimator(extractors["r2d2"])).fit(X, y)
        copy = pickle.loads(pickle.dumps(regressor))
        np.testing.assert_array_equal(copy.predict(query), regressor.predict(query))

    def test_a_saved_adapted_extractor_predicts_the_same(self, extractors, problem, tmp_path):
        X, y, query, _ = problem
        adapted = extractors["r2d2"].adapt(X, y)
        adapted.save(tmp_path / "adapted")
        loaded = metafe.load(tmp_path / "adapted")
        np.testing.assert_array_equal(loaded.predict_adapted(query), adapted.predict_adapted(query))

    def test_not_fitted(self, problem):
        with pytest.raises(NotFittedError):
            FewShotRegressor().predict(problem[2])


class TestBadInput:
    def test_no_targets(self, problem):
        with pytest.raises(InvalidInputError, match=r"FewShotRegressor requires y .* None\. Pass the labels"):
            FewShotRegressor().fit(problem[0], None)

    @pytest.mark.parametrize("head", ["rigde", "tim", 3, LinearRegression, None])
    def test_an_unknown_head_is_refused(self, problem, head):
        with pytest.raises(InvalidParameterError, match=r"head must be a known name or a regressor; got .*own, ridge"):
            FewShotRegressor(head=head).fit(*problem[:2])

    @pytest.mark.parametrize("head", ["auto", "own", "ridge"])
    def test_an_unfitted_extractor_is_refused(self, problem, head):
        with pytest.raises(
            InvalidParameterError, match=r"extractor must be fitted.*got an unfitted MetaFeatureExtractor"
        ):
            FewShotRegressor(MetaFeatureExtractor(), head).fit(*problem[:2])

    @pytest.mark.parametrize(("name", "received"), [("supervised", "one with 'supervised'"), (None, "NoneType")])
    def test_own_needs_an_algorithm_that_adapts_a_head(self, extractors, problem, name, received):
        extractor = None if name is None else FrozenEstimator(extractors[name])
        with pytest.raises(InvalidParameterError, match=f"adapt a head for regression; got {received}"):
            FewShotRegressor(extractor, "own").fit(*problem[:2])

    @pytest.mark.parametrize("name", ["r2d2", "supervised", None])
    @pytest.mark.parametrize(
        "spoil",
        [lambda X, y: (X, y[:-1]), lambda X, y: (X, np.where(y > y.min(), y, np.nan)), lambda X, y: (X, ["a"] * 8)],
        ids=["too short", "missing", "strings"],
    )
    def test_targets_that_cannot_be(self, extractors, problem, name, spoil):
        regressor = FewShotRegressor(None if name is None else FrozenEstimator(extractors[name]))
        with pytest.raises(ValueError, match=r"inconsistent numbers|NaN|could not convert|unable to convert"):
            regressor.fit(*spoil(*problem[:2]))


def test_few_shot_score_of_own_and_auto_is_that_of_the_regressor(extractors, families):
    X, y, groups = families
    new = groups >= 50
    judge = {"groups": groups[new], "n_shot": 8, "n_query": 10, "n_episodes": 30, "random_state": 0}
    own, auto, ridge, adapted = (
        few_shot_score(extractors["r2d2"], X[new], y[new], **settings, **judge)
        for settings in ({"head": "own"}, {"head": "auto"}, {}, {"adapt": True})
    )
    np.testing.assert_array_equal(own.scores, auto.scores)
    np.testing.assert_allclose(ridge.scores, adapted.scores)
    assert own.mean > 0.5


@pytest.mark.parametrize("factor", [1e-2, 1e2])
@pytest.mark.parametrize("n_targets", [1, 2])
def test_few_shot_score_of_ridge_is_that_of_the_regressor_whatever_the_scale(factor, n_targets):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    y = X @ rng.normal(size=(3, n_targets)) + 0.01 * rng.normal(size=(80, n_targets))
    judge = {"n_shot": 10, "n_query": 10, "n_episodes": 20, "random_state": 0}
    named, given = (few_shot_score(None, factor * X, y, head=h, **judge) for h in ("ridge", FewShotRegressor()))
    np.testing.assert_allclose(named.scores, given.scores)
    assert named.mean > 0.9
    adapted = few_shot_score(AdaptsToNothing(), factor * X, y, head="ridge", adapt=True, **judge)
    np.testing.assert_allclose(named.scores, adapted.scores)


class AdaptsToNothing:
    """Adapts to nothing."""

    def adapt(self, X, y):
        return self

    def transform(self, X):
        return X


@pytest.mark.parametrize(
    ("targets", "n_shot", "message"),
    [
        (np.arange(40) % 4, 2, "head='ridge' needs continuous targets; got classes. Use 'centroid'"),
        (np.arange(40) + 0.5, 1, "head='ridge' needs an n_shot of at least 2.*; got 1. Raise n_shot"),
    ],
    ids=["classes", "one row"],
)
def test_few_shot_score_refuses_ridge_where_it_cannot_be(targets, n_shot, message):
    with pytest.raises(InvalidParameterError, match=message):
        few_shot_score(None, np.random.default_rng(0).normal(size=(40, 3)), targets, n_shot=n_shot, head="ridge")
