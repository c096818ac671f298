"""The feature tokenizer with a transformer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metafe.contracts import Distribution, Float, Int, InvalidParameterError, Problem, When, check_sizes
from metafe_tabular.numbers_backbone import EMBEDDING_SPACE, Embeddings, NumbersBackbone

# The work of attention grows with the square of the number of columns, except that of the last block, in which the token of
# the row alone looks at the others. One block takes as long for 256 columns as two for 60.
MOST_COLUMNS = 512
MANY_COLUMNS = 64
# Of the hidden layer after attention, in widths; with its gate it has as many weights as one of twice the width.
HIDDEN_MULTIPLIER = 4 / 3


class FTTransformer(NumbersBackbone):
    """A transformer whose tokens are the columns of a table.

    Parameters
    ----------
    depth : int, default=2
        Number of transformer blocks.
    width : int, default=64
        Numbers in a token; a multiple of ``n_heads``.
    n_heads : int, default=8
        Heads of attention.
    n_features : int, default=64
        Width of the features.
    attention_dropout : float, default=0.1
        Share of attention set to zero in training.
    dropout : float, default=0.0
        Share of hidden activations set to zero in training.
    embeddings : {"none", "piecewise-linear", "periodic"}, default="none"
        How a number becomes a token: a line in the space of tokens, a line that bends at the quantiles of the training
        rows, or sines and cosines of learned frequencies.
    n_bins : int, default=16
        Bins of each column, for piecewise-linear embeddings; fewer where quantiles are equal. At least 2.
    n_frequencies : int, default=24
        Frequencies of each column, for periodic embeddings.
    frequency_scale : float, default=0.1
        Scale of the frequencies to begin with, for periodic embeddings.

    Notes
    -----
    Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data", 2021, by `rtdl_revisiting_models`; its attention
    is computed in elementary operations, so that it has the second derivatives that adaptation by gradient descent needs.
    The embeddings are those of Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep Learning", 2022, by
    `rtdl_num_embeddings`. Rows of at most 512 columns; of more than 64, a search tries ``depth=1`` alone, whose work grows
    with the number of columns, and not with its square.

    Examples
    --------
    >>> FTTransformer(width=16, n_features=8).build((5,))(torch.zeros(2, 5)).shape
    torch.Size([2, 8])
    """

    name = "ft-transformer"

    def __init__(
        self,
        depth: int = 2,
        width: int = 64,
        n_heads: int = 8,
        n_features: int = 64,
        attention_dropout: float = 0.1,
        dropout: float = 0.0,
        embeddings: Embeddings = "none",
        n_bins: int = 16,
        n_frequencies: int = 24,
        frequency_scale: float = 0.1,
    ) -> None:
        super().__init__(depth, width, n_features, dropout, embeddings, n_bins, n_frequencies, frequency_scale)
        self.n_heads = n_heads
        self.attention_dropout = attention_dropout

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare depth, drop-out and embeddings; of wide tables a single block."""
        is_wide = math.prod(problem.input_shape) > MANY_COLUMNS
        return {
            "depth": Int(1, 1 if is_wide else 3),
            "attention_dropout": Float(0.0, 0.3),
            "dropout": Float(0.0, 0.3),
            **EMBEDDING_SPACE,
        }

    def accepts(self, X: Any) -> str | None:
        """Say why rows are not flat, or have too many columns."""
        if reason := super().accepts(X):
            return reason
        if np.shape(X)[1] <= MOST_COLUMNS:
            return None
        return f"ft-transformer needs at most {MOST_COLUMNS} columns; got {np.shape(X)[1]}. Use 'tabular-resnet'."

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
        from rtdl_revisiting_models import FTTransformerBackbone

        self._check_parameters()
        check_sizes("ft-transformer", n_heads=self.n_heads)
        if self.width % self.n_heads:
            raise InvalidParameterError(
                f"ft-transformer width must be a multiple of n_heads; got {self.width} and {self.n_heads}."
            )
        if not 0 <= self.attention_dropout < 1:
            raise InvalidParameterError(
                f"ft-transformer attention_dropout must be at least 0 and below 1; got {self.attention_dropout!r}."
            )
        blocks = FTTransformerBackbone(
            d_out=self.n_features,
            n_blocks=self.depth,
            d_block=self.width,
            attention_n_heads=self.n_heads,
            attention_dropout=self.attention_dropout,
            ffn_d_hidden_multiplier=HIDDEN_MULTIPLIER,
            ffn_dropout=self.dropout,
            residual_dropout=0.0,
        )
        return nn.Sequential(self.number_embeddings(input_shape[0], self.width), _FirstToken(self.width), blocks)


class _FirstToken(nn.Module):
    """Put a learned token before the others; what the blocks make of it stands for the row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(width).uniform_(-(width**-0.5), width**-0.5))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return ``(b, 1 + n_columns, width)`` from ``(b, n_columns, width)``."""
        return torch.cat([self.token.expand(len(tokens), 1, -1), tokens], dim=1)
