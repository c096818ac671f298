"""Relation networks."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from metafe.algorithms.class_members import class_means
from metafe.algorithms.defaults import Classifying
from metafe.contracts import (
    Categorical,
    HeadAlgorithm,
    Int,
    Learner,
    Problem,
    State,
    check_choice,
    check_sizes,
    task_loss,
)
from metafe.contracts.spaces import SearchSpace


class RelationNetworks(Classifying, HeadAlgorithm):
    r"""Relation networks: a second network learns how to compare a query row with a class.

    Parameters
    ----------
    loss : {"mse", "cross-entropy"}, default="mse"
        Mean squared error of each relation score, as published, or cross-entropy over the classes of a task.
    width : int, default=64
        Hidden units of the comparison network.

    Notes
    -----
    Sung et al., "Learning to Compare: Relation Network for Few-Shot Learning", 2018. With features :math:`f(x)` and
    :math:`c_k`, the mean feature of the support rows of class :math:`k`, a comparison network :math:`g` gives the
    relation score :math:`r_k = \mathrm{sigmoid}(g([c_k, f(x)]))`. The loss on the query rows is the mean of
    :math:`(r_k - [y = k])^2` over rows and classes, or the cross-entropy of :math:`\mathrm{softmax}_k(g([c_k, f(x)]))`.
    Published are the sum in place of the mean, which is the same at one shot but ties the network to a number of shots,
    and a convolutional :math:`g`; here features are vectors, and :math:`g` has one hidden layer with layer normalisation
    and ReLU.

    `adapt` computes the mean features and leaves the features as they are, those of the backbone.

    Published: the squared error, eight hidden units after two convolutions in :math:`g`, Adam with 0.001, halved every
    100 000 episodes.

    Examples
    --------
    >>> RelationNetworks(loss="cross-entropy")
    RelationNetworks(loss='cross-entropy')
    """

    name = "relation"

    def __init__(self, loss: Literal["mse", "cross-entropy"] = "mse", width: int = 64) -> None:
        self.loss = loss
        self.width = width

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the loss and the width."""
        return {"loss": Categorical(["mse", "cross-entropy"]), "width": Int(16, 256, log=True)}

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone with the comparison network.

        Raises
        ------
        InvalidParameterError
            An unknown loss, or a width that is no number of units.
        """
        check_choice(self.name, "loss", self.loss, ("mse", "cross-entropy"))
        check_sizes(self.name, width=self.width)
        learner = Learner(backbone, n_features, problem)
        learner.comparison = Comparison(n_features, self.width)
        return learner

    def fit_head(self, learner: Learner, features: Tensor, y: Tensor, n_way: int) -> State:
        """Return ``{"means": (..., n_way, n_features)}``, the mean feature of each class."""
        return {"means": class_means(features, y, n_way)}

    def apply_head(self, learner: Learner, state: State, features: Tensor) -> Tensor:
        """Return the relation scores before the sigmoid."""
        return learner.comparison(state["means"], features)  # type: ignore[operator]

    def head_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared error of the relation scores, or their cross-entropy."""
        if self.loss == "cross-entropy":
            return task_loss(predicted, target)
        wanted = functional.one_hot(target, predicted.shape[-1]).to(predicted.dtype)
        return functional.mse_loss(predicted.sigmoid(), wanted)


class Comparison(nn.Module):
    """Score each pair of a class and a row by one hidden layer on their concatenated features.

    Parameters
    ----------
    n_features : int
        Width of the features of either.
    width : int
        Hidden units.
    """

    def __init__(self, n_features: int, width: int) -> None:
        super().__init__()
        self.of_class = nn.Linear(n_features, width)
        self.of_row = nn.Linear(n_features, width, bias=False)
        self.score = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, classes: Tensor, rows: Tensor) -> Tensor:
        """Return the score of each pair.

        Parameters
        ----------
        classes : Tensor of shape (..., n_way, n_features)
        rows : Tensor of shape (..., Q, n_features)

        Returns
        -------
        Tensor of shape (..., Q, n_way)
        """
        # A linear layer on a concatenation is the sum of one on either part, so the pairs are never formed.
        hidden = self.of_class(classes).unsqueeze(-3) + self.of_row(rows).unsqueeze(-2)
        scores: Tensor = self.score(hidden).squeeze(-1)
        return scores
