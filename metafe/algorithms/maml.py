"""Model-agnostic meta-learning, and its variants that adapt the head or the body alone."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from metafe.algorithms.defaults import Labelled
from metafe.algorithms.gradient_based import (
    HEAD,
    RATE_FOR_CLASSES,
    Adapts,
    Episode,
    GradientAlgorithm,
    LearnedRates,
    LinearHeadLearner,
    apply_linear,
    check_inner_rate,
    check_momentum,
    flat_name,
    range_of_rates,
    rate_for,
    task_rows,
)
from metafe.contracts import (
    Categorical,
    Context,
    HeadAlgorithm,
    Int,
    InvalidParameterError,
    Learner,
    Problem,
    State,
    TaskBatch,
    check_choice,
    check_sizes,
    task_loss,
)
from metafe.contracts.learner import at_least_float32
from metafe.contracts.spaces import SearchSpace
from metafe.inner_loop import InnerLoop, Parameters, Rates

# Share of the training after which the multi-step loss has become that of the last step.
_ANNEALED_AFTER = 0.1
_FLAGS = ("first_order", "multi_step_loss", "shared_head", "checkpoint_steps")


class MAML(GradientAlgorithm):
    r"""MAML: an initial network from which a few gradient steps on the support set lead to a good one.

    Parameters
    ----------
    n_steps : int, default=5
        Inner steps.
    inner_rate : float or "auto", default="auto"
        Learning rate of the inner steps; ``"auto"`` is 0.1 for classes and 0.01 for targets. Where rates are learned, what
        they start from.
    first_order : bool, default=False
        Leave out second derivatives (FOMAML): cheaper, and often nearly as good.
    adapts : {"all", "head", "body"}, default="all"
        Which parameters the inner steps change; the outer loop learns all.
    inner_optimizer : {"sgd", "adam"}, default="sgd"
        Of the inner steps.
    momentum : float or None, default=None
        Of the inner optimiser; ``None`` is 0 for SGD and 0.9 for Adam.
    learned_rates : {"none", "layer_step", "element"}, default="none"
        Learn the inner rates together with the network: one for each parameter tensor and step (MAML++), or one for each
        element (Meta-SGD).
    multi_step_loss : bool, default=False
        Count the query loss after every inner step (MAML++), with equal weights at first and, after a tenth of the
        training, only that after the last.
    shared_head : bool, default=False
        Start the head's rows of all classes from one learned row, so that the order of the classes cannot matter, as
        Ye and Chao propose. With ``adapts="body"`` nothing could be learned so.
    adapt_steps : int or None, default=None
        Inner steps outside training; ``None`` is ``n_steps``.
    batch_statistics : {"support", "task"}, default="support"
        What batch normalisation uses for the query rows in training: the statistics of the support set under the
        adapted parameters, or those of the query rows themselves (transductive, as published). Inner steps use those of
        the support set in any case, and so do the features after `adapt`: each row stays on its own.
    vectorise : {"auto"} or bool, default="auto"
        Compute all tasks of a batch at once, which takes memory for all of them, or each on its own (on a CPU side by
        side, one on each of torch's threads). ``"auto"`` takes the first for networks of torch's linear, activation and
        normalisation layers, on an accelerator for those with convolutions too, and the second for all others.
    checkpoint_steps : bool, default=False
        Compute each inner step again in the backward pass, so that memory does not grow with ``n_steps``. Needs a network
        without drop-out, whose masks would be others the second time.

    Notes
    -----
    Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", 2017. With the task
    loss :math:`L` (cross-entropy, or mean squared error) on support set :math:`S` and query set :math:`Q`, the outer
    loop minimises the mean over tasks of :math:`L_Q(\theta_K)`, where :math:`\theta_{k+1} = \theta_k - \alpha \nabla
    L_S(\theta_k)` starts from the learned :math:`\theta_0`. The head is linear, with as many outputs as the largest task
    has classes: a task with fewer uses the first ones, a further class starts from the mean of them.

    `adapt` changes what ``adapts`` says and the statistics of batch normalisation; the features are those of the
    adapted backbone. Without `adapt` they are those of the learned initial network.

    Published for Omniglot: one step of 0.4 (5-way), 32 tasks; for miniImageNet: five steps of 0.01 and ten outside
    training, 4 tasks (1-shot) or 2 (5-shot); Adam with 0.001 outside. MAML++ is Antoniou, Edwards and Storkey, "How to
    Train Your MAML", 2019: ``learned_rates="layer_step"``, ``multi_step_loss=True``. The shared head is Ye and Chao,
    "How to Train Your MAML to Excel in Few-Shot Classification", 2022.

    Examples
    --------
    >>> MAML(n_steps=1, first_order=True)
    MAML(first_order=True, n_steps=1)
    """

    name = "maml"
    rate_for_classes: ClassVar[float] = RATE_FOR_CLASSES

    def __init__(
        self,
        n_steps: int = 5,
        inner_rate: float | Literal["auto"] = "auto",
        first_order: bool = False,
        adapts: Adapts = "all",
        inner_optimizer: Literal["sgd", "adam"] = "sgd",
        momentum: float | None = None,
        learned_rates: LearnedRates = "none",
        multi_step_loss: bool = False,
        shared_head: bool = False,
        adapt_steps: int | None = None,
        batch_statistics: Literal["support", "task"] = "support",
        vectorise: bool | Literal["auto"] = "auto",
        checkpoint_steps: bool = False,
    ) -> None:
        self.n_steps = n_steps
        self.inner_rate = inner_rate
        self.first_order = first_order
        self.adapts = adapts
        self.inner_optimizer = inner_optimizer
        self.momentum = momentum
        self.learned_rates = learned_rates
        self.multi_step_loss = multi_step_loss
        self.shared_head = shared_head
        self.adapt_steps = adapt_steps
        self.batch_statistics = batch_statistics
        self.vectorise = vectorise
        self.checkpoint_steps = checkpoint_steps

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare steps, rate, order and whether rates are learned."""
        return {
            "n_steps": Int(1, 5),
            "inner_rate": range_of_rates(0.01, 0.5, problem),
            "first_order": Categorical([False, True]),
            "learned_rates": Categorical(["none", "layer_step", "element"]),
        }

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone with a linear head, and learned rates if there are any.

        Raises
        ------
        InvalidParameterError
            A setting that cannot be.
        """
        check_inner_settings(self)
        check_choice(self.name, "adapts", self.adapts, ("all", "head", "body"))
        if self.adapts == "body" and self.shared_head:
            raise InvalidParameterError(
                f"{self.name} adapts='body' needs a head whose rows differ, without which nothing can be learned; got "
                "shared_head=True. Leave shared_head at False, or adapt the head too."
            )
        check_choice(self.name, "learned_rates", self.learned_rates, ("none", "layer_step", "element"))
        super().build(backbone, n_features, problem)
        learner = LinearHeadLearner(backbone, n_features, problem, self.shared_head)
        names = [n for n, p in learner.named_parameters() if p.requires_grad and self.is_adapted(n)]
        rate = rate_for(self.inner_rate, problem, self.rate_for_classes)
        learner.learn_rates(self.learned_rates, names, rate, self.n_steps)
        return learner

    def stands_compiling(self, learner: Learner) -> bool:
        """Say that a vectorised network is faster compiled; the weights of the multi-step loss change with the step."""
        return self.vectorises(learner) and not self.multi_step_loss

    def inner_loop(self, context: Context) -> InnerLoop:
        """Return the inner steps."""
        return inner_loop_of(self, context)

    def is_adapted(self, name: str) -> bool:
        """Say whether a parameter adapts, by whether it is the head's."""
        return self.adapts == "all" or (name in HEAD) == (self.adapts == "head")

    def rates(self, learner: LinearHeadLearner, n_way: int) -> list[Rates]:
        """Return one rate for all, or the learned ones."""
        names = [n for n, _ in learner.named_parameters() if not n.startswith("rates.") and self.is_adapted(n)]
        if self.learned_rates == "none":
            return [dict.fromkeys(names, rate_for(self.inner_rate, learner.problem, self.rate_for_classes))]
        learned = {n: learner.rates[flat_name(n)] for n in names if flat_name(n) in learner.rates}
        if self.learned_rates == "layer_step":
            return [{n: rate[step] for n, rate in learned.items()} for step in range(self.n_steps)]
        return [{n: task_rows(rate, n_way) if n in HEAD else rate for n, rate in learned.items()}]

    def query_loss(self, episode: Episode, batch: TaskBatch, context: Context) -> tuple[Tensor, Tensor]:
        """Return the loss on the query rows after the last step, or a weighted sum over steps; and the outputs."""
        if not self.multi_step_loss:
            return super().query_loss(episode, batch, context)
        adapted, shared = episode.start(self.is_adapted)
        loss, rates = episode.loss(batch.support_x, batch.support_y), self.rates(episode.learner, episode.n_way)
        steps = list(self.inner_loop(context).trajectory(loss, adapted, rates, shared)) or [adapted]
        total = []
        for weight, parameters in zip(_step_weights(len(steps), context), steps, strict=True):
            if weight:
                predicted = self.query_prediction(episode, {**shared, **parameters}, batch)
                total.append(weight * episode.sum_of_losses(predicted, batch.query_y))
        return torch.stack(total).sum(), predicted


class BOIL(MAML):
    """BOIL: MAML whose inner steps change the body alone, so that the features themselves must change.

    Parameters
    ----------
    n_steps : int, default=1
        Inner steps.
    inner_rate : float or "auto", default="auto"
        Learning rate of the inner steps; ``"auto"`` is 0.5 for classes and 0.05 for targets.
    first_order : bool, default=False
        Leave out second derivatives.
    adapt_steps : int or None, default=None
        Inner steps outside training; ``None`` is ``n_steps``.
    batch_statistics : {"support", "task"}, default="support"
        As in MAML.
    vectorise : {"auto"} or bool, default="auto"
        As in MAML.
    checkpoint_steps : bool, default=False
        As in MAML.

    Notes
    -----
    Oh, Yoo, Kim and Yun, "BOIL: Towards Representation Change for Few-shot Learning", 2021. The loss is MAML's:
    cross-entropy, or mean squared error, of the query rows after the inner steps. `adapt` changes the backbone and the
    statistics of batch normalisation; the features are those of the adapted backbone. Steps and rate are by default the
    published ones. Published too are ``batch_statistics="task"``, Adam with 0.001 outside and 4 tasks (1-shot) or 2
    (5-shot).

    Examples
    --------
    >>> BOIL().adapts
    'body'
    """

    name = "boil"
    rate_for_classes: ClassVar[float] = 0.5
    adapts: Adapts = "body"
    inner_optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float | None = None
    learned_rates: LearnedRates = "none"
    multi_step_loss = False
    shared_head = False

    def __init__(
        self,
        n_steps: int = 1,
        inner_rate: float | Literal["auto"] = "auto",
        first_order: bool = False,
        adapt_steps: int | None = None,
        batch_statistics: Literal["support", "task"] = "support",
        vectorise: bool | Literal["auto"] = "auto",
        checkpoint_steps: bool = False,
    ) -> None:
        self.n_steps = n_steps
        self.inner_rate = inner_rate
        self.first_order = first_order
        self.adapt_steps = adapt_steps
        self.batch_statistics = batch_statistics
        self.vectorise = vectorise
        self.checkpoint_steps = checkpoint_steps

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare steps, rate and order."""
        return {
            "n_steps": Int(1, 5),
            "inner_rate": range_of_rates(0.05, 1.0, problem),
            "first_order": Categorical([False, True]),
        }


class ANIL(Labelled, HeadAlgorithm):
    """ANIL: MAML whose inner steps change the head alone, so that the body runs once over all tasks.

    Parameters
    ----------
    n_steps : int, default=5
        Inner steps.
    inner_rate : float or "auto", default="auto"
        Learning rate of the inner steps; ``"auto"`` is 0.1 for classes and 0.01 for targets.
    first_order : bool, default=False
        Leave out second derivatives.
    inner_optimizer : {"sgd", "adam"}, default="sgd"
        Of the inner steps.
    momentum : float or None, default=None
        Of the inner optimiser; ``None`` is 0 for SGD and 0.9 for Adam.
    shared_head : bool, default=False
        As in MAML.
    adapt_steps : int or None, default=None
        Inner steps outside training; ``None`` is ``n_steps``.

    Notes
    -----
    Raghu, Raghu, Bengio and Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of
    MAML", 2020. The loss is MAML's: cross-entropy, or mean squared error, of the query rows after the inner steps.
    `adapt` changes the head; the features are those of the backbone, before and after. In training, batch normalisation
    uses the statistics of a group of tasks (see `HeadAlgorithm`), and afterwards fixed ones. Those of each task are used by
    ``MAML(adapts="head")`` with its ``batch_statistics``, which is the same without batch normalisation but runs the body
    for each task. The head is sized as in MAML and computes in float32. Published for miniImageNet: five steps of 0.01
    and ten outside training, 4 tasks, Adam with 0.001.

    Examples
    --------
    >>> ANIL(n_steps=1)
    ANIL(n_steps=1)
    """

    name = "anil"

    def __init__(
        self,
        n_steps: int = 5,
        inner_rate: float | Literal["auto"] = "auto",
        first_order: bool = False,
        inner_optimizer: Literal["sgd", "adam"] = "sgd",
        momentum: float | None = None,
        shared_head: bool = False,
        adapt_steps: int | None = None,
    ) -> None:
        self.n_steps = n_steps
        self.inner_rate = inner_rate
        self.first_order = first_order
        self.inner_optimizer = inner_optimizer
        self.momentum = momentum
        self.shared_head = shared_head
        self.adapt_steps = adapt_steps

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare steps, rate and order."""
        return {
            "n_steps": Int(1, 10),
            "inner_rate": range_of_rates(0.01, 1.0, problem),
            "first_order": Categorical([False, True]),
        }

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone with a linear head.

        Raises
        ------
        InvalidParameterError
            A setting that cannot be.
        """
        check_inner_settings(self)
        return LinearHeadLearner(backbone, n_features, problem, self.shared_head)

    def adapt(self, learner: Learner, support_x: Tensor, support_y: Tensor, n_way: int, context: Context) -> State:
        """Take the inner steps on the features of the support set."""
        loop = inner_loop_of(self, context)
        return self._descend(loop, learner, at_least_float32(learner.backbone(support_x)), support_y, n_way)

    def fit_head(self, learner: Learner, features: Tensor, y: Tensor, n_way: int) -> State:
        """Return ``{"weight": (..., n_outputs, n_features), "bias": (..., n_outputs)}`` after the inner steps."""
        loop = dataclasses.replace(inner_loop_of(self, Context(training=True)), transformable=False)
        return self._descend(loop, learner, features, y, n_way)

    def apply_head(self, learner: Learner, state: State, features: Tensor) -> Tensor:
        """Apply the adapted head."""
        return apply_linear(features, state["weight"], state["bias"])

    def _descend(self, loop: InnerLoop, learner: Learner, features: Tensor, y: Tensor, n_way: int) -> State:
        leading = features.shape[:-2]

        def loss(head: Parameters, shared: Parameters, step: int) -> Tensor:
            predicted = apply_linear(shared["features"], head["weight"], head["bias"])
            return task_loss(predicted, y) * leading.numel()

        assert isinstance(learner, LinearHeadLearner)
        # Tensors of the caller's stand in for the parameters while a loss is recorded.
        rows = {name: task_rows(getattr(learner.head, name), n_way) for name in ("weight", "bias")}
        start = {name: value.expand(*leading, *value.shape) for name, value in rows.items()}
        rates: list[Rates] = [dict.fromkeys(start, rate_for(self.inner_rate, learner.problem))]
        return loop.adapt(loss, start, rates, {"features": features})


def check_inner_settings(algorithm: MAML | ANIL) -> None:
    """Check the settings of an inner loop.

    Raises
    ------
    InvalidParameterError
        Naming the algorithm, the setting and what was received.
    """
    check_sizes(algorithm.name, n_steps=algorithm.n_steps)
    check_inner_rate(algorithm.name, algorithm.inner_rate)
    check_choice(algorithm.name, "inner_optimizer", algorithm.inner_optimizer, ("sgd", "adam"))
    for flag in _FLAGS:
        check_choice(algorithm.name, flag, getattr(algorithm, flag, False), (False, True))
    check_momentum(algorithm.name, algorithm.momentum)
    if algorithm.adapt_steps is not None:
        check_sizes(algorithm.name, adapt_steps=algorithm.adapt_steps)


def inner_loop_of(algorithm: MAML | ANIL, context: Context) -> InnerLoop:
    """Return the inner steps that the settings of an algorithm describe."""
    loop = InnerLoop(
        algorithm.n_steps,
        algorithm.inner_optimizer,
        algorithm.momentum,
        algorithm.first_order,
        getattr(algorithm, "checkpoint_steps", False),
    )
    if context.training or algorithm.adapt_steps is None:
        return loop
    return dataclasses.replace(loop, n_steps=algorithm.adapt_steps)


def _step_weights(n_steps: int, context: Context) -> list[float]:
    """Return the weight of each step in the multi-step loss; they add up to one."""
    progress = context.step / max(1.0, _ANNEALED_AFTER * context.max_steps)
    earlier = max(0.0, 1.0 - progress) / n_steps if context.training else 0.0
    return [earlier] * (n_steps - 1) + [1.0 - earlier * (n_steps - 1)]
