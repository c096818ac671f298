"""A multilayer perceptron."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from metafe.backbones.layers import (
    Activation,
    Normalisation,
    activation_layer,
    check_dropout,
    normalisation_layer,
)
from metafe.contracts import Backbone, Categorical, Float, Int, Problem, check_sizes
from metafe.contracts.spaces import SearchSpace


class MLP(Backbone):
    """Fully connected layers, for rows of numbers and anything that can be flattened to them.

    Parameters
    ----------
    depth : int, default=2
        Number of hidden layers.
    width : int, default=128
        Units in each hidden layer.
    n_features : int or None, default=64
        Width of a final linear layer whose outputs are the features. ``None`` leaves it out: the features are the
        last hidden activations.
    normalisation : {"batch", "layer", "none"}, default="layer"
        Between each hidden linear layer and its activation.
    activation : {"relu", "leaky_relu", "elu", "gelu", "silu", "tanh"}, default="relu"
        After each hidden layer.
    dropout : float, default=0.0
        Share of hidden activations set to zero in training.

    Examples
    --------
    >>> MLP(depth=1, width=128, n_features=None, normalisation="none").build((784,))
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=784, out_features=128, bias=True)
      (2): ReLU()
    )
    """

    name = "mlp"

    def __init__(
        self,
        depth: int = 2,
        width: int = 128,
        n_features: int | None = 64,
        normalisation: Normalisation = "layer",
        activation: Activation = "relu",
        dropout: float = 0.0,
    ) -> None:
        self.depth = depth
        self.width = width
        self.n_features = n_features
        self.normalisation = normalisation
        self.activation = activation
        self.dropout = dropout

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare depth, width, features, normalisation and drop-out."""
        return {
            "depth": Int(1, 4),
            "width": Int(32, 512, log=True),
            "n_features": Categorical([None, 32, 64, 128]),
            "normalisation": Categorical(["batch", "layer", "none"]),
            "dropout": Float(0.0, 0.5),
        }

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the network.

        Parameters
        ----------
        input_shape : tuple of int
            Any shape; it is flattened.

        Returns
        -------
        torch.nn.Sequential
            Maps ``(b, *input_shape)`` to ``(b, n_features)``, or to ``(b, width)`` without a final layer.

        Raises
        ------
        InvalidParameterError
            A size, name or rate that cannot be.
        """
        check_sizes("mlp", depth=self.depth, width=self.width)
        if self.n_features is not None:
            check_sizes("mlp", n_features=self.n_features)
        check_dropout("mlp", self.dropout)
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in pairwise([math.prod(input_shape)] + [self.width] * self.depth):
            layers += [nn.Linear(n_in, n_out), normalisation_layer(self.normalisation, n_out, spatial=False)]
            layers += [activation_layer(self.activation), nn.Dropout(self.dropout)]
        if self.n_features is not None:
            layers.append(nn.Linear(self.width, self.n_features))
        return nn.Sequential(*(layer for layer in layers if not _does_nothing(layer)))


def _does_nothing(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Identity) or (isinstance(layer, nn.Dropout) and layer.p == 0)
