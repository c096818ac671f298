"""A network as a function of its parameters, for one task or for all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from metafe.inner_loop.steps import Parameters


class TaskNetwork:
    """A module as a function of its parameters and of the statistics of a task.

    The module is left alone: layers are called on a copy of its structure that shares its tensors, so several threads may
    have a network of one module each.

    Batch normalisation uses the statistics of the rows it is called with, or those that are passed by the names that
    `statistics` gives; it neither reads nor writes the module's running ones. Vectorised, all normalisation is computed in
    elementary operations, since second derivatives of the built-in ones are wrong under `vmap`.

    Parameters
    ----------
    module : torch.nn.Module
        Maps ``(b, *input_shape)`` to ``(b, n_features)``.
    vectorised : bool, default=False
        Take rows ``(T, b, *input_shape)``, and tensors that have one more dimension than the module's own as those of
        ``T`` tasks.

    Examples
    --------
    >>> import torch
    >>> network = TaskNetwork(torch.nn.Linear(2, 3, bias=False), vectorised=True)
    >>> network({"weight": torch.ones(4, 3, 2)}, torch.ones(4, 5, 2)).shape
    torch.Size([4, 5, 3])
    """

    def __init__(self, module: nn.Module, vectorised: bool = False) -> None:
        self.vectorised = vectorised
        self._norms: dict[str, _TaskBatchNorm] = {}
        self._module = _copied(module, lambda layer: _task_layer(layer, elementary=vectorised), {})
        # Not named_modules, which leaves out the second name of a layer that is used twice; one name is enough here.
        self._norms = {n: m for n, m in self._module.named_modules() if isinstance(m, _TaskBatchNorm)}
        self._dimensions = {name: tensor.ndim for name, tensor in _named_tensors(self._module, remove_duplicate=True)}
        n_places = len(_named_tensors(self._module, remove_duplicate=False))
        self._has_ties = n_places > len(self._dimensions)

    def __call__(self, tensors: Parameters, x: Tensor) -> Tensor:
        """Return the output for rows.

        Parameters
        ----------
        tensors : dict of str to Tensor
            Parameters by their names in the module; the module's own stand in for those left out. With statistics
            among them, batch normalisation uses these.
        x : Tensor of shape (b, *input_shape), or (T, b, *input_shape) if vectorised

        Returns
        -------
        Tensor of shape (b, n_features), or (T, b, n_features) if vectorised
        """
        for name, norm in self._norms.items():
            norm.mode = "given" if _joined(name, "running_mean") in tensors else "batch"
        return self._over_tasks(self._forward, tensors, x)

    def statistics(self, tensors: Parameters, x: Tensor) -> Parameters:
        """Return the mean and variance that each batch normalisation sees.

        Parameters
        ----------
        tensors : dict of str to Tensor
            Parameters, as for a call.
        x : Tensor of shape (b, *input_shape), or (T, b, *input_shape) if vectorised

        Returns
        -------
        dict of str to Tensor
            By the names that running statistics have; empty without batch normalisation.
        """
        if not self._norms:
            return {}
        for norm in self._norms.values():
            norm.mode = "observe"
        return self._over_tasks(self._observe, tensors, x)

    @property
    def statistic_names(self) -> list[str]:
        """Names that `statistics` gives, and a call takes."""
        return [_joined(name, kind) for name in self._norms for kind in ("running_mean", "running_var")]

    def _over_tasks(self, function: Callable[[Parameters, Tensor], Any], tensors: Parameters, x: Tensor) -> Any:
        if not self.vectorised:
            return function(tensors, x)
        in_dims = {name: 0 if value.ndim > self._dimensions[name] else None for name, value in tensors.items()}
        return vmap(function, in_dims=(in_dims, 0))(tensors, x)

    def _forward(self, tensors: Parameters, x: Tensor) -> Tensor:
        output: Tensor = functional_call(self._module, tensors, (x,), tie_weights=self._has_ties)
        return output

    def _observe(self, tensors: Parameters, x: Tensor) -> Parameters:
        self._forward(tensors, x)
        seen: Parameters = {}
        for name, norm in self._norms.items():
            if norm.seen is not None:
                seen[_joined(name, "running_mean")], seen[_joined(name, "running_var")] = norm.seen
            norm.seen = None
        return seen


def _named_tensors(module: nn.Module, remove_duplicate: bool) -> list[tuple[str, Tensor]]:
    parameters = module.named_parameters(remove_duplicate=remove_duplicate)
    return [*parameters, *module.named_buffers(remove_duplicate=remove_duplicate)]


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _copied(
    module: nn.Module, replacement: Callable[[nn.Module], nn.Module | None], known: dict[int, nn.Module]
) -> nn.Module:
    """Copy the tree of modules but not their tensors, with some layers replaced; a layer used twice stays one."""
    if id(module) not in known:
        new = replacement(module)
        if new is None:
            new = object.__new__(type(module))
            # Own containers, since a call writes the given tensors into them.
            vars(new).update({k: v.copy() if _holds_tensors(k, v) else v for k, v in vars(module).items()})
            for name, child in module._modules.items():
                new._modules[name] = None if child is None else _copied(child, replacement, known)
        known[id(module)] = new
    return known[id(module)]


def _holds_tensors(attribute: str, value: Any) -> bool:
    return attribute in ("_parameters", "_buffers", "_modules") or isinstance(value, list)


def _task_layer(layer: nn.Module, elementary: bool) -> nn.Module | None:
    """Return what stands in for a normalisation layer; None for any other."""
    if isinstance(layer, _BatchNorm):
        return _TaskBatchNorm(layer, elementary)
    if elementary and isinstance(layer, nn.LayerNorm | nn.GroupNorm):
        return _ElementaryNorm(layer)
    return None


class _TaskBatchNorm(nn.Module):
    """Batch normalisation with the statistics of its rows or given ones, which may need a gradient."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, layer: _BatchNorm, elementary: bool) -> None:
        super().__init__()
        # Not register_parameter, which takes no plain tensor: inside functional_call they are.
        self._parameters["weight"] = layer.weight
        self._parameters["bias"] = layer.bias
        for statistic in ("running_mean", "running_var"):
            self.register_buffer(statistic, torch.empty(layer.num_features, device="meta"))
        self.eps = layer.eps
        self.elementary = elementary
        self.mode: Literal["batch", "given", "observe"] = "batch"
        self.seen: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "batch" and not self.elementary and x.numel() > x.shape[1]:
            return functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        shape = [-1] + [1] * (x.ndim - 2)
        if self.mode == "given":
            mean, variance = self.running_mean, self.running_var
            centred = x - mean.reshape(shape)
        else:
            dims = [0, *range(2, x.ndim)]
            mean = x.mean(dims)
            centred = x - mean.reshape(shape)
            variance = centred.square().mean(dims)
            self.seen = (mean, variance) if self.mode == "observe" else None
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        normalised = centred * scale.reshape(shape)
        return normalised if self.bias is None else normalised + self.bias.reshape(shape)


class _ElementaryNorm(nn.Module):
    """Layer or group normalisation in elementary operations."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: nn.LayerNorm | nn.GroupNorm) -> None:
        super().__init__()
        self._parameters["weight"] = layer.weight
        self._parameters["bias"] = layer.bias
        self.eps = layer.eps
        self.n_groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else None
        self.n_dims = 1 if isinstance(layer, nn.GroupNorm) else len(layer.normalized_shape)

    def forward(self, x: Tensor) -> Tensor:
        grouped = x if self.n_groups is None else x.reshape(x.shape[0], self.n_groups, -1)
        dims = list(range(-self.n_dims, 0))
        centred = grouped - grouped.mean(dims, keepdim=True)
        normalised = centred * (centred.square().mean(dims, keepdim=True) + self.eps).rsqrt()
        if self.weight is None:
            return normalised.reshape(x.shape)
        shape = list(self.weight.shape) if self.n_groups is None else [-1] + [1] * (x.ndim - 2)
        scaled = normalised.reshape(x.shape) * self.weight.reshape(shape)
        return scaled if self.bias is None else scaled + self.bias.reshape(shape)
