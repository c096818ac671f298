"""What networks and augmentations of images ask of their rows."""

from __future__ import annotations


def why_not_images(owner: str, input_shape: tuple[int, ...]) -> str | None:
    """Say why rows are not images ``(C, H, W)``; None when they are."""
    return None if len(input_shape) == 3 else f"{owner} needs images (C, H, W); got rows of shape {input_shape}."
