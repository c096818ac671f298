"""Changes to series that keep what they are about."""

from __future__ import annotations

import torch
from torch import Tensor

from metafe.contracts import Augmentation, Distribution, Float, Problem, When

# How long the window becomes, in lengths of the window.
SLOWEST, FASTEST = 2.0, 0.5


class SeriesAugmentation(Augmentation):
    """Base of augmentations of series ``(b, n_channels, length)``."""

    def accepts(self, input_shape: tuple[int, ...]) -> str | None:
        """Say why rows of this shape are no series."""
        if len(input_shape) == 2:
            return None
        return f"{self.name} needs series of shape (n_channels, length); got rows of shape {input_shape}."


class Jitter(SeriesAugmentation):
    """Add Gaussian noise to each value.

    Parameters
    ----------
    scale : float, default=0.05
        Standard deviation of the noise, in standard deviations of the data.

    Notes
    -----
    Um et al., "Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using Convolutional Neural
    Networks", 2017.

    Examples
    --------
    >>> Jitter(scale=0.0)(torch.ones(1, 1, 2), torch.Generator())
    tensor([[[1., 1.]]])
    """

    name = "jitter"

    def __init__(self, scale: float = 0.05) -> None:
        self.scale = scale

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare the scale."""
        return {"scale": Float(0.0, 0.3)}

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Add noise to each value."""
        return x + self.scale * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


class Scaling(SeriesAugmentation):
    """Multiply each channel of each series by a number near 1.

    Parameters
    ----------
    scale : float, default=0.1
        Standard deviation of the number.

    Notes
    -----
    Um et al., "Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using Convolutional Neural
    Networks", 2017.

    Examples
    --------
    >>> Scaling(scale=0.0)(torch.ones(1, 1, 2), torch.Generator())
    tensor([[[1., 1.]]])
    """

    name = "scaling"

    def __init__(self, scale: float = 0.1) -> None:
        self.scale = scale

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare the scale."""
        return {"scale": Float(0.0, 0.3)}

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Multiply each channel by a number of its own."""
        factor = torch.randn(x.shape[:2], generator=generator, device=x.device, dtype=x.dtype)
        return x * (1 + self.scale * factor[:, :, None])


class WindowWarping(SeriesAugmentation):
    """Play a random window of each series at half or twice its speed, and bring the whole back to its length.

    Parameters
    ----------
    window : float, default=0.1
        Length of the window, as a share of the series.

    Notes
    -----
    Le Guennec, Malinowski and Tavenard, "Data Augmentation for Time Series Classification using Convolutional Neural
    Networks", 2016. All channels are warped alike; values between samples lie on a line.

    Examples
    --------
    >>> WindowWarping()(torch.arange(8.0)[None, None], torch.Generator().manual_seed(0)).shape
    torch.Size([1, 1, 8])
    """

    name = "window-warping"

    def __init__(self, window: float = 0.1) -> None:
        self.window = window

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare the length of the window."""
        return {"window": Float(0.0, 0.4)}

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Warp each series in a window of its own."""
        chance = torch.rand(2, len(x), 1, generator=generator, device=x.device, dtype=x.dtype)
        last = x.shape[-1] - 1
        width = self.window * last
        start = chance[0] * (last - width)
        speed = torch.where(chance[1] < 0.5, 1 / SLOWEST, 1 / FASTEST)
        warped = width / speed
        # Time after warping, and the time before that each of its moments comes from.
        after = torch.linspace(0, 1, last + 1, device=x.device, dtype=x.dtype) * (last - width + warped)
        before = (
            after.minimum(start) + ((after - start) * speed).clamp(0, width) + (after - start - warped).clamp_min(0)
        )
        return _at(x, before.clamp(0, last))


def _at(x: Tensor, time: Tensor) -> Tensor:
    """Return the values ``(b, n_channels, length)`` at times ``(b, length)`` between samples."""
    left = time.floor().long()
    right = (left + 1).clamp_max(x.shape[-1] - 1)
    values = [x.gather(-1, index[:, None].expand_as(x)) for index in (left, right)]
    return torch.lerp(values[0], values[1], (time - left)[:, None])
