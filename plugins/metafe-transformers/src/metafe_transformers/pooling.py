"""From what a network made of each part of a row to the vector of the row."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from metafe.contracts import InvalidParameterError

Pooling = Literal["mean", "cls", "last"]
POOLINGS = ("mean", "cls", "last")


def pool_output(output: Any, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Return one vector for each row, whatever the network is.

    Parameters
    ----------
    output : transformers.utils.ModelOutput
        With ``last_hidden_state`` ``(b, length, d)``, what the network made of each token, patch or moment, or
        ``(b, d, height, width)`` of a convolutional network.
    mask : Tensor of shape (b, n) or None
        Which parts of its input are no padding, where it has a mask of them; sound has more of them than states.
    pooling : {"mean", "cls", "last"}

    Returns
    -------
    Tensor of shape (b, d)

    Raises
    ------
    InvalidParameterError
        A first or last token of a network that has none.
    """
    states: Tensor = output.last_hidden_state
    if states.ndim == 4:
        return _pooled_map(output, pooling)
    if mask is None:
        return pool(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device), pooling)
    of_state = torch.arange(states.shape[1], device=states.device) * mask.shape[1] // states.shape[1]
    return pool(states, mask.bool()[:, of_state], pooling)


def _pooled_map(output: Any, pooling: Pooling) -> Tensor:
    """Return the mean of a map, as the network itself makes it: some normalise it."""
    if pooling != "mean":
        raise InvalidParameterError(
            f"pooling must be 'mean' for a convolutional network, which has no tokens; got {pooling!r}."
        )
    own: Tensor | None = getattr(output, "pooler_output", None)
    return output.last_hidden_state.mean((2, 3)) if own is None else own.flatten(1)


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return one vector for each row; zeros for one of padding alone.

    Parameters
    ----------
    states : Tensor of shape (b, length, d)
        What the network made of each token.
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
