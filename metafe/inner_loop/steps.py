"""Steps of gradient descent that can themselves be differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad
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
        """Yield the parameters after each step.

        Parameters
        ----------
        loss : callable
        adapted : dict of str to Tensor
        rates : sequence of mapping of str to Tensor or float
        shared : dict of str to Tensor, default=None
            As for `adapt`.

        Yields
        ------
        dict of str to Tensor
            With the names of ``adapted``.
        """
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
