"""A pretrained network of images that tasks teach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.preprocessing import StandardScaler

from metafe.contracts import Channels, ImageBackbone, InvalidInputError, Seeds, white_of
from metafe_transformers.frozen import why_no_model
from metafe_transformers.pooling import Pooling
from metafe_transformers.pretrained import CHUNK, Adapt, PretrainedBackbone
from metafe_transformers.weights import load_image_processor, model_folder

if TYPE_CHECKING:
    from torch import nn


class ImageTransformer(PretrainedBackbone, ImageBackbone):  # type: ignore[override]
    """A pretrained network on arrays of images, adapted by LoRA.

    Parameters
    ----------
    model : str or Path or None, default=None
        A name on the Hugging Face hub, such as ``"facebook/dinov2-small"``, or a folder that `save_pretrained` wrote, with
        its image processor. It must be given.
    adapt : {"lora", "full", "frozen"}, default="lora"
        What is trained: small additions to the linear layers, which needs peft; all weights, for which a
        ``learning_rate`` of about 2e-5 is usual; or nothing. The features of an image by a frozen model are computed once
        for all fits, and lie in metafe's cache.
    rank : int, default=8
        Of the additions.
    alpha : float, default=16.0
        The additions are multiplied by ``alpha / rank``.
    pooling : {"mean", "cls", "last"}, default="mean"
        Which of the patches' vectors makes that of the image: their mean, the first or the last. The first is the class
        token of ViT, DINOv2 and CLIP; convolutional networks have the mean alone.
    image_shape : tuple of int or None, default=None
        Shape of one image, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``, when rows come flat.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels are in images of three dimensions. ``"auto"`` takes the one side that is shorter than 8
        pixels, or else the one that differs from two equal sides.

    Attributes
    ----------
    config_ : dict
        The layers of the model, so that loading an extractor does not need the model: all weights are saved with it.
    side_ : int
        Height and width to which images are stretched, as the model's processor says.
    channel_means_, channel_scales_ : list of float
        Of a frozen model alone, since metafe standardises otherwise: those of pretraining where it can be told what is
        white, so that features depend on no other image, and otherwise those of the training rows.

    Notes
    -----
    As for every backbone of images, channels are standardised by the training rows, in place of the mean and spread that
    the model was pretrained with. A frozen model takes the latter for images of type uint8 and for real numbers from 0 to
    1. Grey images are shown in three equal channels.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.

    Examples
    --------
    >>> ImageTransformer().accepts(np.zeros((5, 28, 28)))
    "image-transformer needs a model; got None. Pass a folder or a name on the hub: ImageTransformer('facebook/dinov2-small'), for example."
    """

    name = "image-transformer"
    part = "vision_model"

    @property
    def standardise(self) -> Literal["channel", "none"]:  # type: ignore[override]
        """How metafe standardises what is encoded: images by channel, and features not."""
        return "channel" if self.trains else "none"

    def __init__(
        self,
        model: str | Path | None = None,
        adapt: Adapt = "lora",
        rank: int = 8,
        alpha: float = 16.0,
        pooling: Pooling = "mean",
        image_shape: tuple[int, ...] | None = None,
        channels: Channels = "auto",
    ) -> None:
        self.model = model
        self.adapt = adapt
        self.rank = rank
        self.alpha = alpha
        self.pooling = pooling
        self.image_shape = image_shape
        self.channels = channels

    def accepts(self, X: Any) -> str | None:
        """Say that there is no model, or why rows are not images."""
        example = "ImageTransformer('facebook/dinov2-small'), for example"
        return why_no_model(self.name, self.model, example) or super().accepts(X)

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> ImageTransformer:
        """Find the model, and fetch it where it must be; a frozen one is loaded, and channels are measured.

        Raises
        ------
        InvalidParameterError
            A parameter that cannot be, or a model that cannot be loaded.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached; or peft is not installed.
        """
        super().fit(X, y, seeds)
        processor = load_image_processor(self.name, model_folder(self.name, self.model))
        self.side_ = _side(processor)
        if not self.trains:
            images = self.images(X)
            usual = _pretraining_statistics(images, processor)
            self.channel_means_, self.channel_scales_ = usual or _channel_statistics(images)
            self.load(images.shape[1:])
        return self

    def prepared(self, rows: np.ndarray) -> np.ndarray:
        """Return images standardised by channel."""
        means, scales = (np.reshape(numbers, (-1, 1, 1)) for numbers in (self.channel_means_, self.channel_scales_))
        return ((rows - means) / scales).astype(np.float32)

    def _configuration(self) -> dict[str, Any]:
        scale = {"means": self.channel_means_, "scales": self.channel_scales_, "side": self.side_}
        return {**super()._configuration(), **scale}

    def module(self, row_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that maps images ``(b, C, H, W)`` to ``(b, d)``.

        Raises
        ------
        InvalidInputError
            Images that are neither grey nor have as many channels as the model takes.
        """
        import torch

        from metafe_transformers.network import PooledVision, freeze_unused

        network = self.network()
        n_channels = network.config.num_channels
        if row_shape[0] not in (1, n_channels):
            raise InvalidInputError(
                f"{self.name} needs images of 1 or {n_channels} channels; got {row_shape[0]}. Leave some out."
            )
        module = PooledVision(network, self.side_, self.pooling).eval()
        return freeze_unused(module, torch.zeros(1, *row_shape)).train()


def _pretraining_statistics(images: np.ndarray, processor: Any) -> tuple[list[float], list[float]] | None:
    """Return mean and spread of each channel of ``(n, C, H, W)`` in pretraining; None where nobody knows what is white."""
    white = white_of(images)
    if white is None:
        return None
    normalises = getattr(processor, "do_normalize", False)
    means, scales = (processor.image_mean, processor.image_std) if normalises else ([0.0], [1.0])
    n_channels = images.shape[1]

    def of_images(numbers: list[float]) -> list[float]:
        # Grey images are shown in all channels, which share their scale.
        own = numbers if len(numbers) == n_channels else [float(np.mean(numbers))] * n_channels
        return [white * number for number in own]

    return of_images(means), of_images(scales)


def _channel_statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Return mean and spread of each channel of ``(n, C, H, W)``, computed some images at a time."""
    scaler = StandardScaler()
    for start in range(0, len(images), CHUNK):
        part = np.asarray(images[start : start + CHUNK], dtype=np.float64)
        scaler.partial_fit(np.moveaxis(part, 1, -1).reshape(-1, part.shape[1]))
    return scaler.mean_.tolist(), scaler.scale_.tolist()


def _side(processor: Any) -> int:
    """Return the side of the squares that a processor makes."""
    square = np.zeros((256, 256, 3), dtype=np.uint8)
    return int(processor(images=square, return_tensors="np")["pixel_values"].shape[-1])
