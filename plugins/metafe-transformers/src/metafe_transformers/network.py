"""The modules of the backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metafe_transformers.pooling import Pooling, pool, pool_output

# Of rows that are computed without gradients: a constant number, so that what comes with a row cannot change it, and a
# small one, since metafe fills up chunks with blank rows, which cost nothing.
ROWS_AT_ONCE = 16


class PooledTransformer(nn.Module):
    """A transformer of text and its pooling.

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
        return self._features(ids) if _together(self, ids) else _in_parts(ids, ROWS_AT_ONCE, self._features_of_part)

    def _features_of_part(self, ids: Tensor) -> Tensor:
        if not (ids != self.padding).any():
            return next(self.parameters()).new_zeros(len(ids), self.width)
        return self._features(ids)

    def _features(self, ids: Tensor) -> Tensor:
        mask = ids != self.padding
        states = self.transformer(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return pool(states, mask, self.pooling)


class _InParts(nn.Module):
    """Base of networks whose rows are computed one after the other where there are no gradients, on a processor."""

    def forward(self, rows: Tensor) -> Tensor:
        """Return features ``(b, d)`` of rows."""
        if _together(self, rows):
            return self._features(rows)
        # Larger parts are no faster on a processor.
        return _in_parts(rows, 1 if rows.device.type == "cpu" else ROWS_AT_ONCE, self._features)

    def _features(self, rows: Tensor) -> Tensor:
        raise NotImplementedError


class PooledVision(_InParts):
    """A network of images and its pooling: from images ``(b, C, H, W)``, grey or in the colours of the network.

    Parameters
    ----------
    network : torch.nn.Module
        Takes ``pixel_values``.
    side : int
        Height and width that it takes.
    pooling : {"mean", "cls", "last"}
    """

    def __init__(self, network: Any, side: int, pooling: Pooling) -> None:
        super().__init__()
        self.network = network
        self.side = side
        self.pooling = pooling

    def _features(self, rows: Tensor) -> Tensor:
        size = (self.side, self.side)
        resized = functional.interpolate(rows, size, mode="bilinear", antialias=True)
        pixels = resized.expand(-1, self.network.config.num_channels, -1, -1)
        return pool_output(self.network(pixel_values=pixels), None, self.pooling)


class PooledSound(_InParts):
    """A network of sound and its pooling: from rows ``(b, 1 + channels, length)``, the first of which says what is no padding.

    Parameters
    ----------
    network : torch.nn.Module
        Takes ``input_name``, and ``attention_mask`` where it is ``masked``.
    input_name : str
    masked : bool
    time_first : bool
        Whether it wants moments before channels.
    pooling : {"mean", "cls", "last"}
    """

    def __init__(self, network: Any, input_name: str, masked: bool, time_first: bool, pooling: Pooling) -> None:
        super().__init__()
        self.network = network
        self.input_name = input_name
        self.masked = masked
        self.time_first = time_first
        self.pooling = pooling

    def _features(self, rows: Tensor) -> Tensor:
        mask, values = rows[:, 0] > 0.5, rows[:, 1:]
        if values.shape[1] == 1:
            values = values[:, 0]
        elif self.time_first:
            values = values.mT
        # A row of padding alone, of which zeros are made, is heard as silence: no network takes nothing.
        heard = mask | ~mask.any(1, keepdim=True)
        given = {"attention_mask": heard.long()} if self.masked else {}
        return pool_output(self.network(**{self.input_name: values}, **given), mask, self.pooling)


def freeze_unused(module: nn.Module, rows: Tensor) -> nn.Module:
    """Take from what is trained the parameters that do not affect features, such as those for hidden patches."""
    trained = [weights for weights in module.parameters() if weights.requires_grad]
    with torch.enable_grad():
        gradients = torch.autograd.grad(module(rows).sum(), trained, allow_unused=True) if trained else ()
    for weights, gradient in zip(trained, gradients, strict=True):
        weights.requires_grad_(gradient is not None)
    return module


def _together(module: nn.Module, rows: Tensor) -> bool:
    """Tell whether rows are to be computed in one go: in training, and where there are more than torch shows."""
    return module.training or torch.is_grad_enabled() or torch._C._functorch.is_batchedtensor(rows)


def _in_parts(rows: Tensor, size: int, features: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute features of parts of a constant size, and of equal ones, such as blank rows, once."""
    computed: list[Tensor] = []
    last: Tensor | None = None
    for part in torch.split(rows, size):
        full = torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])])
        if last is None or not torch.equal(full, last):
            found = features(full)
        computed.append(found[: len(part)])
        last = full
    return torch.cat(computed)
