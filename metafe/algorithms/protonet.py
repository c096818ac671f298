"""Prototypical networks."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from metafe.contracts import Categorical, HeadAlgorithm, InvalidParameterError, Learner, Problem, State
from metafe.contracts.spaces import SearchSpace


class ProtoNet(HeadAlgorithm):
    r"""Prototypical networks: a query row belongs to the class whose mean support feature is nearest.

    Parameters
    ----------
    distance : {"euclidean", "cosine"}, default="euclidean"
        Squared Euclidean distance, or cosine similarity.
    temperature : float or None, default=None
        What distances are divided by before the softmax. ``None`` is 1 for Euclidean, as published, and 0.1 for
        cosine, whose range is too narrow for a softmax otherwise.

    Notes
    -----
    Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", 2017. With features
    :math:`f(x)` and prototypes :math:`p_k`, the mean feature of the support rows of class :math:`k`, the loss is the
    cross-entropy of :math:`\mathrm{softmax}_k(-\lVert f(x) - p_k \rVert^2 / \tau)` on the query rows. `adapt` computes
    the prototypes and leaves the features as they are.

    Examples
    --------
    >>> ProtoNet(distance="cosine")
    ProtoNet(distance='cosine')
    """

    name = "protonet"

    def __init__(
        self, distance: Literal["euclidean", "cosine"] = "euclidean", temperature: float | None = None
    ) -> None:
        self.distance = distance
        self.temperature = temperature

    def accepts(self, problem: Problem) -> str | None:
        """Say why a problem has no classes to make prototypes of."""
        if problem.kind == "classification":
            return None
        return f"protonet needs classes; got a {problem.kind} problem. Use algorithm='supervised' or 'auto'."

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the distance."""
        return {"distance": Categorical(["euclidean", "cosine"])}

    def training_defaults(self) -> dict[str, Any]:
        """Return four tasks a step."""
        return {"meta_batch_size": 4}

    def fit_head(self, learner: Learner, features: Tensor, y: Tensor, n_way: int) -> State:
        """Return ``{"prototypes": (..., n_way, n_features)}``, the mean feature of each class."""
        membership = (y.unsqueeze(-2) == torch.arange(n_way, device=y.device).unsqueeze(-1)).to(features.dtype)
        return {"prototypes": membership @ features / membership.sum(-1, keepdim=True)}

    def apply_head(self, learner: Learner, state: State, features: Tensor) -> Tensor:
        """Return the negative distance to each prototype, or the similarity with it, over the temperature."""
        prototypes = state["prototypes"]
        if self.distance == "cosine":
            similarity = functional.normalize(features, dim=-1) @ functional.normalize(prototypes, dim=-1).mT
            return similarity / (0.1 if self.temperature is None else self.temperature)
        if self.distance == "euclidean":
            return -_squared_distances(features, prototypes) / (1.0 if self.temperature is None else self.temperature)
        raise InvalidParameterError(f"protonet distance must be 'euclidean' or 'cosine'; got {self.distance!r}.")


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return ``(..., n, m)`` squared distances without the ``(..., n, m, d)`` array of differences."""
    squares = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
    return torch.baddbmm(squares, a, b.mT, alpha=-2) if a.ndim == 3 else squares - 2 * a @ b.mT
