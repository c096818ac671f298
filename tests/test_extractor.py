"""The extractor as a scikit-learn citizen: parameters, pipelines, searches, names, routing."""

from __future__ import annotations

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metafe import FewShotClassifier, MetaFeatureExtractor
from metafe.algorithms import MAML, ProtoNet
from metafe.backbones import MLP, Conv4
from metafe.contracts import FeatureQualityWarning, InvalidInputError, InvalidParameterError
from metafe.tasks import ClassTasks

pytestmark = pytest.mark.filterwarnings("ignore::metafe.MetafeWarning")


class TestRowsBesideFeatures:
    @pytest.mark.parametrize("scaling", ["feature", "all"])
    def test_they_are_standardised_and_vary_as_much_as_the_features(self, small, blobs, scaling):
        X, y = blobs
        X = X * np.geomspace(1, 100, X.shape[1])
        alone, beside = (
            small("mlp", concat_input=chosen, validation_fraction=0).fit(X, y) for chosen in (None, scaling)
        )
        joined, width = beside.transform(X), alone.n_features_out_
        np.testing.assert_array_equal(joined[:, :width], alone.transform(X))
        rows = StandardScaler().fit(X).transform(X) if scaling == "feature" else X - X.mean()
        ratio = joined[:, width:] / rows
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)
        halves = joined[:, :width].var(axis=0).sum(), joined[:, width:].var(axis=0).sum()
        assert halves[0] == pytest.approx(halves[1], rel=0.3)
        assert beside.n_features_out_ == joined.shape[1] == width + X.shape[1] == len(beside.get_feature_names_out())
        np.testing.assert_array_equal(beside.transform(X[3:4]), joined[3:4])

    def test_validation_judges_them_too(self, small, blobs):
        alone, beside = (small("mlp", concat_input=chosen).fit(*blobs) for chosen in (None, "feature"))
        assert beside.validation_["score"] != alone.validation_["score"]
        assert beside.validation_["baseline"] == alone.validation_["baseline"]

    def test_an_adapted_extractor_has_them(self, small, images):
        X, y = images
        extractor = small(Conv4(depth=1, width=4), "maml", concat_input="feature").fit(X, y)
        assert extractor.adapt(X[:20], y[:20]).transform(X[:3]).shape == (3, extractor.n_features_out_)

    def test_a_backbone_that_takes_rows_as_they_are_has_none(self, small, blobs):
        message = (
            r"concat_input='all' needs a backbone whose rows are standardised; got 'plda'.* Leave concat_input at None"
        )
        with pytest.raises(InvalidParameterError, match=message):
            small("plda", "untrained", concat_input="all").fit(*blobs)

    def test_an_unknown_scaling_is_refused(self, small, blobs):
        with pytest.raises(
            InvalidParameterError, match=r"concat_input must be one of .*'feature', 'all'.*; got 'both'"
        ):
            small("mlp", concat_input="both").fit(*blobs)


