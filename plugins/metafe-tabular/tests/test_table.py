from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from metafe_tabular import Table

from metafe.contracts import InvalidInputError, InvalidParameterError, Seeds, UnreadableRowWarning

GAP = np.nan


def fitted(frame, **parameters):
    return Table(**parameters).fit(frame, Seeds(0))


def encoded(cells, new=None):
    """Fit on one column beside one that varies, and return what became of it."""
    frame = pd.DataFrame({"x": cells})
    return fitted(frame).encode(frame if new is None else pd.DataFrame({"x": new})).tolist()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([1, 2, 4], [[1], [2], [4]]),
        ([1.5, GAP, 2.5], [[1.5, 0], [2, 1], [2.5, 0]]),
        (pd.array([1, None, 3], dtype="Int64"), [[1, 0], [2, 1], [3, 0]]),
        ([1.0, np.inf, 1e300, 2.0], [[1, 0], [1.5, 1], [1.5, 1], [2, 0]]),
        ([True, False], [[1], [0]]),
        ([True, None, True, False], [[1, 0], [1, 1], [1, 0], [0, 0]]),
        ([Decimal("1.5"), Decimal("2.5")], [[1.5], [2.5]]),
        (pd.to_timedelta(["1h", "90s"]), [[3600], [90]]),
        (["1", " ?", "2.5e1"], [[1, 0], [13, 1], [25, 0]]),
    ],
    ids=["whole", "gap", "nullable", "infinite", "truth", "truth-gap", "decimal", "duration", "words"],
)
def test_numbers_stay_numbers_and_gaps_are_filled_by_the_median(cells, expected):
    assert encoded(cells) == expected


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["b", "a", "b"], [[0, 1], [1, 0], [0, 1]]),
        (["b", None, "n/a"], [[1, 0], [0, 1], [0, 1]]),
        (pd.Categorical([3, 1, None]), [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
        (pd.Categorical(["2020-01-01", "2021-01-01"]), [[1, 0], [0, 1]]),
        (["a", 1, 1.0], [[0, 1], [1, 0], [1, 0]]),
    ],
    ids=["words", "gaps", "numbers", "dates", "mixed"],
)
def test_categories_have_a_column_each_and_gaps_too(cells, expected):
    assert encoded(cells) == expected


def test_a_category_that_training_lacks_is_zero_everywhere():
    assert encoded(["a", "b"], ["c", "b", None]) == [[0, 0], [0, 1], [0, 0]]


def test_a_gap_that_training_lacks_is_the_median():
    assert encoded([1, 3, 8], [GAP, 8]) == [[3], [8]]


@pytest.mark.parametrize(
    "cells",
    [
        [dt.date(2024, 2, 29), dt.date(1969, 12, 31)],
        pd.to_datetime(["2024-02-29", "1969-12-31"]),
        pd.to_datetime(["2024-02-29 02:00", "1969-12-31 02:00"]).tz_localize("Europe/Helsinki"),
        ["29.02.2024", "31.12.1969"],
        ["2024-02-29", "1969-12-31"],
    ],
    ids=["date", "stamp", "zone", "european", "iso"],
)
def test_dates_become_parts(cells):
    assert encoded(cells) == [[2024, 2, 29, 3, 19782], [1969, 12, 31, 2, -1]], "The hour is always 0 and left out."


@pytest.mark.parametrize(
    "cells",
    [["2024-02-29", "9999-12-31"], [dt.date(2024, 2, 29), dt.date(9999, 12, 31)]],
    ids=["words", "dates"],
)
def test_a_date_that_means_never_is_a_date(cells):
    assert encoded(cells) == [[2024, 2, 29, 3, 19782], [9999, 12, 31, 4, 2932896]]


def test_the_hour_of_a_date_is_kept():
    assert encoded(["2024-02-29 06:00", "2024-02-29 18:00"]) == [[6, 19782.25], [18, 19782.75]]


def test_a_gap_among_dates_has_one_column():
    rows = encoded(["2024-02-29", None, "2023-01-01", "2022-03-01"])
    assert [row[-1] for row in rows] == [0, 1, 0, 0]
    assert rows[1][0] == 2023, "The median of the years."
    assert len(rows[0]) == 6


