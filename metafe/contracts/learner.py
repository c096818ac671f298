"""What a meta-algorithm trains."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from metafe.contracts.algorithm import Context, MetaAlgorithm, State
from metafe.contracts.losses import Differentiated, accuracy, differentiate, sum_losses, task_loss
from metafe.contracts.task_batch import Problem, TaskBatch

# Input values of a group of tasks: on a CPU, more of them do not make a convolution faster, only larger. An accelerator
# is faster with as many as its memory holds: of a convolutional network's activations, these take some gigabytes.
VALUES_AT_ONCE, VALUES_AT_ONCE_ON_ACCELERATORS = 200_000, 4_000_000
# Enough for steady statistics of batch normalisation, however large a row is.
FEWEST_ROWS_AT_ONCE = 256


class Learner(nn.Module):
    """A backbone plus whatever else an algorithm learns.

    Algorithms add heads, comparison networks or learned rates as submodules and parameters; all of them are trained,
    saved and loaded together.

    Parameters
    ----------
    backbone : torch.nn.Module
        Maps ``(b, *input_shape)`` to ``(b, n_features)``. It is copied, so that a module which the user passed
        keeps its weights.
    n_features : int
        Width of the features.
    problem : Problem
        What the learner was made for.
    """

    def __init__(self, backbone: nn.Module, n_features: int, problem: Problem) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.n_features = n_features
        self.problem = problem


class HeadAlgorithm(MetaAlgorithm):
    """Base of algorithms that fit a head on features: the body runs once over all tasks of a batch.

    A subclass writes `fit_head` and `apply_head`. Both see any number of leading dimensions, one for the tasks of a
    batch in training and none when one task is adapted to; torch's broadcasting usually does the rest.
    Heads compute in float32 at least, whatever the precision of the network.

    Notes
    -----
    In training, batch normalisation uses the statistics of all rows that the body sees at once: those of the whole batch, or,
    where that is more than memory and caches like (256 rows, or more small ones), of as many of its tasks as
    are not; an accelerator sees twenty times as many at once. Such "ghost batches" are those of Hoffer, Hubara and Soudry,
    "Train longer, generalize better", 2017.
    """

    adapts_features = False
    stands_bfloat16 = True

    def fit_head(self, learner: Learner, features: Tensor, y: Tensor, n_way: int) -> State:
        """Fit the head on support features.

        Parameters
        ----------
        learner : Learner
        features : Tensor of shape (..., S, n_features)
        y : Tensor of shape (..., S) int64 or (..., S, n_targets)
        n_way : int
            Number of classes; 0 for regression.

        Returns
        -------
        dict of str to Tensor
        """
        raise NotImplementedError(f"{type(self).__name__} needs a fit_head method.")

    def apply_head(self, learner: Learner, state: State, features: Tensor) -> Tensor:
        """Return class scores or predicted targets from query features.

        Parameters
        ----------
        learner : Learner
        state : dict of str to Tensor
            What `fit_head` returned.
        features : Tensor of shape (..., Q, n_features)

        Returns
        -------
        Tensor of shape (..., Q, n_way) or (..., Q, n_targets)
        """
        raise NotImplementedError(f"{type(self).__name__} needs an apply_head method.")

    def head_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Return the loss on the query sets; the default is `task_loss`.

        Parameters
        ----------
        predicted : Tensor of shape (T, Q, n_way) or (T, Q, n_targets)
            What `apply_head` returned.
        target : Tensor of shape (T, Q) int64 or (T, Q, n_targets)

        Returns
        -------
        Tensor of shape ()
        """
        return task_loss(predicted, target)

    def adapt(self, learner: Learner, support_x: Tensor, support_y: Tensor, n_way: int, context: Context) -> State:
        """Fit the head on the support set; the backbone stays as it is."""
        return self.fit_head(learner, at_least_float32(learner.backbone(support_x)), support_y, n_way)

    def predict(self, learner: Learner, state: State, x: Tensor) -> Tensor:
        """Apply the fitted head to the features of ``x``."""
        return self.apply_head(learner, state, at_least_float32(learner.backbone(x)))

    def meta_loss(
        self, learner: Learner, batch: TaskBatch, context: Context
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Return the mean loss of the head on the query sets.

        The body runs once over all rows of a group of tasks; most batches are one group.
        """
        parameters = [p for p in learner.parameters() if p.requires_grad]
        predicted: list[Tensor] = []

        def differentiated(tasks: TaskBatch) -> Differentiated:
            loss, of_group = self._loss_of_group(learner, tasks)
            predicted.append(of_group.detach())
            return differentiate(loss * (len(tasks) / len(batch)), parameters)

        groups = groups_of_tasks(batch)
        if len(groups) == 1:
            loss, of_all = self._loss_of_group(learner, batch)
        else:
            loss, of_all = sum_losses(map(differentiated, groups), parameters), torch.cat(predicted)
        return loss, {"accuracy": accuracy(of_all, batch.query_y)} if batch.n_way else {}

    def _loss_of_group(self, learner: Learner, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        support, query = features_of_batch(learner.backbone, batch)
        with full_precision(support.device):
            state = self.fit_head(learner, support, batch.support_y, batch.n_way)
            predicted = self.apply_head(learner, state, query)
            return self.head_loss(predicted, batch.query_y), predicted


def groups_of_tasks(batch: TaskBatch) -> list[TaskBatch]:
    """Split a batch into groups of tasks over whose rows a body runs at once, by a rule of shapes and the kind of device."""
    n_rows = batch.support_x.shape[1] + batch.query_x.shape[1]
    n_values = max(1, batch.query_x.shape[2:].numel())
    n_at_once = VALUES_AT_ONCE if batch.query_x.device.type == "cpu" else VALUES_AT_ONCE_ON_ACCELERATORS
    n_tasks = max(1, max(FEWEST_ROWS_AT_ONCE, n_at_once // n_values) // n_rows)
    return [batch] if n_tasks >= len(batch) else batch.groups(n_tasks)


def features_of_batch(backbone: nn.Module, batch: TaskBatch) -> tuple[Tensor, Tensor]:
    """Run a backbone once over all rows of a batch.

    Parameters
    ----------
    backbone : torch.nn.Module
    batch : TaskBatch
        Tensors.

    Returns
    -------
    support : Tensor of shape (T, S, n_features)
    query : Tensor of shape (T, Q, n_features)
        float32, or float64 where the backbone computes in it.
    """
    n_support = batch.support_x.shape[0] * batch.support_x.shape[1]
    rows = torch.cat([batch.support_x.flatten(0, 1), batch.query_x.flatten(0, 1)])
    features = at_least_float32(backbone(rows))
    support, query = features[:n_support], features[n_support:]
    n_tasks = len(batch)
    return support.reshape(n_tasks, -1, features.shape[-1]), query.reshape(n_tasks, -1, features.shape[-1])


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 where it is narrower; float64 stays."""
    return x.float() if x.itemsize < 4 else x


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context without autocast on a device."""
    return torch.autocast(device.type, enabled=False)
