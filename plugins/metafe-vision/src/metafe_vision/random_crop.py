"""Parts of images, enlarged, or images moved."""

from __future__ import annotations

import torch
from torch import Tensor

from metafe.contracts import Augmentation, Distribution, Float, Problem, When
from metafe_vision.layouts import why_not_images


class RandomCrop(Augmentation):
    """Cut a random part out of each image and enlarge it to the size of the image.

    Parameters
    ----------
    smallest : float, default=0.5
        Smallest share of the image's area that is kept; 1.0 keeps all of it.
    stretch : float, default=1.25
        Largest factor by which the ratio of the sides changes, either way; 1.0 leaves it.
    padding : float, default=0.0
        Share of each side by which the image is continued beyond its border, with copies of it, before it is cut.

    Notes
    -----
    ``RandomCrop()`` is the resized crop of Szegedy et al., "Going Deeper with Convolutions", 2015, and
    ``RandomCrop(smallest=1.0, stretch=1.0, padding=0.125)`` the padded one of He et al., "Deep Residual Learning for Image
    Recognition", 2016. Parts begin and end between pixels, so that what is not enlarged stays sharp. By
    `kornia.geometry.transform.warp_affine`.

    Examples
    --------
    >>> RandomCrop()(torch.zeros(2, 3, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 8])
    """

    name = "random-crop"

    def __init__(self, smallest: float = 0.5, stretch: float = 1.25, padding: float = 0.0) -> None:
        self.smallest = smallest
        self.stretch = stretch
        self.padding = padding

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare all three amounts."""
        return {"smallest": Float(0.3, 1.0), "stretch": Float(1.0, 1.5), "padding": Float(0.0, 0.2)}

    def accepts(self, input_shape: tuple[int, ...]) -> str | None:
        """Say why rows of this shape are not images."""
        return why_not_images(self.name, input_shape)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Cut a part out of each image of ``(b, C, H, W)``."""
        from kornia.geometry.transform import warp_affine

        height, width = x.shape[-2:]
        area, ratio, across, down = torch.rand(4, len(x), generator=generator, device=x.device, dtype=x.dtype)
        share, change = self.smallest + (1 - self.smallest) * area, self.stretch ** (2 * ratio - 1)
        matrices = torch.zeros(len(x), 2, 3, device=x.device, dtype=x.dtype)
        for axis, side, wanted, place in ((0, width, share * change, across), (1, height, share / change, down)):
            kept, start = self._part(side, wanted.sqrt(), place)
            scale = side / kept
            matrices[:, axis, axis] = scale
            # Pixels are areas: the first has its middle half a pixel from the border.
            matrices[:, axis, 2] = scale * (0.5 - start) - 0.5
        return warp_affine(x, matrices, (height, width), padding_mode="border", align_corners=True)

    def _part(self, side: int, share: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many pixels of a side are kept, and from which on."""
        kept = (side * share).round().clamp(1, side)
        beyond = self.padding * side
        return kept, (place * (side + 2 * beyond - kept) - beyond).round()
