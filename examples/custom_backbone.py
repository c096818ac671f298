"""A backbone of one's own in 20 lines, registered and used by its name.

Shows the smallest useful plugin: a class that stores its hyperparameters and builds a torch module. Everything else
(training, cloning, grid search over its parameters, saving) works as for the backbones that metafe brings.

This one begins as the pixels themselves and learns a correction to them: each block adds the output of two layers,
the second of which starts at zero. Where few classes are there to learn from, that is safer than a network that
begins at random.
"""

import math

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

import metafe
from metafe.contracts import Backbone


class Block(nn.Sequential):
    """Layers whose input is added to their output, which is zero in the beginning."""

    def __init__(self, n_values, width):
        super().__init__(nn.Linear(n_values, width), nn.ReLU(), nn.Linear(width, n_values))
        nn.init.zeros_(self[-1].weight)
        nn.init.zeros_(self[-1].bias)

    def forward(self, x):
        """Map ``(b, n_values)`` to ``(b, n_values)``."""
        return x + super().forward(x)


@metafe.register
class CorrectedPixels(Backbone):
    """Grey images ``(n, H, W)``, flattened, plus ``depth`` corrections of ``width`` hidden units."""

    name = "corrected-pixels"
    standardise = "channel"  # one mean and one scale for the whole image, not one for each pixel

    def __init__(self, depth=1, width=128):
        self.depth = depth
        self.width = width

    def encode(self, X):
        """Give images their one channel: ``(n, 1, H, W)``."""
        return np.asarray(X)[:, None]

    def build(self, input_shape):
        """Map ``(b, 1, H, W)`` to ``(b, H * W)``."""
        blocks = [Block(math.prod(input_shape), self.width) for _ in range(self.depth)]
        return nn.Sequential(nn.Flatten(), *blocks)


def main():
    """Learn from seven of the digits; judge on the other three."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)
    novel = np.isin(labels, [0, 3, 9])

    extractor = metafe.MetaFeatureExtractor(
        "corrected-pixels", "protonet", augment=None, max_steps=200, patience=8, random_state=0
    )
    extractor.set_params(backbone__depth=2).fit(images[~novel], labels[~novel])

    print(f"{extractor.backbone_} gives {extractor.n_features_out_} features")
    for name, transformer in {"pixels": None, "corrected-pixels": extractor}.items():
        score = metafe.few_shot_score(transformer, images[novel], labels[novel], n_way=3, random_state=0)
        print(f"{name:>16}: 3-way 1-shot accuracy {score}")


if __name__ == "__main__":
    main()
