"""Drop-out of whole patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class DropBlock(nn.Module):
    """Set square patches of feature maps to zero in training.

    Parameters
    ----------
    rate : float
        Share of the values that are zeroed, about.
    block_size : int
        Side of the patches; that of the map where it is smaller.

    Notes
    -----
    Ghiasi et al., "DropBlock: A regularization method for convolutional networks", 2018. The rate does not grow with the
    steps, since that would need a counter in the module.

    Examples
    --------
    >>> drop = DropBlock(rate=0.5, block_size=2)
    >>> bool((drop(torch.ones(1, 8, 4, 4)) == 0).any())
    True
    >>> bool((drop.eval()(torch.ones(1, 8, 4, 4)) == 0).any())
    False
    """

    def __init__(self, rate: float, block_size: int) -> None:
        super().__init__()
        self.rate = rate
        self.block_size = block_size

    def forward(self, x: Tensor) -> Tensor:
        """Zero patches of ``(b, C, H, W)`` and enlarge what is left, so that the mean stays."""
        if not self.training or self.rate == 0:
            return x
        height, width = x.shape[-2:]
        size = min(self.block_size, height, width)
        # Patches lie inside the map; each of these places may be the corner of one.
        places = (height - size + 1, width - size + 1)
        frequency = self.rate * height * width / (size**2 * places[0] * places[1])
        corners = (torch.rand((*x.shape[:2], *places), device=x.device) < frequency).to(x.dtype)
        dropped = functional.max_pool2d(functional.pad(corners, [size - 1] * 4), size, stride=1)
        kept = 1 - dropped
        return x * kept * (kept.numel() / kept.sum().clamp(min=1))

    def extra_repr(self) -> str:
        """Return the parameters, for printing."""
        return f"rate={self.rate}, block_size={self.block_size}"
