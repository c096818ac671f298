"""The networks of timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from torch import nn

from metafe_vision.library_network import LibraryNetwork


class Timm(LibraryNetwork):
    """Any image network of the library timm, without its classifier.

    Parameters
    ----------
    model : str or None, default=None
        Name of the model, such as ``"resnet18"`` or ``"vit_small_patch16_224.augreg_in1k"``; ``timm.list_models()`` has all.
        It must be given.
    pretrained : bool, default=False
        Begin with the weights that timm downloads for the model; otherwise with random ones.
    weights : str or None, default=None
        File of weights to begin with in their place, as timm or torch saves them.
    trainable : bool, default=True
        Whether the weights are trained any further. If not, given weights keep their statistics of batch normalisation, and
        the features of an image are computed once for all fits, and lie in metafe's cache: pixels are scaled as in
        pretraining, or, where it cannot be told what is white (neither uint8 nor real numbers from 0 to 1), by the training
        rows, and then for all fits on the same. Otherwise these statistics are those of the training rows.
    image_shape : tuple of int or None, default=None
        Shape of one image, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``, when rows come flat.
    channels : {"auto", "first", "last"}, default="auto"
        Where the channels are in images of three dimensions. ``"auto"`` takes the one side that is shorter than 8
        pixels, or else the one that differs from two equal sides.

    Notes
    -----
    Wightman, "PyTorch Image Models". Weights for colours are summed where images are grey. Transformers are made for the
    size of the images, and their positions interpolated.

    Examples
    --------
    >>> Timm("resnet18", weights="resnet18.safetensors", trainable=False)
    Timm(model='resnet18', trainable=False, weights='resnet18.safetensors')
    """

    name = "timm"
    library = "timm"

    def _models(self, library: ModuleType) -> list[str]:
        return list(library.list_models())

    def _statistics(self, library: ModuleType) -> tuple[Sequence[float], Sequence[float]]:
        described = library.get_pretrained_cfg(self.model)
        return described.mean, described.std

    def _network(self, library: ModuleType, input_shape: tuple[int, ...], loads: bool) -> nn.Module:
        n_channels, *sides = input_shape
        options: dict[str, Any] = {}
        from_file = loads and self.weights is not None
        if from_file:
            options["pretrained_cfg_overlay"] = {"file": self.weights, "custom_load": False}
        if library.get_pretrained_cfg(self.model).fixed_input_size:
            options["img_size"] = tuple(sides)
        network = library.create_model(self.model, pretrained=loads, num_classes=0, in_chans=n_channels, **options)
        if from_file:
            _check_complete(network, library.models.load_state_dict(self.weights))
        return network


def _check_complete(network: nn.Module, given: Mapping[str, Any]) -> None:
    """Check that a file has all weights of a network: timm, which lets it lack a classifier, lets it lack any."""
    lacking = [name for name, _ in network.named_parameters() if name not in given]
    if lacking:
        raise ValueError(f"the file lacks {len(lacking)} of them, such as {lacking[0]!r}")
