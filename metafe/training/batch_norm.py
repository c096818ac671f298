"""Batch normalisation whose statistics are those of the batch in training and fixed ever after."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def use_batch_statistics(module: nn.Module) -> None:
    """Make training use the statistics of each batch and write no buffer.

    Training that writes running statistics would make a step depend on the steps before it in a way that
    gradients, replicas and resuming do not see.
    """
    for layer in _batch_norms(module):
        layer.track_running_stats = False


@torch.no_grad()
def fix_statistics(module: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set the running statistics to the average over some batches of standardised training rows.

    Only the normalisation layers are in training mode while it happens, since drop-out would distort them. Leaves the
    module in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        Maps a batch to features.
    batches : iterable of Tensor
        Standardised rows.
    """
    module.eval()
    layers = _batch_norms(module)
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.track_running_stats, layer.momentum = True, None
        layer.reset_running_stats()
        layer.train()
    for x in batches:
        module(x)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.track_running_stats, layer.momentum = False, momentum
        layer.eval()


def _batch_norms(module: nn.Module) -> list[_BatchNorm]:
    layers = (layer for layer in module.modules() if isinstance(layer, _BatchNorm))
    return [layer for layer in layers if layer.running_mean is not None]
