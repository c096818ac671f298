"""Frozen embeddings of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metafe.contracts import first_misfit, say_kind, why_not_image
from metafe_transformers.frozen import Errors, FrozenEncoder, Inputs, is_path, why_no_model, why_no_sequence
from metafe_transformers.images import read_pixels
from metafe_transformers.pooling import Pooling
from metafe_transformers.weights import load_image_processor


class ImageEncoder(FrozenEncoder):
    """Embeddings of images by a pretrained network, which stays as it is; each image is computed once, ever.

    Parameters
    ----------
    model : str or Path or None, default=None
        A name on the Hugging Face hub, such as ``"facebook/dinov2-small"``, or a folder that `save_pretrained` wrote, with
        its image processor: ViT, DINOv2, ConvNeXt, the images' half of CLIP and others. It must be given.
    pooling : {"mean", "cls", "last"}, default="mean"
        Which of the patches' vectors makes that of the image: their mean, the first or the last. The first is the class
        token of ViT, DINOv2 and CLIP; convolutional networks have the mean alone.
    normalise : bool, default=True
        Whether embeddings are scaled to length one.
    errors : {"warn", "raise"}, default="warn"
        What to do about files that cannot be read, arrays with values that are not finite, and rows that are missing (None,
        NaN) or no image among others that are: zeros and one warning for all, or an error.
    device : str, default="auto"
        Where to compute. ``"auto"`` takes an accelerator where there is one.

    Attributes
    ----------
    weights_ : str
        Digest of the model's files.

    Notes
    -----
    Rows are files, which need not be of one kind or size, or arrays ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)`` of whole
    numbers to 255 or of real numbers to 1. Images are turned as their EXIF orientation says, transparent pixels show
    white, and the model's own processor brings them to its size, colours and range.

    The weights are not saved with an extractor: loading needs the model again, by its name or in its folder, and says
    so when it is another one.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021; Oquab et al., "DINOv2", 2023; Radford et al., "Learning
    Transferable Visual Models From Natural Language Supervision", 2021; Liu et al., "A ConvNet for the 2020s", 2022.

    Examples
    --------
    >>> ImageEncoder("facebook/dinov2-small", pooling="cls").accepts(np.zeros((5, 7)))
    'image-encoder needs files or images (H, W), (H, W, C) or (C, H, W), of 0 to 255 or real 0 to 1; row 0 is an array of shape (7,). Pass such.'
    """

    name = "image-encoder"
    reads = "image files"
    # What is installed reads them as pixels unless somebody names a model.
    by_default = False
    part = "vision_model"
    libraries = ("pillow",)
    blank = np.zeros((32, 32), dtype=np.uint8)
    chunk = 64

    def __init__(
        self,
        model: str | Path | None = None,
        pooling: Pooling = "mean",
        normalise: bool = True,
        errors: Errors = "warn",
        device: str = "auto",
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.normalise = normalise
        self.errors = errors
        self.device = device

    def accepts(self, X: Any) -> str | None:
        """Say why ``X`` is no sequence of images, or that there is no model."""
        return (
            why_no_model(self.name, self.model, "ImageEncoder('facebook/dinov2-small'), for example")
            or why_no_sequence(self.name, X, "files or images")
            or self._why_no_images(X)
        )

    def inputs(self, rows: Sequence[Any], folder: Path) -> list[Inputs | str]:
        """Return the pixels of each image, as the model's processor makes them."""
        processor = load_image_processor(self.name, folder)
        return [_why_not(row) or _pixels_or_reason(processor, row) for row in rows]

    def rows_at_once(self, device: str) -> int:
        """Return 32, or 1 on a processor, for which larger batches are not faster."""
        return 1 if device == "cpu" else 32

    def _why_no_images(self, X: Any) -> str | None:
        misfit = first_misfit(X, _why_not)
        return misfit and (
            f"{self.name} needs files or images (H, W), (H, W, C) or (C, H, W), of 0 to 255 or real 0 to 1; "
            f"row {misfit[0]} is {misfit[1]}. Pass such."
        )


def _why_not(row: Any) -> str | None:
    """Say what a row is that is no image."""
    return why_not_image(row) if isinstance(row, np.ndarray) else None if is_path(row) else say_kind(row)


def _pixels_or_reason(processor: Any, row: Any) -> Inputs | str:
    try:
        pixels = read_pixels(row)
        made = processor(images=pixels, return_tensors="np", input_data_format="channels_last")
    # Damaged files make Pillow raise whatever the decoder of their format stumbles over, and images of odd sizes the processor.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return {name: np.asarray(value)[0] for name, value in made.items()}
