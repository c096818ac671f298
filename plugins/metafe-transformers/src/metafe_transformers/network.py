"""The module of the backbone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metafe_transformers.pooling import Pooling, pool

# Of rows that are computed without gradients: a constant number, so that what comes with a row cannot change it, and a
# small one, since metafe fills up chunks with blank rows, which cost nothing.
ROWS_AT_ONCE = 16


class PooledTransformer(nn.Module):
    """A transformer and its pooling.

    Parameters
    ----------
    transformer : torch.nn.Module
        Takes ``input_ids`` and ``attention_mask``.
    padding : int
        The id that stands for no token.
    pooling : {"mean", "cls", "last"}
    """

    def __init__(self, transformer: Any, padding: int, pooling: Pooling) -> None:
        super().__init__()
        self.transformer = transformer
        self.padding = padding
        self.pooling = pooling
        self.width = int(transformer.config.hidden_size)

    def forward(self, ids: Tensor) -> Tensor:
        """Return features ``(b, d)`` of ids ``(b, length)`` of any type; zeros for rows of padding alone."""
        ids = ids.round().long()
        if self.training or torch.is_grad_enabled() or torch._C._functorch.is_batchedtensor(ids):
            return self._features(ids)
        features = [self._features_of_part(part) for part in torch.split(ids, ROWS_AT_ONCE)]
        return torch.cat(features)

    def _features_of_part(self, ids: Tensor) -> Tensor:
        n_missing = ROWS_AT_ONCE - len(ids)
        if not (ids != self.padding).any():
            return next(self.parameters()).new_zeros(len(ids), self.width)
        return self._features(torch.cat([ids, ids[-1:].expand(n_missing, -1)]))[: len(ids)]

    def _features(self, ids: Tensor) -> Tensor:
        mask = ids != self.padding
        states = self.transformer(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return pool(states, mask, self.pooling)
