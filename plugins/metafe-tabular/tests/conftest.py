"""Small tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

N_ROWS = 12


@pytest.fixture
def frame():
    """Twelve rows with numbers, gaps, categories, dates and text."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=N_ROWS).round(2)
    size[3] = np.nan
    return pd.DataFrame(
        {
            "size": size,
            "count": rng.integers(0, 9, N_ROWS),
            "fresh": rng.integers(0, 2, N_ROWS).astype(bool),
            "colour": pd.Categorical(["red", "blue", None, "green"] * 3),
            "price": ["1.5", "2", "?", "3.25"] * 3,
            "sold": ["2024-01-03", "2023-05-06", "NA", "2024-12-31"] * 3,
            "made": pd.date_range("2020-01-01 05:30", periods=N_ROWS, freq="37h"),
            "note": [None, *(f"sample {i} from shelf {i % 3}" for i in range(1, N_ROWS))],
            "source": ["lab"] * N_ROWS,
            "empty": [None] * N_ROWS,
        }
    )


@pytest.fixture
def polars_frame(frame):
    """The same table as a polars data frame."""
    columns = {name: frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame.columns}
    return pl.DataFrame(columns).with_columns(pl.col("colour").cast(pl.Categorical))
