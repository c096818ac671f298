"""Local binary patterns."""

from __future__ import annotations

from typing import Any

import numpy as np

from metafe.contracts import (
    Categorical,
    Channels,
    Distribution,
    Int,
    InvalidParameterError,
    Problem,
    Seeds,
    When,
    check_choice,
    check_sizes,
)
from metafe_descriptors.descriptor import Descriptor, stretched_grey
from metafe_descriptors.histograms import cell_shares, check_grid, hellinger

# Between neighbours that differ by less than rounding, a pattern would be chance.
LEVELS = 2**16 - 1


class Lbp(Descriptor):
    """Local binary patterns: which of the pixels on a circle around each pixel are as bright as it, cell by cell.

    Parameters
    ----------
    n_radii : int, default=3
        Circles of radius 1, 2, ... pixels, each with histograms of its own. The largest must fit into the image.
    n_points : int, default=8
        Points on each circle.
    rotation_invariant : bool, default=False
        Whether patterns that are equal when turned count as one: ``n_points + 2`` codes in place of
        ``n_points * (n_points - 1) + 3``. For textures that may lie in any direction.
    grid : int, default=2
        Cells a side over which histograms are taken; 1 forgets where patterns are.
    image_shape : tuple of int or None, default=None
        Shape of one image, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``, when rows come flat.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels are in images of three dimensions. ``"auto"`` takes the one side that is shorter than 8
        pixels, or else the one that differs from two equal sides.
    n_jobs : int or None, default=None
        Threads; ``None`` is 1 unless in a `joblib.parallel_config`, -1 all processors.

    Notes
    -----
    Ojala, Pietikäinen and Mäenpää, "Multiresolution Gray-Scale and Rotation Invariant Texture Classification with Local
    Binary Patterns", 2002, by `skimage.feature.local_binary_pattern`. The patterns are the uniform ones, with at most two
    changes around the circle; all others share one code. The grid of cells is that of Ahonen, Hadid and Pietikäinen, "Face
    Description with Local Binary Patterns", 2006.

    Channels are averaged and images are mirrored at their borders. Brightness and contrast do not matter. Features are
    square roots of shares, as a vector of unit length: Euclidean distances are Hellinger distances between histograms,
    in which frequent patterns, such as that of a plain background, do not outweigh all others.

    Examples
    --------
    >>> Lbp().encode(np.zeros((5, 28, 28))).shape
    (5, 708)
    >>> Lbp(n_radii=2, rotation_invariant=True).encode(np.zeros((5, 28, 28, 3), dtype=np.uint8)).shape
    (5, 80)
    """

    name = "lbp"

    def __init__(
        self,
        n_radii: int = 3,
        n_points: int = 8,
        rotation_invariant: bool = False,
        grid: int = 2,
        image_shape: tuple[int, ...] | None = None,
        channels: Channels = "auto",
        n_jobs: int | None = None,
    ) -> None:
        self.n_radii = n_radii
        self.n_points = n_points
        self.rotation_invariant = rotation_invariant
        self.grid = grid
        self.image_shape = image_shape
        self.channels = channels
        self.n_jobs = n_jobs

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare circles, cells and whether directions count."""
        return {
            "n_radii": Int(1, 3),
            "rotation_invariant": Categorical([False, True]),
            "grid": Int(1, 4),
        }

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> Lbp:
        """Check the parameters; nothing is learned.

        Raises
        ------
        InvalidParameterError
            A size that cannot be, a circle larger than the image, or a grid finer than the pixels.
        """
        check_sizes("lbp", n_radii=self.n_radii)
        check_sizes("lbp", minimum=4, n_points=self.n_points)
        check_choice("lbp", "rotation_invariant", self.rotation_invariant, (False, True))
        shape = self.images(X[:1]).shape
        check_grid("lbp", self.grid, shape)
        height, width = shape[-2:]
        largest = (min(height, width) - 1) // 2
        if self.n_radii > largest:
            raise InvalidParameterError(
                f"lbp n_radii must be at most {largest} for images of {height}×{width}, so that each circle fits into them; "
                f"got {self.n_radii!r}."
            )
        return self

    def describe(self, image: np.ndarray) -> np.ndarray:
        """Return the square roots of the shares of patterns in each cell, circle by circle, of one image ``(C, H, W)``."""
        levels = np.rint(LEVELS * stretched_grey(image)).astype(np.uint16)
        n_codes = self.n_points + 2 if self.rotation_invariant else self.n_points * (self.n_points - 1) + 3
        codes = (self._codes(levels, radius) for radius in range(1, self.n_radii + 1))
        return hellinger([cell_shares(patterns, n_codes, self.grid) for patterns in codes])

    def _codes(self, levels: np.ndarray, radius: int) -> np.ndarray:
        """Return the pattern around each pixel, ``(H, W)`` int."""
        from skimage.feature import local_binary_pattern

        method = "uniform" if self.rotation_invariant else "nri_uniform"
        mirrored = np.pad(levels, radius, mode="reflect")
        codes = local_binary_pattern(mirrored, self.n_points, radius, method)
        return codes[radius:-radius, radius:-radius].astype(np.int64)
