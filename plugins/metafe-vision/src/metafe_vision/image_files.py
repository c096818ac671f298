"""Image files to arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from metafe.contracts import file_key, first_misfit, say_kind
from metafe_vision.pixels import Resize, read_pixels, shorter_side
from metafe_vision.squares import Squares


class ImageFiles(Squares):
    """Files of images, of any size and kind that Pillow reads, as one array.

    Parameters
    ----------
    side : int or "auto", default="auto"
        Height and width of all images. ``"auto"`` is the median of the shorter sides of a hundred files at most, drawn at
        random, and lies from 28 to 84.
    channels : {"auto", 1, 3}, default="auto"
        Grey or colour. ``"auto"`` is grey where those files have no colour in them, however they are stored.
    resize : {"pad", "crop", "stretch"}, default="pad"
        What becomes of images that are not square: put in the middle of a square of the median colour of their long edges,
        cut to the square in their middle, or distorted.
    errors : {"warn", "raise"}, default="warn"
        A file that cannot be read, or a row that is missing (None, NaN) or no path among others that are, becomes a black
        image and is named in an `UnreadableRowWarning`, or ends the call.
    n_jobs : int or None, default=-1
        Threads that decode; ``None`` is 1 unless in a `joblib.parallel_config`, -1 all processors.

    Attributes
    ----------
    side_ : int
    channels_ : int

    Notes
    -----
    Images are turned as their EXIF orientation says. Transparent pixels show white. Of animations the first frame is read.
    Of 16 bits the upper eight are kept; whole numbers of 32 bits and real numbers are stretched to the range of the image,
    since what is white is not known. JPEGs are decoded at the smallest of their sizes that is at least twice ``side``.

    What was read is kept by `metafe.contracts.RowCache` until the file changes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from metafe.contracts import Seeds
    >>> with TemporaryDirectory() as folder:
    ...     paths = [Path(folder) / f"{i}.png" for i in range(3)]
    ...     for i, path in enumerate(paths):
    ...         Image.new("RGB", (40, 50 + i), "red").save(path)
    ...     images = ImageFiles().fit(paths, Seeds(0)).encode(paths)
    >>> images.shape, images.dtype
    ((3, 3, 40, 40), dtype('uint8'))
    """

    name = "image-files"
    reads = "image files"
    what = "files"
    fix = "Pass paths that exist from the current folder."

    def accepts(self, X: Any) -> str | None:
        """Say why ``X`` is no sequence of paths."""
        if isinstance(X, str | os.PathLike):
            return f"image-files needs a sequence of paths; got the single path {os.fspath(X)!r}. Pass it in a list."
        if not hasattr(X, "__len__") or getattr(X, "ndim", 1) != 1:
            return f"image-files needs a sequence of paths; got {type(X).__name__}. Pass a list of paths."
        if not len(X):
            return "image-files needs at least one path; got none. Pass a list of paths."
        if misfit := first_misfit(X, self.why_not):
            return f"image-files needs a sequence of paths; row {misfit[0]} is {misfit[1]}. Pass strings or Paths."
        return None

    def why_not(self, row: Any) -> str | None:
        """Say what a row is that is no path."""
        return None if isinstance(row, str | os.PathLike) else say_kind(row)

    def key(self, row: Any) -> bytes:
        """Return the key of a file, which is another one when it is written anew."""
        return file_key(row)

    def pixels(self, row: Any, side: int, n_channels: int, resize: Resize) -> np.ndarray:
        """Return the pixels of a file."""
        return read_pixels(str(os.fspath(row)), side, n_channels, resize)

    def shorter_side(self, row: Any) -> int:
        """Return the shorter side of a file in pixels."""
        return shorter_side(str(os.fspath(row)))
