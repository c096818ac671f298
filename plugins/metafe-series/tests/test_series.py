from __future__ import annotations

import numpy as np
import pytest
import torch
from metafe_series import Series

from metafe.contracts import InvalidInputError, InvalidParameterError, Seeds, UnreadableRowWarning


def fitted(rows, **parameters):
    return Series(**parameters).fit(rows, Seeds(0))


def encoded(row, length, **parameters):
    """Return the single channel of one row at a common length."""
    return fitted([row], length=length, **parameters).encode([row])[0, 0]


def test_shorter_series_are_stretched_by_lines():
    np.testing.assert_allclose(encoded(np.array([0.0, 1.0, 0.0]), 5), [0, 0.5, 1, 0.5, 0])


def test_longer_series_are_squeezed_by_averages():
    np.testing.assert_allclose(encoded(np.array([0.0, 2.0, 4.0, 6.0, 8.0, 1.0]), 3), [1, 5, 4.5])
    np.testing.assert_allclose(encoded(np.array([3.0, 0.0, 6.0]), 2), [2, 4], err_msg="A value may fall to two.")


def test_series_of_the_common_length_stay_as_they_are():
    row = np.random.default_rng(0).normal(size=17)
    np.testing.assert_array_equal(encoded(row, 17), row.astype(np.float32))


def test_padding_adds_zeros_and_cuts():
    np.testing.assert_array_equal(encoded(np.array([1.0, 2.0]), 4, how="pad"), [1, 2, 0, 0])
    np.testing.assert_array_equal(encoded(np.arange(6.0), 4, how="pad"), [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("how", "lengths", "common"),
    [
        ("resample", [10, 20, 60], 20),
        ("resample", [3, 4, 5], 9),
        ("resample", [9000, 9000, 10], 512),
        ("pad", [10, 20, 600], 600),
        ("pad", [1, 2], 9),
    ],
)
def test_the_common_length_is_settled_in_fit(how, lengths, common):
    series = fitted([np.arange(float(n)) for n in lengths], how=how)
    assert series.length_ == common
    assert series.encode([np.arange(33.0)]).shape == (1, 1, common)


def test_each_channel_of_each_series_is_normalised():
    rng = np.random.default_rng(0)
    rows = [rng.normal(5, 3, size=(2, 20)), 1e30 * rng.normal(size=(2, 20)), 1e-30 * rng.normal(size=(2, 20))]
    X = fitted(rows, normalise=True).encode(rows)
    np.testing.assert_allclose(X.mean(axis=2), 0, atol=1e-6)
    np.testing.assert_allclose(X.std(axis=2), 1, rtol=1e-5)


@pytest.mark.parametrize("row", [np.full(20, 0.1), np.array([7.0]), np.array([np.nan, 3.0, np.nan])], ids=str)
@pytest.mark.parametrize("how", ["resample", "pad"])
def test_constant_series_are_zero_where_normalised(row, how):
    rows = [np.arange(10.0), row]
    assert not fitted(rows, how=how, normalise=True).encode(rows)[1].any()


def test_a_single_value_stays_where_not_normalised():
    np.testing.assert_array_equal(encoded(np.array([7.0]), 3), [7, 7, 7])
    np.testing.assert_array_equal(encoded(np.array([7.0]), 3, how="pad"), [7, 0, 0])


def test_gaps_are_filled_by_lines_and_at_the_ends_by_the_nearest_value():
    row = np.array([np.nan, 1.0, np.nan, np.inf, 4.0, 1e300])
    np.testing.assert_allclose(encoded(row, 6), [1, 1, 2, 3, 4, 4])


def test_a_channel_without_values_is_zero():
    row = np.stack([np.arange(9.0), np.full(9, np.nan)])
    X = fitted([row]).encode([row])
    assert X[0, 0].any()
    assert not X[0, 1].any()


def test_arrays_and_lists_of_every_kind_are_taken():
    X = np.random.default_rng(0).integers(0, 9, size=(4, 12))
    expected = fitted(X.astype(float)).encode(X.astype(float))
    for same in (X, list(X), X[:, None], X.tolist(), tuple(X), [row[None] for row in X], X.astype(np.uint8)):
        np.testing.assert_array_equal(fitted(same).encode(same), expected)
    ragged = np.empty(4, dtype=object)
    ragged[:] = list(X)
    np.testing.assert_array_equal(fitted(ragged).encode(ragged), expected)


def test_the_number_of_channels_is_that_of_most_rows():
    rows = [np.ones((2, 9)), np.ones((3, 9)), np.arange(18.0).reshape(2, 9)]
    series = fitted(rows)
    with pytest.warns(UnreadableRowWarning, match=r"of 2 channel\(s\) .* got 1 others: row 1 \(3 channels\)\."):
        X = series.encode(rows)
    assert X.shape[1] == 2
    assert not X[1].any()


@pytest.mark.parametrize(
    "bad", [np.full(9, np.nan), np.zeros(0), None, "text", np.zeros((1, 2, 3)), 3.0, [[1], [1, 2]]], ids=repr
)
def test_a_row_that_cannot_be_read_is_zero_and_named(bad):
    good = np.arange(12.0)
    series = fitted([good])
    with pytest.warns(UnreadableRowWarning, match=r"got 1 others: row 1 \(no numbers\)\. They are zeros\."):
        X = series.encode([good, bad, good])
    np.testing.assert_array_equal(X, [series.encode([good])[0], np.zeros((1, 12)), series.encode([good])[0]])


def test_many_rows_that_cannot_be_read_are_counted():
    with pytest.warns(
        UnreadableRowWarning, match=r"got 7 others: row 0 .*row 4 \(no numbers\); and 2 more\."
    ) as caught:
        fitted([np.arange(12.0)]).encode([np.full(9, np.nan)] * 7)
    assert len(caught) == 1


def test_rows_that_cannot_be_read_may_be_an_error():
    with pytest.raises(InvalidInputError, match=r"got row 1 \(no numbers\)\. Leave them out"):
        fitted([np.arange(12.0)], errors="raise").encode([np.arange(12.0), None])


def test_the_first_rows_need_not_be_readable():
    rows = [None] * 30 + [np.arange(12.0)]
    with pytest.warns(UnreadableRowWarning, match="got 30 others"):
        assert fitted(rows).encode(rows)[30].any()


def test_tensors_are_taken_whatever_their_type():
    row = torch.arange(12.0, requires_grad=True)
    expected = encoded(np.arange(12.0), 12)
    for same in (row, row.bfloat16(), row.long()):
        np.testing.assert_array_equal(encoded(same, 12), expected)


def test_rows_that_are_no_series_are_refused():
    for odd in (["text"], [None], 3.0, {"a": 1}):
        assert Series().accepts(odd).startswith("series needs a list of arrays of numbers")
    with pytest.raises(InvalidInputError, match="series needs a list of arrays of numbers"):
        fitted([np.arange(9.0)]).encode(["text"])
    with pytest.raises(InvalidInputError, match="at least one number; got 2 without any"):
        fitted([np.full(9, np.nan), np.zeros(0)])


@pytest.mark.parametrize(
    "parameters", [{"length": 0}, {"length": "long"}, {"how": "cut"}, {"normalise": 1}, {"errors": "ignore"}], ids=str
)
def test_a_parameter_that_cannot_be_is_named(parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^series {name} must be .*; got {value!r}"):
        fitted([np.arange(9.0)], **parameters)
