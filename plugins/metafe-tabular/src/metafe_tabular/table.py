"""The encoder of data frames."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Literal

import numpy as np

from metafe.contracts import (
    Encoder,
    InvalidInputError,
    Seeds,
    UnreadableRowWarning,
    check_choice,
    check_sizes,
    name_rows,
)
from metafe_tabular.cells import (
    DATE_PARTS,
    Kind,
    dates,
    is_category,
    is_data_frame,
    kind_of_column,
    numbers,
    read_columns,
    words,
)

# One column as it was in `fit`: "name", "given" (the kind of its cells), "kind" (what they are read as) and what that needs.
Column = dict[str, Any]
# Positions of rows, and the column and cell that could not be read.
Unreadable = dict[int, str]


class Table(Encoder):
    """Data frames of pandas or polars, with categories, dates and gaps, as rows of numbers.

    Parameters
    ----------
    max_categories : int, default=40
        A column of words with at most this many different ones becomes a column of zeros and ones for each; one with
        more is described by the parts of its words.
    n_text_features : int, default=30
        Columns that the latter becomes, or fewer where there are fewer different words.
    errors : {"warn", "raise"}, default="warn"
        What becomes of rows with a cell that cannot be read: a warning names them, or an error does.

    Attributes
    ----------
    columns_ : list of dict
        What is done with each column.
    fill_ : ndarray of float32
        What stands in for gaps: medians of the training rows.
    gappy_ : ndarray of int64
        Values whose gaps have a column of their own.
    kept_ : ndarray of int64
        Values that differ between training rows.

    Notes
    -----
    - Numbers, truth values and durations (in seconds) stay numbers. Dates become year, month, day, weekday, hour and days
      since 1970, in universal time. Words that are all numbers, or all dates in one format, are read as such; those of a
      pandas or polars *category* never are.
    - A gap in a number or date is filled with the median of the training rows, and a column of its own says where gaps
      are, if there were any in training. ``"?"``, ``"NA"`` and the like are gaps, and so are numbers that float32 cannot
      hold. A gap among categories is a category like any other.
    - A category, or gap among categories, that `fit` has not seen is zero in all columns of its categories.
    - Columns that are the same in all training rows are left out. Further columns are ignored in `encode`.
    - Numbers and dates may come as words later, as a single ``"NA"`` makes them in a CSV file, and are read: truth values as
      ``"true"`` and ``"false"``, dates as `fit` saw them written, or else as ISO 8601. A word that is none cannot be read: it
      is taken for a gap, and the row is named. Everything else in the row is read.

    Categories and text follow Cerda and Varoquaux, "Encoding high-cardinality string categorical variables", 2022: character
    n-grams weighted by how rare they are and reduced by singular values. skrub tells which words are numbers or dates.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"size": [1.5, None, 2.5], "colour": ["red", "blue", "red"]})
    >>> Table().fit(X, Seeds(0)).encode(X)
    array([[1.5, 0. , 1. , 0. ],
           [2. , 1. , 0. , 1. ],
           [2.5, 0. , 1. , 0. ]], dtype=float32)
    """

    name = "table"
    reads = "table"

    def __init__(
        self, max_categories: int = 40, n_text_features: int = 30, errors: Literal["warn", "raise"] = "warn"
    ) -> None:
        self.max_categories = max_categories
        self.n_text_features = n_text_features
        self.errors = errors

    def accepts(self, X: Any) -> str | None:
        """Say that ``X`` is no data frame."""
        if is_data_frame(X):
            return None
        return f"table needs a data frame of pandas or polars; got {type(X).__name__}. Pass pandas.DataFrame(X)."

    def fit(self, X: Any, seeds: Seeds) -> Table:
        """Settle what becomes of each column.

        Parameters
        ----------
        X : DataFrame of shape (n, n_columns)
        seeds : Seeds

        Raises
        ------
        InvalidInputError
            A column of something else than numbers, dates and words, two columns of one name, or none that varies.
        InvalidParameterError
            A size or name that cannot be.
        """
        check_sizes("table", max_categories=self.max_categories, n_text_features=self.n_text_features)
        check_choice("table", "errors", self.errors, ("warn", "raise"))
        columns = read_columns(X)
        kinds = {name: kind_of_column(name, column) for name, column in columns.items()}
        given = {name: kind for name, kind in kinds.items() if kind is not None}
        formats = _formats({n: words(columns[n]) for n in given if given[n] == "words" and not is_category(columns[n])})
        self.columns_ = []
        for name, kind in given.items():
            column: Column = {"name": name, "given": kind, **formats.get(name, {"kind": kind})}
            self.columns_.append(
                self._with_words(column, columns[name], seeds) if column["kind"] == "words" else column
            )
        self._fit_values(self._read(columns, len(X)))
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Make a row of numbers of each row.

        Parameters
        ----------
        X : DataFrame of shape (n, n_columns)
            With the columns of `fit`, in any order.

        Returns
        -------
        ndarray of shape (n, n_values) float32

        Raises
        ------
        InvalidInputError
            Columns are missing; dates are where none were in `fit`, or numbers where dates were; with ``errors="raise"``
            also a cell that cannot be read.
        """
        if reason := self.accepts(X):
            raise InvalidInputError(reason)
        columns = read_columns(X)
        self._check_columns(columns)
        return self._filled(self._read(columns, len(X)))[:, self.kept_]

    def _with_words(self, column: Column, cells: Any, seeds: Seeds) -> Column:
        """Return the column with its categories, or with what describes words where there are too many."""
        read = words(cells)
        known = sorted({word for word in read if word is not None})
        if len(known) > self.max_categories:
            seed = seeds.integer("text", repr(column["name"])) % 2**32
            return {**column, "kind": "text", "text": _text_features(known, self.n_text_features, seed)}
        return {**column, "kind": "category", "categories": [*known, *([None] if None in read else [])]}

    def _fit_values(self, values: np.ndarray) -> None:
        """Learn medians, where gaps are, and what varies."""
        gaps = np.isnan(values)
        some = ~gaps.all(axis=0)
        self.fill_ = np.zeros(values.shape[1], dtype=np.float32)
        self.fill_[some] = np.nanmedian(values[:, some], axis=0)
        # The parts of a date have their gaps in common.
        first = np.cumsum([0] + [_width(column) for column in self.columns_])[:-1]
        self.gappy_ = first[gaps[:, first].any(axis=0)] if len(first) else np.zeros(0, dtype=np.int64)
        filled = self._filled(values)
        self.kept_ = np.flatnonzero((filled != filled[:1]).any(axis=0))
        if not len(self.kept_):
            raise InvalidInputError(
                f"A table must have a column that differs between rows; got {len(values)} rows that are all the same. "
                "Pass more rows, or columns."
            )

    def _filled(self, values: np.ndarray) -> np.ndarray:
        gaps = np.isnan(values)
        return np.hstack([np.where(gaps, self.fill_, values), gaps[:, self.gappy_].astype(np.float32)])

    def _check_columns(self, columns: dict[Hashable, Any]) -> None:
        if missing := [column["name"] for column in self.columns_ if column["name"] not in columns]:
            raise InvalidInputError(
                f"A table must have the columns that the encoder was fitted on; {missing} are missing. Add them, empty "
                "where nothing is known."
            )
        for column in self.columns_:
            kind = kind_of_column(column["name"], columns[column["name"]])
            if "date" in (kind, column["kind"]) and kind not in (None, "words", column["given"], column["kind"]):
                raise InvalidInputError(
                    f"Columns of a table must be of the kind that the encoder was fitted on; {column['name']!r} was "
                    f"{column['given']}, got {kind}. Cast it."
                )

    def _read(self, columns: dict[Hashable, Any], n_rows: int) -> np.ndarray:
        """Return all values ``(n, n_values)``, gaps as NaN, and name the rows with a cell that cannot be read."""
        unreadable: Unreadable = {}
        blocks = [_read(column, columns[column["name"]], unreadable) for column in self.columns_]
        if unreadable:
            self._name(unreadable)
        return np.hstack([np.zeros((n_rows, 0), dtype=np.float32), *blocks])

    def _name(self, unreadable: Unreadable) -> None:
        found = f"got {len(unreadable)} rows with cells that cannot be read: {name_rows(unreadable)}."
        if self.errors == "raise":
            raise InvalidInputError(
                f"Cells of a table must be what they were in fit; {found} Mend them, or pass errors='warn' to take them "
                "for gaps."
            )
        message = f"Cells of a table should be what they were in fit; {found} They are taken for gaps."
        warnings.warn(message, UnreadableRowWarning, stacklevel=4)


