"""One image file as pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageOps

Resize = Literal["pad", "crop", "stretch"]

# Averages what falls into one pixel where an image shrinks.
RESAMPLING = Image.Resampling.BILINEAR
# An image shrinks by whole numbers first, to at least this many times its last size, which is quick.
REDUCING_GAP = 2.0


def read_pixels(path: str, side: int, n_channels: int, resize: Resize) -> np.ndarray:
    """Read an image file and bring it to one size.

    Parameters
    ----------
    path : str
    side : int
        Height and width of the result.
    n_channels : {1, 3}
    resize : {"pad", "crop", "stretch"}
        What becomes of images that are not square.

    Returns
    -------
    ndarray of shape (n_channels, side, side) uint8

    Raises
    ------
    Exception
        Of any kind, by Pillow, where there is no such file or it is damaged.
    """
    with Image.open(path) as file:
        _decode_smaller(file, side, n_channels)
        return pixels_of(file, side, n_channels, resize)


def pixels_of(opened: Image.Image, side: int, n_channels: int, resize: Resize) -> np.ndarray:
    """Bring an image to one size.

    Parameters
    ----------
    opened : PIL.Image.Image
    side, n_channels, resize
        As for `read_pixels`.

    Returns
    -------
    ndarray of shape (n_channels, side, side) uint8
    """
    image = _resized(_plain(ImageOps.exif_transpose(opened)), side, resize)
    shown = _on_white(image).convert("L" if n_channels == 1 else "RGB")
    pixels = np.asarray(shown).reshape(*shown.size[::-1], n_channels)
    return _padded(pixels, side).transpose(2, 0, 1)


def shorter_side(path: str) -> int:
    """Return the shorter side of an image file in pixels, without decoding it."""
    with Image.open(path) as file:
        return min(file.size)


def _decode_smaller(file: Image.Image, side: int, n_channels: int) -> None:
    """Ask the decoder of a JPEG for an eighth, a quarter or half of its size, and for grey, which saves most of the work."""
    if file.mode == "RGB":
        wanted = round(REDUCING_GAP * side)
        file.draft("L" if n_channels == 1 else "RGB", (wanted, wanted))


def _plain(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits a channel without a palette: grey, RGB or RGBA."""
    if image.mode.startswith("I;16"):
        # The upper half of 16 bits, as Pillow takes it where there are colours.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretched(np.asarray(image, dtype=np.float64)))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _stretched(values: np.ndarray) -> np.ndarray:
    """Bring the range of finite values to that from 0 to 255; others are 0."""
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = values[finite].min(), values[finite].max()
    scaled = (np.where(finite, values, low) - low) / (high - low if high > low else 1.0)
    return np.rint(255 * scaled).astype(np.uint8)


def _resized(image: Image.Image, side: int, resize: Resize) -> Image.Image:
    width, height = image.size
    size, box = (side, side), None
    if resize == "crop":
        kept = min(width, height)
        left, top = (width - kept) / 2, (height - kept) / 2
        box = (left, top, left + kept, top + kept)
    elif resize == "pad":
        scale = side / max(width, height)
        size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return image.resize(size, RESAMPLING, box, REDUCING_GAP)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _padded(pixels: np.ndarray, side: int) -> np.ndarray:
    """Put ``(h, w, C)`` in the middle of a square of the median colour of the edges that meet it, such as paper."""
    height, width, n_channels = pixels.shape
    if height == width == side:
        return pixels
    edges = pixels[[0, -1]] if height < side else pixels[:, [0, -1]]
    square = np.empty((side, side, n_channels), np.uint8)
    square[:] = np.median(edges, axis=(0, 1))
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square
