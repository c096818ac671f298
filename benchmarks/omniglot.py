"""Handwritten characters of alphabets never seen: the error of `conv4` with `protonet` on Omniglot.

Trained on the background set small1. Everything is chosen on classes held out of small1. Judged last and once, by 1-shot
episodes inside each alphabet of small2 that small1 lacks, with as many of its characters as there are, up to twenty.

    python benchmarks/omniglot.py FOLDER

FOLDER holds images_background_small1.zip and images_background_small2.zip.
"""

from __future__ import annotations

import argparse
import io
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.augmentations import Affine
from metafe.backbones import Conv4
from metafe.tasks import ClassTasks
from metafe.training.probe import mean_interval

SIDE = 28


def read_characters(archive: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images (n, 28, 28) uint8 with bright strokes, their character and their alphabet."""
    images, characters, alphabets = [], [], []
    with zipfile.ZipFile(archive) as file:
        for name in sorted(n for n in file.namelist() if n.endswith(".png")):
            alphabet, character = name.split("/")[-3:-1]
            drawing = Image.open(io.BytesIO(file.read(name))).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
            images.append(255 - np.asarray(drawing))
            characters.append(f"{alphabet}/{character}")
            alphabets.append(alphabet)
    return np.stack(images), np.array(characters), np.array(alphabets)


def extractor(seed: int, max_steps: int, verbose: int) -> MetaFeatureExtractor:
    """Return the settings that did best on held-out classes of small1."""
    return MetaFeatureExtractor(
        Conv4(width=96),
        "protonet",
        ClassTasks(n_way=20, n_shot=1, n_query=5, within_groups=0.5),
        augment=["rotate90", Affine(rotation=15, scale=0.15, shear=15, shift=0.1)],
        meta_batch_size=2,
        max_steps=max_steps,
        learning_rate=2e-3,
        validation_fraction=0.1,
        patience=100,
        random_state=seed,
        verbose=verbose,
    )


def main() -> None:
    """Train and judge with each seed, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-steps", type=int, default=1500)
    parser.add_argument("--episodes", type=int, default=1000, help="per alphabet")
    parser.add_argument("--select", action="store_true", help="stop before the judgement: for choosing settings")
    parser.add_argument("--verbose", type=int, default=0)
    options = parser.parse_args()

    X, y, alphabet = read_characters(options.folder / "images_background_small1.zip")
    print(f"small1: {len(X)} images, {len(set(y))} characters, {len(set(alphabet))} alphabets")
    novel, novel_y, novel_alphabet = read_characters(options.folder / "images_background_small2.zip")
    unseen = sorted(set(novel_alphabet) - set(alphabet))
    errors: dict[str, list[np.ndarray]] = {name: [] for name in unseen}
    raw: dict[str, list[np.ndarray]] = {name: [] for name in unseen}
    for seed in range(options.seeds):
        began = time.perf_counter()
        fitted = extractor(seed, options.max_steps, options.verbose).fit(X, y, groups=alphabet)
        seconds = time.perf_counter() - began
        rows = fitted.history_[-1]["step"] * 2 * 20 * 6
        validation = fitted.validation_ or {}
        print(
            f"seed {seed}: {seconds:.0f} s, {rows / seconds:.0f} images/s in training, held-out classes of small1 "
            f"{validation.get('score', np.nan):.3f} (pixels {validation.get('baseline', np.nan):.3f})",
            flush=True,
        )
        if options.select:
            continue
        for name in unseen:
            inside = novel_alphabet == name
            way = min(20, len(set(novel_y[inside])))
            settings = {"n_way": way, "n_shot": 1, "n_episodes": options.episodes, "n_query": 10, "random_state": seed}
            for transformer, scores in ((fitted, errors), (None, raw)):
                score = few_shot_score(transformer, novel[inside], novel_y[inside], **settings)
                scores[name].append(1 - score.scores)
    if not options.select:
        print_errors(errors, raw)


def print_errors(errors: dict[str, list[np.ndarray]], raw: dict[str, list[np.ndarray]]) -> None:
    """Print the mean error of each alphabet and of all; the interval of all is over seeds and alphabets."""
    print(f"{'alphabet':<32}{'conv4 + protonet':>18}{'pixels':>10}   error in %, 1-shot within the alphabet")
    for name, of_seeds in errors.items():
        mean, interval = mean_interval(np.concatenate(of_seeds))
        print(f"{name:<32}{100 * mean:>11.1f} ± {100 * interval:<4.1f}{100 * np.mean(raw[name]):>10.1f}")
    means = np.array([scores.mean() for of_seeds in errors.values() for scores in of_seeds])
    mean, interval = mean_interval(means)
    print(f"{'mean':<32}{100 * mean:>11.1f} ± {100 * interval:<4.1f}{100 * np.mean(list(raw.values())):>10.1f}")


if __name__ == "__main__":
    main()
