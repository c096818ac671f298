"""Heads of `FewShotClassifier`: the transductive ones against plain computations, and how a head is chosen."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from metafe import FewShotClassifier, FewShotRegressor, MetaFeatureExtractor, few_shot_score
from metafe.contracts import InvalidParameterError
from metafe.heads import PTMAP, TIM, NearestMeanClassifier, pt_map
from metafe.heads.pt_map import balanced_plan


def episode(seed: int, n_way: int = 5, n_query: int = 15, width: int = 32, spread: float = 0.5):
    """One support row a class of Gaussian clusters, and equally many query rows of each."""
    rng = np.random.default_rng(seed)
    means = spread * rng.normal(size=(n_way, width))
    support_y, query_y = np.arange(n_way), np.repeat(np.arange(n_way), n_query)
    support, query = (means[y] + rng.normal(size=(len(y), width)) for y in (support_y, query_y))
    return support, support_y, query, query_y


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def plain_probabilities(weights, rows, temperature):
    """The softmax of the scaled negative distances, a row and a class at a time."""
    found = np.empty((len(rows), len(weights)))
    for i, row in enumerate(rows):
        scores = [np.exp(-0.5 * temperature * ((row - w) ** 2).sum()) for w in weights]
        found[i] = scores / np.sum(scores)
    return found


def plain_tim_loss(weights, support, labels, query, temperature=15.0, support_weight=0.1, conditional_weight=0.1):
    p_support = plain_probabilities(weights, support, temperature)
    p_query = plain_probabilities(weights, query, temperature)
    cross_entropy = -np.mean([np.log(p[k]) for p, k in zip(p_support, labels, strict=True)])
    conditional = -np.mean([(p * np.log(p)).sum() for p in p_query])
    marginal = p_query.mean(axis=0)
    return support_weight * cross_entropy + conditional_weight * conditional + (marginal * np.log(marginal)).sum()


class TestTIM:
    def test_loss_and_gradient_equal_plain_computations(self):
        support, y, query, _ = episode(0, n_way=3, n_query=4, width=4)
        weights = np.random.default_rng(1).normal(size=(3, 4))
        head = TIM(temperature=3.0, support_weight=0.7, conditional_weight=0.4)
        value, gradient = head._loss(weights, support, np.eye(3)[y], query)
        assert value == pytest.approx(plain_tim_loss(weights, support, y, query, 3.0, 0.7, 0.4), rel=1e-10)
        numeric = np.empty_like(weights)
        for place in np.ndindex(*weights.shape):
            change = np.zeros_like(weights)
            change[place] = 1e-5
            above, below = (
                plain_tim_loss(weights + sign * change, support, y, query, 3.0, 0.7, 0.4) for sign in (1, -1)
            )
            numeric[place] = (above - below) / 2e-5
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("centre", [True, False])
    def test_probabilities_are_those_of_the_minimum_that_a_plain_search_finds(self, centre):
        support, y, query, _ = episode(0, n_way=3, n_query=6, width=4)
        mean = np.concatenate([support, query]).mean(axis=0) if centre else 0.0
        z_support, z_query = unit(support - mean), unit(query - mean)

        def loss(flat):
            return plain_tim_loss(flat.reshape(3, 4), z_support, y, z_query)

        start = z_support.ravel()
        plain = minimize(
            loss, start, method="SLSQP", bounds=[(w - 0.1, w + 0.1) for w in start], options={"ftol": 1e-12}
        )
        found = TIM(centre=centre).fit(support, y).predict_proba(query)
        np.testing.assert_allclose(found, plain_probabilities(plain.x.reshape(3, 4), z_query, 15.0), atol=1e-3)

    def test_more_steps_lower_the_loss(self):
        support, y, query, _ = episode(0)
        entropies = []
        for n_steps in (1, 5, 100):
            p = TIM(n_steps=n_steps).fit(support, y).predict_proba(query)
            entropies.append(
                0.1 * -(p * np.log(p)).sum(axis=1).mean() + (p.mean(axis=0) * np.log(p.mean(axis=0))).sum()
            )
        assert entropies[0] > entropies[1] > entropies[2]

    def test_without_reach_it_is_the_nearest_mean_of_unit_rows(self):
        support, y, query, _ = episode(0)
        expected = NearestMeanClassifier().fit(unit(support), y).predict(unit(query))
        assert np.array_equal(TIM(reach=0.0, centre=False).fit(support, y).predict(query), expected)

    def test_moving_all_rows_changes_nothing(self):
        support, y, query, _ = episode(0)
        here, there = (TIM().fit(support + d, y).predict_proba(query + d) for d in (0.0, 3.0))
        np.testing.assert_allclose(here, there, atol=1e-4)


def plain_plan(cost, n_iterations=1000):
    """Sinkhorn's iterations as in a textbook."""
    plan = np.exp(-cost)
    for _ in range(n_iterations):
        plan *= len(cost) / cost.shape[1] / plan.sum(axis=0)
        plan /= plan.sum(axis=1, keepdims=True)
    return plan


