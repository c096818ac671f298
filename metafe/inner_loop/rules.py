"""What layers stand: being vectorised over tasks, called by several threads, computed twice; and how they use weights."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd


def stands_vectorising(module: nn.Module) -> bool:
    """Say by rule whether a network is vectorised over tasks: where that is both right and faster.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    bool
        True where all layers are torch's linear, activation, reshaping and normalisation layers, without active
        drop-out, whose masks the tasks would share; on an accelerator convolutions, pooling and the layers of built-in
        backbones too, which are slower on a CPU than a loop is. Recurrent layers and fused attention do not run, and
        any other layer may do anything.

    Examples
    --------
    >>> import torch
    >>> stands_vectorising(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.ReLU()))
    True
    >>> stands_vectorising(torch.nn.Conv2d(1, 1, 3))
    False
    """
    on_cpu = next((p.device.type for p in module.parameters()), "cpu") == "cpu"
    return all(_layer_stands_vectorising(layer, on_cpu) for layer in module.modules())


_VECTORISED_ACTIVATIONS = tuple(
    getattr(nn.modules.activation, name)
    for name in nn.modules.activation.__all__
    if name not in ("MultiheadAttention", "RReLU")
)
_VECTORISED_LAYERS = (
    *_VECTORISED_ACTIVATIONS,
    nn.Sequential,
    nn.Identity,
    nn.Linear,
    nn.Flatten,
    nn.Unflatten,
    nn.LayerNorm,
    nn.GroupNorm,
    _BatchNorm,
)
# There, the kernels of a task are so small that starting them takes longer than running them.
_VECTORISED_ON_ACCELERATORS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
)


def _layer_stands_vectorising(layer: nn.Module, on_cpu: bool) -> bool:
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        return _is_idle(layer)
    if not on_cpu and type(layer).__module__.startswith("metafe.backbones."):
        return True
    known = _VECTORISED_LAYERS if on_cpu else _VECTORISED_LAYERS + _VECTORISED_ON_ACCELERATORS
    return isinstance(layer, known) and type(layer).__module__.startswith("torch.nn.modules.")


def stands_threads(module: nn.Module) -> bool:
    """Say whether several threads may call networks of one module at a time and give what one thread gives.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    bool
        True where all layers are torch's own, or of a built-in backbone, and draw no random numbers: of those, which
        thread comes first would decide which it gets. A layer of somebody else's may keep anything between calls.

    Examples
    --------
    >>> import torch
    >>> stands_threads(torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU()))
    True
    >>> stands_threads(torch.nn.Dropout())
    False
    """
    return all(_layer_stands_threads(layer) for layer in module.modules())


def _layer_stands_threads(layer: nn.Module) -> bool:
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        return _is_idle(layer)
    if isinstance(layer, _RANDOM_LAYERS):
        return False
    return type(layer).__module__.startswith(("torch.nn.modules.", "metafe.backbones."))


def reuses_weights(module: nn.Module) -> bool:
    """Say by rule whether a row passes the same weights many times, so that layers take most of a step, not their updates.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    bool
        Whether there is a convolution, attention, a recurrent layer, or an embedding, which begins networks of sequences.

    Examples
    --------
    >>> import torch
    >>> reuses_weights(torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU()))
    True
    >>> reuses_weights(torch.nn.Linear(2, 2))
    False
    """
    return any(isinstance(layer, _REUSING_LAYERS) for layer in module.modules())


_REUSING_LAYERS = (_ConvNd, nn.MultiheadAttention, nn.RNNBase, nn.Embedding)


def draws_in_training(module: nn.Module) -> bool:
    """Say whether a network has layers of torch's that draw random numbers in training.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    bool
        Whether there is drop-out of a rate above zero, in a layer of its own or in a recurrent or attention layer, or a
        random activation or pooling.

    Examples
    --------
    >>> import torch
    >>> draws_in_training(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5)).eval())
    True
    >>> draws_in_training(torch.nn.GRU(2, 2))
    False
    """
    return any(_layer_draws(layer) for layer in module.modules())


def _layer_draws(layer: nn.Module) -> bool:
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        return bool(layer.p)
    if isinstance(layer, nn.MultiheadAttention | nn.RNNBase):
        return bool(layer.dropout)
    return isinstance(layer, _RANDOM_LAYERS)


_RANDOM_LAYERS = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.MultiheadAttention, nn.RNNBase)


def _is_idle(dropout: nn.modules.dropout._DropoutNd) -> bool:
    return not dropout.training or dropout.p == 0
