"""Every meta-algorithm on Omniglot for the same processor time, beside pixels, PCA, PLDA and HOG.

    python benchmarks/omniglot_algorithms.py FOLDER --seconds 60

FOLDER holds images_background_small1.zip and images_background_small2.zip. HOG is of the package metafe-descriptors and left out
where that is not installed. Each algorithm has its default settings, and trains
`conv4` on small1 for as many steps as fit. Judged by 1-shot episodes inside each alphabet of small2 that small1 lacks: by the
nearest mean of the features, and by the algorithm's own adapted head where it has one.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from omniglot import read_characters

from metafe import MetaFeatureExtractor, MetafeWarning, few_shot_score
from metafe.backbones import SklearnTransformer
from metafe.plugins import registry
from metafe.tasks import ClassTasks

FEW_STEPS = 5
UNTRAINED: dict[str, Any] = {
    "pixels": "identity",
    "PCA": SklearnTransformer("pca"),
    "PLDA": "plda",
    "HOG": "hog",
}


def extractor_of(algorithm: str, max_steps: int) -> MetaFeatureExtractor:
    """Return an extractor with the algorithm's default settings; the time is for training alone, without validations."""
    return MetaFeatureExtractor(
        "conv4",
        algorithm,
        ClassTasks(n_way=20, n_shot=1, n_query=5, within_groups=0.5),
        max_steps=max_steps,
        validation_fraction=0.0,
        random_state=0,
    )


def trained(algorithm: str, seconds: float, data: tuple[np.ndarray, ...]) -> MetaFeatureExtractor:
    """Train for as many steps as fit into the time, by the pace of a few."""
    X, y, alphabet = data
    durations = []
    # The first fit of a process takes longer than any other.
    extractor_of(algorithm, FEW_STEPS).fit(X, y, groups=alphabet)
    for n_steps in (FEW_STEPS, 3 * FEW_STEPS):
        began = time.process_time()
        extractor_of(algorithm, n_steps).fit(X, y, groups=alphabet)
        durations.append(time.process_time() - began)
    pace = (durations[1] - durations[0]) / (2 * FEW_STEPS)
    return extractor_of(algorithm, max(1, round(seconds / pace))).fit(X, y, groups=alphabet)


def judge(extractor: Any, novel: tuple[np.ndarray, ...], unseen: list[str], head: str, n_episodes: int) -> float:
    """Return the mean error over alphabets in %."""
    X, y, alphabet = novel
    errors = []
    for name in unseen:
        inside = alphabet == name
        way = min(20, len(set(y[inside])))
        settings = {"n_way": way, "n_shot": 1, "n_query": 10, "n_episodes": n_episodes, "random_state": 0}
        errors.append(1 - few_shot_score(extractor, X[inside], y[inside], head=head, **settings).mean)
    return 100 * float(np.mean(errors))


def report(name: str, extractor: Any, seconds: float, rest: str) -> None:
    """Print a line of the table."""
    print(
        f"{name:<14}{extractor.history_[-1]['step'] if extractor.history_ else '':>8}{seconds:>9.0f}{rest}", flush=True
    )


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60, help="of processor time to train each algorithm")
    parser.add_argument("--episodes", type=int, default=100, help="per alphabet")
    parser.add_argument("--algorithms", nargs="+", default=None)
    options = parser.parse_args()
    warnings.simplefilter("ignore", MetafeWarning)

    data = read_characters(options.folder / "images_background_small1.zip")
    novel = read_characters(options.folder / "images_background_small2.zip")
    unseen = sorted(set(novel[2]) - set(data[2]))
    print("error in %, 1-shot within the alphabet, mean over " + ", ".join(unseen))
    print(f"{'':<14}{'steps':>8}{'seconds':>9}{'nearest mean':>14}{'own head':>10}", flush=True)
    for name, backbone in UNTRAINED.items():
        if isinstance(backbone, str) and backbone not in registry().names("backbone"):
            print(
                f"{name:<14}left out, since backbone {backbone!r} is not installed: pip install metafe-descriptors",
                flush=True,
            )
            continue
        began = time.process_time()
        extractor = MetaFeatureExtractor(backbone, "untrained", validation_fraction=0.0, random_state=0)
        extractor.fit(data[0], data[1])
        error = judge(extractor, novel, unseen, "centroid", options.episodes)
        report(name, extractor, time.process_time() - began, f"{error:>14.1f}")
    for name in options.algorithms or [n for n in registry().names("algorithm") if n != "untrained"]:
        began = time.process_time()
        extractor = trained(name, options.seconds, data)
        seconds = time.process_time() - began
        heads = ["centroid", "own"] if extractor.adapts_head("classification") else ["centroid"]
        errors = [judge(extractor, novel, unseen, head, options.episodes) for head in heads]
        report(
            name, extractor, seconds, "".join(f"{error:>{w}.1f}" for error, w in zip(errors, (14, 10), strict=False))
        )


if __name__ == "__main__":
    main()