class TestPTMAP:
    def test_plan_is_balanced_and_a_scaling_of_the_kernel(self):
        cost = 10 * np.random.default_rng(0).uniform(size=(30, 4))
        plan, _ = balanced_plan(cost, tolerance=1e-10)
        np.testing.assert_allclose(plan.sum(axis=1), 1.0, rtol=1e-12)
        np.testing.assert_allclose(plan.sum(axis=0), 7.5, rtol=1e-9)
        scaling = np.log(plan) + cost
        np.testing.assert_allclose(scaling - scaling[:, :1], np.tile((scaling - scaling[:, :1])[0], (30, 1)), atol=1e-9)
        np.testing.assert_allclose(plan, plain_plan(cost), atol=1e-9)

    def test_plan_is_balanced_where_a_class_is_far_from_all_rows(self):
        cost = np.random.default_rng(0).uniform(size=(9, 3)) + np.array([0.0, 0.0, 2000.0])
        plan, _ = balanced_plan(cost)
        np.testing.assert_allclose(plan.sum(axis=0), 3.0, rtol=2e-3)

    def test_starting_from_known_factors_gives_the_same_plan(self):
        cost = 10 * np.random.default_rng(0).uniform(size=(30, 4))
        plan, factors = balanced_plan(cost, tolerance=1e-10)
        again, _ = balanced_plan(cost, factors, max_iter=1, tolerance=1e-10)
        np.testing.assert_allclose(again, plan, atol=1e-9)

    @pytest.mark.parametrize("shift", [0.0, 5.0])
    def test_probabilities_equal_a_plain_numpy_computation(self, shift, monkeypatch):
        support, y, query, _ = episode(0, n_way=4, n_query=5)
        support, query = (np.abs(rows) if shift else rows for rows in (support, query))
        smallest = 0.0 if shift else min(support.min(), query.min())
        rows = [unit(np.sqrt(r - smallest + 1e-6)) for r in (support, query)]
        mean = np.concatenate(rows).mean(axis=0)
        z_support, z_query = (unit(r - mean) for r in rows)
        centres = z_support.copy()
        for step in range(21):
            plan = plain_plan(10 * ((z_query[:, None] - centres) ** 2).sum(axis=-1))
            if step == 20:
                break
            for k in range(4):
                mean_k = (plan[:, k] @ z_query + z_support[k]) / (plan[:, k].sum() + 1)
                centres[k] += 0.2 * (mean_k - centres[k])
        head = PTMAP().fit(support, y)
        assert np.array_equal(head.predict(query), plan.argmax(axis=1))
        np.testing.assert_allclose(head.predict_proba(query), plan, atol=5e-3)
        # What is left between the two is that the head stops scaling at its tolerance.
        monkeypatch.setattr(pt_map, "balanced_plan", partial(balanced_plan, tolerance=1e-12))
        np.testing.assert_allclose(head.predict_proba(query), plan, atol=1e-10)

    def test_classes_get_equal_shares(self):
        support, y, query, _ = episode(1)
        shares = PTMAP().fit(support, y).predict_proba(query).sum(axis=0)
        np.testing.assert_allclose(shares, 15.0, rtol=2e-3)


