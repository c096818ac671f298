"""Prototypical networks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from metafe.algorithms.class_members import class_means
from metafe.algorithms.defaults import Classifying
from metafe.contracts import (
    Categorical,
    HeadAlgorithm,
    Learner,
    Problem,
    State,
    check_choice,
    check_positive,
)
from metafe.contracts.spaces import SearchSpace


class ProtoNet(Classifying, HeadAlgorithm):
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
    the prototypes and leaves the features as they are, those of the backbone.

    Published: squared Euclidean distance, Adam with 0.001, halved every 2000 episodes of one task each, and tasks of more
    classes in training than afterwards: 60 for Omniglot; for miniImageNet 30 (1-shot) or 20 (5-shot), with 15 query
    rows of each.

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

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the distance."""
        return {"distance": Categorical(["euclidean", "cosine"])}

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone, to which nothing is added.

        Raises
        ------
        InvalidParameterError
            An unknown distance, or a temperature that is not positive.
        """
        check_choice(self.name, "distance", self.distance, ("euclidean", "cosine"))
        if self.temperature is not None:
            check_positive(self.name, temperature=self.temperature)
        return super().build(backbone, n_features, problem)

    def fit_head(self, learner: Learner, features: Tensor, y: Tensor, n_way: int) -> State:
        """Return ``{"prototypes": (..., n_way, n_features)}``, the mean feature of each class."""
        return {"prototypes": class_means(features, y, n_way)}

    def apply_head(self, learner: Learner, state: State, features: Tensor) -> Tensor:
        """Return the negative distance to each prototype, or the similarity with it, over the temperature."""
        prototypes = state["prototypes"]
        if self.distance == "cosine":
            similarity = functional.normalize(features, dim=-1) @ functional.normalize(prototypes, dim=-1).mT
            return similarity / (0.1 if self.temperature is None else self.temperature)
        return -_squared_distances(features, prototypes) / (1.0 if self.temperature is None else self.temperature)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return ``(..., n, m)`` squared distances without the ``(..., n, m, d)`` array of differences."""
    squares = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
    return torch.baddbmm(squares, a, b.mT, alpha=-2) if a.ndim == 3 else squares - 2 * a @ b.mT
