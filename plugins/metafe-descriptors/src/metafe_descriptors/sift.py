"""SIFT keypoints as a bag of visual words."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from metafe.contracts import (
    Categorical,
    Channels,
    Distribution,
    Int,
    InvalidInputError,
    Problem,
    Seeds,
    When,
    check_choice,
    check_sizes,
    content_key,
)
from metafe_descriptors.descriptor import Descriptor, stretched_grey
from metafe_descriptors.pages import cached_vectors

Norm = Literal["hellinger", "l1"]

N_VALUES = 128


class Sift(Descriptor):
    """A bag of visual words: how often each kind of SIFT keypoint occurs in the image.

    The words are learned in `fit`, as centres of the training images' keypoint descriptors.

    Parameters
    ----------
    n_words : int, default=64
        Size of the vocabulary, which is the width of the features; fewer where training images have fewer distinct
        keypoints.
    norm : {"hellinger", "l1"}, default="hellinger"
        Each histogram sums to one; ``"hellinger"`` then takes square roots, so that Euclidean distances between
        features are Hellinger distances between histograms.
    smallest_side : int, default=32
        Images with a shorter side below this many pixels are enlarged to it, since SIFT looks for structures of
        several pixels. At least 12.
    n_vocabulary_images : int, default=1000
        Training images from which the words are learned, drawn at random where there are more.
    image_shape : tuple of int or None, default=None
        Shape of one image, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``, when rows come flat.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels are in images of three dimensions. ``"auto"`` takes the one side that is shorter than 8
        pixels, or else the one that differs from two equal sides.
    n_jobs : int or None, default=None
        Threads; ``None`` is 1 unless in a `joblib.parallel_config`, -1 all processors.

    Attributes
    ----------
    words_ : ndarray of shape (n_words, 128) float32
        The centres.

    Notes
    -----
    Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", 2004, by `skimage.feature.SIFT`; Csurka et al.,
    "Visual Categorization with Bags of Keypoints", 2004; the square root of normalised descriptors is from Arandjelović
    and Zisserman, "Three Things Everyone Should Know to Improve Object Retrieval", 2012. Channels are averaged, and
    each image is stretched to its own full range, since the thresholds of SIFT are absolute. An image without
    keypoints, such as one of a single colour, has a histogram of zeros.

    The cache keeps keypoints and not histograms, so that other words of the same images need no other search for them.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> images = rng.random((6, 32, 32))
    >>> sift = Sift(n_words=4).fit(images, None, Seeds(0))
    >>> sift.encode(images).shape
    (6, 4)
    """

    name = "sift"

    def __init__(
        self,
        n_words: int = 64,
        norm: Norm = "hellinger",
        smallest_side: int = 32,
        n_vocabulary_images: int = 1000,
        image_shape: tuple[int, ...] | None = None,
        channels: Channels = "auto",
        n_jobs: int | None = None,
    ) -> None:
        self.n_words = n_words
        self.norm = norm
        self.smallest_side = smallest_side
        self.n_vocabulary_images = n_vocabulary_images
        self.image_shape = image_shape
        self.channels = channels
        self.n_jobs = n_jobs

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare the number of words, the normalisation and the enlargement."""
        return {
            "n_words": Int(16, 512, log=True),
            "norm": Categorical(get_args(Norm)),
            "smallest_side": Categorical([16, 32, 64]),
        }

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> Sift:
        """Learn the words from the training images.

        Raises
        ------
        InvalidParameterError
            A size or name that cannot be.
        InvalidInputError
            No training image has a keypoint.
        """
        check_sizes("sift", n_words=self.n_words)
        check_sizes("sift", minimum=12, smallest_side=self.smallest_side)
        check_sizes("sift", n_vocabulary_images=self.n_vocabulary_images)
        check_choice("sift", "norm", self.norm, get_args(Norm))
        n_images = min(self.n_vocabulary_images, len(X))
        chosen = np.sort(seeds.numpy("vocabulary").choice(len(X), n_images, replace=False))
        found = np.concatenate([_rooted(keypoints) for keypoints in self._keypoints(self.images(X)[chosen])])
        if not len(found):
            raise InvalidInputError(
                f"sift needs images with keypoints; got {n_images} without any. Use images with corners or spots, "
                "or backbone='hog'."
            )
        self.words_ = _centres(found, self.n_words, seeds.integer("words") % 2**32)
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Return the histogram of words of each image.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, C, H, W), (n, H, W, C) or, with ``image_shape``, (n, n_pixels)

        Returns
        -------
        ndarray of shape (n, n_words) float32
        """
        return np.stack([self._histogram(keypoints) for keypoints in self._keypoints(self.images(X))])

    def _keypoints(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the descriptors of the keypoints of each image ``(C, H, W)``, from the cache where they are known."""
        return cached_vectors(
            self.cache(smallest_side=self.smallest_side),
            [content_key(image) for image in images],
            lambda which: self.map(self._search, (images[i] for i in which)),
        )

    def _search(self, image: np.ndarray) -> np.ndarray:
        """Return the descriptors of the keypoints of one image ``(C, H, W)``, ``(n_keypoints, 128)`` uint8."""
        from skimage.feature import SIFT

        prepared = self._enlarged(stretched_grey(image))
        none = np.empty((0, N_VALUES), dtype=np.uint8)
        if not prepared.any():
            return none
        sift = SIFT()
        try:
            sift.detect_and_extract(prepared)
        except RuntimeError as error:
            # The only sign that scikit-image gives of an image without keypoints.
            if "found no features" in str(error):
                return none
            raise
        return np.asarray(sift.descriptors, dtype=np.uint8)

    def _histogram(self, keypoints: np.ndarray) -> np.ndarray:
        """Return the histogram of words of one image, ``(n_words,)`` float32."""
        # The squared norm of a keypoint is the same for all words and cannot change which is nearest.
        distances = (self.words_**2).sum(axis=1) - 2 * _rooted(keypoints) @ self.words_.T
        counts = np.bincount(distances.argmin(axis=1), minlength=len(self.words_))
        shares = counts / max(1, len(keypoints))
        return (np.sqrt(shares) if self.norm == "hellinger" else shares).astype(np.float32)

    def _enlarged(self, grey: np.ndarray) -> np.ndarray:
        from skimage.transform import resize

        scale = self.smallest_side / min(grey.shape)
        if scale <= 1:
            return grey
        return resize(grey, [round(scale * side) for side in grey.shape], order=1)


def _rooted(keypoints: np.ndarray) -> np.ndarray:
    """Return the square roots of the shares of each keypoint's values, ``(n_keypoints, 128)`` float32."""
    values = keypoints.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1))


def _centres(descriptors: np.ndarray, n_words: int, seed: int) -> np.ndarray:
    """Return the centres of clusters of descriptors, at most as many as there are distinct ones."""
    n_distinct = len(np.unique(descriptors, axis=0))
    clusters = MiniBatchKMeans(min(n_words, n_distinct), n_init=3, random_state=seed).fit(descriptors)
    return np.asarray(clusters.cluster_centers_, dtype=np.float32)
