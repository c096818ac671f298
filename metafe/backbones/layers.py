"""Layers that the built-in networks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from metafe.contracts import InvalidParameterError
from metafe.contracts.errors import suggest

Normalisation = Literal["batch", "layer", "none"]
Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
# Max-pooling commutes with these, so a network may pool first and activate a quarter of the values.
MONOTONE_ACTIVATIONS = frozenset({"relu", "leaky_relu", "elu", "tanh"})

_NORMALISATIONS: dict[tuple[str, int], Callable[[int], nn.Module]] = {
    ("batch", 1): nn.BatchNorm1d,
    ("batch", 2): nn.BatchNorm2d,
    ("layer", 1): nn.LayerNorm,
    ("layer", 2): lambda width: nn.GroupNorm(1, width),
    ("none", 1): lambda width: nn.Identity(),
    ("none", 2): lambda width: nn.Identity(),
}


class ChannelsLast(nn.Module):
    """Lay images out with their channels last in memory, which convolutions and what follows them then keep.

    With a single channel both layouts are the same numbers, told apart by strides alone, and kernels take them for
    the slow one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the same images, ``(b, C, H, W)``."""
        if x.shape[1] > 1:
            # Convolutions take their layout from their weights.
            return x
        return x.reshape(-1, *x.shape[2:], 1).permute(0, 3, 1, 2)


def activation_layer(name: str) -> nn.Module:
    """Return the activation of a name.

    Raises
    ------
    InvalidParameterError
        No activation of that name.
    """
    if name not in _ACTIVATIONS:
        raise InvalidParameterError(f"activation must be a known name; got {name!r}. {suggest(name, _ACTIVATIONS)}")
    return _ACTIVATIONS[name]()


def normalisation_layer(name: str, width: int, spatial: bool) -> nn.Module:
    """Return the normalisation of a name, over vectors or, with ``spatial``, over images of ``width`` channels.

    Raises
    ------
    InvalidParameterError
        No normalisation of that name.
    """
    key = (name, 2 if spatial else 1)
    if key not in _NORMALISATIONS:
        known = {n for n, _ in _NORMALISATIONS}
        raise InvalidParameterError(f"normalisation must be a known name; got {name!r}. {suggest(name, known)}")
    return _NORMALISATIONS[key](width)


def check_dropout(owner: str, dropout: float) -> None:
    """Check that a drop-out rate lies in ``[0, 1)``.

    Raises
    ------
    InvalidParameterError
        Naming the owner and what was received.
    """
    if not 0 <= dropout < 1:
        raise InvalidParameterError(f"{owner} dropout must be at least 0 and below 1; got {dropout!r}.")