class TestParameters:
    def test_a_string_and_the_plugin_it_names_are_the_same(self, small, blobs):
        named, given = small("mlp", "protonet").fit(*blobs), small(MLP(), ProtoNet()).fit(*blobs)
        np.testing.assert_array_equal(named.transform(blobs[0]), given.transform(blobs[0]))

    def test_deep_parameters_of_a_named_plugin(self):
        parameters = MetaFeatureExtractor("mlp", "protonet", "classes").get_params()
        assert parameters["backbone__width"] == MLP().width
        assert parameters["algorithm__distance"] == "euclidean"
        assert parameters["tasks__n_query"] == ClassTasks().n_query
        assert parameters["backbone"] == "mlp"

    def test_auto_has_no_deep_parameters(self):
        assert not [name for name in MetaFeatureExtractor().get_params() if "__" in name]

    def test_setting_a_nested_parameter_replaces_the_name_by_an_object(self):
        extractor = MetaFeatureExtractor("mlp").set_params(backbone__width=7)
        assert extractor.backbone.width == 7
        assert extractor.get_params()["backbone__width"] == 7

    def test_an_augmentation_is_set_like_other_plugins(self):
        extractor = MetaFeatureExtractor().set_params(augment="noise", augment__scale=0.2)
        assert extractor.augment.scale == extractor.get_params()["augment__scale"] == 0.2

    def test_own_parameters_are_set_before_nested_ones_whatever_their_order(self):
        one = MetaFeatureExtractor().set_params(backbone__width=7, backbone="conv4")
        other = MetaFeatureExtractor("mlp").set_params(backbone="conv4", backbone__width=7)
        assert one.backbone.__class__ is other.backbone.__class__ is Conv4
        assert one.backbone.width == other.backbone.width == 7

    def test_an_object_given_is_changed_only_through_the_extractor(self):
        mine = MLP(width=5)
        extractor = clone(MetaFeatureExtractor(mine)).set_params(backbone__width=9)
        assert (mine.width, extractor.backbone.width) == (5, 9)

    @pytest.mark.parametrize(
        ("name", "parameter"),
        [("backbone", "width"), ("algorithm", "distance"), ("tasks", "n_way"), ("augment", "scale")],
    )
    def test_a_nested_parameter_of_auto_is_an_error_that_says_so(self, name, parameter):
        with pytest.raises(
            InvalidParameterError, match=rf"{name}__{parameter} needs a named {name}; got {name}='auto'. Set"
        ):
            MetaFeatureExtractor().set_params(**{f"{name}__{parameter}": 3})

    @pytest.mark.parametrize("parameter", ["width_of_backbone", "backbone__widht"])
    def test_an_unknown_parameter_is_an_error(self, parameter):
        with pytest.raises(ValueError, match="Invalid parameter"):
            MetaFeatureExtractor("mlp").set_params(**{parameter: 3})

    def test_get_params_of_an_unknown_name_works(self):
        assert MetaFeatureExtractor("nothing-of-that-name").get_params()["backbone"] == "nothing-of-that-name"

    def test_parameters_survive_a_round_trip(self):
        extractor = MetaFeatureExtractor(MLP(width=5), "protonet", max_steps=9)
        other = MetaFeatureExtractor().set_params(**extractor.get_params())
        assert other.get_params()["backbone__width"] == 5
        assert other.max_steps == 9

    def test_fitting_changes_no_parameter(self, small, blobs):
        extractor = small()
        before = repr(extractor.get_params())
        extractor.fit(*blobs)
        assert repr(extractor.get_params()) == before

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_steps", -1),
            ("max_steps", 2.5),
            ("meta_batch_size", 0),
            ("optimizer", "adma"),
            ("schedule", "cosin"),
            ("learning_rate", -1.0),
            ("weight_decay", float("nan")),
            ("validation_fraction", 1.0),
            ("validation_fraction", "some"),
            ("patience", 0),
            ("precision", "float8"),
            ("random_state", "seed"),
        ],
    )
    def test_a_value_that_cannot_be_is_an_error_naming_the_parameter(self, small, blobs, count_steps, name, value):
        wanted = "seed" if name == "random_state" else name
        with pytest.raises(ValueError, match=rf"{wanted}.*"):
            small("mlp", "counting", **{name: value}).fit(*blobs)
        assert not count_steps

    def test_numbers_of_numpy_are_numbers(self, small, blobs):
        extractor = small(
            "mlp", max_steps=np.int64(2), learning_rate=np.float32(0.01), validation_fraction=np.float64(0.5)
        )
        extractor.set_params(backbone__width=np.int64(4), backbone__n_features=np.int32(3))
        assert extractor.fit(*blobs).n_features_out_ == 3


