from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from aeon.transformations.collection.convolution_based import MiniRocket as Reference
from metafe_series import MiniRocket

from metafe.contracts import InvalidParameterError, Seeds


@pytest.fixture(params=[1, 3], ids=["one channel", "three channels"])
def rows(request):
    return np.random.default_rng(0).normal(size=(20, request.param, 30)).astype(np.float32)


def test_it_is_what_aeon_computes(rows):
    seed = Seeds(0).integer("minirocket") % 2**31
    expected = Reference(n_kernels=500, random_state=seed).fit(rows[:10]).transform(rows)
    found = MiniRocket(n_kernels=500).fit(rows[:10], None, Seeds(0)).encode(rows)
    np.testing.assert_array_equal(found, expected)


def test_it_follows_the_seed(rows):
    first, again, other = (MiniRocket(84).fit(rows, None, Seeds(seed)).encode(rows) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_threads_change_nothing(rows):
    def encode(seed):
        return MiniRocket(84).fit(rows, None, Seeds(seed)).encode(rows)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encode, range(8)))
    for seed, values in enumerate(found):
        np.testing.assert_array_equal(values, encode(seed))


def test_a_long_series_is_convolved_once(tmp_path, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", str(tmp_path))
    rows = np.random.default_rng(0).normal(size=(300, 1, 128)).astype(np.float32)
    first, other = (MiniRocket(84).fit(rows[:10], None, Seeds(seed)) for seed in (0, 1))
    transform, convolved = Reference.transform, []

    def counted(self, X):
        convolved.append(len(X))
        return transform(self, X)

    monkeypatch.setattr(Reference, "transform", counted)
    expected = first.encode(rows[:200])
    found = MiniRocket(84).fit(rows[:10], None, Seeds(0)).encode(rows[::-1])[::-1]
    np.testing.assert_array_equal(found[:200], expected)
    assert convolved == [200, 100]
    assert not np.array_equal(other.encode(rows[:200]), expected)
    monkeypatch.setenv("METAFE_CACHE", "off")
    np.testing.assert_array_equal(first.encode(rows), found)


def test_features_are_shares(rows):
    X = MiniRocket(84).fit(rows, None, Seeds(0)).encode(rows)
    assert X.shape == (20, 84)
    assert (X >= 0).all()
    assert (X <= 1).all()


def test_series_that_are_too_short_are_refused_with_the_way_out():
    assert MiniRocket().accepts(np.zeros((3, 1, 8))).endswith("got 8. Use the encoder Series(length=9).")
    assert MiniRocket().accepts(np.zeros((3, 1, 9))) is None


@pytest.mark.parametrize("parameters", [{"n_kernels": 0}, {"max_dilations": 1.5}], ids=str)
def test_a_parameter_that_cannot_be_is_named(rows, parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^minirocket {name} must be .*; got {value!r}"):
        MiniRocket(**parameters).fit(rows, None, Seeds(0))
