"""Every kind of rows and targets that may be passed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from metafe.backbones import Conv4

pytestmark = pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")


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

    @pytest.mark.parametrize(
        ("y", "tasks"),
        [
            (np.arange(120.0) // 2, "RowTasks"),
            (np.arange(120) // 2, "ClassTasks"),
            (np.arange(120.0) // 3, "ClassTasks"),
            (np.arange(120.0) % 12, "ClassTasks"),
            ((np.arange(120) // 2).astype(str), "ClassTasks"),
        ],
        ids=["many floats", "many integers", "fewer floats", "few floats", "many strings"],
    )
    @pytest.mark.filterwarnings("ignore::metafe.contracts.AdaptedSettingWarning")
    def test_whole_floats_of_few_rows_each_are_measured(self, small, y, tasks):
        X = np.random.default_rng(0).normal(size=(120, 4))
        assert type(small(algorithm="auto", max_steps=1).fit(X, y).tasks_).__name__ == tasks

    def test_labels_may_be_strings(self, small, whole):
        X, y = whole
        names = np.array(list("abcdef"))
        extractor = small().fit(X, names[y])
        assert extractor.classes_.tolist() == list("abcdef")
        np.testing.assert_array_equal(extractor.transform(X), small().fit(X, y).transform(X))
