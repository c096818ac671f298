"""Small affine movements of images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from metafe.contracts import Augmentation, Float, Problem
from metafe.contracts.spaces import SearchSpace


class Affine(Augmentation):
    """Turn, scale, shear and shift each image by a random amount; what moves in is a copy of the border.

    Parameters
    ----------
    rotation : float, default=10.0
        Largest angle in degrees, either way.
    scale : float, default=0.1
        Largest relative change of each side, either way.
    shear : float, default=10.0
        Largest shearing angle in degrees, either way.
    shift : float, default=0.1
        Largest shift as a share of each side, either way.

    Examples
    --------
    >>> x = torch.zeros(2, 1, 8, 8)
    >>> Affine()(x, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 8, 8])
    """

    name = "affine"

    def __init__(self, rotation: float = 10.0, scale: float = 0.1, shear: float = 10.0, shift: float = 0.1) -> None:
        self.rotation = rotation
        self.scale = scale
        self.shear = shear
        self.shift = shift

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare all four amounts."""
        return {
            "rotation": Float(0.0, 30.0),
            "scale": Float(0.0, 0.3),
            "shear": Float(0.0, 20.0),
            "shift": Float(0.0, 0.2),
        }

    def accepts(self, input_shape: tuple[int, ...]) -> str | None:
        """Say why rows of this shape are not images."""
        return None if len(input_shape) == 3 else f"affine needs images (C, H, W); got rows of shape {input_shape}."

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Move each image of ``(b, C, H, W)`` by its own amount."""
        grid = functional.affine_grid(self._matrices(x, generator), list(x.shape), align_corners=False)
        return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

    def _matrices(self, x: Tensor, generator: torch.Generator) -> Tensor:
        amounts = torch.rand(6, len(x), generator=generator, device=x.device, dtype=x.dtype) * 2 - 1
        angle, shear = (amounts[0] * math.radians(self.rotation), amounts[1] * math.radians(self.shear))
        scale_x, scale_y = (1 + amounts[2] * self.scale, 1 + amounts[3] * self.scale)
        # Coordinates run from -1 to 1, so a share of the side is twice that many units.
        shift_x, shift_y = (amounts[4] * 2 * self.shift, amounts[5] * 2 * self.shift)
        cos, sin, slant = angle.cos(), angle.sin(), shear.tan()
        first = torch.stack([cos * scale_x, (cos * slant - sin) * scale_y, shift_x], dim=-1)
        second = torch.stack([sin * scale_x, (sin * slant + cos) * scale_y, shift_y], dim=-1)
        return torch.stack([first, second], dim=1)
