"""One image, of a file or an array, as pixels."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from metafe.contracts import eight_bit_image

if TYPE_CHECKING:
    from PIL import Image


def read_pixels(row: str | os.PathLike[str] | np.ndarray) -> np.ndarray:
    """Return an image as pixels ``(H, W, 3)`` uint8.

    Parameters
    ----------
    row : str, PathLike or ndarray
        A file, or an array for which `metafe.contracts.why_not_image` has no reason.

    Returns
    -------
    ndarray of shape (H, W, 3) uint8
        Turned as the file says; transparent pixels show white.

    Raises
    ------
    Exception
        Of any kind, where there is no such file, it is damaged, or the array has values that are not finite.
    """
    from PIL import Image, ImageOps

    if isinstance(row, np.ndarray):
        return _shown(Image.fromarray(eight_bit_image(row)))
    with Image.open(row) as file:
        return _shown(ImageOps.exif_transpose(file))


def _shown(image: Image.Image) -> np.ndarray:
    """Return the colours of an image in whatever mode, on white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        # The upper half of 16 bits, as Pillow takes it where there are colours.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits, of which nobody knows what is white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
