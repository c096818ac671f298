"""Changes to spectrograms that keep what they are about."""

from __future__ import annotations

import torch
from torch import Tensor

from metafe.contracts import Augmentation, Distribution, Float, Int, Problem, When


class SpectrogramAugmentation(Augmentation):
    """Base of augmentations of spectrograms ``(b, C, n_frequencies, n_frames)``."""

    def accepts(self, input_shape: tuple[int, ...]) -> str | None:
        """Say why rows of this shape are no spectrograms."""
        if len(input_shape) == 3:
            return None
        return f"{self.name} needs spectrograms (C, n_frequencies, n_frames); got rows of shape {input_shape}."


class SpecAugment(SpectrogramAugmentation):
    """Hide bands of frequencies and stretches of time of each spectrogram: they become the mean.

    Parameters
    ----------
    frequency : float, default=0.2
        Largest width of a band, as a share of all frequencies.
    time : float, default=0.2
        Largest length of a stretch, as a share of all frames.
    n_masks : int, default=1
        Bands, and stretches, that are hidden.

    Notes
    -----
    Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", 2019, without time warping,
    which is ``stretch`` here. Widths and places are drawn evenly.

    Examples
    --------
    >>> SpecAugment(frequency=0.0, time=0.0)(torch.ones(1, 1, 2, 2), torch.Generator())
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """

    name = "spec-augment"

    def __init__(self, frequency: float = 0.2, time: float = 0.2, n_masks: int = 1) -> None:
        self.frequency = frequency
        self.time = time
        self.n_masks = n_masks

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare widths and number."""
        return {"frequency": Float(0.0, 0.5), "time": Float(0.0, 0.5), "n_masks": Int(1, 3)}

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Hide parts of each spectrogram of its own."""
        n_frequencies, n_frames = x.shape[-2:]
        for _ in range(self.n_masks):
            band = _in_window(x, n_frequencies, self.frequency, generator)
            stretch = _in_window(x, n_frames, self.time, generator)
            x = x.masked_fill(band[:, None, :, None] | stretch[:, None, None, :], 0)
        return x


class TimeShift(SpectrogramAugmentation):
    """Move each spectrogram in time by a random amount; what moves in is a copy of its first or last frame.

    Parameters
    ----------
    shift : float, default=0.1
        Largest shift as a share of all frames, either way.

    Examples
    --------
    >>> TimeShift()(torch.arange(20.0)[None, None, None], torch.Generator().manual_seed(0)).shape
    torch.Size([1, 1, 1, 20])
    """

    name = "time-shift"

    def __init__(self, shift: float = 0.1) -> None:
        self.shift = shift

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare the shift."""
        return {"shift": Float(0.0, 0.3)}

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Move each spectrogram by whole frames of its own number."""
        n_frames = x.shape[-1]
        amount = torch.rand(len(x), 1, generator=generator, device=x.device, dtype=x.dtype) * 2 - 1
        moved = torch.arange(n_frames, device=x.device) + (amount * self.shift * n_frames).round().long()
        return x.gather(-1, moved.clamp(0, n_frames - 1)[:, None, None, :].expand_as(x))


class Stretch(SpectrogramAugmentation):
    """Play each spectrogram faster or slower, and make its voice larger or smaller, around its middle.

    Parameters
    ----------
    time : float, default=0.2
        Largest relative change of the duration, either way.
    frequency : float, default=0.1
        Largest relative change of the frequencies, either way.

    Notes
    -----
    On the mel scale a change of all frequencies by a factor is close to that by the length of the vocal tract, which differs
    between speakers: Jaitly and Hinton, "Vocal Tract Length Perturbation (VTLP) improves speech recognition", 2013.
    Frequencies are stretched from the lowest one, time from the middle; what moves in is a copy of the border.

    Examples
    --------
    >>> Stretch()(torch.zeros(2, 1, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 8, 8])
    """

    name = "stretch"

    def __init__(self, time: float = 0.2, frequency: float = 0.1) -> None:
        self.time = time
        self.frequency = frequency

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare both amounts."""
        return {"time": Float(0.0, 0.4), "frequency": Float(0.0, 0.2)}

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Stretch each spectrogram by factors of its own."""
        amounts = torch.rand(2, len(x), generator=generator, device=x.device, dtype=x.dtype) * 2 - 1
        time, frequency = 1 + amounts[0] * self.time, 1 + amounts[1] * self.frequency
        zero = torch.zeros_like(time)
        # Coordinates run from -1 to 1; -1, the lowest frequency, stays in its place.
        rows = [torch.stack([time, zero, zero], -1), torch.stack([zero, frequency, frequency - 1], -1)]
        grid = torch.nn.functional.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
        return torch.nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _in_window(x: Tensor, length: int, widest: float, generator: torch.Generator) -> Tensor:
    """Return which of ``length`` positions lie in a window of random width and place, ``(b, length)``, one for each row."""
    chance = torch.rand(2, len(x), 1, generator=generator, device=x.device, dtype=x.dtype)
    width = (chance[0] * widest * length).round()
    start = (chance[1] * (length - width + 1)).floor()
    positions = torch.arange(length, device=x.device)
    return (positions >= start) & (positions < start + width)