class TestClones:
    def test_clone_is_unfitted_and_equal(self, small, blobs):
        fitted = small(MLP(width=5)).fit(*blobs)
        copied = clone(fitted)
        assert repr(copied) == repr(fitted)
        with pytest.raises(NotFittedError):
            copied.transform(blobs[0])

    @pytest.mark.parametrize("copies", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e)), FrozenEstimator])
    def test_copies_give_the_same_features(self, small, blobs, copies):
        fitted = small(MLP(normalisation="batch")).fit(*blobs)
        np.testing.assert_array_equal(copies(fitted).transform(blobs[0]), fitted.transform(blobs[0]))

    def test_joblib_gives_the_same_features(self, small, blobs, tmp_path):
        fitted = small().fit(*blobs)
        joblib.dump(fitted, tmp_path / "extractor.joblib")
        loaded = joblib.load(tmp_path / "extractor.joblib")
        np.testing.assert_array_equal(loaded.transform(blobs[0]), fitted.transform(blobs[0]))

    def test_unfitted_extractors_pickle(self):
        assert repr(pickle.loads(pickle.dumps(MetaFeatureExtractor("mlp")))) == repr(MetaFeatureExtractor("mlp"))

    def test_frozen_is_not_fitted_again(self, small, blobs):
        X, y = blobs
        frozen = FrozenEstimator(small().fit(X, y))
        before = frozen.transform(X)
        make_pipeline(frozen, LogisticRegression()).fit(X, (y > 3).astype(int))
        np.testing.assert_array_equal(clone(frozen).transform(X), before)

    @pytest.mark.parametrize("fitted", [False, True])
    def test_html(self, small, blobs, fitted):
        extractor = small(MLP(width=5))
        html = (extractor.fit(*blobs) if fitted else extractor)._repr_html_()
        assert "MetaFeatureExtractor" in html
        assert "width" in html


class TestPipelines:
    def test_pipeline_with_numbers_and_targets(self, small, blobs):
        X, y = blobs
        pipeline = make_pipeline(StandardScaler(), small("auto"), LogisticRegression()).fit(X[::2], y[::2])
        assert pipeline.score(X[1::2], y[1::2]) > 0.8

    def test_column_transformer(self, small, blobs):
        X, y = blobs
        frame = pd.DataFrame(X, columns=list("abcdef"))
        columns = ColumnTransformer(
            [("learned", small(MLP(n_features=4)), list("abcd")), ("kept", "passthrough", ["f"])]
        )
        features = columns.set_output(transform="pandas").fit_transform(frame, y)
        assert list(features.columns) == [*(f"learned__metafeatureextractor{i}" for i in range(4)), "kept__f"]
        direct = small(MLP(n_features=4)).fit(frame[list("abcd")], y).transform(frame[list("abcd")])
        np.testing.assert_array_equal(features.iloc[:, :4], direct)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_grid_search_over_nested_parameters(self, small, blobs, n_jobs):
        pipeline = make_pipeline(StandardScaler(), small("mlp"), LogisticRegression())
        prefix = "metafeatureextractor__"
        grid = {f"{prefix}backbone__width": np.array([4, 16]), f"{prefix}algorithm": ["protonet", "supervised"]}
        search = GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(*blobs)
        assert len(search.cv_results_["params"]) == 4
        assert search.best_estimator_[1].backbone.width in (4, 16)
        assert search.best_score_ > 0.5

    def test_grid_search_resolves_the_backbone_named_in_the_same_point(self, small, blobs):
        pipeline = make_pipeline(small("auto"), LogisticRegression())
        grid = [
            {"metafeatureextractor__backbone": ["mlp"], "metafeatureextractor__backbone__width": [4, 8]},
            {"metafeatureextractor__backbone": ["identity"]},
        ]
        search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(*blobs)
        assert [p["metafeatureextractor__backbone"] for p in search.cv_results_["params"]] == ["mlp", "mlp", "identity"]

    def test_few_shot_classifier_in_cross_validation(self, small, blobs):
        X, y = blobs
        classifier = FewShotClassifier(FrozenEstimator(small().fit(X[y < 5], y[y < 5])))
        assert cross_val_score(classifier, X[y >= 5], y[y >= 5], cv=3).mean() > 0.6


