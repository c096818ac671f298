"""Changes of light and colour."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metafe.contracts import Augmentation, Distribution, Float, Problem, When
from metafe_vision.layouts import why_not_images


class ColourJitter(Augmentation):
    """Change brightness, contrast, saturation and hue of each image by random amounts.

    Parameters
    ----------
    brightness : float, default=0.2
        Largest change, either way, as a share of the range of the image.
    contrast : float, default=0.2
        Largest relative change of the differences from the mean, either way.
    saturation : float, default=0.2
        Largest relative change of the differences from grey, either way; for three channels alone.
    hue : float, default=0.05
        Largest change of hue, either way, as a share of the circle of colours; for three channels alone.

    Notes
    -----
    As in Howard, "Some Improvements on Deep Convolutional Neural Network Based Image Classification", 2013, by
    `kornia.enhance`. Rows are standardised, so the range of each image stands for that from black to white: what would
    leave it is cut off.

    Examples
    --------
    >>> ColourJitter()(torch.zeros(2, 3, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 8])
    """

    name = "colour-jitter"

    def __init__(
        self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 0.05
    ) -> None:
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare brightness and contrast, and what needs colours where there are three channels."""
        space: dict[str, Distribution | When] = {"brightness": Float(0.0, 0.5), "contrast": Float(0.0, 0.5)}
        if len(problem.input_shape) == 3 and problem.input_shape[0] == 3:
            space |= {"saturation": Float(0.0, 0.5), "hue": Float(0.0, 0.2)}
        return space

    def accepts(self, input_shape: tuple[int, ...]) -> str | None:
        """Say why rows of this shape are not images."""
        return why_not_images(self.name, input_shape)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Change each image of ``(b, C, H, W)``."""
        from kornia import enhance

        brightness, contrast, saturation, hue = (
            2 * torch.rand(4, len(x), generator=generator, device=x.device, dtype=x.dtype) - 1
        )
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        scale = torch.where(high > low, high - low, 1)
        image = (x - low) / scale
        image = enhance.adjust_brightness(image, self.brightness * brightness)
        image = enhance.adjust_contrast_with_mean_subtraction(image, 1 + self.contrast * contrast)
        if x.shape[1] == 3:
            image = enhance.adjust_saturation_with_gray_subtraction(image, 1 + self.saturation * saturation)
            image = enhance.adjust_hue(image, 2 * math.pi * self.hue * hue)
        return image * scale + low
