"""Tables with categories and gaps: classes never seen, from one or five rows each.

    python benchmarks/tables.py FOLDER [--splits 3] [--max-steps 300] [--episodes 200]

FOLDER holds tabular/soybean.csv, whose columns are categories with gaps, and segment.csv, whose columns are numbers, the class
in the last column. Needs metafe-tabular. Two thirds of the classes are learned from, the others judged on. All arms get what
the encoder `table` makes of the data frame, fitted on the source classes. Gradient boosting and logistic regression see the
support rows alone, the latter standardised by the source rows; the others are judged by the nearest class mean. All are judged
on the same episodes.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from metafe_tabular import FTTransformer, Table, TabularResNet
from search_quality import split
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.contracts import Seeds
from metafe.training.probe import mean_interval

# Leaves of a single row, since there may be no more of a class.
BOOSTING = HistGradientBoostingClassifier(max_iter=50, min_samples_leaf=1, random_state=0)
BACKBONES: dict[str, Callable[[], Any]] = {
    "auto": lambda: "auto",
    "ft-transformer": FTTransformer,
    "tabular-resnet": TabularResNet,
    "tabular-resnet, piecewise-linear": lambda: TabularResNet(embeddings="piecewise-linear"),
}


def soybean(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Return diseased plants: every column is a category, and a tenth of the cells are gaps."""
    table = pd.read_csv(folder / "tabular" / "soybean.csv", dtype="category", na_values="?")
    return table.iloc[:, :-1], table.iloc[:, -1].to_numpy(dtype=str)


def segment(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Return patches of outdoor images: every column is a number."""
    table = pd.read_csv(folder / "tabular" / "segment.csv")
    return table.iloc[:, :-1], table.iloc[:, -1].to_numpy()


DATA = {"soybean": soybean, "segment": segment}


def arms(X: np.ndarray, y: np.ndarray, seed: int, max_steps: int) -> dict[str, tuple[Any, Any]]:
    """Return a fitted transformer, or None, and a head for each arm."""
    standardised = StandardScaler().fit(X)
    fitted: dict[str, tuple[Any, Any]] = {
        "gradient boosting": (None, BOOSTING),
        "logistic regression": (standardised, LogisticRegression(max_iter=1000)),
        "class means": (standardised, "centroid"),
    }
    for name, backbone in BACKBONES.items():
        began = time.perf_counter()
        extractor = MetaFeatureExtractor(backbone(), max_steps=max_steps, random_state=seed).fit(X, y)
        fitted[f"metafe {name}"] = (extractor, "centroid")
        print(f"  {name}: {time.perf_counter() - began:.0f} s", flush=True)
    return fitted


def run(name: str, folder: Path, options: argparse.Namespace) -> None:
    """Print the accuracy of each arm, over all splits."""
    frame, y = DATA[name](folder)
    scores: dict[tuple[str, int], list[np.ndarray]] = {}
    for seed in range(options.splits):
        (source, source_y), (novel, novel_y) = split(frame, y, seed)
        table = Table().fit(source, Seeds(seed))
        X, X_novel = table.encode(source), table.encode(novel)
        n_way = min(5, len(np.unique(novel_y)))
        print(
            f"{name} split {seed}: {X.shape[1]} columns, {len(np.unique(source_y))} source classes, {n_way}-way",
            flush=True,
        )
        for arm, (transformer, head) in arms(X, source_y, seed, options.max_steps).items():
            for n_shot in (1, 5):
                settings = {"n_way": n_way, "n_shot": n_shot, "n_episodes": options.episodes, "random_state": 0}
                found = few_shot_score(transformer, X_novel, novel_y, head=head, **settings)
                scores.setdefault((arm, n_shot), []).append(found.scores)
    print_scores(name, scores)


def print_scores(name: str, scores: dict[tuple[str, int], list[np.ndarray]]) -> None:
    """Print means with the interval over the episodes of all splits, and the mean of each split."""
    print(f"\n{name:<45}{'1-shot':>12}{'5-shot':>14}   accuracy in %; of each split")
    for arm in dict.fromkeys(arm for arm, _ in scores):
        print(f"{arm:<45}", end="")
        for n_shot in (1, 5):
            mean, interval = mean_interval(np.concatenate(scores[arm, n_shot]))
            print(f"{100 * mean:>7.1f} ± {100 * interval:<4.1f}", end="")
        of_splits = ["/".join(f"{100 * s.mean():.0f}" for s in scores[arm, n_shot]) for n_shot in (1, 5)]
        print(f"   {of_splits[0]}, {of_splits[1]}")
    print(flush=True)


def main() -> None:
    """Learn and judge on each data set and split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--episodes", type=int, default=200, help="per split and number of shots")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.data:
        run(name, options.folder, options)


if __name__ == "__main__":
    main()
