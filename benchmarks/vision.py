"""`resnet12` against `conv4` on image files, for the same seconds of training: characters of alphabets never seen.

    python benchmarks/vision.py FOLDER --seconds 300 --seeds 3

FOLDER holds images_background_small1.zip and images_background_small2.zip of Omniglot, which are unpacked to a temporary folder
of PNG files and read by `image-files`. Both networks have the same algorithm, tasks and augmentations, and train on small1 for as
many steps as fit into the time. Judged by 1-shot episodes inside each alphabet of small2 that small1 lacks.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from metafe_vision import ImageFiles, ResNet12

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.augmentations import Affine
from metafe.backbones import Conv4
from metafe.contracts import Backbone
from metafe.tasks import ClassTasks
from metafe.training.probe import mean_interval

FEW_STEPS = 4
Files = tuple[list[str], np.ndarray, np.ndarray]


def unpack(archive: Path, folder: Path) -> Files:
    """Unpack an archive, and return the paths of its files, their character and their alphabet."""
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    paths = sorted(folder.glob(f"{archive.stem}/*/*/*.png"))
    alphabets = [path.parent.parent.name for path in paths]
    characters = [f"{alphabet}/{path.parent.name}" for alphabet, path in zip(alphabets, paths, strict=True)]
    return [str(path) for path in paths], np.array(characters), np.array(alphabets)


def extractor(backbone: Backbone, seed: int, max_steps: int) -> MetaFeatureExtractor:
    """Return the settings of benchmarks/omniglot.py, without meta-validation: the time is for training alone."""
    return MetaFeatureExtractor(
        backbone,
        "protonet",
        ClassTasks(n_way=20, n_shot=1, n_query=5, within_groups=0.5),
        encoder=ImageFiles(side=28),
        augment=["rotate90", Affine(rotation=15, scale=0.15, shear=15, shift=0.1)],
        meta_batch_size=2,
        max_steps=max_steps,
        learning_rate=2e-3,
        validation_fraction=0.0,
        random_state=seed,
    )


def seconds_of_steps(backbone: Backbone, n_steps: int, data: Files) -> float:
    """Return the processor time of a fit of so many steps."""
    began = time.process_time()
    extractor(backbone, 0, n_steps).fit(data[0], data[1], groups=data[2])
    return time.process_time() - began


def steps_within(backbone: Backbone, seconds: float, data: Files) -> int:
    """Return how many steps fit into the time, by the pace of a few."""
    seconds_of_steps(backbone, 1, data)
    pace = (seconds_of_steps(backbone, 3 * FEW_STEPS, data) - seconds_of_steps(backbone, FEW_STEPS, data)) / (
        2 * FEW_STEPS
    )
    return max(1, round(seconds / pace))


def errors_by_alphabet(fitted: MetaFeatureExtractor, novel: Files, unseen: list[str], n_episodes: int) -> list[float]:
    """Return the mean error on each alphabet in %."""
    errors = []
    for name in unseen:
        inside = np.flatnonzero(novel[2] == name)
        y = novel[1][inside]
        settings = {"n_way": min(20, len(set(y))), "n_shot": 1, "n_query": 10, "n_episodes": n_episodes}
        score = few_shot_score(fitted, [novel[0][i] for i in inside], y, **settings, random_state=0)
        errors.append(100 * (1 - score.mean))
    return errors


def main() -> None:
    """Print a line for each network and seed, and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=300, help="of processor time to train each network")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=200, help="per alphabet")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64], help="of resnet12")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as made:
        data = unpack(options.folder / "images_background_small1.zip", Path(made))
        novel = unpack(options.folder / "images_background_small2.zip", Path(made))
        unseen = sorted(set(novel[2]) - set(data[2]))
        networks: dict[str, Backbone] = {"conv4": Conv4()}
        networks |= {f"resnet12({width})": ResNet12(width=width) for width in options.widths}
        errors: dict[str, list[list[float]]] = {name: [] for name in networks}
        print(
            f"error in %, 1-shot within the alphabet, {len(unseen)} unseen alphabets, {len(data[0])} files to train on"
        )
        for name, backbone in networks.items():
            n_steps = steps_within(backbone, options.seconds, data)
            for seed in range(options.seeds):
                began = time.process_time()
                fitted = extractor(backbone, seed, n_steps).fit(data[0], data[1], groups=data[2])
                seconds = time.process_time() - began
                errors[name].append(errors_by_alphabet(fitted, novel, unseen, options.episodes))
                print(
                    f"{name:<14} seed {seed}: {n_steps:>6} steps, {seconds:>5.0f} s, {np.mean(errors[name][-1]):>5.1f}",
                    flush=True,
                )
    print_table(errors)


def print_table(errors: dict[str, list[list[float]]]) -> None:
    """Print means and differences to the first, with intervals over alphabets and seeds."""
    print(f"{'':<14}{'error':>14}{'difference':>16}   with 95 % intervals over alphabets and seeds")
    first = np.array(errors[next(iter(errors))])
    for name, of_seeds in errors.items():
        (mean, interval), (gain, of_gain) = (mean_interval(np.ravel(v)) for v in (np.array(of_seeds), of_seeds - first))
        print(
            f"{name:<14}{mean:>7.1f} ± {interval:<4.1f}"
            + (f"{gain:>9.1f} ± {of_gain:<4.1f}" if gain or of_gain else "")
        )


if __name__ == "__main__":
    main()
