"""Few labels on classes never seen: what the extractor is for.

Keeps three of the ten digits out, learns features from the other seven with the backbone of `custom_backbone.py`, and
judges them on the three: first over many small problems (`few_shot_score`, the same ones for the pixels), then as one
would use them, with five labelled images of each new class and a `FewShotClassifier`. Twice, with other digits kept
out, since one choice of three classes proves little.
"""

import numpy as np
from custom_backbone import CorrectedPixels
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator

from metafe import FewShotClassifier, MetaFeatureExtractor, few_shot_score


def compare(extractor, X, y):
    """Print the accuracy of pixels and features on the same small problems."""
    for n_shot in (1, 5):
        scores = [few_shot_score(t, X, y, n_way=3, n_shot=n_shot, random_state=0) for t in (None, extractor)]
        gain = scores[1].mean - scores[0].mean
        print(f"  3-way {n_shot}-shot: pixels {scores[0].mean:.3f}, features {scores[1].mean:.3f}, gain {gain:+.3f}")


def classify(extractor, X, y, n_labels):
    """Label ``n_labels`` images of each class and classify all others."""
    rng = np.random.default_rng(0)
    support = np.concatenate([rng.choice(np.flatnonzero(y == c), n_labels, replace=False) for c in np.unique(y)])
    rest = np.setdiff1d(np.arange(len(y)), support)
    classifier = FewShotClassifier(FrozenEstimator(extractor)).fit(X[support], y[support])
    accuracy = classifier.score(X[rest], y[rest])
    print(f"  {len(support)} labelled images, {len(rest)} to classify: {accuracy:.3f} right")


def main():
    """Learn without three of the digits, judge on them."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    for kept_out in ([2, 5, 8], [1, 4, 7]):
        novel = np.isin(labels, kept_out)
        extractor = MetaFeatureExtractor(
            CorrectedPixels(), "protonet", augment=None, max_steps=200, patience=8, random_state=0
        )
        extractor.fit(images[~novel], labels[~novel])
        print(f"learned from the digits {extractor.classes_.tolist()}, judged on {kept_out}")
        compare(extractor, images[novel], labels[novel])
        classify(extractor, images[novel], labels[novel], n_labels=5)


if __name__ == "__main__":
    main()
