"""A residual network of fully connected layers."""

from __future__ import annotations

import math

from torch import nn

from metafe.contracts import Distribution, Float, Int, Problem, When, check_numbers, check_sizes
from metafe_tabular.numbers_backbone import EMBEDDING_SPACE, Embeddings, NumbersBackbone


class TabularResNet(NumbersBackbone):
    """Residual blocks of batch normalisation and two fully connected layers.

    Parameters
    ----------
    depth : int, default=2
        Number of blocks.
    width : int, default=128
        Numbers that go from block to block.
    hidden_multiplier : float, default=2.0
        Width inside a block, in widths.
    n_features : int, default=64
        Width of the features.
    dropout : float, default=0.1
        Share of the activations inside a block set to zero in training.
    embeddings : {"none", "piecewise-linear", "periodic"}, default="none"
        How a number enters: as it is, or as a vector: a line that bends at the quantiles of the training rows, or sines and
        cosines of learned frequencies.
    embedding_width : int, default=16
        Length of that vector.
    n_bins : int, default=16
        Bins of each column, for piecewise-linear embeddings; fewer where quantiles are equal. At least 2.
    n_frequencies : int, default=24
        Frequencies of each column, for periodic embeddings.
    frequency_scale : float, default=0.1
        Scale of the frequencies to begin with, for periodic embeddings.

    Notes
    -----
    Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data", 2021, by `rtdl_revisiting_models`, with the
    embeddings of Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep Learning", 2022, by
    `rtdl_num_embeddings`.

    Examples
    --------
    >>> import torch
    >>> TabularResNet(width=16, n_features=8).build((5,))(torch.zeros(2, 5)).shape
    torch.Size([2, 8])
    """

    name = "tabular-resnet"

    def __init__(
        self,
        depth: int = 2,
        width: int = 128,
        hidden_multiplier: float = 2.0,
        n_features: int = 64,
        dropout: float = 0.1,
        embeddings: Embeddings = "none",
        embedding_width: int = 16,
        n_bins: int = 16,
        n_frequencies: int = 24,
        frequency_scale: float = 0.1,
    ) -> None:
        super().__init__(depth, width, n_features, dropout, embeddings, n_bins, n_frequencies, frequency_scale)
        self.hidden_multiplier = hidden_multiplier
        self.embedding_width = embedding_width

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare depth, width, drop-out and embeddings."""
        return {
            "depth": Int(1, 4),
            "width": Int(32, 256, log=True),
            "hidden_multiplier": Float(1.0, 3.0),
            "dropout": Float(0.0, 0.4),
            **EMBEDDING_SPACE,
        }

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the network.

        Parameters
        ----------
        input_shape : tuple of int
            ``(n_columns,)``.

        Returns
        -------
        torch.nn.Module
            Maps ``(b, n_columns)`` to ``(b, n_features)``.

        Raises
        ------
        InvalidParameterError
            A size, name or rate that cannot be.
        """
        from rtdl_revisiting_models import ResNet

        self._check_parameters()
        check_sizes("tabular-resnet", embedding_width=self.embedding_width)
        check_numbers("tabular-resnet", hidden_multiplier=self.hidden_multiplier)
        n_columns, width = input_shape[0], 1 if self.embeddings == "none" else self.embedding_width
        blocks = ResNet(
            d_in=n_columns * width,
            d_out=self.n_features,
            n_blocks=self.depth,
            d_block=self.width,
            d_hidden=max(1, math.floor(self.width * self.hidden_multiplier)),
            d_hidden_multiplier=None,
            dropout1=self.dropout,
            dropout2=0.0,
        )
        if self.embeddings == "none":
            return blocks
        return nn.Sequential(self.number_embeddings(n_columns, width), nn.Flatten(), blocks)
