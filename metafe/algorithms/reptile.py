"""Reptile."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from metafe.algorithms.gradient_based import (
    Episode,
    GradientAlgorithm,
    LinearHeadLearner,
    Metrics,
    check_momentum,
)
from metafe.contracts import (
    Context,
    Float,
    Int,
    Learner,
    Problem,
    TaskBatch,
    accuracy,
    carry_gradient,
    check_choice,
    check_numbers,
    check_sizes,
)
from metafe.contracts.spaces import SearchSpace
from metafe.inner_loop import InnerLoop, Parameters, Rates


class Reptile(GradientAlgorithm):
    r"""Reptile: the initial network moves towards what a few steps on each task make of it.

    Parameters
    ----------
    n_steps : int, default=5
        Inner steps in training.
    inner_rate : float, default=0.001
        Learning rate of the inner steps.
    inner_batch_size : int, default=10
        Rows of each inner step in training, drawn from support and query set together without replacement until all
        have been used. Outside training each step takes the whole support set.
    inner_optimizer : {"sgd", "adam"}, default="adam"
        Of the inner steps.
    momentum : float or None, default=0.0
        Of the inner optimiser; ``None`` is 0 for SGD and 0.9 for Adam.
    adapt_steps : int, default=50
        Inner steps outside training.
    batch_statistics : {"step", "task"}, default="step"
        What batch normalisation uses in inner steps in training: the statistics of the rows of the step, as published, or
        of all rows of the task, which are steadier. Outside training both are the support set, whose statistics the
        features after `adapt` use too: each row stays on its own.
    vectorise : {"auto"} or bool, default="auto"
        As in MAML.

    Notes
    -----
    Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018, the batch version. With
    :math:`\phi_t`, what the inner steps on the loss of task :math:`t` (cross-entropy, or mean squared error) make of
    the initial parameters :math:`\theta`, the update is :math:`\theta \leftarrow \theta + \epsilon \, \mathrm{mean}_t
    (\phi_t - \theta)`: `meta_loss` returns a loss that carries the gradient :math:`\mathrm{mean}_t (\theta - \phi_t)`,
    whose value is the task loss on all rows of the tasks after the steps. The outer optimiser is SGD with a rate that
    falls from 1 to 0.

    `adapt` changes all parameters and the statistics of batch normalisation; the features are those of the adapted
    backbone. The head is as in MAML. The defaults are those published for Omniglot (5-way, 5 tasks, tasks of 10 shots).

    Examples
    --------
    >>> Reptile(n_steps=8)
    Reptile(n_steps=8)
    """

    name = "reptile"
    # All that it computes are inner steps.
    stands_bfloat16 = False
    statistics_choices: ClassVar[tuple[str, ...]] = ("step", "task")

    def __init__(
        self,
        n_steps: int = 5,
        inner_rate: float = 0.001,
        inner_batch_size: int = 10,
        inner_optimizer: Literal["sgd", "adam"] = "adam",
        momentum: float | None = 0.0,
        adapt_steps: int = 50,
        batch_statistics: Literal["step", "task"] = "step",
        vectorise: bool | Literal["auto"] = "auto",
    ) -> None:
        self.n_steps = n_steps
        self.inner_rate = inner_rate
        self.inner_batch_size = inner_batch_size
        self.inner_optimizer = inner_optimizer
        self.momentum = momentum
        self.adapt_steps = adapt_steps
        self.batch_statistics = batch_statistics
        self.vectorise = vectorise

    def training_defaults(self) -> dict[str, Any]:
        """Return five tasks a step, and the outer steps of the paper."""
        return {
            "meta_batch_size": 5,
            "optimizer": "sgd",
            "learning_rate": 1.0,
            "weight_decay": 0.0,
            "schedule": "linear",
        }

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare steps, rate and rows of a step."""
        return {
            "n_steps": Int(3, 15),
            "inner_rate": Float(3e-4, 1e-2, log=True),
            "inner_batch_size": Int(5, 40, log=True),
        }

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone with a linear head.

        Raises
        ------
        InvalidParameterError
            A setting that cannot be.
        """
        check_sizes(
            self.name, n_steps=self.n_steps, inner_batch_size=self.inner_batch_size, adapt_steps=self.adapt_steps
        )
        check_numbers(self.name, inner_rate=self.inner_rate)
        check_momentum(self.name, self.momentum)
        check_choice(self.name, "inner_optimizer", self.inner_optimizer, ("sgd", "adam"))
        return super().build(backbone, n_features, problem)

    def inner_loop(self, context: Context) -> InnerLoop:
        """Return steps without second derivatives."""
        n_steps = self.n_steps if context.training else self.adapt_steps
        return InnerLoop(n_steps, self.inner_optimizer, self.momentum, first_order=True)

    def rates(self, learner: LinearHeadLearner, n_way: int) -> list[Rates]:
        """Return one rate for all."""
        return [{name: self.inner_rate for name, _ in learner.named_parameters()}]

    def meta_loss(self, learner: Learner, batch: TaskBatch, context: Context) -> tuple[Tensor, Metrics]:
        """Return the mean loss after the inner steps, with the gradient that moves towards where they lead."""
        x, y = torch.cat([batch.support_x, batch.query_x], 1), torch.cat([batch.support_y, batch.query_y], 1)
        rows = TaskBatch(x[:, :0], y[:, :0], x, y, batch.n_way)
        chosen = self._rows_of_steps(x.shape[1], context).to(x.device)
        loss, predicted = self.over_tasks(
            learner, rows, lambda episode, tasks: self._move(episode, tasks, chosen, context), context
        )
        return loss, {"accuracy": accuracy(predicted, y.flatten(0, 1))} if batch.n_way else {}

    def _move(self, episode: Episode, batch: TaskBatch, chosen: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Return the loss on all rows after the steps, with the gradient towards where they lead, and the outputs."""
        start, shared = episode.start(self.is_adapted)
        x, y, axis = batch.query_x, batch.query_y, 0 if episode.n_tasks is None else 1
        normalised_as = x if self.batch_statistics == "task" else None

        def loss(adapted: Parameters, shared: Parameters, step: int) -> Tensor:
            x_step, y_step = (part.index_select(axis, chosen[step]) for part in (x, y))
            return episode.loss(x_step, y_step, normalised_as)(adapted, shared, step)

        with torch.no_grad():
            rates = self.rates(episode.learner, episode.n_way)
            moved = self.inner_loop(context).adapt(loss, start, rates, shared)
            predicted = episode.predict({**shared, **moved}, x)
            gradients = [tensor - moved[name] for name, tensor in start.items()]
            value = episode.sum_of_losses(predicted, y)
        return carry_gradient(value, list(start.values()), gradients), predicted

    def _rows_of_steps(self, n_rows: int, context: Context) -> Tensor:
        """Return the numbers of the rows of each step, ``(n_steps, inner_batch_size)``; the same for all tasks."""
        size = min(self.inner_batch_size, n_rows)
        generator = context.generator or torch.Generator().manual_seed(context.step)
        n_passes = -(-self.n_steps * size // n_rows)
        passes = [torch.randperm(n_rows, generator=generator, device=generator.device) for _ in range(n_passes)]
        return torch.cat(passes)[: self.n_steps * size].reshape(self.n_steps, size)
