"""Spoken digits and speakers never heard, told apart after one example of each.

    python spoken_digits.py FOLDER [--max-steps 100] [--episodes 200]

FOLDER holds the recordings of the Free Spoken Digit Dataset, called digit_speaker_number.wav, in whatever sub-folders. They are 10
MB: git clone https://github.com/Jakobovski/free-spoken-digit-dataset. Features are learned from digits 0 to 5 of all speakers but
the last two by name, in tasks within a speaker, and judged on digits 6 to 9 of these two; beside them the means of cepstral
coefficients with logistic regression.
"""

import argparse
from pathlib import Path

import numpy as np
from metafe_audio import MfccMeans
from sklearn.linear_model import LogisticRegression

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.contracts import Seeds

N_OLD_DIGITS, N_NEW_SPEAKERS = 6, 2


def read_names(paths):
    """Return digits and speakers of files called digit_speaker_number.wav."""
    parts = [path.stem.split("_") for path in paths]
    return np.array([int(part[0]) for part in parts]), np.array([part[1] for part in parts])


def main():
    """Learn, judge, and print both accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-steps", type=int, default=100)
    parser.add_argument("--episodes", type=int, default=200, help="that both are judged on")
    options = parser.parse_args()
    paths = sorted(options.folder.rglob("[0-9]_*_*.wav"))
    if not paths:
        parser.error(f"{options.folder} must hold files such as 7_jackson_32.wav; it has none.")
    digits, speakers = read_names(paths)
    is_new = np.isin(speakers, np.unique(speakers)[-N_NEW_SPEAKERS:])
    old, new = np.flatnonzero(~is_new & (digits < N_OLD_DIGITS)), np.flatnonzero(is_new & (digits >= N_OLD_DIGITS))
    files = np.array(paths, dtype=object)

    # Of six digits too few are left to hold some out for validation.
    settings = {"max_steps": options.max_steps, "validation_fraction": 0, "random_state": 0}
    extractor = MetaFeatureExtractor("conv4", "protonet", **settings).fit(files[old], digits[old], groups=speakers[old])
    judged = {"n_way": 4, "n_shot": 1, "n_episodes": options.episodes, "random_state": 0}
    print("conv4 on spectrograms:", few_shot_score(extractor, files[new], digits[new], **judged))

    means = MfccMeans().fit(files[old], Seeds(0)).encode(files[new])
    print("MFCC means:", few_shot_score(None, means, digits[new], head=LogisticRegression(max_iter=1000), **judged))


if __name__ == "__main__":
    main()
