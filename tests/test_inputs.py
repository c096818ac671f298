"""What may be passed, and the one clear error that anything else gets."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

import metafe
from metafe.backbones import MLP, Conv4
from metafe.contracts import (
    AdaptedSettingWarning,
    Augmentation,
    Backbone,
    InvalidInputError,
    InvalidParameterError,
    MetafeError,
    PluginContractError,
    TaskBatch,
    TaskSource,
    UnknownPluginError,
)
from metafe.tasks import ClassTasks

pytestmark = pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")


@pytest.fixture
def whole() -> tuple[np.ndarray, np.ndarray]:
    """Six classes of 15 rows with small whole numbers, which every numeric type holds exactly."""
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(6), 15)
    return (rng.integers(0, 60, size=(6, 5))[y] + rng.integers(0, 30, size=(90, 5))).astype(np.float64), y


def _read_only(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X.setflags(write=False)
    return X


KINDS = {
    **{name: (lambda X, name=name: X.astype(name)) for name in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")},
    **{name: (lambda X, name=name: X.astype(name)) for name in ("f2", "f4", ">f4", ">f8", ">i2", ">u4", "longdouble")},
    "object": lambda X: X.astype(object),
    "fortran": np.asfortranarray,
    "negative strides": lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "every other column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "read-only": _read_only,
    "list": lambda X: X.tolist(),
    "list of arrays": list,
    "pandas": lambda X: pd.DataFrame(X, columns=list("abcde")),
    "pandas, mixed types": lambda X: pd.DataFrame(
        {c: pd.Series(X[:, i]).astype(t) for i, (c, t) in enumerate(zip("abcde", MIXED, strict=True))}
    ),
    "polars": lambda X: pl.DataFrame(X, schema=list("abcde")),
    "polars, small integers": lambda X: pl.DataFrame(X, schema=list("abcde")).cast(pl.UInt8),
    "torch float64": torch.tensor,
    "torch float32": lambda X: torch.tensor(X).float(),
    "torch bfloat16": lambda X: torch.tensor(X).bfloat16(),
    "torch uint8": lambda X: torch.tensor(X).byte(),
    "torch, requires grad": lambda X: torch.tensor(X, requires_grad=True),
    "torch, transposed": lambda X: torch.tensor(X.T.copy()).T,
}
MIXED = ("int8", "uint16", "float32", "Int64", "float64")


class TestKindsOfInput:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("backbone", ["mlp", "identity", "sklearn"])
    def test_equal_values_give_equal_features(self, small, whole, kind, backbone):
        X, y = whole
        expected = small(backbone).fit(X, y).transform(X)
        converted = KINDS[kind](X)
        features = small(backbone).fit(converted, y).transform(converted)
        # scikit-learn's transformers compute in the type of their input.
        tolerance = 1e-4 if backbone == "sklearn" else 0
        np.testing.assert_allclose(features, expected, rtol=tolerance, atol=tolerance)
        assert features.dtype == np.float32

    def test_booleans(self, small, whole):
        X, y = whole[0] > 40, whole[1]
        expected = small().fit(X.astype(float), y).transform(X.astype(float))
        np.testing.assert_array_equal(small().fit(X, y).transform(X), expected)

    @pytest.mark.parametrize(
        "kind", ["fortran", "negative strides", "every other column", "read-only", "torch float64"]
    )
    def test_layout_changes_no_bit(self, small, whole, kind):
        X, y = whole
        expected = small().fit(X, y).transform(X)
        np.testing.assert_array_equal(small().fit(KINDS[kind](X), y).transform(KINDS[kind](X)), expected)

    def test_memory_maps(self, small, whole, tmp_path):
        X, y = whole
        np.save(tmp_path / "rows.npy", X)
        mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
        np.testing.assert_array_equal(small().fit(mapped, y).transform(mapped), small().fit(X, y).transform(X))

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">f4", np.bool_])
    def test_images_of_any_type(self, small, images, dtype):
        X, y = images
        X = (X > 7).astype(dtype)
        expected = small(Conv4(width=4)).fit(X.astype(np.float64), y).transform(X.astype(np.float64))
        np.testing.assert_array_equal(small(Conv4(width=4)).fit(X, y).transform(X), expected)

    def test_large_offsets_keep_their_resolution(self, small, whole):
        X, y = whole
        far = X + 1.7e9
        np.testing.assert_allclose(
            small("identity").fit(far, y).transform(far), small("identity").fit(X, y).transform(X), atol=1e-5
        )

    def test_input_is_left_as_it_was(self, small, whole):
        X, y = whole[0].copy(), whole[1].copy()
        small().fit(X, y).transform(X)
        np.testing.assert_array_equal(X, whole[0])
        np.testing.assert_array_equal(y, whole[1])

    @pytest.mark.parametrize(
        "convert", [list, pd.Series, pl.Series, torch.tensor, lambda y: y.astype(">i4"), lambda y: y.astype(float)]
    )
    def test_any_kind_of_target(self, small, whole, convert):
        X, y = whole
        np.testing.assert_array_equal(small().fit(X, convert(y)).transform(X), small().fit(X, y).transform(X))

    def test_labels_may_be_strings(self, small, whole):
        X, y = whole
        names = np.array(list("abcdef"))
        extractor = small().fit(X, names[y])
        assert extractor.classes_.tolist() == list("abcdef")
        np.testing.assert_array_equal(extractor.transform(X), small().fit(X, y).transform(X))


@metafe.register
class NoisyWidth(Backbone):
    """Returns one feature too few, or a matrix where a vector is due, as told."""

    name = "test-broken-backbone"

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def fit(self, X: Any, y: Any, seeds: Any) -> Any:
        return None if self.fault == "fit" else self

    def encode(self, X: Any) -> Any:
        encoded = {"rows": X[:1], "text": X.astype(str), "encoded nan": np.where(X > 0, np.nan, X), "list": X.tolist()}
        return encoded.get(self.fault, X)

    def build(self, input_shape: tuple[int, ...]) -> Any:
        faults = {"module": 3, "3-d": nn.Unflatten(1, (1, -1)), "nan": Nan(), "integers": Integers()}
        return faults.get(self.fault, nn.Identity())


class Nan(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float("nan")


class Integers(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.long()


@pytest.fixture(scope="module")
def broken_algorithm() -> type:
    from metafe.algorithms import ProtoNet

    class Broken(ProtoNet):
        name = "test-broken-algorithm"

        def __init__(self, fault: str = "") -> None:
            super().__init__()
            self.fault = fault

        def build(self, backbone: Any, n_features: int, problem: Any) -> Any:
            return None if self.fault == "build" else super().build(backbone, n_features, problem)

        def meta_loss(self, learner: Any, batch: Any, context: Any) -> Any:
            loss, metrics = super().meta_loss(learner, batch, context)
            faults = {
                "no metrics": loss,
                "vector": (loss.repeat(2), metrics),
                "float": (1.0, metrics),
                "nan": (loss * float("nan"), metrics),
            }
            return faults.get(self.fault, (loss, metrics))

        def features(self, learner: Any, state: Any, x: Any) -> Any:
            features = super().features(learner, state, x)
            faults = {
                "row": features[:1],
                "width": features[:, :1],
                "none": None,
                "nan features": features * float("nan"),
            }
            return faults.get(self.fault, features)

    return Broken


class BrokenSource(TaskSource):
    name = "test-broken-source"

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def task(self, data: Any, rng: Any) -> Any:
        rows = data.take(rng.permutation(data.rows)[:8].reshape(1, 8))
        y = np.arange(8)[None] % 2
        faults = {
            "label": {"query_y": y + 5},
            "rows": {"support_x": rows[..., :1]},
            "length": {"query_y": y[:, :3]},
            "nan": {"query_x": rows * np.nan},
        }
        return TaskBatch(
            **(
                {"support_x": rows, "support_y": y, "query_x": rows, "query_y": y, "n_way": 2}
                | faults.get(self.fault, {})
            )
        )

    def draw(self, data: Any, n: int, step: int, seeds: Any) -> Any:
        return {"nothing": [], "dict": {}}.get(self.fault, super().draw(data, n, step, seeds))


class BrokenAugmentation(Augmentation):
    name = "test-broken-augmentation"

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def __call__(self, x: Any, generator: Any) -> Any:
        return {"shape": x[:, :1], "none": None, "nan": x * float("nan")}.get(self.fault, x)

    def n_views(self, input_shape: Any) -> int:
        return 2 if self.fault == "view" else 1

    def view(self, x: Any, k: int) -> Any:
        return x[:, :2]


class TestBrokenPlugins:
    @pytest.mark.parametrize("validation_fraction", [0.0, 0.5])
    @pytest.mark.parametrize(
        "fault", ["fit", "rows", "text", "encoded nan", "list", "module", "3-d", "nan", "integers"]
    )
    def test_backbone(self, small, whole, count_steps, fault, validation_fraction):
        with pytest.raises(PluginContractError, match=r"Backbone 'test-broken-backbone' must .*; got .*\. Fix its "):
            small(NoisyWidth(fault), "counting", validation_fraction=validation_fraction).fit(*whole)
        assert not count_steps

    @pytest.mark.parametrize("validation_fraction", [0.0, 0.5])
    @pytest.mark.parametrize(
        "fault", ["build", "no metrics", "vector", "float", "nan", "row", "width", "none", "nan features"]
    )
    def test_algorithm(self, small, whole, broken_algorithm, fault, validation_fraction):
        extractor = small("mlp", broken_algorithm(fault), validation_fraction=validation_fraction)
        with pytest.raises(
            PluginContractError, match=r"Algorithm 'test-broken-algorithm' .*must .*; got .*\. Fix its "
        ):
            extractor.fit(*whole)

    @pytest.mark.parametrize("validation_fraction", [0.0, 0.5])
    @pytest.mark.parametrize("fault", ["label", "rows", "length", "nan", "nothing", "dict"])
    def test_task_source(self, small, whole, count_steps, fault, validation_fraction):
        extractor = small("mlp", "counting", tasks=BrokenSource(fault), validation_fraction=validation_fraction)
        with pytest.raises(PluginContractError, match=r"Task source 'test-broken-source' must .*; got .*\. Fix its "):
            extractor.fit(*whole)
        assert not count_steps

    @pytest.mark.parametrize("fault", ["shape", "none", "nan", "view"])
    def test_augmentation(self, small, whole, count_steps, fault):
        extractor = small("mlp", "counting", augment=BrokenAugmentation(fault))
        with pytest.raises(
            PluginContractError, match=r"Augmentation 'test-broken-augmentation' must .*; got .*\. Fix its "
        ):
            extractor.fit(*whole)
        assert not count_steps

    def test_the_same_plugins_without_a_fault_work(self, small, whole, broken_algorithm):
        extractor = small(NoisyWidth(), broken_algorithm(), tasks=BrokenSource(), augment=BrokenAugmentation()).fit(
            *whole
        )
        assert np.isfinite(extractor.transform(whole[0])).all()


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
