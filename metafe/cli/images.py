"""Reading a folder of images."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from metafe.contracts import InvalidInputError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
_ORIENTATION_TAG, _FIRST_TURNED_ON_ITS_SIDE = 0x0112, 5


@dataclass(frozen=True)
class ImageFolder:
    """Images of one size.

    Parameters
    ----------
    pixels : ndarray of shape (n, H, W) or (n, H, W, 3) uint8
    files : list of str
        Paths below the folder.
    classes : list of str or None
        Sub-folder of each; None where images lie in the folder itself.
    """

    pixels: np.ndarray
    files: list[str]
    classes: list[str] | None


def read_image_folder(folder: Path, size: tuple[int, int] | None, like: Sequence[int] | None = None) -> ImageFolder:
    """Read all images in a folder: each sub-folder is a class; without any, images without classes.

    Parameters
    ----------
    folder : Path
    size : (int, int) or None
        Height and width to resize to; None where they are of one size.
    like : sequence of int or None
        Shape of the images that an extractor was fitted on, ``(H, W)`` or ``(H, W, 3)``, for size and colours. Without
        it, images are grey if all files are.

    Returns
    -------
    ImageFolder

    Raises
    ------
    InvalidInputError
        No images, images of several sizes, or a damaged one.
    """
    paths = _image_paths(folder)
    classes = [path.relative_to(folder).parts[0] for path in paths] if paths[0].parent != folder else None
    shapes = [_shape(path) for path in paths]
    height, width, is_colour = _common_shape(paths, shapes, size, like)
    pixels = np.empty((len(paths), height, width, *((3,) if is_colour else ())), dtype=np.uint8)
    for i, path in enumerate(paths):
        pixels[i] = _read(path, (height, width), is_colour)
    return ImageFolder(pixels, [path.relative_to(folder).as_posix() for path in paths], classes)


def _image_paths(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    in_classes = [path for path in found if path.parent != folder]
    if in_classes and len(in_classes) < len(found):
        stray = next(path for path in found if path.parent == folder)
        raise InvalidInputError(
            f"A folder of images must have them all in sub-folders, or none; got {str(stray)!r} beside "
            "sub-folders. Move it."
        )
    if not found:
        raise InvalidInputError(
            f"A folder of images must have a sub-folder per class with files ending in {', '.join(SUFFIXES)}; "
            f"got none in {str(folder)!r}. Check the path."
        )
    return found


def _shape(path: Path) -> tuple[int, int, bool]:
    """Return height, width and whether an image has colours, from its header alone."""
    with _opened(path) as image:
        width, height = image.size
        if image.getexif().get(_ORIENTATION_TAG, 1) >= _FIRST_TURNED_ON_ITS_SIDE:
            width, height = height, width
        return height, width, image.mode not in _GREY_MODES


def _common_shape(
    paths: list[Path], shapes: list[tuple[int, int, bool]], size: tuple[int, int] | None, like: Sequence[int] | None
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
                f"{other_height}x{other_width} in {str(path)!r}. Pass --image-size, such as --image-size 84."
            )
    return height, width, is_colour


def _read(path: Path, size: tuple[int, int], is_colour: bool) -> np.ndarray:
    with _opened(path) as image:
        upright = _eight_bits(ImageOps.exif_transpose(image)).convert("RGB" if is_colour else "L")
        if upright.size != size[::-1]:
            upright = upright.resize(size[::-1], Image.Resampling.BICUBIC)
        return np.asarray(upright)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return 16-bit grey as 8-bit grey, since Pillow's conversion clips it."""
    return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)) if image.mode.startswith("I") else image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image; what goes wrong with it then is an error that names the file."""
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = "not an image that Pillow can read" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InvalidInputError(
            f"Images must be readable; got {str(path)!r}: {reason}. Replace it or take it away."
        ) from error
