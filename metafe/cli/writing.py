"""Writing features to files, and folders that may be written to."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from metafe.contracts import InvalidInputError

SUFFIXES = (".csv", ".parquet", ".npz")
MANIFEST = "manifest.json"


def check_output_file(path: Path) -> None:
    """Check, before any work, that a file of features can be written.

    Raises
    ------
    InvalidInputError
        An unknown suffix, or a place that cannot be written to.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInputError(f"--output must end in {', '.join(SUFFIXES)}; got {str(path)!r}. Change its name.")
    if not path.parent.is_dir():
        raise InvalidInputError(
            f"--output must lie in a folder that exists; got {str(path)!r}. Make {str(path.parent)!r} first."
        )
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InvalidInputError(
            f"--output must be a file that may be written; got {str(path)!r}. Choose another place."
        )


def check_output_folder(folder: Path) -> None:
    """Check, before any work, that an extractor can be saved in a folder.

    Raises
    ------
    InvalidInputError
        A file, a folder that holds something else, or a place that cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"--output must be a folder; got the file {str(folder)!r}. Choose another name.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise InvalidInputError(
            f"--output must be a new or empty folder, or a saved extractor to replace; {str(folder)!r} holds "
            "something else. Choose another name."
        )
    _check_writable("--output", folder)


def check_report_folder(folder: Path) -> None:
    """Check, before any work, that a report can be written.

    Raises
    ------
    InvalidInputError
        A file, or a place that cannot be written to.
    """
    _check_writable("--report", folder)


def write_features(path: Path, features: np.ndarray, names: Sequence[str], known: pl.DataFrame) -> None:
    """Write features, with what is known of each row.

    Parameters
    ----------
    path : Path
        Its suffix decides the format. CSV and Parquet have what is known first, then a column for each feature; an
        ``.npz`` archive has the features as ``X`` and arrays with the names of what is known.
    features : ndarray of shape (n, n_features)
    names : sequence of str
        Of the features.
    known : polars.DataFrame of n rows, or without columns

    Raises
    ------
    InvalidInputError
        Names that clash, or several targets a row in a CSV file.
    OSError
        The file cannot be written.
    """
    taken = {"X"} if path.suffix.lower() == ".npz" else set(names)
    if clash := taken & set(known.columns):
        raise InvalidInputError(
            f"Columns of the output must have distinct names; got {clash.pop()!r} twice. Rename it in DATA."
        )
    if path.suffix.lower() == ".npz":
        arrays = {"X": features, **{name: _as_array(known[name]) for name in known.columns}}
        _write_arrays(path, arrays)
        return
    table = pl.concat([known, pl.DataFrame(features, schema=list(names))], how="horizontal")
    if path.suffix.lower() == ".parquet":
        table.write_parquet(path)
        return
    if nested := [name for name, dtype in known.schema.items() if dtype.is_nested()]:
        raise InvalidInputError(
            f"A CSV file holds one value a cell; {nested[0]!r} has several. Write to .npz or .parquet."
        )
    table.write_csv(path)


def _check_writable(option: str, folder: Path) -> None:
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InvalidInputError(
            f"{option} must be a folder that may be written; got {str(folder)!r}. Choose another place."
        )


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write what `numpy.load` reads; `numpy.savez` does not take arrays called ``file``."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)  # type: ignore[no-untyped-call]


def _as_array(series: pl.Series) -> np.ndarray:
    """Return an array that needs no pickle."""
    array = series.to_numpy()
    return (
        np.array(["" if label is None else str(label) for label in series.to_list()])
        if array.dtype == object
        else array
    )
