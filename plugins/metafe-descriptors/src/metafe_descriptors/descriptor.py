"""What the descriptors share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from torch import nn

from metafe.contracts import ImageBackbone


class Descriptor(ImageBackbone):
    """Base of backbones that describe each image by a fixed vector, computed once: the module passes it through.

    A subclass has ``image_shape``, ``channels`` and ``n_jobs`` in its constructor.
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
        """Describe each image.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, C, H, W), (n, H, W, C) or, with ``image_shape``, (n, n_pixels)

        Returns
        -------
        ndarray of shape (n, n_features) float32
        """
        return np.stack(self.map(self.describe, self.images(X))).astype(np.float32)

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that passes ``(b, n_features)`` through: nothing is trained."""
        return nn.Identity()

    def map(self, function: Callable[[np.ndarray], np.ndarray], images: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Apply ``function`` to each image, in ``n_jobs`` threads."""
        return list(Parallel(n_jobs=self.n_jobs, prefer="threads")(delayed(function)(image) for image in images))