@pytest.mark.parametrize("head", [TIM(), PTMAP()], ids=lambda head: type(head).__name__)
class TestTransductive:
    def test_gains_over_the_nearest_mean_at_one_shot(self, head):
        gains = []
        for seed in range(40):
            support, y, query, query_y = episode(seed)
            transductive, nearest = (h.fit(support, y).score(query, query_y) for h in (head, NearestMeanClassifier()))
            gains.append(transductive - nearest)
        assert np.mean(gains) - 3 * np.std(gains) / np.sqrt(40) > 0.04

    def test_the_same_rows_get_the_same_answer_in_any_order(self, head):
        support, y, query, _ = episode(0)
        order = np.random.default_rng(0).permutation(len(query))
        head.fit(support, y)
        expected = head.predict_proba(query)
        assert np.array_equal(head.predict_proba(query), expected)
        np.testing.assert_allclose(head.predict_proba(query[order]), expected[order], atol=1e-5)

    def test_one_row_at_a_time_is_possible(self, head):
        support, y, query, _ = episode(0, spread=3.0)
        found = head.fit(support, y).predict_proba(query[:1])
        assert np.isfinite(found).all()
        assert found.sum() == pytest.approx(1.0)

    def test_labels_may_be_strings_in_any_order(self, head):
        support, y, query, query_y = episode(0, spread=2.0)
        names = np.array(["e", "a", "c", "b", "d"])
        head.fit(support, names[y])
        assert head.classes_.tolist() == list("abcde")
        assert (head.predict(query) == names[query_y]).mean() > 0.95

    def test_not_fitted(self, head):
        with pytest.raises(NotFittedError):
            type(head)().predict(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (TIM(temperature=-1.0), r"TIM temperature must be a finite number above 0; got -1\.0"),
        (TIM(temperature=0), r"TIM temperature must be a finite number above 0; got 0"),
        (TIM(reach=-1.0), r"TIM reach must be a finite number of at least 0; got -1\.0"),
        (TIM(centre="no"), r"TIM centre must be one of \[False, True\]; got 'no'"),
        (PTMAP(power=0.0), r"PTMAP power must be a finite number above 0; got 0\.0"),
        (PTMAP(regularisation=0), r"PTMAP regularisation must be a finite number above 0; got 0"),
        (TIM(support_weight=np.nan), r"TIM support_weight must be a finite number"),
        (TIM(n_steps=1.5), r"TIM n_steps must be a whole number of at least 1; got 1\.5"),
        (PTMAP(power="half"), r"PTMAP power must be a finite number above 0; got 'half'"),
        (PTMAP(n_steps=True), r"PTMAP n_steps must be a whole number of at least 0; got True"),
    ],
)
def test_a_parameter_that_cannot_work_is_refused(head, message):
    with pytest.raises(InvalidParameterError, match=message):
        head.fit(np.eye(2), [0, 1])


@pytest.fixture(scope="module")
def fitted(small, blobs):
    """Extractors that have learned from five classes, by the name of their algorithm."""
    X, y = blobs
    return {name: small("mlp", name).fit(X[y < 5], y[y < 5]) for name in ("protonet", "r2d2", "supervised", "relation")}


@pytest.fixture(scope="module")
def problem(blobs):
    """Two labelled rows of each of three new classes, and the others."""
    X, y = blobs
    names = np.array(["x", "y", "z"])
    support = np.concatenate([np.flatnonzero(y == k)[:2] for k in (5, 6, 7)])
    query = np.setdiff1d(np.flatnonzero(y >= 5), support)
    return X[support], names[y[support] - 5], X[query], names[y[query] - 5]


pytestmark = pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")


