"""Reading the cells of a data frame, whatever library it is of, as numbers, dates or words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any, Literal

import numpy as np

from metafe.contracts import InvalidInputError

Kind = Literal["number", "date", "words"]

# Without regard to case; what programs write where there is nothing.
GAP_WORDS = frozenset({"", "?", "-", "...", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
# In lower case.
TRUTH_WORDS = {"true": "1", "false": "0"}
DATE_PARTS = ("year", "month", "day", "weekday", "hour", "days since 1970")
SECONDS_PER_DAY = 86400

# What pandas says of the values of a column.
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(
        ("boolean", "integer", "floating", "mixed-integer-float", "decimal", "timedelta64", "timedelta"), "number"
    ),
    **dict.fromkeys(("datetime64", "datetime", "date"), "date"),
    **dict.fromkeys(("string", "categorical"), "words"),
}


def is_data_frame(X: Any) -> bool:
    """Tell whether ``X`` is a data frame of pandas or polars, without importing either."""
    return type(X).__name__ == "DataFrame" and type(X).__module__.split(".")[0] in ("pandas", "polars")


def read_columns(frame: Any) -> dict[Hashable, Any]:
    """Return the columns by name, each as a pandas series.

    Raises
    ------
    InvalidInputError
        Two columns have one name, or one of polars holds lists or structures.
    """
    names = list(frame.columns)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InvalidInputError(
            f"A table must have columns of different names; got {repeated} more than once. Rename them."
        )
    if type(frame).__module__.startswith("polars"):
        return {name: _from_polars(frame[name]) for name in names}
    return {name: frame[name] for name in names}


def _from_polars(column: Any) -> Any:
    import pandas as pd

    if column.dtype.is_nested():
        raise not_readable(column.name, str(column.dtype.base_type()))
    is_category = str(column.dtype).startswith(("Categorical", "Enum"))
    return pd.Series(column.to_numpy(), dtype="category" if is_category else None)


def kind_of_column(name: Hashable, column: Any) -> Kind | None:
    """Tell what the cells of a column are; None where all of them are gaps.

    Raises
    ------
    InvalidInputError
        They are neither numbers, dates nor words.
    """
    from pandas.api.types import infer_dtype

    if column.isna().all():
        return None
    found = infer_dtype(column, skipna=True)
    if found in _KINDS:
        return _KINDS[found]
    if found.startswith("mixed") and all(isinstance(cell, str | float | int) for cell in column.dropna()):
        return "words"
    raise not_readable(name, found)


def not_readable(name: Hashable, found: str) -> InvalidInputError:
    """Return the error of a column of something else than numbers, dates and words."""
    return InvalidInputError(
        f"Columns of a table must hold numbers, dates, words or categories; got {found} values in {name!r}. "
        "Cast or drop the column."
    )


def is_category(column: Any) -> bool:
    """Tell whether the user has made the column a category, so that digits in it are no numbers."""
    return str(column.dtype) == "category"


def words(column: Any) -> np.ndarray:
    """Return the cells as strings, and gaps as None.

    Returns
    -------
    ndarray of shape (n,) of objects
        A whole number is written without a point, since a gap elsewhere in the column turns 1 into 1.0.
    """
    gaps = column.isna().to_numpy(dtype=bool)
    cells = [None if gap else _word(cell) for cell, gap in zip(column.tolist(), gaps, strict=True)]
    read = np.empty(len(cells), dtype=object)
    read[:] = [None if cell is None or cell.strip().lower() in GAP_WORDS else cell for cell in cells]
    return read


def _word(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def numbers(column: Any) -> np.ndarray:
    """Return the cells as numbers ``(n, 1)`` float32, durations in seconds; what is none, or none of float32, is NaN."""
    import pandas as pd

    if pd.api.types.infer_dtype(column, skipna=True).startswith("timedelta"):
        column = pd.to_timedelta(column).dt.total_seconds()
    if pd.api.types.infer_dtype(column, skipna=True) == "string":
        column = column.str.lower().replace(TRUTH_WORDS)
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return np.where(np.isfinite(narrow), narrow, np.float32(np.nan))[:, None]


def dates(column: Any, written_as: str | None = None) -> np.ndarray:
    """Return the parts of dates ``(n, 6)`` float32, in universal time where they have a zone; NaN for what is no date.

    Parameters
    ----------
    column : pandas.Series
    written_as : str or None, default=None
        How strings write a date, as `datetime.strptime` takes it; None is ISO 8601.
    """
    import pandas as pd

    read = pd.to_datetime(column, format=written_as or "ISO8601", errors="coerce", utc=True)
    when = read.dt
    midnight = read.dt.normalize()
    hours = (read - midnight).dt.total_seconds() / 3600
    # In the coarsest unit, since in nanoseconds the years after 2262, such as the 9999 of "never", are out of bounds.
    days = (read - pd.Timestamp(0, tz="UTC").as_unit("s")).dt.total_seconds() / SECONDS_PER_DAY
    parts = [when.year, when.month, when.day, when.weekday, hours, days]
    return np.stack([part.to_numpy(dtype=np.float32, na_value=np.nan) for part in parts], axis=1)
