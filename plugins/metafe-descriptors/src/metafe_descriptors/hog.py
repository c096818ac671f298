"""Histograms of oriented gradients."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from metafe.contracts import (
    Categorical,
    Channels,
    Distribution,
    Float,
    Int,
    InvalidParameterError,
    Problem,
    Seeds,
    When,
    check_choice,
    check_sizes,
)
from metafe_descriptors.descriptor import Descriptor

BlockNorm = Literal["L1", "L1-sqrt", "L2", "L2-Hys"]

# A gradient needs neighbours: a cell of one pixel would hold a single direction.
SMALLEST_CELL = 2


class Hog(Descriptor):
    """Histograms of oriented gradients: which directions edges have in each part of the image.

    Parameters
    ----------
    orientations : int, default=9
        Bins of the half circle of directions.
    pixels_per_cell : int or float, default=0.125
        Side of a cell. A whole number counts pixels; a number below 1 is a share of the image's shorter side, so that
        images of any size give vectors of about the same length. A cell has at least 2 pixels a side.
    cells_per_block : int, default=2
        Side of the blocks over which contrast is normalised, in cells; fewer where the image has fewer.
    block_norm : {"L1", "L1-sqrt", "L2", "L2-Hys"}, default="L2-Hys"
        How the contrast of a block is normalised.
    image_shape : tuple of int or None, default=None
        Shape of one image, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``, when rows come flat.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels are in images of three dimensions. ``"auto"`` takes the one side that is shorter than 8
        pixels, or else the one that differs from two equal sides.
    n_jobs : int or None, default=None
        Threads; ``None`` is 1 unless in a `joblib.parallel_config`, -1 all processors.

    Notes
    -----
    Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", 2005, by `skimage.feature.hog`. In images
    of several channels each pixel counts the steepest of them, so a grey image and its copy in three channels are
    described alike.

    Examples
    --------
    >>> Hog().encode(np.zeros((5, 28, 28))).shape
    (5, 1296)
    >>> Hog(pixels_per_cell=7).encode(np.zeros((5, 28, 28, 3), dtype=np.uint8)).shape
    (5, 324)
    """

    name = "hog"

    def __init__(
        self,
        orientations: int = 9,
        pixels_per_cell: int | float = 0.125,
        cells_per_block: int = 2,
        block_norm: BlockNorm = "L2-Hys",
        image_shape: tuple[int, ...] | None = None,
        channels: Channels = "auto",
        n_jobs: int | None = None,
    ) -> None:
        self.orientations = orientations
        self.pixels_per_cell = pixels_per_cell
        self.cells_per_block = cells_per_block
        self.block_norm = block_norm
        self.image_shape = image_shape
        self.channels = channels
        self.n_jobs = n_jobs

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare directions, cells, blocks and their normalisation."""
        return {
            "orientations": Int(6, 12),
            "pixels_per_cell": Float(0.1, 0.3),
            "cells_per_block": Int(1, 3),
            "block_norm": Categorical(get_args(BlockNorm)),
        }

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> Hog:
        """Check the parameters; nothing is learned.

        Raises
        ------
        InvalidParameterError
            A size or name that cannot be, or a cell larger than the image.
        """
        check_sizes("hog", orientations=self.orientations)
        check_sizes("hog", cells_per_block=self.cells_per_block)
        check_choice("hog", "block_norm", self.block_norm, get_args(BlockNorm))
        height, width = self.images(X[:1]).shape[-2:]
        cell = self._cell(height, width)
        if not SMALLEST_CELL <= cell <= min(height, width):
            raise InvalidParameterError(
                f"hog pixels_per_cell must be {SMALLEST_CELL} to {min(height, width)} pixels for images of "
                f"{height}×{width}, or a share of that between 0 and 1; got {self.pixels_per_cell!r}."
            )
        return self

    def describe(self, image: np.ndarray) -> np.ndarray:
        """Return the blocks of one image ``(C, H, W)``, one after the other."""
        from skimage.feature import hog

        height, width = image.shape[-2:]
        cell = self._cell(height, width)
        blocks = tuple(min(self.cells_per_block, side // cell) for side in (height, width))
        return hog(
            np.asarray(image, dtype=np.float64),
            orientations=self.orientations,
            pixels_per_cell=(cell, cell),
            cells_per_block=blocks,
            block_norm=self.block_norm,
            channel_axis=0,
        )

    def _cell(self, height: int, width: int) -> int:
        """Return the side of a cell in pixels; 0 for a share that cannot be."""
        if 0 < self.pixels_per_cell < 1:
            return max(SMALLEST_CELL, round(self.pixels_per_cell * min(height, width)))
        return int(self.pixels_per_cell) if self.pixels_per_cell == int(self.pixels_per_cell) else 0
