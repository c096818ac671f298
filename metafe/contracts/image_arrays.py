"""Single images in arrays, of any layout and range of values."""

from __future__ import annotations

import numpy as np

# Grey, colours, and colours with transparency.
CHANNELS = (1, 3, 4)


def why_not_image(image: np.ndarray) -> str | None:
    """Say what an array is, where it is no image.

    Parameters
    ----------
    image : ndarray

    Returns
    -------
    str or None
        None for arrays ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)`` of whole numbers from 0 to 255 or real ones from 0 to 1, of
        1, 3 or 4 channels, finite or not.

    Examples
    --------
    >>> why_not_image(np.zeros((5, 7, 2)))
    'an array of shape (5, 7, 2)'
    """
    if image.dtype.kind not in "biuf":
        return f"an array of {image.dtype}"
    if _channel_axis(image.shape) is None:
        return f"an array of shape {image.shape}"
    largest = 1 if image.dtype.kind == "f" else 255
    low, high = image.min(), image.max()
    return f"{image.dtype} from {low:g} to {high:g}" if low < 0 or high > largest else None


def eight_bit_image(image: np.ndarray) -> np.ndarray:
    """Return an image as pixels of eight bits, with channels last.

    Parameters
    ----------
    image : ndarray
        One for which `why_not_image` has no reason.

    Returns
    -------
    ndarray of shape (H, W) or (H, W, C) uint8
        Two dimensions where there is one channel.

    Raises
    ------
    ValueError
        Values that are not finite.

    Examples
    --------
    >>> eight_bit_image(np.full((1, 9, 9), 0.2)).shape
    (9, 9)
    """
    if image.ndim == 3:
        image = np.moveaxis(image, _channel_axis(image.shape) or 0, -1)
    plane = image[..., 0] if image.shape[2:] == (1,) else image
    if plane.dtype.kind == "f":
        if not np.isfinite(plane).all():
            raise ValueError("values that are not finite")
        plane = np.rint(255 * plane)
    elif plane.dtype.kind == "b":
        plane = 255 * plane.astype(np.uint8)
    return np.ascontiguousarray(plane, dtype=np.uint8)


def white_of(images: np.ndarray) -> int | None:
    """Return the value of white; None where it cannot be told.

    Parameters
    ----------
    images : ndarray of shape (n, ...)

    Returns
    -------
    int or None
        255 for images of type uint8, and 1 for truth values and for real numbers from 0 to 1.

    Examples
    --------
    >>> white_of(np.zeros((3, 8, 8), np.uint8)), white_of(np.full((3, 8, 8), 0.5)), white_of(np.full((3, 8, 8), 16.0))
    (255, 1, None)
    """
    if images.dtype == np.uint8:
        return 255
    is_fraction = images.dtype.kind == "b" or (images.dtype.kind == "f" and images.min() >= 0 and images.max() <= 1)
    return 1 if is_fraction else None


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return where the channels are, 2 where there are none; None where the shape is not that of an image."""
    if 0 in shape or len(shape) not in (2, 3):
        return None
    return next((axis for axis in (2, 0) if len(shape) == 2 or shape[axis] in CHANNELS), None)
