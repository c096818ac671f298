"""MAML with implicit gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from metafe.algorithms.gradient_based import (
    Episode,
    GradientAlgorithm,
    LinearHeadLearner,
    check_inner_rate,
    range_of_rates,
    rate_for,
)
from metafe.contracts import (
    Context,
    Float,
    Int,
    Learner,
    Problem,
    TaskBatch,
    carry_gradient,
    check_choice,
    check_positive,
    check_sizes,
)
from metafe.contracts.learner import full_precision
from metafe.contracts.spaces import SearchSpace
from metafe.inner_loop import InnerLoop, Parameters, Rates


class IMAML(GradientAlgorithm):
    r"""iMAML: MAML whose inner problem is pulled towards the initial network, and solved rather than unrolled.

    The outer gradient follows from where the inner steps end, not from how they went there: memory does not depend on their
    number.

    Parameters
    ----------
    n_steps : int, default=16
        Inner steps; the gradient is right where they come close to the solution.
    inner_rate : float or "auto", default="auto"
        Learning rate of the inner steps; ``"auto"`` is 0.1 for classes and 0.01 for targets.
    regularisation : float, default=2.0
        Weight :math:`\lambda` of the squared distance to the initial network.
    cg_steps : int, default=5
        Steps of conjugate gradients.
    inner_optimizer : {"sgd", "adam"}, default="sgd"
        Of the inner steps.
    adapt_steps : int or None, default=None
        Inner steps outside training; ``None`` is ``n_steps``.
    batch_statistics : {"support", "task"}, default="support"
        As in MAML.
    vectorise : {"auto"} or bool, default="auto"
        As in MAML.

    Notes
    -----
    Rajeswaran, Finn, Kakade and Levine, "Meta-Learning with Implicit Gradients", 2019. For each task, with the task loss
    :math:`L` (cross-entropy, or mean squared error) on support set :math:`S` and query set :math:`Q`,

    .. math:: \phi = \arg\min_\phi L_S(\phi) + \tfrac{\lambda}{2} \lVert \phi - \theta \rVert^2,

    and the outer gradient is the mean over tasks of :math:`g` with :math:`(I + \nabla^2 L_S(\phi) / \lambda) g = \nabla
    L_Q(\phi)`, solved by conjugate gradients from products with the Hessian. The loss that `meta_loss` returns is the
    query loss and carries this gradient.

    `adapt` changes all parameters and the statistics of batch normalisation; the features are those of the adapted
    backbone. The head is as in MAML. Steps, rate, :math:`\lambda` and steps of conjugate gradients are by default those of the
    authors' code for Omniglot (5-way, 1-shot), with Adam at 0.001 outside and 32 tasks.

    Examples
    --------
    >>> IMAML(regularisation=0.5)
    IMAML(regularisation=0.5)
    """

    name = "imaml"

    def __init__(
        self,
        n_steps: int = 16,
        inner_rate: float | Literal["auto"] = "auto",
        regularisation: float = 2.0,
        cg_steps: int = 5,
        inner_optimizer: Literal["sgd", "adam"] = "sgd",
        adapt_steps: int | None = None,
        batch_statistics: Literal["support", "task"] = "support",
        vectorise: bool | Literal["auto"] = "auto",
    ) -> None:
        self.n_steps = n_steps
        self.inner_rate = inner_rate
        self.regularisation = regularisation
        self.cg_steps = cg_steps
        self.inner_optimizer = inner_optimizer
        self.adapt_steps = adapt_steps
        self.batch_statistics = batch_statistics
        self.vectorise = vectorise

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare steps, rate and regularisation."""
        return {
            "n_steps": Int(5, 25),
            "inner_rate": range_of_rates(0.01, 0.5, problem),
            "regularisation": Float(0.1, 5.0, log=True),
        }

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone with a linear head.

        Raises
        ------
        InvalidParameterError
            A setting that cannot be.
        """
        check_sizes(self.name, n_steps=self.n_steps, cg_steps=self.cg_steps)
        check_inner_rate(self.name, self.inner_rate)
        check_positive(self.name, regularisation=self.regularisation)
        check_choice(self.name, "inner_optimizer", self.inner_optimizer, ("sgd", "adam"))
        if self.adapt_steps is not None:
            check_sizes(self.name, adapt_steps=self.adapt_steps)
        return super().build(backbone, n_features, problem)

    def inner_loop(self, context: Context) -> InnerLoop:
        """Return steps without second derivatives."""
        n_steps = self.n_steps if context.training or self.adapt_steps is None else self.adapt_steps
        return InnerLoop(n_steps, self.inner_optimizer, first_order=True)

    def rates(self, learner: LinearHeadLearner, n_way: int) -> list[Rates]:
        """Return one rate for all."""
        rate = rate_for(self.inner_rate, learner.problem)
        return [{name: rate for name, _ in learner.named_parameters()}]

    def adapt_episode(self, episode: Episode, x: Tensor, y: Tensor, context: Context) -> tuple[Parameters, Parameters]:
        """Take the inner steps on the regularised loss."""
        start, shared = episode.start(self.is_adapted)
        return self._solve(episode, start, shared, x, y, context), shared

    def query_loss(self, episode: Episode, batch: TaskBatch, context: Context) -> tuple[Tensor, Tensor]:
        """Return the query loss, with the implicit gradient, and the query outputs."""
        start, shared = episode.start(self.is_adapted)
        with torch.no_grad():
            solution = self._solve(episode, start, shared, batch.support_x, batch.support_y, context)
            gradient, (loss, predicted) = self._query_gradient(episode, batch, solution, shared)
            with full_precision(batch.support_x.device):
                implicit = self._implicit_gradient(episode, batch, solution, shared, gradient)
        return carry_gradient(loss, list(start.values()), [implicit[name] for name in start]), predicted

    def _solve(
        self, episode: Episode, start: Parameters, shared: Parameters, x: Tensor, y: Tensor, context: Context
    ) -> Parameters:
        task = episode.loss(x, y)

        def regularised(adapted: Parameters, shared: Parameters, step: int) -> Tensor:
            distance = torch.stack([(adapted[k] - v.detach()).square().sum() for k, v in start.items()]).sum()
            return task(adapted, shared, step) + 0.5 * self.regularisation * distance

        return self.inner_loop(context).adapt(regularised, start, self.rates(episode.learner, episode.n_way), shared)

    def _query_gradient(
        self, episode: Episode, batch: TaskBatch, solution: Parameters, shared: Parameters
    ) -> tuple[Parameters, tuple[Tensor, Tensor]]:
        """Return the gradient of the query loss where the inner steps end, that loss and the query outputs."""

        def query_loss(adapted: Parameters) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            predicted = self.query_prediction(episode, {**shared, **adapted}, batch)
            loss = episode.sum_of_losses(predicted, batch.query_y)
            return loss, (loss, predicted)

        gradient, kept = torch.func.grad(query_loss, has_aux=True)(solution)
        return gradient, kept

    def _implicit_gradient(
        self, episode: Episode, batch: TaskBatch, solution: Parameters, shared: Parameters, gradient: Parameters
    ) -> Parameters:
        support_loss = episode.loss(batch.support_x, batch.support_y)
        # The Hessian is symmetric: the transposed product, whose graph serves all steps, is the product.
        support_gradient = torch.func.grad(support_loss)
        hessian_product = torch.func.vjp(lambda adapted: support_gradient(adapted, shared, 0), solution)[1]

        def product(v: Parameters) -> Parameters:
            return {name: v[name] + part / self.regularisation for name, part in hessian_product(v)[0].items()}

        return conjugate_gradients(product, gradient, self.cg_steps, episode.n_tasks is not None)


def conjugate_gradients(
    product: Callable[[Parameters], Parameters], right: Parameters, n_steps: int, batched: bool
) -> Parameters:
    """Solve :math:`A x = b` for a symmetric positive definite :math:`A`.

    Parameters
    ----------
    product : callable
        Multiplies by :math:`A`.
    right : dict of str to Tensor
        :math:`b`.
    n_steps : int
        Steps; as many as there are unknowns solve it but for rounding.
    batched : bool
        Whether the leading dimension is one of systems that are solved on their own.

    Returns
    -------
    dict of str to Tensor
    """
    solution = {k: torch.zeros_like(v) for k, v in right.items()}
    residual, direction = right, right
    norm = _dot(residual, residual, batched)
    for _ in range(n_steps):
        applied = product(direction)
        length = _quotient(norm, _dot(direction, applied, batched))
        solution = _plus(solution, length, direction)
        residual = _plus(residual, -length, applied)
        new_norm = _dot(residual, residual, batched)
        direction = _plus(residual, _quotient(new_norm, norm), direction)
        norm = new_norm
    return solution


def _dot(a: Parameters, b: Parameters, batched: bool) -> Tensor:
    return torch.stack([(a[k] * b[k]).flatten(1 if batched else 0).sum(-1) for k in a]).sum(0)


def _plus(a: Parameters, scale: Tensor, b: Parameters) -> Parameters:
    return {k: a[k] + scale.reshape(scale.shape + (1,) * (a[k].ndim - scale.ndim)) * b[k] for k in a}


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a / b``, and 0 where both vanish because the system is solved."""
    return torch.where(b == 0, torch.zeros_like(a), a / b)
