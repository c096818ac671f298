"""The search as its users see it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import check_scoring
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import metafe
from metafe import MetaFeatureExtractor
from metafe.backbones import MLP
from metafe.contracts import (
    AdaptedSettingWarning,
    InvalidInputError,
    InvalidParameterError,
    MetafeError,
    SearchError,
    TaskData,
)
from metafe.search import attributes as attribute
from metafe.search import finalists
from metafe.search.folds import Folds
from metafe.search.judging import DownstreamJudge, ScoringError
from metafe.search.report import write_report
from metafe.training.probe import Comparison
from metafe.training.trust import Learned


class Scoreless(BaseEstimator):
    """An estimator that cannot score itself."""

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.zeros(len(X))


@pytest.fixture(scope="module")
def found(brief, blobs):
    """A finished search over blobs."""
    return brief().fit(*blobs)


def test_baselines_come_first(found):
    names = [
        "standardised rows",
        "rows on one scale",
        "rows on both scales",
        "PCA",
        "LDA",
        "NCA",
        "supervised",
        None,
        None,
    ]
    assert found.cv_results_["baseline"] == names


def test_the_winner_can_be_made_again(found, blobs):
    X, y = blobs
    again = MetaFeatureExtractor(max_steps=4).set_params(**found.best_params_)
    again.set_params(random_state=found.best_estimator_.random_state, device="cpu").fit(X, y)
    np.testing.assert_array_equal(again.transform(X), found.transform(X))


@pytest.mark.parametrize("patience", ["auto", 8])
def test_a_network_that_wins_is_trained_on_all_rows_as_long_as_did_best(brief, blobs, monkeypatch, patience):
    monkeypatch.setattr(Learned, "least_gain", lambda self, gains: 1.0)
    monkeypatch.setattr(finalists, "compare", lambda ours, theirs: Comparison(1.0, 0.0, 1.0, 0.9, 1.1))
    extractor = MetaFeatureExtractor(max_steps=4, device="cpu", patience=patience)
    narrowed = {"backbones": ["mlp"], "algorithms": "protonet", "tasks": "classes"}
    found = brief(**narrowed, extractor=extractor, n_trials=10).fit(*blobs)
    steps = found.study_.trials[found.best_index_].user_attrs[attribute.BEST_STEPS]
    # Nothing is held out of few classes in a fold, unless the user is patient by a number.
    assert len(steps) == (0 if patience == "auto" else found.n_splits_)
    assert found.best_params_["validation_fraction"] == 0.0
    assert found.best_params_.get("max_steps") == (round(np.median(steps)) if steps else None)
    model = found.best_estimator_.model_
    assert model.learner.problem.n_classes == len(np.unique(blobs[1]))
    # As many as a search trains where nothing limits its time.
    assert found.best_params_["n_networks"] == len(model.learners) == 4


def test_a_winner_beside_the_rows_can_be_made_again(brief, blobs, monkeypatch, tmp_path):
    monkeypatch.setattr(Learned, "least_gain", lambda self, gains: -1.0 if self == self.ALONE else 1.0)
    monkeypatch.setattr(finalists, "compare", lambda ours, theirs: Comparison(1.0, 0.0, 1.0, 0.9, 1.1))
    X, y = blobs
    found = brief(backbones=["mlp"], extractor=MetaFeatureExtractor(max_steps=4, device="cpu"), n_trials=8).fit(X, y)
    assert found.best_params_["concat_input"] == "discriminants"
    assert "beside discriminants" in found.verdict_
    again = MetaFeatureExtractor(max_steps=4, device="cpu").set_params(**found.best_params_)
    again.set_params(random_state=found.best_estimator_.random_state).fit(X, y)
    np.testing.assert_array_equal(again.transform(X), found.transform(X))
    assert found.transform(X).shape[1] > X.shape[1]
    assert "concat_input=" in write_report(found, tmp_path).read_text()


def test_results_are_those_of_scikit_learns_searches(found):
    results = found.cv_results_
    splits = np.stack([results[f"split{fold}_test_score"] for fold in range(found.n_splits_)])
    complete = np.array(results["state"]) == "complete"
    np.testing.assert_allclose(results["mean_test_score"][complete], splits.mean(axis=0)[complete])
    assert found.best_score_ == results["mean_test_score"][found.best_index_]
    assert found.best_params_.items() >= results["params"][found.best_index_].items()
    best = np.nanargmax(results["mean_test_score"])
    assert results["rank_test_score"][best] == 1


def test_it_says_what_won_and_by_how_much(found):
    assert found.verdict_ in str(found)
    assert found.verdict_.split(":")[0] in found._repr_mimebundle_()["text/html"]
    assert found.finalists_[0].score >= found.finalists_[-1].score


def test_the_winner_is_an_extractor_like_any_other(found, blobs, tmp_path):
    assert type(found.best_estimator_) is MetaFeatureExtractor
    found.best_estimator_.save(tmp_path / "features")
    np.testing.assert_array_equal(metafe.load(tmp_path / "features").transform(blobs[0]), found.transform(blobs[0]))


def test_a_finished_search_pickles_and_clones(found, blobs):
    copied = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(copied.transform(blobs[0]), found.transform(blobs[0]))
    assert not hasattr(clone(found), "study_")


def test_names_of_features(found, blobs):
    names = found.get_feature_names_out()
    assert len(names) == found.transform(blobs[0]).shape[1]
    frame = clone(found).set_output(transform="pandas").fit(*blobs).transform(blobs[0])
    assert frame.columns.tolist() == names.tolist()


def test_trials_as_a_table(found):
    assert len(found.trials_dataframe()) == len(found.study_.trials)


def test_a_final_estimator_predicts(brief, blobs):
    X, y = blobs
    search = brief(final_estimator=LogisticRegression(), scoring="balanced_accuracy", n_trials=3).fit(X, y)
    assert search.splits_ == "3 folds by row"
    assert search.score(X, y) > 0.9
    assert set(search.predict(X)) <= set(y)


def test_a_search_with_a_classifier_is_one(brief, blobs):
    X, y = blobs
    search = brief(final_estimator=LogisticRegression(), n_trials=2).fit(X, y.astype(str))
    assert is_classifier(search)
    assert not is_classifier(brief())
    assert list(search.classes_) == sorted(set(y.astype(str)))
    assert search.predict_proba(X).shape == search.decision_function(X).shape == (len(X), 8)
    assert check_scoring(search, "roc_auc_ovr")(search, X, y.astype(str)) > 0.9
    assert not hasattr(brief(final_estimator=Ridge()), "predict_proba")
    assert not hasattr(brief(final_estimator=LogisticRegression()), "classes_")


def test_a_final_estimator_may_come_after_few_shot_scoring(brief, blobs):
    X, y = blobs
    search = brief(final_estimator=LogisticRegression(), n_trials=2).fit(X, y.astype(str))
    assert search.splits_ == "4 folds by class"
    assert search.predict(X[:3]).dtype.kind == "U"


def test_features_are_judged_with_the_labels_that_there_will_be(brief, blobs):
    X, y = blobs
    noisy = X + 3 * np.random.default_rng(0).normal(size=X.shape)
    scores = [brief(n_shot=n_shot, n_trials=7).fit(noisy, y).cv_results_ for n_shot in (1, 5)]
    # Baselines and what is trained alike.
    for one, five in zip(*(s["split0_test_score"] for s in scores), strict=True):
        assert five > one + 0.03


def test_without_a_final_estimator_there_is_no_predict(found):
    assert not hasattr(found, "predict")
    assert not hasattr(found, "score")


def test_inside_a_pipeline_and_cross_validation(brief, blobs, tmp_path):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), brief(n_trials=2, storage=tmp_path / "s.log"), LogisticRegression())
    first = cross_val_score(pipeline, X, y, cv=2, error_score="raise")
    np.testing.assert_array_equal(cross_val_score(pipeline, X, y, cv=2, error_score="raise"), first)
    assert first.min() > 0.8


def test_groups_are_held_out_whole(brief, blobs):
    X, y = blobs
    groups = np.tile(np.arange(5), 24)
    search = brief(extractor=MetaFeatureExtractor(MLP(1, 8, 8), max_steps=2), n_trials=2).fit(X, y % 2, groups=groups)
    assert search.splits_ == "3 folds by group"


def test_groups_of_one_class_each_are_held_out_too(brief, blobs):
    X, y = blobs
    search = brief(extractor=MetaFeatureExtractor(MLP(1, 8, 8), max_steps=2)).fit(X, y, groups=np.arange(120) // 5)
    assert search.splits_ == "3 folds by group"
    assert "fail" not in search.cv_results_["state"]
    assert search.cv_results_["baseline"][6] == "supervised"
    assert MetaFeatureExtractor().set_params(**search.best_params_).fit(X, y, groups=np.arange(120) // 5)


def test_continuous_targets(brief, blobs):
    X, _ = blobs
    search = brief(extractor=MetaFeatureExtractor(MLP(1, 8, 8), max_steps=2), n_trials=6).fit(X, X[:, 0] + 0.5)
    assert search.splits_ == "3 folds by row"
    assert search.cv_results_["baseline"] == [
        "standardised rows",
        "rows on one scale",
        "rows on both scales",
        "PCA",
        "supervised",
        None,
    ]


def test_without_labels(brief, blobs):
    search = brief(extractor=MetaFeatureExtractor(MLP(1, 8, 8), max_steps=2), n_trials=6).fit(blobs[0])
    assert search.cv_results_["baseline"] == [
        "standardised rows",
        "rows on one scale",
        "rows on both scales",
        "PCA",
        None,
        None,
    ]


def test_several_objectives_give_a_front_and_prune_nothing(brief, blobs):
    search = brief(objectives=("score", "n_features", "n_parameters"), n_trials=9).fit(*blobs)
    assert set(search.cv_results_["state"]) == {"complete"}
    assert len(search.study_.best_trials) >= 1
    assert search.cv_results_["mean_n_features"][0] == 6


def test_verbose_says_how_rows_are_held_out_and_what_won(brief, blobs, capsys):
    search = brief(objectives=("score", "n_features"), n_trials=2, verbose=1).fit(*blobs)
    said = " ".join(capsys.readouterr().err.split())
    assert "cv: 4 folds by class" in said
    assert "Optuna does not prune with several objectives" in said
    assert f"winner: {search.verdict_}" in said


def test_splitters_of_scikit_learn(brief, blobs):
    X, y = blobs
    assert brief(cv=4, n_trials=1).fit(X, y).n_splits_ == 4
    assert brief(cv=GroupKFold(2), n_trials=1).fit(X, y, groups=y).n_splits_ == 2
    assert brief(cv=[(np.arange(60), np.arange(60, 120))], n_trials=1).fit(X, y).n_splits_ == 1


def test_too_few_rows_to_hold_any_out_are_kept_as_they_are(brief):
    X, y = np.random.default_rng(0).normal(size=(7, 3)), [0, 0, 0, 0, 1, 1, 2]
    with pytest.warns(AdaptedSettingWarning, match="standardised rows are kept"):
        search = brief(n_trials=9).fit(X, y)
    assert search.cv_results_["baseline"] == ["standardised rows"]
    with pytest.raises(InvalidInputError, match="held-out rows"):
        brief(cv=2).fit(X, y)


def test_without_refit_there_is_a_verdict_alone(brief, blobs):
    search = brief(refit=False, n_trials=1).fit(*blobs)
    assert search.verdict_
    with pytest.raises(SearchError, match="refit=True"):
        search.transform(blobs[0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_trials": 0}, "n_trials must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"scoring": "accuracy"}, "needs a final_estimator"),
        ({"scoring": ["accuracy", "f1"], "final_estimator": LogisticRegression()}, "scoring must be one metric"),
        ({"n_shot": 0}, "n_shot must be"),
        ({"n_jobs": 0}, "n_jobs must be"),
        ({"n_jobs": "x"}, "n_jobs must be"),
        ({"n_jobs": 1.5}, "n_jobs must be"),
        ({"n_jobs": True}, "n_jobs must be"),
        ({"extractor": "mlp"}, "extractor must be a MetaFeatureExtractor"),
        ({"extractor": MetaFeatureExtractor}, "extractor must be a MetaFeatureExtractor"),
        ({"extractor": MetaFeatureExtractor(optimizer="nope")}, "optimizer must be"),
        ({"extractor": MetaFeatureExtractor(max_steps="x")}, "max_steps must be"),
        ({"extractor": MetaFeatureExtractor(device="nope")}, "device must be"),
        ({"extractor": MetaFeatureExtractor(precision="nope")}, "precision must be"),
        ({"extractor": MetaFeatureExtractor(compile="nope")}, "compile must be"),
        ({"extractor": MetaFeatureExtractor(validation_fraction=1)}, "validation_fraction must be"),
        ({"random_state": "x"}, "random_state must be"),
        ({"random_state": -1}, "random_state must be"),
        ({"verbose": "x"}, "verbose must be"),
        ({"refit": "score"}, "refit must be"),
        ({"study_name": 3}, "study_name must be"),
        ({"study_name": " "}, "study_name must be"),
        ({"scoring": "nope", "final_estimator": LogisticRegression()}, "scoring must be 'few_shot' or a scorer"),
        ({"scoring": "acuracy", "final_estimator": LogisticRegression()}, "Did you mean 'accuracy'"),
        ({"scoring": 3, "final_estimator": LogisticRegression()}, "scoring must be one metric"),
        ({"scoring": None, "final_estimator": Scoreless()}, "must be able to score"),
        ({"final_estimator": "svm"}, "final_estimator must be an estimator"),
        ({"final_estimator": LogisticRegression}, "final_estimator must be an estimator"),
        ({"final_estimator": PCA()}, "final_estimator must be an estimator"),
        ({"objectives": None}, "objectives must be a sequence"),
        ({"objectives": {"score"}}, "objectives must be a sequence"),
        ({"objectives": ("score", "score")}, "objectives must be different"),
        ({"objectives": "score"}, "objectives must be a sequence"),
        ({"objectives": ("score", "latncy")}, "Did you mean 'latency'"),
        ({"objectives": ("latency",)}, "must have 'score'"),
        ({"cv": "three"}, "cv must be"),
        ({"cv": 1}, "cv must be"),
        ({"cv": []}, "cv must be"),
        ({"cv": KFold}, "cv must be"),
        ({"cv": [3]}, "cv must give a pair"),
        ({"cv": [(np.arange(60), np.arange(60, 121))]}, "cv must give row numbers from 0 to 119"),
        ({"cv": [(np.arange(60), [])]}, "cv must give row numbers"),
        ({"cv": [(np.arange(60), [-1])]}, "cv must give row numbers"),
        ({"cv": [(np.arange(60), [0.5])]}, "cv must give row numbers"),
        ({"sampler": "tpe"}, "sampler must be"),
        ({"pruner": 3}, "pruner must be"),
    ],
)
def test_parameters_that_cannot_work_are_errors_before_any_training(brief, blobs, parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        brief(**parameters).fit(*blobs)


@pytest.mark.parametrize(
    ("y", "final_estimator", "message"),
    [
        (np.zeros(120, int), None, "y must have at least two classes of at least two rows"),
        (np.arange(120), LogisticRegression(), "y must have at least two classes of at least two rows"),
        (None, LogisticRegression(), "needs y"),
        (np.linspace(0, 1, 120), LogisticRegression(), "Pass a regressor"),
        (np.repeat(["a", "b"], 60), Ridge(), "Pass a classifier"),
    ],
)
def test_what_does_not_suit_the_target_is_an_error_before_any_training(brief, blobs, y, final_estimator, message):
    with pytest.raises(MetafeError, match=message):
        brief(extractor=MetaFeatureExtractor("mlp", max_steps=1), final_estimator=final_estimator).fit(blobs[0], y)


def _raise(estimator, X, y):
    raise ZeroDivisionError("no reason")


@pytest.mark.parametrize(
    ("scoring", "final_estimator", "message"),
    [
        (lambda estimator, X, y: float("nan"), LogisticRegression(), "a finite number for LogisticRegression; got nan"),
        (lambda estimator, X, y: "good", LogisticRegression(), "a number for LogisticRegression; it raised ValueError"),
        (_raise, LogisticRegression(), "it raised ZeroDivisionError: no reason"),
        ("accuracy", Ridge(), "Classification metrics can't handle"),
        (
            "accuracy",
            MultinomialNB(),
            "final_estimator must be able to fit features; MultinomialNB raised ValueError: Negative",
        ),
    ],
)
def test_a_scorer_that_does_not_score_is_an_error_before_any_training(
    brief, blobs, count_steps, scoring, final_estimator, message
):
    extractor = MetaFeatureExtractor("mlp", "counting", max_steps=1)
    with pytest.raises(InvalidParameterError, match=message):
        brief(extractor=extractor, scoring=scoring, final_estimator=final_estimator).fit(*blobs)
    assert not count_steps


class PickyClassifier(LogisticRegression):
    """Fits rows of six columns alone."""

    def fit(self, X, y):
        if X.shape[1] != 6:
            raise ValueError("six columns, please")
        return super().fit(X, y)


def test_a_final_estimator_that_raises_is_named_in_place_of_plugins(brief, blobs):
    extractor = MetaFeatureExtractor("mlp", "protonet", max_steps=1)
    assert blobs[0].shape[1] == 6
    search = brief(extractor=extractor, scoring="accuracy", final_estimator=PickyClassifier(), n_trials=4, refit=False)
    errors = [t.user_attrs["error"] for t in search.fit(*blobs).study_.trials if "error" in t.user_attrs]
    assert {error["plugin"] for error in errors} == {"final_estimator and scoring"}
    assert "PickyClassifier raised ValueError: six columns" in errors[0]["message"]


def test_features_that_are_not_finite_are_no_fault_of_the_final_estimator():
    data = TaskData(np.zeros((8, 2)), np.arange(8) % 2, None, np.arange(8))
    folds = Folds([(np.arange(4), np.arange(4, 8))], "one")
    judge = DownstreamJudge(data, data.y, folds, LogisticRegression(), scorer=None)
    with pytest.raises(ValueError, match="NaN") as caught:
        judge.judge(lambda rows: np.full((len(rows), 2), np.nan), 0)
    assert not isinstance(caught.value, ScoringError)


def test_folds_may_be_masks(brief, blobs):
    first = np.arange(120) < 60
    numbers = [(np.flatnonzero(first), np.flatnonzero(~first))]
    found = [brief(cv=cv, n_trials=1).fit(*blobs).best_score_ for cv in ([(first, ~first)], numbers)]
    assert found[0] == found[1]


def test_a_fit_that_fails_leaves_the_search_as_it_was(found, blobs):
    search = clone(found).fit(*blobs)
    before = search.verdict_
    with pytest.raises(InvalidInputError):
        search.fit(np.full((4, 3), np.nan), [0, 1, 0, 1])
    assert search.verdict_ == before
    assert search.n_features_in_ == 6
