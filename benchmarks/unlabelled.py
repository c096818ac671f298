"""What is learned from unlabelled rows of a table, against the nearest neighbour on its columns, one label a class.

    python benchmarks/unlabelled.py FOLDER [--seeds 2] [--steps 300] [--tables optdigits segment ...]

FOLDER holds optdigits.csv, segment.csv and soybean.csv, the class in the last column; digits, cancer and wine are
scikit-learn's. Four fifths of the rows, without their classes, are learned from (STUNT-style: columns, protonet, mlp, early
stopping by pseudo-classes). The other fifth is judged on: all classes, one labelled row each, the same episodes for all. With one
label a class, the nearest neighbour is the nearest class mean. "auto" is the verdict of the safe default, which sees no
label either.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from safe_default import read_table
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.training.probe import compare

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
    return f"pseudo-classes {100 * found['gain']:+5.1f} ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"


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
        f"{'':<18}{'learned':>8}{'columns':>9}{'gain':>6}{'95 % interval':>17}{'5-shot':>8}   what the default keeps, and why"
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
            ours, theirs, ours5, theirs5 = (
                few_shot_score(features, X[new], y[new], n_shot=shot, head=head, **episodes).scores
                for shot, head in ((1, KNeighborsClassifier(1)), (5, "centroid"))
                for features in (learned, scaler)
            )
            one, five = compare(ours, theirs), compare(ours5, theirs5)
            print(
                f"{name:<10} split {seed}{100 * one.score:>8.1f}{100 * one.baseline:>9.1f}{100 * one.gain:>+6.1f} "
                f"({100 * one.low:>+5.1f} to {100 * one.high:>+5.1f}){100 * five.gain:>+8.1f}   "
                f"{automatic.backbone_.name}: {verdict(automatic)}, {seconds:.0f} s, best step {learned_step(learned)}",
                flush=True,
            )


def learned_step(extractor: MetaFeatureExtractor) -> int:
    """Return the step of the weights kept."""
    return int(max(extractor.history_, key=lambda metrics: (metrics["score"], -metrics["step"]))["step"])


if __name__ == "__main__":
    main()
