"""From the vectors of tokens to the vector of a text."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "cls", "last"]


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return one vector for each text; zeros for one without tokens.

    Parameters
    ----------
    states : Tensor of shape (b, length, d)
        What the model made of each token.
    mask : Tensor of shape (b, length) bool
        Which are tokens; the others, on the right, are padding.
    pooling : {"mean", "cls", "last"}

    Returns
    -------
    Tensor of shape (b, d)
    """
    weights = mask.to(states.dtype).unsqueeze(-1)
    if pooling == "mean":
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
    if pooling == "cls":
        return states[:, 0] * weights[:, 0]
    last = mask.sum(1, keepdim=True) - 1
    is_last = torch.arange(mask.shape[1], device=mask.device) == last
    return (states * is_last.unsqueeze(-1)).sum(1)