class TestFewShotClassifier:
    @pytest.mark.parametrize("head", ["auto", "centroid", "own", "tim", "pt-map", LogisticRegression()], ids=str)
    def test_every_head_classifies(self, fitted, problem, head):
        X, y, query, expected = problem
        classifier = FewShotClassifier(FrozenEstimator(fitted["protonet"]), head).fit(X, y)
        probabilities = classifier.predict_proba(query)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-6)
        assert classifier.classes_.tolist() == ["x", "y", "z"]
        assert (classifier.predict(query) == expected).mean() > 0.8
        assert np.array_equal(classifier.classes_[probabilities.argmax(axis=1)], classifier.predict(query))

    def test_what_a_given_classifier_decides_by_is_what_it_has(self, problem):
        X, y, query, _ = problem
        with_scores = FewShotClassifier(head=LinearSVC()).fit(X, y)
        assert not hasattr(with_scores, "predict_proba")
        expected = LinearSVC().fit(X, y).decision_function(query)
        np.testing.assert_allclose(with_scores.decision_function(query), expected)
        assert not hasattr(FewShotClassifier(head="tim").fit(X, y), "decision_function")

    def test_a_regressor_is_no_classifier(self, problem):
        X, y, _, _ = problem
        with pytest.raises(InvalidParameterError, match="head must be a known name or a classifier; got LinearReg"):
            FewShotClassifier(head=LinearRegression()).fit(X, y)
        with pytest.raises(InvalidParameterError, match="head must be a known name or a regressor; got LogisticReg"):
            FewShotRegressor(head=LogisticRegression()).fit(X, np.arange(len(X)) + 0.5)

    @pytest.mark.parametrize(("name", "kind"), [("tim", TIM), ("pt-map", PTMAP), ("auto", NearestMeanClassifier)])
    def test_a_name_stands_for_the_head_with_its_defaults(self, problem, name, kind):
        X, y, query, _ = problem
        classifier = FewShotClassifier(head=name).fit(X, y)
        assert type(classifier.head_) is kind
        np.testing.assert_array_equal(classifier.predict_proba(query), kind().fit(X, y).predict_proba(query))

    def test_the_own_head_of_protonet_is_the_nearest_mean(self, fitted, problem):
        X, y, query, _ = problem
        own, centroid = (
            FewShotClassifier(FrozenEstimator(fitted["protonet"]), head).fit(X, y).predict_proba(query)
            for head in ("own", "centroid")
        )
        np.testing.assert_allclose(own, centroid, atol=1e-4)

    @pytest.mark.parametrize("name", ["r2d2", "relation"])
    def test_own_is_what_the_adapted_extractor_says(self, fitted, problem, name):
        X, y, query, _ = problem
        own = FewShotClassifier(FrozenEstimator(fitted[name]), "own").fit(X, y)
        scores = fitted[name].adapt(X, y).predict_adapted(query)
        assert scores.shape == (len(query), 3)
        assert np.array_equal(own.predict(query), own.classes_[scores.argmax(axis=1)])

    @pytest.mark.parametrize(
        ("extractor", "received"), [("supervised", "one with 'supervised'"), (None, "NoneType")], ids=str
    )
    def test_own_needs_an_algorithm_that_adapts_a_head(self, fitted, problem, extractor, received):
        given = None if extractor is None else FrozenEstimator(fitted[extractor])
        with pytest.raises(InvalidParameterError, match=f"head='own' needs an extractor .*; got {received}\\. Choose"):
            FewShotClassifier(given, "own").fit(*problem[:2])

    @pytest.mark.parametrize("head", ["own", "auto"])
    def test_an_unfitted_extractor_is_refused(self, problem, head):
        with pytest.raises(InvalidParameterError, match="extractor must be fitted"):
            FewShotClassifier(MetaFeatureExtractor(), head).fit(*problem[:2])

    @pytest.mark.parametrize("head", ["tmi", 3, TIM, None])
    def test_an_unknown_head_is_refused(self, problem, head):
        with pytest.raises(
            InvalidParameterError, match=r"head must be a known name or a classifier; got .*pt-map, tim"
        ):
            FewShotClassifier(head=head).fit(*problem[:2])

    def test_what_has_learned_from_targets_gives_features_but_does_not_adapt_to_classes(self, small, blobs, problem):
        X, y, query, _ = problem
        extractor = small("mlp", "r2d2", validation_fraction=0).fit(blobs[0], blobs[0][:, 0] + 0.5)
        classifier = FewShotClassifier(FrozenEstimator(extractor)).fit(X, y)
        expected = NearestMeanClassifier().fit(extractor.transform(X), y).predict(extractor.transform(query))
        assert np.array_equal(classifier.predict(query), expected)
        with pytest.raises(InvalidParameterError, match="for classification; got one with 'r2d2'"):
            classifier.set_params(head="own").fit(X, y)


