"""Meta-SGD."""

from __future__ import annotations

from typing import Literal

from metafe.algorithms.gradient_based import Adapts, LearnedRates
from metafe.algorithms.maml import MAML
from metafe.contracts import Categorical, Float, Int, Problem
from metafe.contracts.spaces import SearchSpace


class MetaSGD(MAML):
    r"""Meta-SGD: MAML that learns an inner rate for each element of each parameter, and with it the direction.

    Parameters
    ----------
    n_steps : int, default=1
        Inner steps; all have the same rates.
    inner_rate : float, default=0.05
        What the rates start from.
    first_order : bool, default=False
        Leave out second derivatives.
    shared_head : bool, default=False
        As in MAML.
    adapt_steps : int or None, default=None
        Inner steps outside training; ``None`` is ``n_steps``. With more of them, rates learned for ``n_steps`` may
        diverge.
    batch_statistics : {"support", "task"}, default="support"
        As in MAML.
    vectorise : {"auto"} or bool, default="auto"
        As in MAML.
    checkpoint_steps : bool, default=False
        As in MAML.

    Notes
    -----
    Li, Zhou, Chen and Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017. The outer loop minimises the
    mean over tasks of :math:`L_Q(\theta - \alpha \circ \nabla L_S(\theta))`, with MAML's task loss :math:`L` (cross-entropy,
    or mean squared error) on support set :math:`S` and query set :math:`Q`, over :math:`\theta` and :math:`\alpha`, which
    has the shape of :math:`\theta` and may become negative. `adapt` changes all parameters and the statistics of
    batch normalisation; the features are those of the adapted backbone. Published: one step, rates that start between
    0.005 and 0.1, Adam with 0.001 outside.

    Examples
    --------
    >>> MetaSGD().learned_rates
    'element'
    """

    name = "meta-sgd"
    adapts: Adapts = "all"
    inner_optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float | None = None
    learned_rates: LearnedRates = "element"
    multi_step_loss = False

    def __init__(
        self,
        n_steps: int = 1,
        inner_rate: float = 0.05,
        first_order: bool = False,
        shared_head: bool = False,
        adapt_steps: int | None = None,
        batch_statistics: Literal["support", "task"] = "support",
        vectorise: bool | Literal["auto"] = "auto",
        checkpoint_steps: bool = False,
    ) -> None:
        self.n_steps = n_steps
        self.inner_rate = inner_rate
        self.first_order = first_order
        self.shared_head = shared_head
        self.adapt_steps = adapt_steps
        self.batch_statistics = batch_statistics
        self.vectorise = vectorise
        self.checkpoint_steps = checkpoint_steps

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare steps, where the rates start, and order."""
        return {
            "n_steps": Int(1, 5),
            "inner_rate": Float(0.005, 0.5, log=True),
            "first_order": Categorical([False, True]),
        }