class TestNames:
    def test_feature_names(self, small, blobs):
        extractor = small(MLP(n_features=3)).fit(*blobs)
        assert extractor.get_feature_names_out().tolist() == [f"metafeatureextractor{i}" for i in range(3)]

    def test_names_need_a_fit(self):
        with pytest.raises(NotFittedError):
            MetaFeatureExtractor().get_feature_names_out()

    def test_pandas_output_keeps_the_index(self, small, blobs):
        X, y = blobs
        frame = pd.DataFrame(X, index=np.arange(len(X)) + 7)
        frame.columns = [f"c{i}" for i in range(6)]
        features = small(MLP(n_features=3)).set_output(transform="pandas").fit_transform(frame, y)
        assert list(features.columns) == [f"metafeatureextractor{i}" for i in range(3)]
        assert features.index.equals(frame.index)
        assert set(features.dtypes) == {np.dtype("float32")}

    def test_polars_output(self, small, blobs):
        X, y = blobs
        features = small(MLP(n_features=3)).set_output(transform="polars").fit_transform(pl.DataFrame(X), y)
        assert isinstance(features, pl.DataFrame)
        assert features.columns == [f"metafeatureextractor{i}" for i in range(3)]

    def test_names_of_columns_are_remembered_and_compared(self, small, blobs):
        X, y = blobs
        frame = pd.DataFrame(X, columns=list("abcdef"))
        extractor = small().fit(frame, y)
        assert extractor.feature_names_in_.tolist() == list("abcdef")
        with pytest.raises(ValueError, match="feature names should match"):
            extractor.transform(frame[list("fedcba")])


