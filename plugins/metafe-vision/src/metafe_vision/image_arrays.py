"""Arrays of images of unequal sizes to one array."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image

from metafe.contracts import content_key, eight_bit_image, first_misfit, say_kind, why_not_image
from metafe_vision.pixels import Resize, pixels_of
from metafe_vision.squares import Squares


class ImageArrays(Squares):
    """Arrays of images of unequal sizes, as one array.

    Parameters
    ----------
    side : int or "auto", default="auto"
        Height and width of all images. ``"auto"`` is the median of the shorter sides of a hundred images at most, drawn at
        random, and lies from 28 to 84.
    channels : {"auto", 1, 3}, default="auto"
        Grey or colour. ``"auto"`` is grey where those images have no colour in them.
    resize : {"pad", "crop", "stretch"}, default="pad"
        What becomes of images that are not square: put in the middle of a square of the median colour of their long edges,
        cut to the square in their middle, or distorted.
    errors : {"warn", "raise"}, default="warn"
        A row with values that are not finite, or that is missing (None) or no image among others that are, becomes a black
        image and is named in an `UnreadableRowWarning`, or ends the call.
    n_jobs : int or None, default=-1
        Threads; ``None`` is 1 unless in a `joblib.parallel_config`, -1 all processors.

    Attributes
    ----------
    side_ : int
    channels_ : int

    Notes
    -----
    A row is an array ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)`` of 1, 3 or 4 channels, of whole numbers from 0 to 255 or real
    ones from 0 to 1, of NumPy, torch or in lists. Transparent pixels show white.

    ``encoder="auto"`` takes this encoder for images of unequal sizes alone: those of one size are an array as they are.

    Examples
    --------
    >>> from metafe.contracts import Seeds
    >>> rows = [np.zeros((40, 50)), np.ones((3, 45, 41))]
    >>> ImageArrays().fit(rows, Seeds(0)).encode(rows).shape
    (2, 1, 40, 40)
    """

    name = "image-arrays"
    reads = "images"
    what = "images"
    fix = "Pass arrays of numbers."

    def accepts(self, X: Any) -> str | None:
        """Say why ``X`` is no sequence of images."""
        if isinstance(X, str | os.PathLike) or not hasattr(X, "__len__") or not hasattr(X, "__iter__") or not len(X):
            return f"{self.name} needs a sequence of images; got a {type(X).__name__}. Pass a list of arrays."
        misfit = first_misfit(X, self.why_not)
        return misfit and (
            f"{self.name} needs images (H, W), (H, W, C) or (C, H, W), of 0 to 255 or real 0 to 1; row {misfit[0]} is "
            f"{misfit[1]}. Pass such."
        )

    def why_not(self, row: Any) -> str | None:
        """Say what a row is that is no image."""
        array = _as_array(row)
        return say_kind(row) if array is None else why_not_image(array)

    def key(self, row: Any) -> bytes:
        """Return the key of what an image shows."""
        return content_key(np.asarray(_as_array(row)))

    def pixels(self, row: Any, side: int, n_channels: int, resize: Resize) -> np.ndarray:
        """Return the pixels of an image."""
        return pixels_of(Image.fromarray(eight_bit_image(np.asarray(_as_array(row)))), side, n_channels, resize)

    def shorter_side(self, row: Any) -> int:
        """Return the shorter side of an image in pixels."""
        return min(eight_bit_image(np.asarray(_as_array(row))).shape[:2])


def _as_array(row: Any) -> np.ndarray | None:
    """Return a row as an array; None for what is none. A tensor may be anywhere and have a gradient."""
    tensor = type(row).__module__.split(".")[0] == "torch"
    try:
        array = np.asarray(row.detach().cpu() if tensor else row)
    except ValueError:  # lists of unequal length
        return None
    return array if array.ndim else None
