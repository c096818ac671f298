"""What the descriptors share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from torch import nn

from metafe.contracts import ImageBackbone, RowCache, content_key

# Opening the cache, and writing to it, take as long as describing an image of this many pixels.
FEWEST_CACHED_PIXELS = 64 * 64
# Where images lie in memory, and who describes them, changes no feature.
NOT_DESCRIBING = {"image_shape", "channels", "n_jobs"}


class Descriptor(ImageBackbone):
    """Base of backbones that describe each image by a fixed vector, computed once: the module passes it through.

    A subclass has ``image_shape``, ``channels`` and ``n_jobs`` in its constructor, and `describe` or an `encode` of its
    own. What it computes is kept in `metafe.contracts.RowCache`, by the contents of the image, the other parameters and the
    fitted attributes.
    """

    trains = False
    encode_is_view = False
    encode_is_rowwise = True
    # Histograms are normalised already; standardising each bin would give rare ones the weight of common ones.
    standardise = "none"

    n_jobs: int | None

    def describe(self, image: np.ndarray) -> np.ndarray:
        """Return the vector of one image ``(C, H, W)``."""
        raise NotImplementedError(f"{type(self).__name__} needs a describe method.")

    def encode(self, X: Any) -> np.ndarray:
        """Describe each image, or look up what it was described by.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, C, H, W), (n, H, W, C) or, with ``image_shape``, (n, n_pixels)

        Returns
        -------
        ndarray of shape (n, n_features) float32
        """
        images = self.images(X)

        def compute(which: Sequence[int]) -> np.ndarray:
            return np.stack(self.map(self.describe, (images[i] for i in which))).astype(np.float32)

        if images[:, 0].size < FEWEST_CACHED_PIXELS:
            return compute(range(len(images)))
        parameters = {name: value for name, value in self.get_params().items() if name not in NOT_DESCRIBING}
        return self.cache(**parameters, **self.get_state()).rows([content_key(image) for image in images], compute)

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that passes ``(b, n_features)`` through: nothing is trained."""
        return nn.Identity()

    def cache(self, **parameters: Any) -> RowCache:
        """Return the cache of what this backbone computes of an image with ``parameters``."""
        return RowCache({"backbone": self.name, **parameters, **_versions()})

    def map(self, function: Callable[[np.ndarray], np.ndarray], images: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Apply ``function`` to each image, in ``n_jobs`` threads."""
        return list(Parallel(n_jobs=self.n_jobs, prefer="threads")(delayed(function)(image) for image in images))


def stretched_grey(image: np.ndarray) -> np.ndarray:
    """Average the channels of an image ``(C, H, W)`` and stretch it to its full range, from 0 to 1.

    An image of a single colour gives zeros.
    """
    grey = np.asarray(image, dtype=np.float64).mean(axis=0)
    lowest, highest = grey.min(), grey.max()
    if lowest == highest:
        return np.zeros_like(grey)
    return (grey - lowest) / (highest - lowest)


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("metafe-descriptors", "scikit-image")}