def _formats(columns: dict[Hashable, np.ndarray]) -> dict[Hashable, dict[str, Any]]:
    """Return for each column of words what skrub reads it as, and how dates are written."""
    names = [name for name, cells in columns.items() if any(cell is not None for cell in cells)]
    if not names:
        return {}
    import pandas as pd
    from skrub import Cleaner

    cleaner = Cleaner(parse_numbers=True, drop_null_fraction=None)
    frame = pd.DataFrame({str(i): pd.Series(columns[name], dtype="str") for i, name in enumerate(names)})
    cleaned = cleaner.fit_transform(frame)
    return {
        name: _format(kind_of_column(name, cleaned[str(i)]), cleaner.all_processing_steps_[str(i)])
        for i, name in enumerate(names)
    }


def _format(kind: Kind | None, steps: list[Any]) -> dict[str, Any]:
    written_as = [step.format_ for step in steps if hasattr(step, "format_")]
    return {"kind": "date", "format": written_as[0]} if kind == "date" else {"kind": kind or "words"}


def _text_features(known: list[str], n_features: int, seed: int) -> Any:
    """Return a fitted pipeline from words to ``n_features`` numbers, or fewer where there are fewer different words."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), dtype=np.float32).fit(known)
    reduction = TruncatedSVD(min(n_features, len(known), len(grams.vocabulary_)), random_state=seed)
    reduction.fit(grams.transform(known))
    return make_pipeline(grams, reduction)


def _width(column: Column) -> int:
    if column["kind"] == "category":
        return len(column["categories"])
    if column["kind"] == "text":
        return len(column["text"][-1].components_)
    return len(DATE_PARTS) if column["kind"] == "date" else 1


def _read(column: Column, cells: Any, unreadable: Unreadable) -> np.ndarray:
    """Return the values of one column ``(n, width)`` float32; note cells that are neither gaps nor can be read."""
    if column["kind"] in ("category", "text"):
        read = words(cells)
        return _one_hot(read, column["categories"]) if column["kind"] == "category" else _text(read, column["text"])
    reading = partial(dates, written_as=column.get("format")) if column["kind"] == "date" else numbers
    if kind_of_column(column["name"], cells) != "words":
        return reading(cells)
    return _read_words(column, cells, reading, unreadable)


def _read_words(column: Column, cells: Any, reading: Callable[[Any], np.ndarray], unreadable: Unreadable) -> np.ndarray:
    import pandas as pd

    read = words(cells)
    values = reading(pd.Series(read, dtype="str"))
    for row in np.flatnonzero(np.isnan(values[:, 0])).tolist():
        if read[row] is not None:
            unreadable.setdefault(row, f"{column['name']}: {read[row]!r}")
    return values


def _one_hot(read: np.ndarray, categories: list[str | None]) -> np.ndarray:
    position = {category: i for i, category in enumerate(categories)}
    codes = np.array([position.get(word, -1) for word in read], dtype=np.int64)
    return (codes[:, None] == np.arange(len(categories))).astype(np.float32)


def _text(read: np.ndarray, features: Any) -> np.ndarray:
    values = np.full((len(read), len(features[-1].components_)), np.nan, dtype=np.float32)
    known = np.array([word is not None for word in read], dtype=bool)
    if known.any():
        values[known] = features.transform(read[known])
    return values
