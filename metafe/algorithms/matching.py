"""Matching networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from metafe.algorithms.class_members import class_members
from metafe.algorithms.defaults import Labelled
from metafe.contracts import Float, HeadAlgorithm, Learner, Problem, State, check_positive
from metafe.contracts.spaces import SearchSpace


class MatchingNetworks(Labelled, HeadAlgorithm):
    r"""Matching networks: a query row takes the label of the support rows that it attends to.

    Parameters
    ----------
    temperature : float, default=0.1
        What cosine similarities are divided by before the softmax of the attention. Published is 1, with which all support
        rows get nearly the same attention, since similarities lie between -1 and 1.

    Notes
    -----
    Vinyals et al., "Matching Networks for One Shot Learning", 2016, without the full-context embeddings, which would
    make the features of a row depend on the order of the support set. With features :math:`f(x)`, a query row attends to
    support row :math:`i` by :math:`a_i = \mathrm{softmax}_i(\cos(f(x), f(x_i)) / \tau)`. The loss on the query rows is the
    cross-entropy of :math:`P(y \mid x) = \sum_i a_i [y_i = y]`; for continuous targets, the mean squared error of the
    kernel-weighted mean :math:`\sum_i a_i y_i`. The scores are :math:`\log P`, computed without forming :math:`P`.

    `adapt` keeps the normalised support features and their labels, and leaves the features as they are, those of the backbone.

    Published are cosines without a temperature, and classes alone, in tasks of 5 and 20 with one or five support rows of
    each; continuous targets and the temperature are additions.

    Examples
    --------
    >>> MatchingNetworks(temperature=1.0)
    MatchingNetworks(temperature=1.0)
    """

    name = "matching"

    def __init__(self, temperature: float = 0.1) -> None:
        self.temperature = temperature

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the temperature."""
        return {"temperature": Float(0.03, 1.0, log=True)}

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone, to which nothing is added.

        Raises
        ------
        InvalidParameterError
            A temperature that is not positive.
        """
        check_positive(self.name, temperature=self.temperature)
        return super().build(backbone, n_features, problem)

    def fit_head(self, learner: Learner, features: Tensor, y: Tensor, n_way: int) -> State:
        """Return the normalised support features with ``members``, ``(..., n_way, S)``, or with ``targets``."""
        support = functional.normalize(features, dim=-1)
        if not n_way:
            return {"support": support, "targets": y.to(features.dtype)}
        return {"support": support, "members": class_members(y, n_way)}

    def apply_head(self, learner: Learner, state: State, features: Tensor) -> Tensor:
        """Return the logarithm of the attention that each class gets, or the mean target by attention."""
        similarity = functional.normalize(features, dim=-1) @ state["support"].mT / self.temperature
        if "targets" in state:
            return similarity.softmax(-1) @ state["targets"]
        log_attention = similarity.log_softmax(-1).unsqueeze(-2)
        return log_attention.masked_fill(~state["members"].unsqueeze(-3), -torch.inf).logsumexp(-1)
