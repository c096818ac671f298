"""Series of classes never seen, from one or five of each: metafe against MiniRocket with ridge regression.

    python benchmarks/series.py [--splits 3] [--max-steps 300] [--episodes 200] [--data osu-leaf ...]

The data sets come with aeon 1.6 and need no download: Japanese vowels (9 speakers, 12 channels of unequal length), gestures with
a remote control (10 kinds, unequal length), leaf outlines (6 species) and appliances (10 kinds, by their power consumption).
Needs metafe-series. Two thirds of the classes are learned from, the others judged on. MiniRocket's thresholds and scales come from
the source classes; ridge regression sees the support rows alone; the others are judged by the nearest class mean. All are judged
on the same episodes.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from aeon.datasets import load_classification
from search_quality import split
from sklearn.linear_model import RidgeClassifier
from tables import print_scores

from metafe import MetaFeatureExtractor, few_shot_score

DATA = {
    "japanese-vowels": "JapaneseVowels",
    "gestures": "PickupGestureWiimoteZ",
    "osu-leaf": "OSULeaf",
    "appliances": "ACSF1",
}
BACKBONES = ["auto", "inception-time", "dilated-conv"]


def arms(rows: list[np.ndarray], y: np.ndarray, seed: int, max_steps: int) -> dict[str, tuple[Any, Any]]:
    """Return a fitted transformer and a head for each arm."""
    settings = {"encoder": "series", "random_state": seed}
    rocket = MetaFeatureExtractor("minirocket", **settings).fit(rows, y)
    fitted: dict[str, tuple[Any, Any]] = {
        "values at equal times": (MetaFeatureExtractor("identity", **settings).fit(rows, y), "centroid"),
        "MiniRocket, ridge": (rocket, RidgeClassifier()),
        "MiniRocket, class means": (rocket, "centroid"),
    }
    for backbone in BACKBONES:
        began = time.perf_counter()
        extractor = MetaFeatureExtractor(backbone, max_steps=max_steps, **settings).fit(rows, y)
        fitted[f"metafe {backbone}"] = (extractor, "centroid")
        print(f"  {backbone}: {time.perf_counter() - began:.0f} s", flush=True)
    return fitted


def run(name: str, options: argparse.Namespace) -> None:
    """Print the accuracy of each arm, over all splits."""
    X, y = load_classification(DATA[name], load_equal_length=False)
    scores: dict[tuple[str, int], list[np.ndarray]] = {}
    for seed in range(options.splits):
        (source, source_y), (novel, novel_y) = split(np.arange(len(y)), y, seed)
        n_way = min(5, len(np.unique(novel_y)))
        print(
            f"{name} split {seed}: {len(source)} series of {len(np.unique(source_y))} classes, {n_way}-way", flush=True
        )
        for arm, (transformer, head) in arms([X[i] for i in source], source_y, seed, options.max_steps).items():
            for n_shot in (1, 5):
                settings = {"n_way": n_way, "n_shot": n_shot, "n_episodes": options.episodes, "random_state": 0}
                found = few_shot_score(transformer, [X[i] for i in novel], novel_y, head=head, **settings)
                scores.setdefault((arm, n_shot), []).append(found.scores)
    print_scores(name, scores)


def main() -> None:
    """Learn and judge on each data set and split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--episodes", type=int, default=200, help="per split and number of shots")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.data:
        run(name, options)


if __name__ == "__main__":
    main()
