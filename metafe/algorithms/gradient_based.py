"""What the algorithms share that adapt a network by gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from metafe.algorithms.defaults import Labelled
from metafe.algorithms.task_threads import map_in_threads
from metafe.contracts import (
    Context,
    Differentiated,
    Float,
    InvalidParameterError,
    Learner,
    Problem,
    State,
    TaskBatch,
    accuracy,
    check_choice,
    check_numbers,
    differentiate,
    sum_losses,
    task_loss,
)
from metafe.contracts.learner import at_least_float32, full_precision
from metafe.inner_loop import (
    InnerLoop,
    Parameters,
    Rates,
    TaskNetwork,
    draws_in_training,
    reuses_weights,
    stands_threads,
    stands_vectorising,
)

Adapts = Literal["all", "head", "body"]
LearnedRates = Literal["none", "layer_step", "element"]
Metrics = dict[str, float | Tensor]
Result = TypeVar("Result")

HEAD = ("head.weight", "head.bias")
RATE_FOR_CLASSES = 0.1
# A squared error is steeper than a cross-entropy: steps that suit the latter diverge.
SHARE_FOR_TARGETS = 0.1
# Adapted values, over all tasks that are adapted to at once outside training: some hundred megabytes.
_VALUES_AT_ONCE = 2**23
# Input values, over the inner steps, of the tasks that are trained on at once where they are vectorised: a convolutional
# network's activations for these take some gigabytes.
_VALUES_TRAINED_AT_ONCE = 4_000_000


def check_inner_rate(owner: str, rate: float | Literal["auto"]) -> None:
    """Raise `InvalidParameterError` unless a rate of inner steps is a number or ``"auto"``."""
    if rate != "auto":
        check_numbers(owner, inner_rate=rate)


def check_momentum(owner: str, momentum: float | None) -> None:
    """Raise `InvalidParameterError` unless a momentum is a number from 0 to below 1, or None."""
    if momentum is None:
        return
    check_numbers(owner, momentum=momentum)
    if momentum >= 1:
        raise InvalidParameterError(f"{owner} momentum must be below 1, or its steps never end; got {momentum!r}.")


def rate_for(rate: float | Literal["auto"], problem: Problem, for_classes: float = RATE_FOR_CLASSES) -> float:
    """Return the rate of inner steps; for ``"auto"``, by whether classes or targets are learned."""
    return for_classes * _share(problem) if rate == "auto" else rate


def range_of_rates(low: float, high: float, problem: Problem) -> Float:
    """Return the range in which the rate of inner steps is searched, given that for classes."""
    return Float(_share(problem) * low, _share(problem) * high, log=True)


def _share(problem: Problem) -> float:
    return 1.0 if problem.kind == "classification" else SHARE_FOR_TARGETS


class LinearHeadLearner(Learner):
    """A backbone with a linear head of one output for each class of a task, or for each target.

    Parameters
    ----------
    backbone : torch.nn.Module
    n_features : int
    problem : Problem
    shared_head : bool, default=False
        Whether all classes start from one row of weights.
    """

    def __init__(self, backbone: nn.Module, n_features: int, problem: Problem, shared_head: bool = False) -> None:
        super().__init__(backbone, n_features, problem)
        n_outputs = problem.max_way if problem.kind == "classification" else problem.n_targets
        self.head = nn.Linear(n_features, 1 if shared_head and problem.max_way else n_outputs)
        self.rates = nn.ParameterDict()

    def learn_rates(self, kind: LearnedRates, names: Sequence[str], rate: float, n_steps: int) -> None:
        """Add learned inner rates for the parameters of these names, all at ``rate`` to begin with."""
        for name in names if kind != "none" else []:
            like = self.get_parameter(name)
            start = torch.full_like(like, rate) if kind == "element" else like.new_full((n_steps,), rate)
            self.rates[flat_name(name)] = nn.Parameter(start.detach())


@dataclass(frozen=True)
class Episode:
    """One task, or all tasks of a batch along a leading dimension, as the inner loop sees it.

    Parameters
    ----------
    learner : LinearHeadLearner
    network : TaskNetwork
        Of the learner's backbone.
    n_way : int
        Classes of the task; 0 for regression.
    n_tasks : int or None
        Length of the leading dimension; None without one.
    """

    learner: LinearHeadLearner
    network: TaskNetwork
    n_way: int
    n_tasks: int | None = None

    def start(self, is_adapted: Callable[[str], bool]) -> tuple[Parameters, Parameters]:
        """Return the initial values of what adapts, for each task, and the parameters that tasks share."""
        adapted, shared = {}, {}
        for name, parameter in self.learner.named_parameters():
            if name.startswith("rates."):
                continue
            value = task_rows(parameter, self.n_way) if name in HEAD else parameter
            if is_adapted(name) and parameter.requires_grad:
                adapted[name] = value if self.n_tasks is None else value.expand(self.n_tasks, *value.shape)
            else:
                shared[name] = value
        return adapted, shared

    def predict(self, parameters: Parameters, x: Tensor, normalised_as: Tensor | None = None) -> Tensor:
        """Return the network's outputs for rows ``([T,] b, *input_shape)``, ``([T,] b, n_outputs)``.

        Batch normalisation uses the statistics of the rows themselves, or of others where they are given.
        """
        statistics: Parameters = {}
        if normalised_as is not None:
            with full_precision(x.device):
                statistics = self.statistics(parameters, normalised_as)
        features = self.network({**body_of(parameters), **statistics}, x)
        with full_precision(x.device):
            return apply_linear(at_least_float32(features), *(parameters[name] for name in HEAD))

    def statistics(self, parameters: Parameters, x: Tensor) -> Parameters:
        """Return the batch statistics of rows under these parameters."""
        return self.network.statistics(body_of(parameters), x)

    def loss(
        self, x: Tensor, y: Tensor, normalised_as: Tensor | None = None
    ) -> Callable[[Parameters, Parameters, int], Tensor]:
        """Return the loss on rows, the sum over tasks, as a function of adapted and shared parameters."""
        return lambda adapted, shared, step: self.sum_of_losses(
            self.predict({**shared, **adapted}, x, normalised_as), y
        )

    def sum_of_losses(self, predicted: Tensor, y: Tensor) -> Tensor:
        """Return the loss of one task or the sum over tasks, whose gradient is the gradient of each."""
        return task_loss(predicted, y) * (self.n_tasks or 1)


class GradientAlgorithm(Labelled):
    """Base of algorithms that adapt the network by gradient descent on the support set.

    A subclass stores ``vectorise`` and ``batch_statistics``, and says by `inner_loop`, `is_adapted` and `rates` how the
    steps are taken. State holds what has changed, by its name in the learner with dashes for dots, and the head that
    belongs to the task.

    Where training runs in bfloat16, the body does on the query rows alone; inner steps, statistics and heads stay in
    float32.

    Attributes
    ----------
    separable : bool
        True: the statistics of batch normalisation are those of each task.
    statistics_choices : tuple of str
        What ``batch_statistics`` may be.
    """

    separable = True
    adapts_features = True
    stands_bfloat16 = True

    statistics_choices: ClassVar[tuple[str, ...]] = ("support", "task")

    vectorise: bool | Literal["auto"]
    batch_statistics: str

    def gains_by_bfloat16(self, learner: Learner) -> bool:
        """Say no of a network of linear layers: there the inner steps, in float32, take nearly all of the time."""
        return self.stands_bfloat16 and reuses_weights(learner.backbone)

    def inner_loop(self, context: Context) -> InnerLoop:
        """Return the steps to take in training or outside it."""
        raise NotImplementedError(f"{type(self).__name__} needs an inner_loop method.")

    def is_adapted(self, name: str) -> bool:
        """Say whether the parameter of this name in the learner adapts to a task; the default is that all do."""
        return True

    def rates(self, learner: LinearHeadLearner, n_way: int) -> list[Rates]:
        """Return the rates of each step for each adapted parameter."""
        raise NotImplementedError(f"{type(self).__name__} needs a rates method.")

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Say that no weight decay may pull learned rates to zero."""
        return super().decays(name, parameter) and not name.startswith("rates.")

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone with a linear head.

        Raises
        ------
        InvalidParameterError
            A setting that cannot be, or drop-out in a network whose inner steps are computed twice.
        """
        if getattr(self, "checkpoint_steps", False) and draws_in_training(backbone):
            raise InvalidParameterError(
                f"{self.name} checkpoint_steps=True needs a network without drop-out, whose masks would be others when a "
                "step is computed again; got one with some. Set its drop-out to 0, or leave checkpoint_steps at False."
            )
        if self.vectorise is True and draws_in_training(backbone):
            raise InvalidParameterError(
                f"{self.name} vectorise=True needs a network without drop-out, whose masks cannot be drawn for all tasks at "
                "once; got one with some. Set its drop-out to 0, or leave vectorise at 'auto'."
            )
        check_choice(self.name, "batch_statistics", self.batch_statistics, self.statistics_choices)
        check_choice(self.name, "vectorise", self.vectorise, ("auto", True, False))
        return LinearHeadLearner(backbone, n_features, problem)

    def adapt(self, learner: Learner, support_x: Tensor, support_y: Tensor, n_way: int, context: Context) -> State:
        """Take the inner steps on the support set.

        Returns
        -------
        dict of str to Tensor
            The parameters that have changed, the head, and the statistics of batch normalisation on the support set.
        """
        episode = self.episode(learner, n_way)
        adapted, shared = self.adapt_episode(episode, support_x, support_y, context)
        parameters = {**shared, **adapted}
        statistics = episode.statistics(parameters, support_x)
        kept = {**adapted, **{name: parameters[name] for name in HEAD}}
        kept.update({f"backbone.{name}": value for name, value in statistics.items()})
        return {flat_name(name): value for name, value in kept.items()}

    def features(self, learner: Learner, state: State, x: Tensor) -> Tensor:
        """Return the features that the adapted backbone gives; those of the backbone itself without a state."""
        return _features(learner, state, x)

    def features_of_tasks(
        self, learner: Learner, batch: TaskBatch, context: Context
    ) -> Iterable[tuple[Tensor, Tensor]]:
        """Adapt to many tasks at once where that is faster, or to some side by side, and return their features."""
        if not self.vectorises(learner):
            yield from _each_task(learner, batch, lambda task: self._features_of_task(learner, task, context))
            return
        n_values = sum(p.numel() for p in learner.parameters())
        n_tasks = max(1, _VALUES_AT_ONCE // max(1, n_values))
        for start in range(0, len(batch), n_tasks):
            part = slice(start, start + n_tasks)
            yield from self._features_at_once(learner, batch, part, context)

    def _features_of_task(self, learner: Learner, task: TaskBatch, context: Context) -> tuple[Tensor, Tensor]:
        state = self.adapt(learner, task.support_x, task.support_y, task.n_way, context)
        return self.features(learner, state, task.support_x), self.features(learner, state, task.query_x)

    def _features_at_once(
        self, learner: Learner, batch: TaskBatch, part: slice, context: Context
    ) -> Iterable[tuple[Tensor, Tensor]]:
        x, y = batch.support_x[part], batch.support_y[part]
        episode = self.episode(learner, batch.n_way, len(x))
        adapted, shared = self.adapt_episode(episode, x, y, context)
        tensors = body_of({**shared, **adapted})
        tensors.update(episode.network.statistics(tensors, x))
        return zip(*(episode.network(tensors, rows) for rows in (x, batch.query_x[part])), strict=True)

    def predict(self, learner: Learner, state: State, x: Tensor) -> Tensor:
        """Apply the adapted network."""
        head = (state.get(flat_name(name), learner.get_parameter(name)) for name in HEAD)
        return apply_linear(_features(learner, state, x), *head)

    def meta_loss(self, learner: Learner, batch: TaskBatch, context: Context) -> tuple[Tensor, Metrics]:
        """Return the mean loss of the adapted networks on the query sets."""
        loss, predicted = self.over_tasks(
            learner, batch, lambda episode, tasks: self.query_loss(episode, tasks, context), context
        )
        return loss, {"accuracy": accuracy(predicted, batch.query_y.flatten(0, 1))} if batch.n_way else {}

    def query_loss(self, episode: Episode, batch: TaskBatch, context: Context) -> tuple[Tensor, Tensor]:
        """Return what one task, or all tasks of a batch at once, add to the outer loss.

        Parameters
        ----------
        episode : Episode
        batch : TaskBatch
            The rows of the episode.
        context : Context

        Returns
        -------
        loss : Tensor of shape ()
            The sum over tasks; the default is the loss on the query rows after the last step.
        predicted : Tensor of shape ([T,] Q, n_outputs)
            The adapted network's outputs for the query rows.
        """
        adapted, shared = self.adapt_episode(episode, batch.support_x, batch.support_y, context)
        predicted = self.query_prediction(episode, {**shared, **adapted}, batch)
        return episode.sum_of_losses(predicted, batch.query_y), predicted

    def query_prediction(self, episode: Episode, parameters: Parameters, batch: TaskBatch) -> Tensor:
        """Return the outputs for query rows under these parameters."""
        return episode.predict(
            parameters, batch.query_x, batch.support_x if self.batch_statistics == "support" else None
        )

    def adapt_episode(self, episode: Episode, x: Tensor, y: Tensor, context: Context) -> tuple[Parameters, Parameters]:
        """Take the inner steps and return adapted and shared parameters."""
        adapted, shared = episode.start(self.is_adapted)
        rates = self.rates(episode.learner, episode.n_way)
        return self.inner_loop(context).adapt(episode.loss(x, y), adapted, rates, shared), shared

    def episode(self, learner: Learner, n_way: int, n_tasks: int | None = None) -> Episode:
        """Return a view of the learner on one task, or on ``n_tasks`` at once."""
        assert isinstance(learner, LinearHeadLearner)
        return Episode(learner, TaskNetwork(learner.backbone, vectorised=n_tasks is not None), n_way, n_tasks)

    def over_tasks(
        self,
        learner: Learner,
        batch: TaskBatch,
        function: Callable[[Episode, TaskBatch], tuple[Tensor, Tensor]],
        context: Context,
    ) -> tuple[Tensor, Tensor]:
        """Sum a loss over many tasks at once, or over each on its own, as ``vectorise`` says.

        At once are all tasks, or as many as memory holds by a rule of shapes and inner steps. On a CPU, tasks on their own run
        side by side, one on each of torch's threads, where the network allows it.

        Parameters
        ----------
        learner : Learner
        batch : TaskBatch
        function : callable
            Maps an episode and its rows to the sum of losses and the outputs, as `query_loss` does.
        context : Context

        Returns
        -------
        loss : Tensor of shape ()
            The mean over tasks.
        predicted : Tensor of shape (T * Q, n_outputs)
        """
        vectorised = self.vectorises(learner)
        groups = self._groups(batch, context) if vectorised else []
        if len(groups) == 1:
            loss, predicted = function(self.episode(learner, batch.n_way, len(batch)), batch)
            return loss / len(batch), predicted.flatten(0, -2)
        parameters = [p for p in learner.parameters() if p.requires_grad]

        def differentiated(tasks: TaskBatch) -> tuple[Differentiated, Tensor]:
            loss, predicted = function(self.episode(learner, batch.n_way, len(tasks) if vectorised else None), tasks)
            # At once, so that memory holds the graphs of the tasks at work alone.
            return differentiate(loss / len(batch), parameters), predicted.detach().flatten(0, -2)

        outputs: list[Tensor] = []

        def parts() -> Iterator[Differentiated]:
            done = map(differentiated, groups) if vectorised else _each_task(learner, batch, differentiated)
            for part, predicted in done:
                outputs.append(predicted)
                yield part

        return sum_losses(parts(), parameters), torch.cat(outputs)

    def _groups(self, batch: TaskBatch, context: Context) -> list[TaskBatch]:
        """Split a batch into tasks that are computed at once, as alike in number as can be."""
        loop = self.inner_loop(context)
        n_kept = 1 if loop.first_order or loop.checkpoint_steps else loop.n_steps
        n_rows = n_kept * batch.support_x.shape[1] + batch.query_x.shape[1]
        n_values = len(batch) * n_rows * batch.query_x.shape[2:].numel()
        n_groups = max(1, min(len(batch), -(-n_values // _VALUES_TRAINED_AT_ONCE)))
        return batch.groups(-(-len(batch) // n_groups))

    def vectorises(self, learner: Learner) -> bool:
        """Say whether all tasks of a batch are computed at once."""
        return stands_vectorising(learner.backbone) if self.vectorise == "auto" else self.vectorise


def flat_name(name: str) -> str:
    """Return a parameter's name as it may stand in a state or a `torch.nn.ParameterDict`: without dots."""
    return name.replace(".", "-")


