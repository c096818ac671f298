"""Differentiable adaptation: steps of gradient descent that can themselves be differentiated.

`InnerLoop` takes the steps and `TaskNetwork` is the network that they adapt. Both work on one task, or on all tasks of
a batch at once: then the adapted tensors have a leading dimension for the tasks, the network is vectorised over it and
the loss is the sum over tasks, whose gradient is the gradient of each. Nothing else tells the two apart, so they give
the same numbers.
"""

from __future__ import annotations

from metafe.inner_loop.network import TaskNetwork
from metafe.inner_loop.rules import draws_in_training, reuses_weights, stands_threads, stands_vectorising
from metafe.inner_loop.steps import InnerLoop, InnerLoss, Parameters, Rates

__all__ = [
    "InnerLoop",
    "InnerLoss",
    "Parameters",
    "Rates",
    "TaskNetwork",
    "draws_in_training",
    "reuses_weights",
    "stands_threads",
    "stands_vectorising",
]
