"""The losses of one task, for classification and regression alike, and losses with a gradient of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
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


def carry_gradient(loss: Tensor, tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Return a loss of this value whose gradient is the given one, for outer gradients that are not those of a loss.

    Parameters
    ----------
    loss : Tensor of shape ()
    tensors, gradients : sequence of Tensor
        The gradient with respect to each tensor.

    Returns
    -------
    Tensor of shape ()
    """
    return _Carried.apply(loss.detach(), len(tensors), *tensors, *gradients)  # type: ignore[no-untyped-call]


class _Carried(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, n: int, *tensors_and_gradients: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors_and_gradients[n:])
        return loss.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        return (None, None, *(upstream * gradient for gradient in gradients), *(None for _ in gradients))