def test_many_different_words_are_described_by_their_parts():
    kinds = ["copper pipe", "steel pipe", "oak plank"]
    notes = [f"{kinds[i % 3]} no {i}" for i in range(60)]
    frame = pd.DataFrame({"note": [*notes, None]})
    table = fitted(frame, n_text_features=5)
    X = table.encode(frame)
    assert X.shape == (61, 6)
    assert X[:, -1].tolist() == [0] * 60 + [1]
    new = table.encode(pd.DataFrame({"note": ["copper pipe no 99", "oak plank no 98"]}))[:, :5]
    similarity = new @ X[:60, :5].T
    assert [row.argmax() % 3 for row in similarity] == [0, 2], "Parts that are known tell what the words are about."


def test_words_without_known_parts_are_zero():
    frame = pd.DataFrame({"note": [f"sample {i}" for i in range(50)]})
    assert not fitted(frame).encode(pd.DataFrame({"note": ["日本語の文"]})).any()


def test_polars_gives_what_pandas_gives(frame, polars_frame):
    np.testing.assert_array_equal(fitted(frame).encode(frame), fitted(polars_frame).encode(polars_frame))
    np.testing.assert_array_equal(fitted(frame).encode(polars_frame), fitted(polars_frame).encode(frame))


def test_polars_types(tmp_path):
    frame = pl.DataFrame(
        {
            "when": [dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC), None, dt.datetime(2024, 1, 2, tzinfo=dt.UTC)],
            "took": [dt.timedelta(seconds=5), dt.timedelta(seconds=7), None],
            "grade": pl.Series(["1", "2", None], dtype=pl.Enum(["1", "2", "3"])),
        }
    )
    X = fitted(frame).encode(frame)
    np.testing.assert_array_equal(
        X[:, :6], [[1, 0, 12, 19723.5, 5, 1], [1.5, 0.5, 6, 19723.75, 7, 0], [2, 1, 0, 19724, 6, 0]]
    )


def test_the_order_of_columns_and_further_ones_do_not_matter(frame):
    table = fitted(frame)
    other = frame[frame.columns[::-1]].assign(extra=1)
    np.testing.assert_array_equal(table.encode(other), table.encode(frame))


