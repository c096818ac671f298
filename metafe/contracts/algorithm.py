"""Meta-algorithms: how tasks teach a learner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from metafe.contracts.plugin import Plugin
from metafe.contracts.task_batch import Problem, TaskBatch

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from metafe.contracts.learner import Learner

State = dict[str, "Tensor"]


@dataclass(frozen=True)
class Context:
    """What surrounds a call to a meta-algorithm.

    Parameters
    ----------
    training : bool
        True inside meta-training; False in validation, `adapt` and `transform`.
    step : int, default=0
        Outer-loop step.
    max_steps : int, default=0
        Length of the outer loop; 0 outside training.
    generator : torch.Generator or None, default=None
        Source of randomness on the device of the batch, if the algorithm needs any.
    """

    training: bool
    step: int = 0
    max_steps: int = 0
    generator: torch.Generator | None = None


class MetaAlgorithm(Plugin):
    """Base of all meta-algorithms.

    A subclass writes `adapt` and `predict`, or its own `meta_loss`. Algorithms that fit a head on features are
    shorter on top of `metafe.contracts.HeadAlgorithm`.

    Attributes
    ----------
    trains_on : {"tasks", "rows"}
        What a training batch holds. With ``"rows"`` it is one task without support, whose query set is a plain
        mini-batch with its labels across tasks in ``query_class``.
    separable : bool
        True when the loss of a batch is the mean of losses of its tasks, so that a batch may be computed in parts.
        Not so where batch statistics span the whole step.
    adapts_features : bool
        True when `features` depends on the state that `adapt` returns.
    stands_bfloat16 : bool
        True when the network may run in bfloat16 while training; the result is float32 in any case.
    """

    kind = "algorithm"
    trains_on: ClassVar[Literal["tasks", "rows"]] = "tasks"
    separable: ClassVar[bool] = False
    adapts_features: ClassVar[bool] = True
    stands_bfloat16: ClassVar[bool] = False

    def accepts(self, problem: Problem) -> str | None:
        """Say why a problem cannot be learned: one sentence, or None when it can be."""
        return None

    def stands_compiling(self, learner: Learner) -> bool:
        """Say whether `meta_loss` is one function of its tensors at every step, drawing nothing at random, and faster compiled."""
        return False

    def gains_by_bfloat16(self, learner: Learner) -> bool:
        """Say by rule whether training is faster in bfloat16, which ``precision="auto"`` then takes; by default where it stands it."""
        return self.stands_bfloat16

    def training_defaults(self) -> dict[str, Any]:
        """Return the outer-loop settings to use where the user left ``"auto"``.

        Returns
        -------
        dict
            Any of ``max_steps``, ``meta_batch_size``, ``optimizer``, ``learning_rate``, ``weight_decay``,
            ``schedule``, ``patience``. A ``learning_rate`` beside an ``optimizer`` is for that one alone.
        """
        return {}

    def parameter_groups(self, learner: Learner) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups; a group may set its own ``lr`` or ``weight_decay``.

        The default has one group for what decays and one, without weight decay, for what does not.
        """
        trained = [(self.decays(name, p), p) for name, p in learner.named_parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for decays, p in trained if decays]},
            {"params": [p for decays, p in trained if not decays], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Say whether weight decay pulls a parameter to zero: by default any but a single number, such as a temperature."""
        return parameter.ndim > 0

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Make the learner, which owns every meta-parameter.

        Parameters
        ----------
        backbone : torch.nn.Module
            Maps rows to ``n_features`` features.
        n_features : int
            Width of the features.
        problem : Problem
            What is to be learned.

        Returns
        -------
        Learner
        """
        from metafe.contracts.learner import Learner

        return Learner(backbone, n_features, problem)

    def adapt(self, learner: Learner, support_x: Tensor, support_y: Tensor, n_way: int, context: Context) -> State:
        """Adapt to one task; pure, differentiable and vectorisable.

        Parameters
        ----------
        learner : Learner
            Left as it is.
        support_x : Tensor of shape (S, *input_shape)
            Support rows.
        support_y : Tensor of shape (S,) int64 or (S, n_targets)
            Labels within the task, or targets.
        n_way : int
            Number of classes; 0 for regression.
        context : Context
            Whether this is training, and where in it.

        Returns
        -------
        dict of str to Tensor
            Everything `features` and `predict` need beside the learner. The default is empty.
        """
        return {}

    def features(self, learner: Learner, state: State, x: Tensor) -> Tensor:
        """Return the features of rows, each on its own.

        Parameters
        ----------
        learner : Learner
        state : dict of str to Tensor
            What `adapt` returned; empty when the learner is not adapted.
        x : Tensor of shape (b, *input_shape)

        Returns
        -------
        Tensor of shape (b, n_features)
            The default is what the backbone gives.
        """
        return learner.backbone(x)

    def features_of_tasks(
        self, learner: Learner, batch: TaskBatch, context: Context
    ) -> Iterable[tuple[Tensor, Tensor]]:
        """Adapt to the support set of each task and return its features.

        Parameters
        ----------
        learner : Learner
        batch : TaskBatch
            Tensors on the learner's device.
        context : Context

        Yields
        ------
        support : Tensor of shape (S, n_features)
        query : Tensor of shape (Q, n_features)
            Features of the rows of each task.

        Notes
        -----
        The default calls `adapt` and `features` for one task after the other; an algorithm may do the same for all at
        once.
        """
        for t in range(len(batch)):
            support_x, query_x = batch.support_x[t], batch.query_x[t]
            state = self.adapt(learner, support_x, batch.support_y[t], batch.n_way, context)
            yield self.features(learner, state, support_x), self.features(learner, state, query_x)

    def predict(self, learner: Learner, state: State, x: Tensor) -> Tensor:
        """Return the prediction of an adapted learner.

        Parameters
        ----------
        learner : Learner
        state : dict of str to Tensor
            What `adapt` returned.
        x : Tensor of shape (q, *input_shape)

        Returns
        -------
        Tensor of shape (q, n_way) or (q, n_targets)
            Class scores before the softmax, or predicted targets.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a predict method.")

    def meta_loss(
        self, learner: Learner, batch: TaskBatch, context: Context
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Return what the outer loop minimises on one batch.

        Parameters
        ----------
        learner : Learner
        batch : TaskBatch
            Tensors on the learner's device.
        context : Context

        Returns
        -------
        loss : Tensor of shape ()
            Its gradient is the outer gradient. An algorithm whose outer gradient is not that of a loss returns one
            that carries the gradient it wants.
        metrics : dict of str to float or Tensor of shape ()
            Shown beside the loss, and in ``history_``, as means over the steps since the last validation. Any name but
            ``step``, ``loss``, ``score`` and ``seconds``.

        Notes
        -----
        The default adapts to each task on its support set and returns the mean loss of `predict` on the query sets.
        """
        import torch

        from metafe.contracts.losses import accuracy, task_loss

        logits = torch.stack([self._predict_task(learner, batch, t, context) for t in range(len(batch))])
        metrics: dict[str, float | Tensor] = {"accuracy": accuracy(logits, batch.query_y)} if batch.n_way else {}
        return task_loss(logits, batch.query_y), metrics

    def _predict_task(self, learner: Learner, batch: TaskBatch, t: int, context: Context) -> Tensor:
        state = self.adapt(learner, batch.support_x[t], batch.support_y[t], batch.n_way, context)
        return self.predict(learner, state, batch.query_x[t])
