"""Running a network that stays as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from metafe.contracts import white_of

# Larger parts are no faster, on a processor not even those of so many pixels.
IMAGES_AT_ONCE, PIXELS_AT_ONCE = 32, 2**15
# Of which statistics are computed together.
IMAGES_OF_STATISTICS = 256


@dataclass(frozen=True)
class ChannelScale:
    """What the channels of images are standardised by.

    Parameters
    ----------
    means, scales : list of float
        One for each channel.
    """

    means: list[float]
    scales: list[float]

    @classmethod
    def usual(cls, images: np.ndarray, means: Sequence[float], scales: Sequence[float]) -> ChannelScale | None:
        """Return what a network was pretrained with, for images of a range that is known; None for others.

        Parameters
        ----------
        images : ndarray of shape (n, C, H, W)
        means, scales : sequence of float
            Of the channels that the network was pretrained on, from 0 to 1. Images of other channels get their average.
        """
        white = white_of(images)
        if white is None:
            return None
        n_channels = images.shape[1]
        given = [np.multiply(numbers, float(white)) for numbers in (means, scales)]
        lists = [(g if len(g) == n_channels else np.full(n_channels, g.mean())).tolist() for g in given]
        return cls(*lists)

    @classmethod
    def of(cls, images: np.ndarray) -> ChannelScale:
        """Measure ``(n, C, H, W)``, some images at a time."""
        scaler = StandardScaler()
        for start in range(0, len(images), IMAGES_OF_STATISTICS):
            part = np.asarray(images[start : start + IMAGES_OF_STATISTICS], dtype=np.float64)
            scaler.partial_fit(np.moveaxis(part, 1, -1).reshape(-1, part.shape[1]))
        return cls(scaler.mean_.tolist(), scaler.scale_.tolist())

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return standardised images ``(n, C, H, W)`` float32."""
        means, scales = (np.reshape(numbers, (-1, 1, 1)) for numbers in (self.means, self.scales))
        return ((images - means) / scales).astype(np.float32)


def embed(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return what a network in evaluation mode makes of images.

    Parameters
    ----------
    network : torch.nn.Module
        Maps ``(b, C, H, W)`` to ``(b, d)``. It is moved to an accelerator where there is one.
    images : ndarray of shape (n, C, H, W) float32

    Returns
    -------
    ndarray of shape (n, d) float32
        The same to the last bit whatever images come with one.
    """
    device = accelerator()
    network = network.to(device)
    size = IMAGES_AT_ONCE
    if device == "cpu":
        size = min(size, max(1, PIXELS_AT_ONCE // images[0, 0].size))
    with torch.inference_mode():
        # Torch's own memory, since the last digits of some kernels depend on its alignment.
        features = [network(torch.tensor(part).to(device)).cpu().numpy() for part in _parts(images, size)]
    return np.concatenate(features)[: len(images)]


def accelerator() -> str:
    """Return the kind of device that networks run on."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found.type if found else "cpu"


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return what tells two sets of weights apart."""
    whole = hashlib.blake2b(digest_size=16)
    for name, array in arrays.items():
        whole.update(f"{name}/{array.dtype.str}{array.shape}/".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def arrays_of(network: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights of a network, which share its memory."""
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def load_arrays(network: nn.Module, arrays: Mapping[str, Any]) -> None:
    """Copy weights into a network."""
    network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})


def _parts(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield images, always equally many together; the last one is repeated."""
    for start in range(0, len(images), size):
        yield images[np.arange(start, start + size).clip(max=len(images) - 1)]
