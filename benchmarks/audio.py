"""Spoken digits and speakers never heard: features learned from spectrograms, on the Free Spoken Digit Dataset.

    python benchmarks/audio.py FOLDER [--splits 3] [--max-steps 400] [--conv4-steps 100] [--episodes 600]

FOLDER holds recordings.zip. In each split two of the six speakers are left out. Features are learned from digits 0 to 5 of
the other four, and judged by the nearest class mean on 4-way episodes of digits 6 to 9 of the two. The baselines take the
means of cepstral coefficients, alone and with their standard deviations, and their course in time, standardised by the training
part, with logistic regression in the same episodes. metafe learns from all six digits, since of six classes too few are left to
hold some out: the adapter from the course of the coefficients, conv4 from spectrograms, once in tasks of all speakers and once
in tasks within a speaker; all with protonet and its defaults, but for the length of training. Needs metafe-audio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
from metafe_audio import LogMel, MfccMeans, MfccTimes
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.contracts import Encoder, Seeds
from metafe.training.probe import compare

N_OLD_DIGITS = 6
NOVEL_SPEAKERS = [("george", "nicolas"), ("jackson", "theo"), ("lucas", "yweweler")]
BASELINE = "MFCC means, logistic regression"


def read_names(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return the digits and the speakers of files called digit_speaker_number.wav."""
    parts = [path.stem.split("_") for path in paths]
    return np.array([int(digit) for digit, _, _ in parts]), np.array([speaker for _, speaker, _ in parts])


def main() -> None:
    """Learn and judge on every split, and print accuracies and gains with their intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=len(NOVEL_SPEAKERS))
    parser.add_argument("--max-steps", type=int, default=400, help="of the adapter")
    parser.add_argument("--conv4-steps", type=int, default=100, help="0 leaves conv4 out")
    parser.add_argument("--episodes", type=int, default=600, help="of each split and shot")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(options.folder / "recordings.zip") as archive:
            archive.extractall(folder)
        paths = sorted(Path(folder).rglob("*.wav"))
        scores: dict[int, dict[str, list[np.ndarray]]] = {shot: {} for shot in options.shots}
        for seed, novel in enumerate(NOVEL_SPEAKERS[: options.splits]):
            run(paths, novel, seed, options, scores)
    for shot, found in scores.items():
        print_scores(shot, found)


def run(
    paths: list[Path],
    novel_speakers: tuple[str, ...],
    seed: int,
    options: argparse.Namespace,
    scores: dict[int, dict[str, list[np.ndarray]]],
) -> None:
    """Learn on one split, and add the accuracy of each arm in each episode."""
    digits, speakers = read_names(paths)
    old, new = (
        ((digits < N_OLD_DIGITS) & ~np.isin(speakers, novel_speakers)),
        ((digits >= N_OLD_DIGITS) & np.isin(speakers, novel_speakers)),
    )
    old_paths, new_paths = ([path for path, chosen in zip(paths, which, strict=True) if chosen] for which in (old, new))
    began = time.perf_counter()
    arms = {
        name: (standardised(encoder, old_paths, new_paths), LogisticRegression(max_iter=1000))
        for name, encoder in {
            BASELINE: MfccMeans(),
            "means and deviations, the same": MfccMeans(deviations=True),
            "mfcc-times, the same": MfccTimes(),
        }.items()
    }
    networks = [(MfccTimes(), "adapter", options.max_steps), (LogMel(), "conv4", options.conv4_steps)]
    for encoder, backbone, steps in networks:
        for place, groups in (("", None), (", within a speaker", speakers[old])):
            if steps:
                extractor = learned(encoder, backbone, steps, seed).fit(old_paths, digits[old], groups=groups)
                arms[f"{encoder.name}, {backbone}{place}"] = (extractor.transform(new_paths), "centroid")
    print(f"split {seed}, without {' and '.join(novel_speakers)}: {time.perf_counter() - began:.0f} s", flush=True)
    for shot, found in scores.items():
        for name, (features, head) in arms.items():
            score = few_shot_score(
                None,
                features,
                digits[new],
                head=head,
                n_way=4,
                n_shot=shot,
                n_episodes=options.episodes,
                random_state=seed,
            )
            found.setdefault(name, []).append(score.scores)


def learned(encoder: Encoder, backbone: str, max_steps: int, seed: int) -> MetaFeatureExtractor:
    """Return what learns from all classes."""
    return MetaFeatureExtractor(
        backbone, "protonet", encoder=encoder, max_steps=max_steps, validation_fraction=0, random_state=seed
    )


def standardised(encoder: Encoder, old_paths: list[Path], new_paths: list[Path]) -> np.ndarray:
    """Return what an encoder makes of the new files, standardised by the old ones."""
    fitted = encoder.fit(old_paths, Seeds(0))
    return StandardScaler().fit(fitted.encode(old_paths)).transform(fitted.encode(new_paths))


def print_scores(shot: int, found: dict[str, list[np.ndarray]]) -> None:
    """Print the accuracy of each arm over all splits, and the gain over the baseline in the same episodes."""
    print(f"\n4-way {shot}-shot, {len(found[BASELINE])} splits")
    for name, of_splits in found.items():
        compared = compare(np.concatenate(of_splits), np.concatenate(found[BASELINE]))
        each = ", ".join(f"{100 * (a.mean() - b.mean()):+.1f}" for a, b in zip(of_splits, found[BASELINE], strict=True))
        print(
            f"  {name:<34}{100 * compared.score:5.1f}   gain {100 * compared.gain:+5.1f} "
            f"({100 * compared.low:+.1f} to {100 * compared.high:+.1f}), by split {each}"
        )


if __name__ == "__main__":
    main()
