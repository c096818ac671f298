"""Supervised training of a cosine classifier."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from metafe.algorithms.defaults import Classifying
from metafe.algorithms.supervised import Supervised
from metafe.contracts import Float, Learner, Problem, check_positive
from metafe.contracts.spaces import SearchSpace


class Cosine(Classifying, Supervised):
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
    `adapt` changes nothing: the features are those of the backbone. Published: Adam with 0.001, 16 rows a step, 400 epochs;
    in the authors' code, a fixed scale of 2 for up to 200 classes and 10 for more.

    Examples
    --------
    >>> Cosine(scale=2.0)
    Cosine(scale=2.0)
    """

    name = "cosine"

    def __init__(self, scale: float = 10.0) -> None:
        self.scale = scale

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare where the scale starts."""
        return {"scale": Float(2.0, 30.0, log=True)}

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone with a weight vector for each class, and the logarithm of the scale.

        Raises
        ------
        InvalidParameterError
            A scale that is not positive.
        """
        check_positive(self.name, scale=self.scale)
        learner = Learner(backbone, n_features, problem)
        learner.head = nn.Linear(n_features, problem.n_classes, bias=False)
        learner.log_scale = nn.Parameter(torch.tensor(math.log(self.scale)))
        return learner

    def predict(self, learner: Learner, state: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return the scaled cosine with each training class."""
        features = functional.normalize(learner.backbone(x), dim=-1)
        directions = functional.normalize(learner.head.weight, dim=-1)  # type: ignore[union-attr, arg-type]
        return learner.log_scale.exp() * functional.linear(features, directions)  # type: ignore[operator]
