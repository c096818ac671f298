"""One image, of a file or an array, as pixels."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

# Grey, colours, and colours with transparency.
CHANNELS = (1, 3, 4)


def read_pixels(row: str | os.PathLike[str] | np.ndarray) -> np.ndarray:
    """Return an image as pixels ``(H, W, 3)`` uint8.

    Parameters
    ----------
    row : str, PathLike or ndarray
        A file, or an array for which `why_not_image` has no reason.

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
        return _shown(Image.fromarray(_eight_bits(_channels_last(row))))
    with Image.open(row) as file:
        return _shown(ImageOps.exif_transpose(file))


def why_not_image(image: np.ndarray) -> str | None:
    """Say what an array is, where it is no image."""
    if image.dtype.kind not in "biuf":
        return f"an array of {image.dtype}"
    if _channel_axis(image.shape) is None:
        return f"an array of shape {image.shape}"
    largest = 1 if image.dtype.kind == "f" else 255
    low, high = image.min(), image.max()
    return f"{image.dtype} from {low:g} to {high:g}" if low < 0 or high > largest else None


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return where the channels are, 2 where there are none; None where the shape is not that of an image."""
    if 0 in shape or len(shape) not in (2, 3):
        return None
    return next((axis for axis in (2, 0) if len(shape) == 2 or shape[axis] in CHANNELS), None)


def _channels_last(image: np.ndarray) -> np.ndarray:
    """View an image as ``(H, W)`` or ``(H, W, C)``."""
    if image.ndim == 3:
        image = np.moveaxis(image, _channel_axis(image.shape) or 0, -1)
    return image[..., 0] if image.shape[2:] == (1,) else image


def _eight_bits(image: np.ndarray) -> np.ndarray:
    if image.dtype.kind == "f":
        if not np.isfinite(image).all():
            raise ValueError("values that are not finite")
        image = np.rint(255 * image)
    elif image.dtype.kind == "b":
        image = 255 * image.astype(np.uint8)
    return np.ascontiguousarray(image, dtype=np.uint8)


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