class TestPredictAdapted:
    def test_it_needs_adapt_first(self, fitted, problem):
        with pytest.raises(InvalidParameterError, match=r"needs an extractor that adapt returned.*Call adapt first"):
            fitted["protonet"].predict_adapted(problem[2])

    def test_what_trains_on_rows_has_no_head_that_adapts(self, fitted, problem):
        assert not fitted["supervised"].adapts_head("classification")
        assert fitted["protonet"].adapts_head("classification")
        assert not fitted["r2d2"].adapts_head("regression")
        with pytest.raises(InvalidParameterError, match="got 'supervised'"):
            fitted["supervised"].adapt(*problem[:2]).predict_adapted(problem[2])


class TestFewShotScore:
    JUDGE: ClassVar = {"n_way": 3, "n_shot": 1, "n_query": 10, "n_episodes": 40, "random_state": 0}

    @pytest.mark.parametrize(
        "judged", [{"head": "own"}, {"adapt": True}, {"adapt": True, "head": LogisticRegression()}], ids=str
    )
    def test_an_episode_that_diverges_scores_worst(self, small, blobs, judged):
        extractor = small("mlp", "maml", validation_fraction=0).fit(*blobs)
        extractor.algorithm_.set_params(inner_rate=1e30)
        score = few_shot_score(extractor, *blobs, **self.JUDGE | judged)
        assert score.mean == -np.inf
        assert (score.scores == -np.inf).all()

    def test_own_of_protonet_scores_as_the_centroid(self, fitted, blobs):
        X, y = (part[blobs[1] >= 5] for part in blobs)
        own, centroid = (
            few_shot_score(fitted["protonet"], X, y, head=head, **self.JUDGE) for head in ("own", "centroid")
        )
        np.testing.assert_allclose(own.scores, centroid.scores, atol=0.04)
        assert own.mean == pytest.approx(centroid.mean, abs=0.005)

    @pytest.mark.parametrize(("name", "head"), [("tim", TIM()), ("pt-map", PTMAP()), ("auto", NearestMeanClassifier())])
    def test_names_are_those_of_the_classifier(self, blobs, name, head):
        named, given = (few_shot_score(None, *blobs, head=h, **self.JUDGE) for h in (name, head))
        np.testing.assert_allclose(named.scores, given.scores)

    @pytest.mark.parametrize(
        ("head", "message"),
        [
            ("tmi", r"head must be a known name or an estimator; got 'tmi'"),
            ("own", r"head='own' needs a transformer that has learned to adapt a head for classification; got None"),
        ],
    )
    def test_a_head_that_cannot_be_is_refused(self, blobs, head, message):
        with pytest.raises(InvalidParameterError, match=message):
            few_shot_score(None, *blobs, head=head, **self.JUDGE)

    def test_transductive_heads_need_classes(self, blobs):
        X = blobs[0]
        with pytest.raises(InvalidParameterError, match=r"head='tim' needs classes; got continuous targets"):
            few_shot_score(None, X, X[:, 0] + 0.5, head="tim", **self.JUDGE)
