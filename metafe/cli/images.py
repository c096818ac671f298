"""Reading images of one size into an array."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from metafe.contracts import InvalidInputError, UnreadableRowWarning, say_none_readable, say_unreadable

_GREY_MODES = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L")
_ORIENTATION_TAG, _FIRST_TURNED_ON_ITS_SIDE = 0x0112, 5
# An image shrinks by whole numbers first, to at least this many times its last size, which is quick.
_REDUCING_GAP = 2.0

_Read = TypeVar("_Read")


class _UnreadableError(Exception):
    """Why a file cannot be read."""


def read_images(paths: Sequence[Path], size: tuple[int, int] | None, like: Sequence[int] | None = None) -> np.ndarray:
    """Read images into one array.

    Parameters
    ----------
    paths : sequence of Path
    size : (int, int) or None
        Height and width to resize to; None where they are of one size.
    like : sequence of int or None
        Shape of the images that an extractor was fitted on, ``(H, W)`` or ``(H, W, 3)``, for size and colours. Without
        it, images are grey if all files are.

    Returns
    -------
    ndarray of shape (n, H, W) or (n, H, W, 3) uint8
        The pixels that the encoder ``image-files`` of metafe-vision reads with ``resize="stretch"``: turned upright, what is
        transparent white, the upper half of 16 bits, wider numbers stretched to their range.

    Raises
    ------
    InvalidInputError
        Images of several sizes, or none that can be read.

    Warns
    -----
    UnreadableRowWarning
        Files that cannot be read, which become black images.
    """
    reasons: dict[int, str] = {}
    shapes = dict(_readable(paths, range(len(paths)), _shape, reasons))
    _check_any_readable(paths, reasons)
    height, width, is_colour = _common_shape([paths[i] for i in shapes], list(shapes.values()), size, like)
    pixels = np.zeros((len(paths), height, width, *((3,) if is_colour else ())), dtype=np.uint8)
    for i, read in _readable(paths, shapes, lambda path: _read(path, (height, width), is_colour), reasons):
        pixels[i] = read
    _check_any_readable(paths, reasons)
    if reasons:
        warnings.warn(say_unreadable("metafe", "images", "black", reasons, paths), UnreadableRowWarning, stacklevel=2)
    return pixels


def _readable(
    paths: Sequence[Path], which: Iterable[int], read: Callable[[Path], _Read], reasons: dict[int, str]
) -> Iterator[tuple[int, _Read]]:
    """Yield what is read of each file that can be, with its position; the others get a reason."""
    for i in which:
        try:
            yield i, read(paths[i])
        except _UnreadableError as error:
            reasons[i] = str(error)


def _check_any_readable(paths: Sequence[Path], reasons: dict[int, str]) -> None:
    if len(reasons) == len(paths):
        raise InvalidInputError(f"{say_none_readable('metafe', 'images', reasons, paths)} Replace them.")


def _shape(path: Path) -> tuple[int, int, bool]:
    """Return height, width and whether an image has colours, from its header alone."""
    with _opened(path) as image:
        width, height = image.size
        if image.getexif().get(_ORIENTATION_TAG, 1) >= _FIRST_TURNED_ON_ITS_SIDE:
            width, height = height, width
        return height, width, image.mode not in _GREY_MODES


def _common_shape(
    paths: Sequence[Path], shapes: list[tuple[int, int, bool]], size: tuple[int, int] | None, like: Sequence[int] | None
) -> tuple[int, int, bool]:
    if like is not None and (len(like) == 2 or (len(like) == 3 and like[2] == 3)):
        return like[0], like[1], len(like) == 3
    is_colour = any(colour for _, _, colour in shapes)
    if size is not None:
        return *size, is_colour
    height, width, _ = shapes[0]
    for path, (other_height, other_width, _) in zip(paths, shapes, strict=True):
        if (other_height, other_width) != (height, width):
            raise InvalidInputError(
                f"Images must be of one size, or be resized; got {height}x{width} in {str(paths[0])!r} and "
                f"{other_height}x{other_width} in {str(path)!r}. Pass --image-size, such as --image-size 84, or run: "
                "pip install metafe-vision."
            )
    return height, width, is_colour


def _read(path: Path, size: tuple[int, int], is_colour: bool) -> np.ndarray:
    colours = "RGB" if is_colour else "L"
    with _opened(path) as file:
        if file.mode == "RGB":
            # A JPEG is decoded at a part of its size, and grey, where that is enough.
            file.draft(colours, (round(_REDUCING_GAP * max(size)),) * 2)
        image = _without_palette(ImageOps.exif_transpose(file))
        image = image.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert(colours))


def _without_palette(image: Image.Image) -> Image.Image:
    """Return an image of eight bits a channel: grey, colours, or colours with transparency."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    if image.mode in ("I", "F"):
        return Image.fromarray(_to_full_range(np.asarray(image, dtype=np.float64)))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in _GREY_MODES else "RGB")


def _to_full_range(values: np.ndarray) -> np.ndarray:
    """Bring finite values to the range from 0 to 255; the others, and a constant, are 0."""
    known = np.isfinite(values)
    low, high = (values[known].min(), values[known].max()) if known.any() else (0.0, 0.0)
    shares = (np.where(known, values, low) - low) / ((high - low) or 1.0)
    return np.rint(255 * shares).astype(np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image; what goes wrong with it then is an error that says why."""
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = "not an image that Pillow can read" if isinstance(error, UnidentifiedImageError) else str(error)
        raise _UnreadableError(reason) from error
