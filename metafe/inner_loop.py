"""Differentiable adaptation: steps of gradient descent that can themselves be differentiated.

`InnerLoop` takes the steps and `TaskNetwork` is the network that they adapt. Both work on one task, or on all tasks of
a batch at once: then the adapted tensors have a leading dimension for the tasks, the network is vectorised over it and
the loss is the sum over tasks, whose gradient is the gradient of each. Nothing else tells the two apart, so they give
the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from metafe.contracts.learner import full_precision

Parameters = dict[str, Tensor]
Rates = Mapping[str, "Tensor | float"]
InnerLoss = Callable[[Parameters, Parameters, int], Tensor]

# Published by Kingma and Ba, 2015.
_ADAM_MOMENTUM, _ADAM_DECAY, _ADAM_EPSILON = 0.9, 0.999, 1e-8
_TENSOR = object()


@dataclass(frozen=True)
class InnerLoop:
    r"""Steps of gradient descent on the loss of a task.

    Parameters
    ----------
    n_steps : int, default=5
        Number of steps.
    optimizer : {"sgd", "adam"}, default="sgd"
        Plain or momentum descent, or Adam.
    momentum : float or None, default=None
        Of SGD, the share of the last step's direction that is added to this step's gradient; of Adam, the decay of the
        mean gradient. ``None`` is 0 for SGD and 0.9 for Adam.
    first_order : bool, default=False
        Take the gradients of the steps as constants, which leaves out second derivatives.
    checkpoint_steps : bool, default=False
        Keep only the parameters between the steps and compute each step again when it is differentiated: memory then
        holds the activations of one step, whatever the number of steps, for one more pass. The gradient is the
        same, as long as the loss draws no random numbers. `vmap` cannot be applied to it, and it can be differentiated
        once.
    transformable : bool, default=True
        Whether transforms of `torch.func`, such as `vmap`, may be applied to the steps. Without, `torch.autograd.grad` takes
        the same gradients, and some 70 MB of modules that `torch.func.grad` loads are not needed.

    Notes
    -----
    Steps are taken in the precision of the tensors, whatever autocast says around them: a second-order gradient through
    steps in bfloat16 is off by a fifth and more.

    Adam divides by :math:`\sqrt{\hat v + \epsilon^2}` where it is usually :math:`\sqrt{\hat v} + \epsilon`: the
    derivative of the latter is infinite for a parameter without gradient, such as the weight of a unit that is never
    active.

    Examples
    --------
    The derivative of the third iterate of descent on :math:`w^2` with respect to where it starts,
    :math:`(1 - 2 \cdot 0.1)^3`:

    >>> import torch
    >>> start = torch.tensor(1.0, requires_grad=True)
    >>> adapted = InnerLoop(n_steps=3).adapt(lambda p, shared, step: p["w"] ** 2, {"w": start}, [{"w": 0.1}])
    >>> round(float(torch.autograd.grad(adapted["w"], start)[0]), 3)
    0.512
    """

    n_steps: int = 5
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float | None = None
    first_order: bool = False
    checkpoint_steps: bool = False
    transformable: bool = True

    def adapt(
        self, loss: InnerLoss, adapted: Parameters, rates: Sequence[Rates], shared: Parameters | None = None
    ) -> Parameters:
        """Return the parameters after the last step.

        Parameters
        ----------
        loss : callable
            Maps the adapted tensors, the shared ones and the number of the step to the loss of the step, a scalar.
            Any other tensor it uses must need no gradient.
        adapted : dict of str to Tensor
            Where the steps start from.
        rates : sequence of mapping of str to Tensor or float
            For each step, the rate of each adapted tensor, which broadcasts against it. The last one also serves the
            steps that come after it.
        shared : dict of str to Tensor, default=None
            Whatever else the loss depends on and may need a gradient.

        Returns
        -------
        dict of str to Tensor
            With the names of ``adapted``; differentiable with respect to everything given.
        """
        for state in self.trajectory(loss, adapted, rates, shared):
            adapted = state
        return adapted

    def trajectory(
        self, loss: InnerLoss, adapted: Parameters, rates: Sequence[Rates], shared: Parameters | None = None
    ) -> Iterator[Parameters]:
        """Yield the parameters after each step; the arguments are those of `adapt`."""
        shared = shared or {}
        slots: Parameters = {}
        for step in range(self.n_steps if adapted else 0):
            rate = dict(rates[min(step, len(rates) - 1)])
            adapted, slots = self._checkpointed(loss, step, adapted, slots, shared, rate)
            yield adapted

    def _checkpointed(self, loss: InnerLoss, step: int, *inputs: Any) -> tuple[Parameters, Parameters]:
        def take_step(*given: Any) -> tuple[Parameters, Parameters]:
            return self._step(loss, step, *given)

        return _recomputed(take_step, *inputs) if self.checkpoint_steps else take_step(*inputs)

    def _step(
        self, loss: InnerLoss, step: int, adapted: Parameters, slots: Parameters, shared: Parameters, rate: Rates
    ) -> tuple[Parameters, Parameters]:
        with full_precision(next(iter(adapted.values())).device):
            gradients = self._gradients(loss, step, adapted, shared)
        if self.optimizer == "adam":
            directions, slots = _adam_directions(gradients, slots, step, self.momentum)
        elif self.momentum:
            slots = {k: torch.add(g, slots[k], alpha=self.momentum) if slots else g for k, g in gradients.items()}
            directions = slots
        else:
            directions = gradients
        return {k: _descend(p, directions[k], rate[k]) for k, p in adapted.items()}, slots

    def _gradients(self, loss: InnerLoss, step: int, adapted: Parameters, shared: Parameters) -> Parameters:
        if self.first_order:
            adapted, shared = ({k: v.detach() for k, v in tensors.items()} for tensors in (adapted, shared))
        gradients_of = grad if self.transformable else self._plain_grad
        gradients: Parameters = gradients_of(lambda moved: loss(moved, shared, step))(adapted)
        return gradients

    def _plain_grad(self, loss: Callable[[Parameters], Tensor]) -> Callable[[Parameters], Parameters]:
        def gradients(adapted: Parameters) -> Parameters:
            differentiable = torch.is_grad_enabled() and not self.first_order
            with torch.enable_grad():
                # Other uses of these tensors are not what the loss is differentiated by.
                moved = {
                    k: v.view_as(v) if v.requires_grad else v.detach().requires_grad_() for k, v in adapted.items()
                }
                found = torch.autograd.grad(
                    loss(moved),
                    list(moved.values()),
                    create_graph=differentiable,
                    allow_unused=True,
                    materialize_grads=True,
                )
            return dict(zip(moved, found, strict=True))

        return gradients


def _descend(parameter: Tensor, direction: Tensor, rate: Tensor | float) -> Tensor:
    if isinstance(rate, Tensor):
        return torch.addcmul(parameter, direction, rate, value=-1)
    return torch.sub(parameter, direction, alpha=rate)


def _adam_directions(
    gradients: Parameters, slots: Parameters, step: int, momentum: float | None
) -> tuple[Parameters, Parameters]:
    decays = {"mean": _ADAM_MOMENTUM if momentum is None else momentum, "square": _ADAM_DECAY}
    new, directions = {}, {}
    for name, gradient in gradients.items():
        unbiased = {}
        for kind, value in (("mean", gradient), ("square", gradient.square())):
            decay, old = decays[kind], slots.get(f"{kind}.{name}")
            new[f"{kind}.{name}"] = value * (1 - decay) if old is None else torch.lerp(value, old, decay)
            unbiased[kind] = new[f"{kind}.{name}"] / (1 - decay ** (step + 1))
        directions[name] = unbiased["mean"] * (unbiased["square"] + _ADAM_EPSILON**2).rsqrt()
    return directions, new


def _recomputed(function: Callable[..., Any], *inputs: Any) -> Any:
    """Call ``function`` without keeping its graph; the backward pass calls it again."""
    leaves, structure = pytree.tree_flatten(inputs)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    # The tensors themselves are kept by the graph alone, which frees them when it is done.
    constants = [_TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    returned: list[Any] = []

    def on_tensors(*given: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(given)
        filled = [next(remaining) if leaf is _TENSOR else leaf for leaf in constants]
        outputs, output_structure = pytree.tree_flatten(function(*pytree.tree_unflatten(filled, structure)))
        returned[:] = [output_structure]
        return tuple(outputs)

    outputs = _Recomputed.apply(on_tensors, *tensors)  # type: ignore[no-untyped-call]
    return pytree.tree_unflatten(outputs, returned[0])


class _Recomputed(torch.autograd.Function):
    # torch.utils.checkpoint keeps hooks on saved tensors, which the transforms of torch.func do not allow.

    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.function = function
        ctx.save_for_backward(*tensors)
        return tuple(output.clone() if any(output is t for t in tensors) else output for output in function(*tensors))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs = [
            t.detach().requires_grad_(needed)
            for t, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        ]
        with torch.enable_grad():
            outputs = ctx.function(*inputs)
        moving = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
        found = iter(
            torch.autograd.grad(
                [output for output, _ in moving],
                [t for t in inputs if t.requires_grad],
                [gradient for _, gradient in moving],
                allow_unused=True,
            )
        )
        return (None, *(next(found) if t.requires_grad else None for t in inputs))


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
