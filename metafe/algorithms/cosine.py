"""Supervised training of a cosine classifier."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metafe.contracts import Context, Float, InvalidParameterError, Learner, MetaAlgorithm, Problem, TaskBatch, accuracy
from metafe.contracts.losses import task_loss
from metafe.contracts.spaces import SearchSpace


class Cosine(MetaAlgorithm):
    r"""One network for all training rows, whose last layer compares directions with a learned one of each class.

    Features of a class are drawn together in their direction, which plain supervised training does not ask for. The
    features are those before the last layer.

    Parameters
    ----------
    scale : float, default=10.0
        Where the learned factor of the cosines starts, without which a softmax could not tell classes apart.

    Notes
    -----
    "Baseline++" of Chen et al., "A Closer Look at Few-shot Classification", 2019. With features :math:`f(x)` and a
    learned weight vector :math:`w_k` for each training class, the loss is the cross-entropy of
    :math:`\mathrm{softmax}_k(s \cos(f(x), w_k))`; :math:`w_k` and :math:`s` are learned, :math:`s` by its logarithm.
    Published is a scale of 2 for up to 200 classes and 10 for more. `adapt` changes nothing.

    Examples
    --------
    >>> Cosine(scale=2.0)
    Cosine(scale=2.0)
    """

    name = "cosine"
    trains_on = "rows"
    separable = False
    adapts_features = False
    stands_bfloat16 = True

    def __init__(self, scale: float = 10.0) -> None:
        self.scale = scale

    def accepts(self, problem: Problem) -> str | None:
        """Say why there are no classes to tell apart."""
        if problem.kind == "classification":
            return None
        return f"cosine needs classes; got a {problem.kind} problem. Use algorithm='supervised' or 'auto'."

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare where the scale starts."""
        return {"scale": Float(2.0, 30.0, log=True)}

    def training_defaults(self) -> dict[str, Any]:
        """Return 64 rows a step."""
        return {"meta_batch_size": 64}

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone with a weight vector for each class, and the logarithm of the scale.

        Raises
        ------
        InvalidParameterError
            A scale that is not positive.
        """
        if not 0 < self.scale < math.inf:
            raise InvalidParameterError(f"cosine scale must be positive and finite; got {self.scale!r}.")
        learner = Learner(backbone, n_features, problem)
        learner.head = nn.Linear(n_features, problem.n_classes, bias=False)
        learner.log_scale = nn.Parameter(torch.tensor(math.log(self.scale)))
        return learner

    def predict(self, learner: Learner, state: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return the scaled cosine with each training class."""
        return self._scores(learner, learner.backbone(x))

    def meta_loss(
        self, learner: Learner, batch: TaskBatch, context: Context
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Return the cross-entropy over all training classes on a mini-batch of rows."""
        target = (batch.query_y if batch.query_class is None else batch.query_class).flatten()
        scores = self.predict(learner, {}, batch.query_x.flatten(0, 1))
        scores = scores.float() if scores.itemsize < 4 else scores
        return task_loss(scores, target), {"accuracy": accuracy(scores, target)}

    @staticmethod
    def _scores(learner: Learner, features: Tensor) -> Tensor:
        directions = functional.normalize(learner.head.weight, dim=-1)  # type: ignore[union-attr, arg-type]
        return learner.log_scale.exp() * functional.linear(functional.normalize(features, dim=-1), directions)  # type: ignore[operator]
