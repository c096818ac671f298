"""Images in a mirror."""

from __future__ import annotations

import torch
from torch import Tensor

from metafe.contracts import Augmentation
from metafe_vision.layouts import why_not_images


class HorizontalFlip(Augmentation):
    """Mirror images at random, left for right. Characters, and whatever else a mirror changes, are better left alone.

    Parameters
    ----------
    p : float, default=0.5
        Share of the images that are mirrored, on average.

    Examples
    --------
    >>> HorizontalFlip(p=1.0)(torch.tensor([[[[1.0, 2.0]]]]), torch.Generator())
    tensor([[[[2., 1.]]]])
    """

    name = "horizontal-flip"

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def accepts(self, input_shape: tuple[int, ...]) -> str | None:
        """Say why rows of this shape are not images."""
        return why_not_images(self.name, input_shape)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Mirror some images of ``(b, C, H, W)``."""
        from kornia.geometry.transform import hflip

        chosen = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < self.p
        return torch.where(chosen, hflip(x), x)
