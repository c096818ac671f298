"""The networks of torchvision."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from metafe_vision.library_network import LibraryNetwork

# Branches that classify too while a network is trained, by the names that torchvision has for them.
AUXILIARY = ("aux1", "aux2", "AuxLogits")


class Torchvision(LibraryNetwork):
    """Any classifier of images of the library torchvision, without its last layer.

    Parameters
    ----------
    model : str or None, default=None
        Name of the model, such as ``"resnet18"``; ``torchvision.models.list_models()`` has all. It must be given.
    pretrained : bool, default=False
        Begin with the best weights that torchvision downloads for the model; otherwise with random ones.
    weights : str or None, default=None
        File of weights to begin with in their place: a state dict as ``torch.save`` or safetensors writes it.
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
    Grey images are shown to all three channels.

    Examples
    --------
    >>> Torchvision("resnet18", pretrained=True)
    Torchvision(model='resnet18', pretrained=True)
    """

    name = "torchvision"
    library = "torchvision"

    def _models(self, library: ModuleType) -> list[str]:
        return list(library.models.list_models(library.models))

    def _network(self, library: ModuleType, input_shape: tuple[int, ...], loads: bool) -> nn.Module:
        if input_shape[0] not in (1, 3):
            raise ValueError(f"it takes 1 or 3 channels, not {input_shape[0]}")
        from_hub = loads and self.weights is None
        # Said so that torchvision does not warn that its default will change.
        options = {"init_weights": True} if self.model in ("googlenet", "inception_v3") and not from_hub else {}
        network = library.models.get_model(self.model, weights="DEFAULT" if from_hub else None, **options)
        removed = _remove_classifiers(network)
        if loads and self.weights is not None:
            state = {k: v for k, v in _read(self.weights).items() if not k.startswith(removed)}
            network.load_state_dict(state)
        return nn.Sequential(_ThreeChannels(), network, nn.Flatten())


def _remove_classifiers(network: nn.Module) -> tuple[str, ...]:
    """Remove the last layer, and branches that classify too; return how the names of their weights begin."""
    auxiliary = [name for name in AUXILIARY if getattr(network, name, None) is not None]
    for name in auxiliary:
        setattr(network, name, None)
    if auxiliary:
        network.aux_logits = False  # type: ignore[assignment]
    # That of squeezenet is a convolution.
    layers = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    network.set_submodule(layers[-1], nn.Identity())
    return tuple(f"{name}." for name in (layers[-1], *AUXILIARY))


def _read(path: str) -> dict[str, Any]:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


class _ThreeChannels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Return colour images ``(b, 3, H, W)`` of grey or colour ones."""
        return x.expand(-1, 3, -1, -1)
