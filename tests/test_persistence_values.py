"""Which parameter values can be saved, and that they come back as they were."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

import metafe
from metafe.algorithms import ProtoNet
from metafe.backbones import MLP, Identity, SklearnTransformer
from metafe.contracts import Backbone, SavedFormatError
from metafe.persistence.layout import inverse, memory_order
from metafe.plugins import registry


class Holder(Backbone):
    """A backbone with a parameter of any type."""

    name = "persistence-holder"

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Flatten()


class Nameless(Backbone):
    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Flatten()


class Impostor(Identity):
    """A class that was never registered and has the name of a built-in."""


class Doubling(TransformerMixin, BaseEstimator):
    """A transformer that skops does not know."""

    def fit(self, X: Any, y: Any = None) -> Doubling:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        return 2 * X


class WithTensor(BaseEstimator):
    def __init__(self, weight: Any = None) -> None:
        self.weight = weight


class Point(NamedTuple):
    x: int


@pytest.fixture(scope="module", autouse=True)
def holder() -> Iterator[None]:
    metafe.register(Holder)
    yield
    del registry()._entries["backbone", "persistence-holder"]


@pytest.fixture(scope="module")
def extractor(blobs: Any, small: Any) -> metafe.MetaFeatureExtractor:
    return small("identity", "untrained").fit(*blobs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("values") / "extractor"


def round_trip(extractor: metafe.MetaFeatureExtractor, folder: Path, value: Any) -> Any:
    """Save an extractor that has ``value`` as the parameter of a plugin, and return what is loaded."""
    extractor.set_params(backbone=Holder(value)).save(folder)
    return metafe.load(folder).backbone.value


def same(a: Any, b: Any) -> bool:
    """Tell whether two values have the same types and bits throughout."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(k, j) and same(a[k], b[j]) for k, j in zip(a, b, strict=True))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray | np.generic):
        if a.dtype == object:
            return a.shape == b.shape and same(a.tolist(), b.tolist())
        return a.dtype.str == b.dtype.str and a.shape == b.shape and a.tobytes() == b.tobytes()
    return repr(a) == repr(b) if isinstance(a, float | complex) else bool(a == b)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(max_size=8)
    | st.complex_numbers()
)
hashable = scalars | st.tuples(scalars, scalars)
dtypes = (
    hnp.scalar_dtypes()
    | hnp.unicode_string_dtypes(max_len=4)
    | hnp.byte_string_dtypes(max_len=4)
    | hnp.complex_number_dtypes()
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
numpys = arrays | arrays.map(lambda a: a.T) | arrays.map(lambda a: a[..., ::-1] if a.ndim else a[()])
values = st.recursive(
    scalars | numpys,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.just("type") | hashable, inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values)
def test_values_come_back_as_they_were(extractor: Any, folder: Path, value: Any) -> None:
    assert same(round_trip(extractor, folder, value), value)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(value=st.sets(hashable, max_size=4) | st.frozensets(hashable, max_size=4))
def test_sets_come_back_as_they_were(extractor: Any, folder: Path, value: Any) -> None:
    loaded = round_trip(extractor, folder, value)
    assert type(loaded) is type(value)
    assert sorted(map(repr, loaded)) == sorted(map(repr, value))


@pytest.mark.parametrize(
    "value",
    [
        Path("data") / "images",
        torch.device("cpu"),
        torch.device("cuda:1"),
        torch.bfloat16,
        {"type": "plugin"},
        {"type": 1, (2, None): "x"},
        np.array(["a", None, 3.5, (1, 2)], dtype=object),
        np.float32(0.1),
        np.str_("text"),
        np.datetime64("2024-02-03T04:05"),
        np.arange(6, dtype=">i4").reshape(2, 3),
        10**400,
        -0.0,
    ],
    ids=repr,
)
def test_values_of_special_types_come_back(extractor: Any, folder: Path, value: Any) -> None:
    assert same(round_trip(extractor, folder, value), value)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_arrays_keep_the_order_of_their_values_in_memory(extractor: Any, folder: Path, order: tuple[int, ...]) -> None:
    value = np.arange(24.0).reshape(2, 3, 4).transpose(order)
    loaded = round_trip(extractor, folder, value)
    assert loaded.strides == value.strides
    assert np.array_equal(loaded, value)


def test_memory_mapped_arrays_come_back_as_arrays(extractor: Any, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4))
    loaded = round_trip(extractor, folder, np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert type(loaded) is np.ndarray
    assert loaded.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
        torch.arange(12.0).reshape(1, 2, 3, 2).to(memory_format=torch.channels_last),
        torch.arange(8.0)[::2],
        torch.zeros(0, 3),
        torch.tensor(3),
        torch.tensor([1 + 2j]).conj(),
    ],
    ids=["transposed", "channels-last", "strided", "empty", "scalar", "conjugate"],
)
def test_tensors_come_back_with_type_and_values(extractor: Any, folder: Path, value: torch.Tensor) -> None:
    loaded = round_trip(extractor, folder, value)
    assert (loaded.dtype, loaded.shape) == (value.dtype, value.shape)
    assert torch.equal(loaded, value.resolve_conj())


