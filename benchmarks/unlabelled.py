"""What is learned from unlabelled rows of a table, against the nearest neighbour on its columns, raw and standardised.

    python benchmarks/unlabelled.py FOLDER [--seeds 2] [--steps 300] [--tables optdigits segment ...]

FOLDER holds optdigits.csv, segment.csv and soybean.csv, the class in the last column; digits, cancer and wine are
scikit-learn's. Four fifths of the rows, without their classes, are learned from (STUNT-style: columns, protonet, mlp, early
stopping by pseudo-classes). The other fifth is judged on: all classes, one labelled row each, the same episodes for all. With one
label a class, the nearest neighbour is the nearest class mean. Gains are over the raw columns and over the standardised ones,
the last at five labels a class over the standardised ones. The safe default, whose verdict ends each line, sees no label either.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import warnings
from pathlib import Path

import numpy as np
from safe_default import read_table
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.training.probe import Comparison, compare

BUNDLED = {"digits": load_digits, "cancer": load_breast_cancer, "wine": load_wine}
ROWS_TO_JUDGE_ON = 3


def load(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a table and its classes, without classes too rare to be in every fifth."""
    X, y = BUNDLED[name](return_X_y=True) if name in BUNDLED else read_table(folder / f"{name}.csv")
    classes, sizes = np.unique(y, return_counts=True)
    common = np.isin(y, classes[sizes >= 40])
    return X[common], y[common]


def verdict(extractor: MetaFeatureExtractor) -> str:
    """Return what the comparison on pseudo-classes said, or why there was none."""
    found = extractor.validation_
    if found is None:
        return extractor.decisions_["tasks"]
    over_tasks = Comparison(**{field.name: found[field.name] for field in dataclasses.fields(Comparison)})
    return f"pseudo-classes {shown(over_tasks)}"


def shown(comparison: Comparison) -> str:
    """Return a gain with its interval, in points."""
    gain, low, high = (100 * bound for bound in (comparison.gain, comparison.low, comparison.high))
    return f"{gain:+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    """Fit and judge on every table and split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tables", nargs="+", default=["optdigits", "segment", "soybean", *BUNDLED])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(
        f"{'':<18}{'learned':>8}{'raw':>6}{'gain, 95 % interval':>25}{'scaled':>8}{'gain, 95 % interval':>25}{'5-shot':>8}"
        "   what the default keeps, and why"
    )
    for name in options.tables:
        X, y = load(name, options.folder)
        for seed in range(options.seeds):
            order = np.random.default_rng(seed).permutation(len(X))
            old, new = np.split(order, [len(X) * 4 // 5])
            began = time.perf_counter()
            settings = {"max_steps": options.steps, "random_state": seed}
            learned = MetaFeatureExtractor("mlp", "protonet", tasks="columns", **settings).fit(X[old])
            seconds = time.perf_counter() - began
            automatic = MetaFeatureExtractor(**settings).fit(X[old])
            scaler = StandardScaler().fit(X[old])
            episodes = {"n_way": len(np.unique(y)), "n_query": ROWS_TO_JUDGE_ON, "n_episodes": 300, "random_state": 0}
            ours, raw, scaled, ours5, scaled5 = (
                few_shot_score(features, X[new], y[new], n_shot=shot, head=head, **episodes).scores
                for shot, head, judged in (
                    (1, KNeighborsClassifier(1), (learned, None, scaler)),
                    (5, "centroid", (learned, scaler)),
                )
                for features in judged
            )
            print(
                f"{name:<10} split {seed}{100 * ours.mean():>8.1f}{100 * raw.mean():>6.1f}{shown(compare(ours, raw)):>25}"
                f"{100 * scaled.mean():>8.1f}{shown(compare(ours, scaled)):>25}{100 * (ours5 - scaled5).mean():>+8.1f}   "
                f"{automatic.backbone_.name}: {verdict(automatic)}, {seconds:.0f} s, best step {learned_step(learned)}",
                flush=True,
            )


def learned_step(extractor: MetaFeatureExtractor) -> int:
    """Return the step of the weights kept."""
    return int(max(extractor.history_, key=lambda metrics: (metrics["score"], -metrics["step"]))["step"])


if __name__ == "__main__":
    main()
