"""What a meta-algorithm trains."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from metafe.contracts.algorithm import Context, MetaAlgorithm, State
from metafe.contracts.losses import accuracy, task_loss
from metafe.contracts.task_batch import Problem, TaskBatch


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
        """Return the mean loss of the head on the query sets, the body having run once over all rows."""
        support, query = features_of_batch(learner.backbone, batch)
        with _full_precision(support.device.type):
            state = self.fit_head(learner, support, batch.support_y, batch.n_way)
            predicted = self.apply_head(learner, state, query)
            loss = self.head_loss(predicted, batch.query_y)
        return loss, {"accuracy": accuracy(predicted, batch.query_y)} if batch.n_way else {}


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
    import torch

    n_support = batch.support_x.shape[0] * batch.support_x.shape[1]
    rows = torch.cat([batch.support_x.flatten(0, 1), batch.query_x.flatten(0, 1)])
    features = at_least_float32(backbone(rows))
    support, query = features[:n_support], features[n_support:]
    n_tasks = len(batch)
    return support.reshape(n_tasks, -1, features.shape[-1]), query.reshape(n_tasks, -1, features.shape[-1])


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 where it is narrower; float64 stays."""
    return x.float() if x.itemsize < 4 else x


def _full_precision(device_type: str):  # type: ignore[no-untyped-def]
    import torch

    return torch.autocast(device_type, enabled=False)