@pytest.mark.parametrize("random", [np.random.RandomState(3), np.random.default_rng(3)], ids=["state", "generator"])
def test_random_generators_go_on_where_they_were(extractor: Any, folder: Path, random: Any) -> None:
    random.uniform(size=3)
    loaded = round_trip(extractor, folder, random)
    assert loaded.uniform(size=5).tolist() == random.uniform(size=5).tolist()


def test_plugins_inside_lists_and_plugins_come_back(extractor: Any, folder: Path) -> None:
    loaded = round_trip(extractor, folder, [MLP(width=3), {"inner": Holder((ProtoNet(temperature=0.5),))}])
    assert loaded[0].width == 3
    assert loaded[1]["inner"].value[0].temperature == 0.5


def test_estimators_come_back_with_their_parameters_and_fitted_state(extractor: Any, folder: Path, blobs: Any) -> None:
    X, _ = blobs
    pipeline = make_pipeline(StandardScaler(with_mean=False), PCA(2, whiten=True)).fit(X)
    loaded = round_trip(extractor, folder, pipeline)
    assert repr(loaded) == repr(pipeline)
    assert np.array_equal(loaded.transform(X), pipeline.transform(X))


def test_an_extractor_that_holds_itself_in_a_list_is_refused(extractor: Any, folder: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SavedFormatError, match="contains itself"):
        round_trip(extractor, folder, endless)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (nn.Linear(2, 2), "backbone__value.*torch.nn.modules.linear.Linear.*whose build makes the module"),
        (lambda x: x, "backbone__value.*function.*class that calls the function"),
        (len, "builtin_function"),
        (object(), "builtins.object"),
        (int, "builtins.type"),
        (OrderedDict(a=1), "OrderedDict"),
        (Point(1), "Point"),
        ([{"a": {1: nn.ReLU()}}], "backbone__value__0__a__1.*ReLU"),
        (np.ma.masked_array([1, 2], [True, False]), "MaskedArray"),
        (np.zeros(2, dtype=[("x", "f4")]), "numpy.ndarray"),
        (torch.zeros(2, 2).to_sparse(), "Tensor"),
        (FunctionTransformer(lambda x: x), "FunctionTransformer.*skops says"),
        (WithTensor(torch.zeros(3)), "WithTensor.*skops says.*Tensor"),
        (WithTensor(nn.Linear(1, 1)), "WithTensor.*skops says"),
        (sparse.csr_array(np.eye(2)), "csr_array"),
        (Nameless(), "Nameless.name"),
        (Impostor(), "Impostor has that of another backbone, 'identity'"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_needs_pickle_is_refused_with_a_reason(extractor: Any, tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(SavedFormatError, match=message):
        round_trip(extractor, tmp_path / "e", value)
    assert list(tmp_path.iterdir()) == []


def test_a_subclass_of_the_extractor_is_refused(blobs: Any, tmp_path: Path) -> None:
    class Mine(metafe.MetaFeatureExtractor):
        pass

    mine = Mine("identity", "untrained", device="cpu", augment=None, random_state=0).fit(*blobs)
    with pytest.raises(SavedFormatError, match="itself; got Mine"):
        mine.save(tmp_path / "e")


@pytest.fixture
def with_doubling(blobs: Any, small: Any, tmp_path: Path) -> tuple[metafe.MetaFeatureExtractor, Path]:
    """An extractor with a scikit-learn part that skops does not trust, saved."""
    fitted = small(SklearnTransformer(Doubling()), validation_fraction=0).fit(*blobs)
    fitted.save(tmp_path / "e")
    return fitted, tmp_path / "e"


def test_an_untrusted_type_is_named_and_its_module_is_not_imported(with_doubling: Any, monkeypatch: Any) -> None:
    _, folder = with_doubling
    monkeypatch.delitem(sys.modules, Doubling.__module__)
    with pytest.raises(SavedFormatError, match=r"Doubling.*pass trusted=\['.*Doubling'\]"):
        metafe.load(folder)
    assert Doubling.__module__ not in sys.modules


@pytest.mark.parametrize("trusted", [[Doubling], [f"{Doubling.__module__}.Doubling"], (Doubling, "other.Type")])
def test_a_type_that_the_caller_trusts_is_loaded(with_doubling: Any, blobs: Any, trusted: Any) -> None:
    fitted, folder = with_doubling
    loaded = metafe.load(folder, trusted=trusted)
    assert np.array_equal(loaded.transform(blobs[0]), fitted.transform(blobs[0]))


@given(strides=st.lists(st.integers(-40, 40), max_size=5))
def test_an_order_and_its_inverse_cancel(strides: list[int]) -> None:
    order = memory_order(strides)
    assert [order[position] for position in inverse(order)] == list(range(len(strides)))
