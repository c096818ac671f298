"""The losses of one task, for classification and regression alike, and losses with a gradient of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

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


class Differentiated(NamedTuple):
    """A loss whose graph is gone, with its gradient for each of some tensors: None for those it does not depend on."""

    loss: Tensor
    gradients: Sequence[Tensor | None]


def differentiate(loss: Tensor, tensors: Sequence[Tensor]) -> Differentiated:
    """Differentiate a loss now, so that its graph need not be kept until there are others to add it to.

    Parameters
    ----------
    loss : Tensor of shape ()
        Without a graph, as in evaluation, it has no gradients.
    tensors : sequence of Tensor
    """
    gradients: Sequence[Tensor | None] = [None] * len(tensors)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    return Differentiated(loss.detach(), gradients)


def sum_losses(parts: Iterable[Differentiated], tensors: Sequence[Tensor]) -> Tensor:
    """Add differentiated losses up, in order, to one that carries the sum of their gradients.

    Parameters
    ----------
    parts : iterable of Differentiated
        Used up one by one.
    tensors : sequence of Tensor
        Those they were differentiated by.

    Returns
    -------
    Tensor of shape ()
    """
    losses: list[Tensor] = []
    gradients: list[Tensor | None] = [None] * len(tensors)
    for part in parts:
        losses.append(part.loss)
        gradients = [_sum(*pair) for pair in zip(gradients, part.gradients, strict=True)]
    reached = [(tensor, g) for tensor, g in zip(tensors, gradients, strict=True) if g is not None]
    return carry_gradient(torch.stack(losses).sum(), [t for t, _ in reached], [g for _, g in reached])


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


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
