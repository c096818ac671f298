"""Histograms of colours."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from metafe.contracts import (
    Categorical,
    Channels,
    Distribution,
    Int,
    Problem,
    Seeds,
    When,
    check_choice,
    check_sizes,
)
from metafe_descriptors.descriptor import Descriptor
from metafe_descriptors.histograms import cell_shares, check_grid, hellinger

Space = Literal["hsv", "lab", "rgb"]

# Both opponent axes of Lab stay within this for every colour that RGB can show.
LARGEST_OPPONENT = 110


class ColourHistogram(Descriptor):
    """Histograms of colours: how often each occurs in each part of the image; of intensities where images are grey.

    Parameters
    ----------
    space : {"hsv", "lab", "rgb"}, default="hsv"
        Hue, saturation and value; lightness and two opponent colours; or red, green and blue. Of no account for grey images.
    bins : int, default=8
        Of each channel, of equal width.
    joint : bool, default=True
        One histogram of the combinations, ``bins**3`` of them, or one for each channel. The hue of grey pixels counts as
        red, which a joint histogram keeps apart from red by their saturation.
    grid : int, default=2
        Cells a side over which histograms are taken; 1 forgets where colours are.
    image_shape : tuple of int or None, default=None
        Shape of one image, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``, when rows come flat.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels are in images of three dimensions. ``"auto"`` takes the one side that is shorter than 8
        pixels, or else the one that differs from two equal sides.
    n_jobs : int or None, default=None
        Threads; ``None`` is 1 unless in a `joblib.parallel_config`, -1 all processors.

    Attributes
    ----------
    range_ : list of float
        What black and white are: 0 and 255 for bytes; for other types 0, or the smallest value of the training images where
        that is below, and their largest. Values beyond count as black or white.

    Notes
    -----
    Swain and Ballard, "Color Indexing", 1991; colours by `skimage.color`. Features are square roots of shares, as a vector
    of unit length: Euclidean distances are Hellinger distances between histograms, in which frequent colours, such as
    that of a plain background, do not outweigh all others.

    Examples
    --------
    >>> images = np.random.default_rng(0).integers(0, 256, size=(5, 32, 32, 3), dtype=np.uint8)
    >>> ColourHistogram().fit(images, None, Seeds(0)).encode(images).shape
    (5, 2048)
    >>> ColourHistogram(bins=16).fit(images[..., 0], None, Seeds(0)).encode(images[..., 0]).shape
    (5, 64)
    """

    name = "colour-histogram"

    def __init__(
        self,
        space: Space = "hsv",
        bins: int = 8,
        joint: bool = True,
        grid: int = 2,
        image_shape: tuple[int, ...] | None = None,
        channels: Channels = "auto",
        n_jobs: int | None = None,
    ) -> None:
        self.space = space
        self.bins = bins
        self.joint = joint
        self.grid = grid
        self.image_shape = image_shape
        self.channels = channels
        self.n_jobs = n_jobs

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare colour space, bins, whether they are joint, and cells."""
        return {
            "space": Categorical(get_args(Space)),
            "bins": Int(3, 8),
            "joint": Categorical([False, True]),
            "grid": Int(1, 4),
        }

    def accepts(self, X: Any) -> str | None:
        """Say why rows are neither grey nor colour images of at least 8×8 pixels."""
        reason = super().accepts(X)
        if reason is not None:
            return reason
        n_channels = self.images(X[:1]).shape[1]
        if n_channels in (1, 3):
            return None
        return f"{self.name} needs images of 1 or 3 channels; got {n_channels}. Pass the three of colour, or one."

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> ColourHistogram:
        """Check the parameters, and learn the range of the values.

        Raises
        ------
        InvalidParameterError
            A size or name that cannot be, or a grid finer than the pixels.
        """
        check_choice(self.name, "space", self.space, get_args(Space))
        check_sizes(self.name, minimum=2, bins=self.bins)
        check_choice(self.name, "joint", self.joint, (False, True))
        check_grid(self.name, self.grid, self.images(X[:1]).shape)
        self.range_ = _range(np.asarray(X))
        return self

    def describe(self, image: np.ndarray) -> np.ndarray:
        """Return the square roots of the shares of colours in each cell of one image ``(C, H, W)``."""
        levels = np.minimum((self._colours(image) * self.bins).astype(np.int64), self.bins - 1)
        if not self.joint:
            return hellinger([cell_shares(level, self.bins, self.grid) for level in levels])
        sizes = (self.bins,) * len(levels)
        return hellinger([cell_shares(np.ravel_multi_index(tuple(levels), sizes), self.bins ** len(levels), self.grid)])

    def _colours(self, image: np.ndarray) -> np.ndarray:
        """Return an image ``(C, H, W)`` in the colour space, each channel from 0 to 1."""
        from skimage.color import rgb2hsv, rgb2lab

        black, white = self.range_
        scaled = np.clip((np.asarray(image, dtype=np.float64) - black) / (white - black), 0, 1)
        if len(scaled) == 1 or self.space == "rgb":
            return scaled
        if self.space == "hsv":
            return rgb2hsv(scaled, channel_axis=0)
        lightness, *opponents = rgb2lab(scaled, channel_axis=0)
        return np.stack([lightness / 100, *((axis / LARGEST_OPPONENT + 1) / 2 for axis in opponents)])


def _range(images: np.ndarray) -> list[float]:
    if images.dtype == np.uint8:
        return [0.0, 255.0]
    black, white = min(0.0, float(images.min())), float(images.max())
    return [black, white if white > black else black + 1]
