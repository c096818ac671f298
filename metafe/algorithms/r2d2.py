"""Ridge regression in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from metafe.algorithms.defaults import Labelled
from metafe.contracts import Float, HeadAlgorithm, Learner, Problem, State, check_positive
from metafe.contracts.spaces import SearchSpace


class R2D2(Labelled, HeadAlgorithm):
    r"""Ridge regression on the features, solved in closed form and differentiated through.

    Parameters
    ----------
    regularisation : float, default=1.0
        Where the learned strength of regularisation starts.
    scale : float, default=10.0
        Where the learned factor of the class scores starts. Predicted labels lie about 0 and 1, too close together for a
        softmax. For continuous targets the factor starts at 1.

    Notes
    -----
    Bertinetto et al., "Meta-learning with Differentiable Closed-form Solvers", 2019. With support features :math:`F`,
    a column of ones appended, and one-hot labels or targets :math:`Y`, the head is
    :math:`W = (F^T F + \lambda I)^{-1} F^T Y`, which with fewer support rows than features is
    :math:`F^T (F F^T + \lambda I)^{-1} Y` by Woodbury's identity. A query row with features :math:`f` gets
    :math:`\alpha f W + \beta`; the loss is its cross-entropy, or the mean squared error for continuous targets.
    Learned together with the backbone, as published, are :math:`\lambda`, :math:`\alpha` and :math:`\beta`;
    :math:`\lambda` and :math:`\alpha` by their logarithms, so that they stay positive.

    `adapt` computes :math:`W` and leaves the features as they are, those of the backbone.

    Published: Adam with 0.005, halved every 2000 episodes.

    Examples
    --------
    >>> R2D2(regularisation=0.1)
    R2D2(regularisation=0.1)
    """

    name = "r2d2"

    def __init__(self, regularisation: float = 1.0, scale: float = 10.0) -> None:
        self.regularisation = regularisation
        self.scale = scale

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare where regularisation and scale start."""
        space = {"regularisation": Float(1e-2, 1e2, log=True)}
        return space | {"scale": Float(1.0, 100.0, log=True)} if problem.kind == "classification" else space

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone with the logarithms of regularisation and scale, and the bias.

        Raises
        ------
        InvalidParameterError
            A start that is not positive.
        """
        check_positive(self.name, regularisation=self.regularisation, scale=self.scale)
        learner = Learner(backbone, n_features, problem)
        scale = 1.0 if problem.kind == "regression" else self.scale
        learner.log_regularisation = nn.Parameter(torch.tensor(math.log(self.regularisation)))
        learner.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        learner.bias = nn.Parameter(torch.tensor(0.0))
        return learner

    def fit_head(self, learner: Learner, features: Tensor, y: Tensor, n_way: int) -> State:
        """Return ``{"weights": (..., n_features + 1, n_outputs)}``, the last row those of the ones."""
        targets = (functional.one_hot(y, n_way) if n_way else y).to(features.dtype)
        return {"weights": ridge(_with_ones(features), targets, learner.log_regularisation.exp())}  # type: ignore[operator]

    def apply_head(self, learner: Learner, state: State, features: Tensor) -> Tensor:
        """Return the scaled and shifted prediction of the regression."""
        return learner.log_scale.exp() * (_with_ones(features) @ state["weights"]) + learner.bias  # type: ignore[operator]


def ridge(x: Tensor, y: Tensor, regularisation: Tensor) -> Tensor:
    """Return the weights of ridge regression, solved in whichever space is smaller.

    Parameters
    ----------
    x : Tensor of shape (..., S, d)
    y : Tensor of shape (..., S, n_outputs)
    regularisation : Tensor of shape ()

    Returns
    -------
    Tensor of shape (..., d, n_outputs)
    """
    n_rows, n_columns = x.shape[-2:]
    if n_rows < n_columns:
        return x.mT @ torch.linalg.solve(_add_to_diagonal(x @ x.mT, regularisation), y)
    return torch.linalg.solve(_add_to_diagonal(x.mT @ x, regularisation), x.mT @ y)


def _add_to_diagonal(square: Tensor, value: Tensor) -> Tensor:
    return square + value * torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)


def _with_ones(features: Tensor) -> Tensor:
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)