def task_rows(tensor: Tensor, n_way: int) -> Tensor:
    """Return the rows of a head for a task of ``n_way`` classes.

    Parameters
    ----------
    tensor : Tensor of shape (n_outputs, ...)
    n_way : int
        Number of classes; 0 for regression, where the head stays as it is.

    Returns
    -------
    Tensor of shape (n_way, ...)
        The first ones; where there are too few, each further one is their mean.
    """
    n_missing = n_way - len(tensor)
    if n_way == 0 or n_missing == 0:
        return tensor
    if n_missing < 0:
        return tensor[:n_way]
    return torch.cat([tensor, tensor.mean(0, keepdim=True).expand(n_missing, *tensor.shape[1:])])


def apply_linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a linear head, with or without leading dimensions: ``(..., b, d)`` to ``(..., b, n_outputs)``."""
    if weight.ndim == 3 and features.ndim == 3:
        return torch.baddbmm(bias.unsqueeze(-2), features, weight.mT)
    return features @ weight.mT + bias.unsqueeze(-2)


def body_of(parameters: Parameters) -> Parameters:
    """Return the backbone's tensors by their names in the backbone."""
    return {name.removeprefix("backbone."): v for name, v in parameters.items() if name.startswith("backbone.")}


def tasks_of(batch: TaskBatch) -> list[TaskBatch]:
    """Return the tasks of a batch without the leading dimension."""
    return [
        TaskBatch(batch.support_x[t], batch.support_y[t], batch.query_x[t], batch.query_y[t], batch.n_way)
        for t in range(len(batch))
    ]


def _each_task(learner: Learner, batch: TaskBatch, function: Callable[[TaskBatch], Result]) -> Iterable[Result]:
    """Call a function for each task, side by side on a CPU where the network allows it."""
    side_by_side = batch.query_x.device.type == "cpu" and stands_threads(learner.backbone)
    return (map_in_threads if side_by_side else map)(function, tasks_of(batch))


def _features(learner: Learner, state: State, x: Tensor) -> Tensor:
    if not state:
        return learner.backbone(x)
    network = TaskNetwork(learner.backbone)
    known = [*learner.backbone.state_dict(), *network.statistic_names]
    tensors = {name: state[flat] for name in known if (flat := flat_name(f"backbone.{name}")) in state}
    return network(tensors, x)
