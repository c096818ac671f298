"""The one clear error that bad input gets."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from metafe.backbones import MLP, Conv4
from metafe.contracts import (
    AdaptedSettingWarning,
    Encoder,
    InvalidInputError,
    InvalidParameterError,
    MetafeError,
    UnknownPluginError,
)
from metafe.tasks import ClassTasks

pytestmark = pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")


class AnyTable(Encoder):
    """The numbers of a table."""

    name = "test-any-table"

    def encode(self, X):
        return X.to_numpy()


def _with(X: np.ndarray, value: Any) -> np.ndarray:
    X = X.astype(object) if isinstance(value, str) else X.copy()
    X[3, 2] = value
    return X


ONES = np.arange(90)
BAD_FITS: dict[str, tuple[Any, type[Exception], str]] = {
    "nan": (lambda X, y: (_with(X, np.nan), y), InvalidInputError, r"X contains NaN.*finite\. Fill"),
    "infinity": (lambda X, y: (_with(X, np.inf), y), InvalidInputError, r"X contains infinity.*finite\. Replace"),
    "string": (
        lambda X, y: (_with(X, "red"), y),
        InvalidInputError,
        r"convert string to float: 'red'.*numbers\. Encode",
    ),
    "all strings": (lambda X, y: (X.astype(str), y), InvalidInputError, r"bytes/strings.*Encode strings first"),
    "dates": (lambda X, y: (X.astype("datetime64[s]"), y), InvalidInputError, r"X must hold numbers; got .*datetime64"),
    "complex": (lambda X, y: (X + 1j, y), InvalidInputError, r"Complex data not supported.*Pass real and imaginary"),
    "missing value": (
        lambda X, y: (pd.DataFrame(X).astype("Int64").mask(X > 80), y),
        InvalidInputError,
        r"NaN.*finite\. Fill",
    ),
    "one-dimensional": (
        lambda X, y: (X[:, 0], y),
        InvalidInputError,
        r"Expected 2D array, got 1D array.*Reshape your data",
    ),
    "no rows": (lambda X, y: (X[:0], y[:0]), InvalidInputError, r"0 sample\(s\).*minimum of 2.*Pass more rows"),
    "no columns": (
        lambda X, y: (X[:, :0], y),
        InvalidInputError,
        r"0 feature\(s\).*minimum of 1.*Pass at least one column",
    ),
    "one row": (lambda X, y: (X[:1], y[:1]), InvalidInputError, r"1 sample\(s\).*minimum of 2.*Pass more rows"),
    "one class": (lambda X, y: (X, y * 0), InvalidInputError, r"at least 2 classes.*; got 1 .*\. "),
    "one row a class": (
        lambda X, y: (X, ONES),
        InvalidInputError,
        r"at least 2 rows; got 90 with 0 of that size\. Merge rare classes",
    ),
    "y too short": (
        lambda X, y: (X, y[:-1]),
        InvalidInputError,
        r"y must have one value for each row of X; got 89 for 90 rows\. Pass",
    ),
    "y missing": (lambda X, y: (X, np.where(y == 1, np.nan, y)), InvalidInputError, r"y contains NaN.*finite\. Fill"),
    "y of two kinds": (
        lambda X, y: (X, np.array(["a", *y[1:]], dtype=object)),
        InvalidInputError,
        r"y must hold labels of one type",
    ),
    "y of None": (lambda X, y: (X, [None] * 90), InvalidInputError, r"y must hold .* NoneType\. Convert"),
    "y of two columns": (
        lambda X, y: (X, np.stack([y, y], 1)),
        InvalidInputError,
        r"y must hold one column of classes.*Pass one column",
    ),
}


class TestBadInput:
    @pytest.mark.parametrize("case", BAD_FITS)
    @pytest.mark.parametrize("fitted", [False, True])
    def test_fit(self, small, whole, count_steps, case, fitted):
        spoil, kind, message = BAD_FITS[case]
        X, y = spoil(*whole)
        self._check_fit(small("mlp", "counting"), whole, (X, y), {}, kind, message, fitted, count_steps)

    @pytest.mark.parametrize("fitted", [False, True])
    @pytest.mark.parametrize(
        ("parameters", "kind", "message"),
        [
            (
                {"tasks": ClassTasks(n_way=7)},
                InvalidInputError,
                r"n_way must be at most the 6 classes.*; got 7\. Lower n_way",
            ),
            (
                {"tasks": ClassTasks(n_way=0)},
                InvalidParameterError,
                r"n_way must be a whole number of at least 2.*; got 0",
            ),
            (
                {"tasks": ClassTasks(n_query="many")},
                InvalidParameterError,
                r"n_query must be a whole number.*; got 'many'",
            ),
            (
                {"tasks": "groups"},
                InvalidInputError,
                r"groups needs to know the group of each row; got none\. Pass groups=",
            ),
            ({"backbone": "mpl"}, UnknownPluginError, r"got 'mpl'\. Did you mean 'mlp'\? Available: .*conv4"),
            ({"algorithm": "protonets"}, UnknownPluginError, r"got 'protonets'\. Did you mean 'protonet'\?"),
            ({"tasks": "class"}, UnknownPluginError, r"Task source .*got 'class'\. Did you mean 'classes'\?"),
            ({"augment": "noize"}, UnknownPluginError, r"Augmentation .*got 'noize'\. Did you mean 'noise'\?"),
            ({"augment": "affine"}, InvalidParameterError, r"affine needs images.*Leave it out of augment"),
            ({"backbone": 3}, UnknownPluginError, r"Backbone must be a name or an object.*; got 3"),
            ({"backbone": MLP}, UnknownPluginError, r"Backbone must be a name or an object"),
            ({"backbone": "conv4"}, InvalidInputError, r"conv4 .*image_shape"),
            (
                {"backbone": MLP(width=0)},
                InvalidParameterError,
                r"mlp width must be a whole number of at least 1; got 0",
            ),
            (
                {"device": "cuda:99"},
                InvalidParameterError,
                r"device must be .* of this machine; got 'cuda:99'\. Available: .*cpu",
            ),
            (
                {"device": "gpu"},
                InvalidParameterError,
                r"device must be .* of this machine; got 'gpu'\. Available: .*cpu",
            ),
            (
                {"optimizer": "adma"},
                InvalidParameterError,
                r"optimizer must be a known name; got 'adma'\. Did you mean 'adam",
            ),
        ],
    )
    def test_parameters(self, small, whole, count_steps, parameters, kind, message, fitted):
        self._check_fit(small("mlp", "counting"), whole, whole, parameters, kind, message, fitted, count_steps)

    @staticmethod
    def _check_fit(extractor, good, bad, parameters, kind, message, fitted, steps):
        if fitted:
            extractor.fit(*good)
            expected = extractor.transform(good[0])
        extractor.set_params(**parameters)
        before = dict(vars(extractor))
        steps.clear()
        with pytest.raises(kind, match=message) as caught:
            extractor.fit(*bad)
        assert isinstance(caught.value, MetafeError)
        assert isinstance(caught.value, ValueError)
        assert "\n" not in str(caught.value)
        assert not steps
        assert vars(extractor) == before
        if fitted:
            extractor.set_params(device="cpu")
            np.testing.assert_array_equal(extractor.transform(good[0]), expected)
        else:
            with pytest.raises(NotFittedError):
                extractor.transform(good[0])

    @pytest.mark.parametrize(
        ("groups", "message"),
        [
            (np.arange(80), r"groups must have one value for each row of X; got 80 for 90 rows"),
            (np.array(["a"] * 89 + [3], dtype=object), r"groups must hold labels of one type"),
            (np.zeros((90, 2)), r"groups must hold one group for each row; got shape \(90, 2\)\. Pass"),
            (np.where(np.arange(90) < 5, np.nan, 1.0), r"groups contains NaN"),
            (np.arange(90), r"groups needs a group that has 2 classes with at least 2 rows; got none\. Merge"),
        ],
    )
    def test_groups(self, small, whole, count_steps, groups, message):
        with pytest.raises(InvalidInputError, match=message):
            small("mlp", "counting").fit(*whole, groups=groups)
        assert not count_steps

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (
                ["a", "b", 3, "c", None],
                r"X must have columns whose names are all strings, or none; got 'a' and 3\. Rename",
            ),
            (["a", "b", "c", "b", "d"], r"X must have columns of different names; got 'b' more than once\. Rename"),
        ],
        ids=["mixed", "twice"],
    )
    @pytest.mark.parametrize("words", [False, True], ids=["numbers", "encoded"])
    def test_names_of_columns(self, small, whole, names, message, words):
        X, y = whole
        frame = pd.DataFrame(X, columns=names)
        extractor = small(encoder=AnyTable()) if words else small()
        with pytest.raises(InvalidInputError, match=message):
            extractor.fit(frame, y)
        if not words:
            with pytest.raises(InvalidInputError, match=message):
                extractor.fit(X, y).transform(frame)

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (
                lambda X: X[:, :3],
                r"X has 3 features, but MetaFeatureExtractor is expecting 5 features.*Pass the same columns",
            ),
            (lambda X: X[:0], r"0 sample\(s\).*minimum of 1.*Pass more rows"),
            (lambda X: X[0], r"Expected 2D array, got 1D array.*Reshape your data"),
            (lambda X: _with(X, np.nan), r"X contains NaN.*finite\. Fill"),
            (lambda X: _with(X, "red"), r"'red'.*Encode"),
            (lambda X: X[:, :, None], r"X must have rows of shape \(5,\), as in fit; got \(5, 1\)\. Resize or reshape"),
        ],
    )
    @pytest.mark.parametrize("method", ["transform", "adapt"])
    def test_transform_and_adapt(self, small, whole, spoil, message, method):
        X, y = whole
        extractor = small().fit(X, y)
        expected, before = extractor.transform(X), dict(vars(extractor))
        arguments = (spoil(X),) if method == "transform" else (spoil(X), y)
        with pytest.raises(InvalidInputError, match=message):
            getattr(extractor, method)(*arguments)
        assert vars(extractor) == before
        np.testing.assert_array_equal(extractor.transform(X), expected)

    def test_image_shape_at_transform(self, small, images):
        X, y = images
        extractor = small(Conv4(width=4)).fit(X, y)
        with pytest.raises(InvalidInputError, match=r"rows of shape \(8, 8\), as in fit; got \(8, 9\)\. Resize"):
            extractor.transform(np.zeros((3, 8, 9)))

    def test_device_that_went_away_at_transform(self, small, whole):
        extractor = small().fit(*whole).set_params(device="cuda:99")
        with pytest.raises(InvalidParameterError, match=r"device must be .*; got 'cuda:99'"):
            extractor.transform(whole[0])

    @pytest.mark.parametrize("method", ["transform", "get_feature_names_out", "adapt", "save"])
    def test_not_fitted(self, small, whole, method):
        arguments = {"transform": whole[:1], "adapt": whole, "save": ("somewhere",)}.get(method, ())
        with pytest.raises(NotFittedError, match=r"not fitted yet\. Call 'fit'"):
            getattr(small(), method)(*arguments)


class TestAdapting:
    def test_too_few_rows_for_a_query_set_is_said_once(self, small, whole):
        X, y = whole
        extractor = small(tasks=ClassTasks(n_way=3, n_shot=2, n_query=40))
        with pytest.warns(
            AdaptedSettingWarning, match=r"n_query=40 want 42 rows of a class; 6 of 6 have fewer"
        ) as caught:
            extractor.fit(X, y)
        assert len([w for w in caught if issubclass(w.category, AdaptedSettingWarning)]) == 1
        assert caught[0].filename == __file__
        assert np.isfinite(extractor.transform(X)).all()

    def test_enough_rows_are_no_occasion_for_a_warning(self, small, whole):
        with warnings.catch_warnings():
            warnings.simplefilter("error", AdaptedSettingWarning)
            small(tasks=ClassTasks(n_way=3, n_shot=2, n_query=10)).fit(*whole)

    def test_single_rows_of_a_class_are_left_out(self, small, whole):
        X, y = whole[0], whole[1].copy()
        y[0] = 77
        extractor = small(tasks=ClassTasks(n_way=2, n_shot=1, n_query=2))
        with pytest.warns(AdaptedSettingWarning, match=r"1 of 7 have one and are left out"):
            extractor.fit(X, y)
        assert np.isfinite(extractor.transform(X)).all()

    def test_two_classes_are_enough(self, small, whole):
        X, y = whole
        extractor = small(tasks=ClassTasks(n_shot=1, n_query=2)).fit(X[y < 2], y[y < 2])
        assert extractor.validation_ is not None
        assert np.isfinite(extractor.transform(X)).all()