class TestRouting:
    def test_groups_reach_the_extractor_in_a_pipeline(self, small, blobs):
        X, y = blobs
        groups, labels = y // 2, y % 2
        with sklearn.config_context(enable_metadata_routing=True):
            extractor = small("mlp").set_fit_request(groups=True)
            pipeline = make_pipeline(StandardScaler(), extractor, LogisticRegression()).fit(X, labels, groups=groups)
        assert type(pipeline[1].tasks_).name == "groups"
        direct = small("mlp").fit(StandardScaler().fit_transform(X), labels, groups=groups)
        np.testing.assert_array_equal(pipeline[:2].transform(X), direct.transform(StandardScaler().fit_transform(X)))

    def test_groups_reach_splitter_and_extractor_in_a_search(self, small, blobs):
        X, y = blobs
        with sklearn.config_context(enable_metadata_routing=True):
            pipeline = make_pipeline(small("mlp").set_fit_request(groups=True), LogisticRegression())
            grid = {"metafeatureextractor__backbone__width": [4, 8]}
            search = GridSearchCV(pipeline, grid, cv=GroupKFold(2), error_score="raise").fit(X, y % 2, groups=y // 2)
        assert type(search.best_estimator_[0].tasks_).name == "groups"


class TestAdapting:
    def test_adapt_returns_a_fitted_copy_and_leaves_the_original(self, small, blobs):
        X, y = blobs
        extractor = small().fit(X[y < 5], y[y < 5])
        before = extractor.transform(X)
        adapted = extractor.adapt(X[y >= 5], y[y >= 5])
        assert adapted is not extractor
        assert adapted.adapted_classes_.tolist() == [5, 6, 7]
        assert not hasattr(extractor, "adapted_classes_")
        np.testing.assert_array_equal(extractor.transform(X), before)
        np.testing.assert_array_equal(adapted.transform(X), before)

    def test_adapt_needs_labels(self, small, blobs):
        extractor = small().fit(*blobs)
        with pytest.raises(ValueError, match="adapt needs the label of each support row"):
            extractor.adapt(blobs[0], None)

    def test_classes_were_learned_from_and_targets_come(self, small, blobs):
        X, y = blobs
        with pytest.raises(
            InvalidInputError,
            match=r"adapt needs classes, as the tasks of fit had; got continuous targets\. Pass classes, or fit on cont",
        ):
            small().fit(X, y).adapt(X, y + 0.5)

    @pytest.mark.parametrize("algorithm", ["supervised", "r2d2"])
    def test_targets_were_learned_from_and_classes_come(self, small, blobs, algorithm):
        X, y = blobs
        extractor = small(algorithm=algorithm, validation_fraction=0).fit(X, X[:, 0])
        with pytest.raises(
            InvalidInputError, match="adapt needs continuous targets, as the tasks of fit had; got classes"
        ):
            extractor.adapt(X, np.array(list("abcdefgh"))[y])
        assert np.isfinite(extractor.adapt(X, y).transform(X)).all(), "whole numbers are targets too"

    def test_tasks_with_targets_of_their_own_keep_their_units(self, small):
        extractor = small(algorithm=MAML(inner_rate=1e-3), tasks="sinusoid", validation_fraction=0)
        extractor.fit(np.zeros((20, 1)))
        X = np.linspace(-5, 5, 10)[:, None]
        near, far = (extractor.adapt(X, level + np.sin(X[:, 0])).predict_adapted(X) for level in (0, 10))
        assert np.abs(far - near).max() < 5, "a few small steps from what was learned do not get there"


def test_that_nothing_is_held_out_is_said(small):
    few = small("mlp").fit(np.random.default_rng(0).normal(size=(9, 4)), np.repeat([0, 1, 2], 3))
    assert few.decisions_["validation"].startswith("none")
    many = small("mlp").fit(np.random.default_rng(0).normal(size=(60, 4)), np.repeat(np.arange(6), 10))
    assert "validation" not in many.decisions_
    unwanted = small("mlp", validation_fraction=0).fit(
        np.random.default_rng(0).normal(size=(9, 4)), np.repeat([0, 1, 2], 3)
    )
    assert "validation" not in unwanted.decisions_


class TestWithoutLabels:
    def test_features_are_the_standardised_rows(self, blobs):
        X, _ = blobs
        extractor = MetaFeatureExtractor().fit(X)
        np.testing.assert_allclose(extractor.transform(X), StandardScaler().fit_transform(X), atol=1e-5)
        assert "no y" in extractor.decisions_["backbone"]

    def test_a_named_backbone_is_untrained(self, small, blobs):
        extractor = small("mlp", "auto").fit(blobs[0])
        assert extractor.n_features_out_ == 64
        assert extractor.history_ == []
        assert "unlabelled" in extractor.decisions_["algorithm"]

    def test_continuous_targets_are_regression(self, small, blobs):
        X, _ = blobs
        extractor = small("mlp", "auto").fit(X, X @ np.arange(6.0) + 0.5)
        assert (extractor.algorithm_.name, extractor.tasks_.name) == ("supervised", "rows")
        assert not hasattr(extractor, "classes_")

    def test_groups_with_continuous_targets(self, small, blobs):
        X, y = blobs
        extractor = small("mlp", "auto").fit(X, X @ np.arange(6.0) + 0.5, groups=y)
        assert extractor.tasks_.name == "groups"


def test_refitting_forgets_the_former_fit(small, blobs):
    X, y = blobs
    extractor = small("mlp", "auto").fit(X, y)
    extractor.fit(X[:, :4], X @ np.arange(6.0) + 0.5)
    assert not hasattr(extractor, "classes_")
    assert extractor.n_features_in_ == 4
    fresh = small("mlp", "auto").fit(X[:, :4], X @ np.arange(6.0) + 0.5)
    np.testing.assert_array_equal(extractor.transform(X[:, :4]), fresh.transform(X[:, :4]))
    assert set(vars(extractor)) == set(vars(fresh))


def test_features_worse_than_the_rows_warn_with_both_figures(blobs):
    X, y = blobs
    crushed = MLP(depth=1, width=1, n_features=1)
    with pytest.warns(
        FeatureQualityWarning, match=r"0\.\d+ by 'mlp' against (0\.9|1\.0).*backbone='auto' keeps the rows"
    ) as caught:
        MetaFeatureExtractor(crushed, "protonet", augment=None, max_steps=0, random_state=0).fit(X, y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
