"""The losses of one task, for classification and regression alike."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def task_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy for int64 targets, the mean squared error for any other.

    Parameters
    ----------
    predicted : Tensor of shape (..., n_outputs)
        Class scores before the softmax, or predicted targets.
    target : Tensor of shape (...) int64 or (..., n_outputs)
        Labels or targets.

    Returns
    -------
    Tensor of shape ()
    """
    if target.is_floating_point():
        return functional.mse_loss(predicted, target)
    return functional.cross_entropy(predicted.flatten(0, -2), target.flatten())


def accuracy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the share of rows whose highest score is that of their label, without gradient."""
    return (logits.detach().argmax(-1) == target).float().mean()