def test_the_index_does_not_matter(frame):
    shuffled = frame.set_index(np.arange(len(frame))[::-1] // 2)
    np.testing.assert_array_equal(fitted(shuffled).encode(shuffled), fitted(frame).encode(frame))


def test_a_batch_without_the_mark_of_gaps_may_come_as_numbers():
    table = fitted(pd.DataFrame({"x": ["1", "?", "3"]}))
    np.testing.assert_array_equal(
        table.encode(pd.DataFrame({"x": [1, 3]})), table.encode(pd.DataFrame({"x": ["1", "3"]}))
    )


def test_a_column_may_be_all_gaps_in_a_batch(frame):
    table = fitted(frame)
    empty = table.encode(pd.DataFrame({name: [None] for name in frame.columns}))
    assert empty.shape == (1, table.encode(frame).shape[1])


def test_no_rows_give_no_rows(frame):
    table = fitted(frame)
    assert table.encode(frame.iloc[:0]).shape == (0, table.encode(frame).shape[1])


def test_missing_columns_are_named(frame):
    with pytest.raises(InvalidInputError, match=r"must have the columns .*; \['size', 'made'\] are missing\."):
        fitted(frame).encode(frame.drop(columns=["made", "size"]))


@pytest.mark.parametrize(
    ("name", "cells", "was", "got"),
    [
        ("size", pd.Timestamp("2020-01-01"), "number", "date"),
        ("made", 3, "date", "number"),
        ("colour", pd.Timestamp("2020-01-01"), "words", "date"),
    ],
)
def test_a_column_of_another_kind_is_named(frame, name, cells, was, got):
    with pytest.raises(InvalidInputError, match=f"'{name}' was {was}, got {got}. Cast it."):
        fitted(frame).encode(frame.assign(**{name: cells}))


@pytest.mark.parametrize("name", ["size", "count", "fresh", "made"])
def test_a_gap_word_in_a_file_makes_no_other_kind_of_a_column(frame, name):
    table = fitted(frame)
    gap, written = frame.astype({name: object}), frame.astype({name: str})
    gap.loc[2, name], written.loc[2, name] = None, "NA"
    np.testing.assert_array_equal(table.encode(written), table.encode(gap))


@pytest.mark.parametrize(("name", "word"), [("size", "big"), ("fresh", "perhaps"), ("made", "yesterday")])
def test_words_among_numbers_and_dates_are_gaps_and_named(frame, name, word):
    table = fitted(frame)
    gap, written = frame.astype({name: object}), frame.astype({name: str})
    gap.loc[2, name], written.loc[2, name] = None, word
    with pytest.warns(
        UnreadableRowWarning, match=rf"got 1 rows with cells that cannot be read: row 2 \({name}: '{word}'\)"
    ):
        X = table.encode(written)
    np.testing.assert_array_equal(X, table.encode(gap))
    with pytest.raises(InvalidInputError, match=rf"row 2 \({name}: '{word}'\)"):
        fitted(frame, errors="raise").encode(written)


def test_categories_that_are_all_digits_in_a_batch_may_come_as_numbers():
    assert encoded(["a", "1", "2"], [2, 1]) == [[0, 1, 0], [1, 0, 0]]


def test_cells_that_cannot_be_read_are_gaps_and_named_once(frame):
    table = fitted(frame)
    bad = frame.copy()
    bad["price"] = ["1.5", "cheap", *frame["price"][2:]]
    bad["sold"] = [*frame["sold"][:5], "yesterday", *frame["sold"][6:]]
    with pytest.warns(UnreadableRowWarning) as caught:
        X = table.encode(bad)
    assert len(caught) == 1
    assert "got 2 rows with cells that cannot be read: row 1 (price: 'cheap'); row 5 (sold: 'yesterday')." in str(
        caught[0].message
    )
    bad["price"] = ["1.5", "?", *frame["price"][2:]]
    bad["sold"] = [*frame["sold"][:5], None, *frame["sold"][6:]]
    np.testing.assert_array_equal(X, table.encode(bad))


def test_many_rows_that_cannot_be_read_are_counted():
    table = fitted(pd.DataFrame({"x": ["1", "2"]}))
    with pytest.warns(UnreadableRowWarning, match=r"got 9 rows .*row 4 \(x: 'no'\); and 4 more\."):
        table.encode(pd.DataFrame({"x": ["no"] * 9}))


def test_cells_that_cannot_be_read_may_be_an_error():
    table = fitted(pd.DataFrame({"x": ["1", "2"]}), errors="raise")
    with pytest.raises(InvalidInputError, match=r"row 1 \(x: 'no'\)\. Mend them"):
        table.encode(pd.DataFrame({"x": ["1", "no"]}))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"x": [[1], [2]]}), "got mixed values in 'x'. Cast or drop"),
        (pl.DataFrame({"x": [dt.time(1), dt.time(2)]}), "got time values in 'x'"),
        (pl.DataFrame({"x": [{"a": 1}, {"a": 2}]}), "got Struct values in 'x'. Cast or drop"),
        (pl.DataFrame({"x": [[1], [2]]}, schema={"x": pl.Array(pl.Int64, 1)}), "got Array values in 'x'"),
        (pd.DataFrame({"x": [1j, 2j]}), "got complex values in 'x'"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), r"got \['a'\] more than once"),
        (pd.DataFrame({"x": [1, 1], "y": [None, None]}), "a column that differs between rows; got 2 rows"),
        (pd.DataFrame({"x": [np.inf, np.inf]}), "a column that differs"),
        (pd.DataFrame({"x": [None, None]}), "a column that differs"),
    ],
    ids=["lists", "times", "structures", "arrays", "complex", "names", "constant", "infinite", "empty"],
)
def test_a_table_that_cannot_be_used_is_refused(frame, message):
    with pytest.raises(InvalidInputError, match=message):
        fitted(frame)


@pytest.mark.parametrize("parameters", [{"max_categories": 0}, {"n_text_features": 1.5}, {"errors": "ignore"}], ids=str)
def test_a_parameter_that_cannot_be_is_named(frame, parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^table {name} must be .*; got {value!r}"):
        fitted(frame, **parameters)


def test_what_is_no_data_frame_is_refused():
    with pytest.raises(InvalidInputError, match=r"^table needs a data frame of pandas or polars; got list\."):
        Table().encode([1, 2])
