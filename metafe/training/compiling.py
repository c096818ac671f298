"""Compiling the outer loss together with its gradient."""

from __future__ import annotations

import copy
import gc
import logging
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from metafe.contracts import Context, InvalidParameterError, Learner, MetaAlgorithm, TaskBatch, carry_gradient
from metafe.training.memory import give_back_freed_memory

# Compiling takes half a minute or more for each shape of batch, as long as some thousand steps of a small network.
STEPS_TO_REPAY_COMPILING = 5000
# Episodes of many shapes would each be compiled anew.
MOST_SHAPES = 4
# What float32 and bfloat16 may lose by another order of summation, many times over.
TOLERANCE, TOLERANCE_OF_AUTOCAST = 1e-3, 5e-2
# Beyond the tolerance, how many times as far from float64 as the plain step a compiled one may be.
OF_PLAIN_ROUNDING = 2

_log = logging.getLogger("metafe")
_TENSORS = ("support_x", "support_y", "query_x", "query_y")

# Of parameters and a batch: the loss, and the gradient of each parameter, None where the loss does not reach it.
Joint = Callable[[list[Tensor], list[Tensor]], tuple[Tensor | None, ...]]


def check_compile(compile: Any) -> bool | Literal["auto"]:
    """Return the setting.

    Raises
    ------
    InvalidParameterError
        Neither ``"auto"`` nor a bool.
    """
    if compile == "auto" or isinstance(compile, bool):
        return compile
    raise InvalidParameterError(f"compile must be 'auto', True or False; got {compile!r}.")


def resolve_compile(
    compile: bool | Literal["auto"],
    algorithm: MetaAlgorithm,
    learner: Learner,
    max_steps: int,
    n_shapes: Callable[[], int] = lambda: 1,
) -> bool:
    """Say whether to compile: for ``"auto"`` by rule, never by timing.

    Parameters
    ----------
    compile : {"auto"} or bool
        ``"auto"`` compiles runs long enough to repay it, of algorithms that gain by it.
    algorithm : MetaAlgorithm
    learner : Learner
    max_steps : int
    n_shapes : callable
        Returns how many shapes of batch there are, each of which is compiled; called where it matters alone.

    Raises
    ------
    InvalidParameterError
        Asked to compile what cannot be.
    """
    possible = algorithm.stands_compiling(learner)
    if compile == "auto":
        steps = STEPS_TO_REPAY_COMPILING
        return possible and max_steps >= steps and max_steps >= steps * n_shapes()
    if compile and not possible:
        raise InvalidParameterError(
            "compile=True needs an algorithm that adapts by gradients and a network vectorised over tasks, without "
            f"drop-out; got {algorithm!r} and {type(learner.backbone).__name__}. Leave compile at 'auto'."
        )
    return compile


class CompiledLoss:
    """The outer loss of an algorithm as a compiled function; plain where compiling fails or errs.

    The loss and its gradient are recorded together as one graph of elementary operations, and that is compiled:
    compiling a loss and differentiating the result gave wrong gradients where the loss itself takes gradients. The
    first result for each shape of batch is compared with the plain one.

    Parameters
    ----------
    algorithm : MetaAlgorithm
    learner : Learner
    """

    def __init__(self, algorithm: MetaAlgorithm, learner: Learner) -> None:
        self.algorithm = algorithm
        self.learner = learner
        self._compiled: dict[Any, Joint | None] = {}
        self._has_failed = self._has_too_many = False

    def __call__(self, batch: TaskBatch, context: Context) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Return what the algorithm's ``meta_loss`` returns, without metrics once it is compiled.

        Parameters
        ----------
        batch : TaskBatch
            Tensors on the device of the learner.
        context : Context
        """
        # What is compiled takes the strides that it was compiled for.
        tensors = [getattr(batch, name).contiguous() for name in _TENSORS]
        key = (batch.n_way, *((t.shape, t.dtype) for t in tensors))
        if key not in self._compiled:
            tries = not self._has_failed and self._has_room()
            self._compiled[key] = self._compile(batch, tensors, context) if tries else None
        joint = self._compiled[key]
        if joint is None:
            return self.algorithm.meta_loss(self.learner, batch, context)
        parameters = self._parameters()
        loss, *gradients = _run(joint, [p.detach() for p in parameters], tensors)
        assert loss is not None
        # A gradient of zeros is not none: weight decay and moments would move the parameter.
        reached = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
        return carry_gradient(loss, [p for p, _ in reached], [g for _, g in reached]), {}

    def _has_room(self) -> bool:
        """Say whether one more shape is compiled, and once where it is not."""
        if len(self._compiled) < MOST_SHAPES:
            return True
        if not self._has_too_many:
            self._has_too_many = True
            _log.warning(
                "%s is compiled for %d shapes of tasks, and runs plainly for further ones; n_way, n_shot and n_query of the "
                "tasks say how many there are.",
                self.algorithm.name,
                MOST_SHAPES,
            )
        return False

    def _parameters(self) -> list[nn.Parameter]:
        return [p for p in self.learner.parameters() if p.requires_grad]

    def _compile(self, batch: TaskBatch, tensors: list[Tensor], context: Context) -> Joint | None:
        parameters = [p.detach().clone() for p in self._parameters()]
        plain = self._joint(batch.n_way, context)
        wanted = plain(parameters, tensors)
        # Before compiling takes memory of its own.
        give_back_freed_memory()
        try:
            compiled = _compile(plain, parameters, tensors)
            found = _run(compiled, parameters, tensors)
        except Exception as error:
            self._fall_back(f"Compiling {self.algorithm.name} failed, so it runs plainly: {_first_lines(error)}")
            return None
        difference = _relative_difference(found, wanted)
        rounded = torch.is_autocast_enabled(batch.query_x.device.type)
        if difference <= (TOLERANCE_OF_AUTOCAST if rounded else TOLERANCE):
            return compiled
        exact = self._in_double(batch.n_way, tensors, context)
        # A unit near its threshold may switch: of deep networks the plain step is as far from exact.
        if _relative_difference(found, exact) <= OF_PLAIN_ROUNDING * _relative_difference(wanted, exact):
            return compiled
        self._fall_back(f"Compiled {self.algorithm.name} is off by {difference:.1e}, so it runs plainly.")
        return None

    def _in_double(self, n_way: int, tensors: list[Tensor], context: Context) -> tuple[Tensor | None, ...]:
        """Return loss and gradients of the plain step in float64."""
        exact = CompiledLoss(self.algorithm, copy.deepcopy(self.learner).double())
        in_double = [t.double() if t.is_floating_point() else t for t in tensors]
        with torch.autocast(tensors[0].device.type, enabled=False):
            return exact._joint(n_way, context)([p.detach() for p in exact._parameters()], in_double)

    def _fall_back(self, reason: str) -> None:
        """Say once why steps are plain from now on; batches of other shapes would most likely fail alike."""
        self._has_failed = True
        _log.warning("%s", reason)

    def _joint(self, n_way: int, context: Context) -> Joint:
        """Return loss and gradients as one function of parameters and batch."""
        names = [f"learner.{name}" for name, p in self.learner.named_parameters() if p.requires_grad]
        loss_module = _Loss(self.algorithm, self.learner, n_way, context)

        def joint(parameters: list[Tensor], tensors: list[Tensor]) -> tuple[Tensor | None, ...]:
            with torch.enable_grad():
                leaves = [p.detach().requires_grad_() for p in parameters]
                loss = functional_call(loss_module, dict(zip(names, leaves, strict=True)), tuple(tensors))
                gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            return (loss.detach(), *gradients)

        return joint


class _Loss(nn.Module):
    """An algorithm's loss as a module, so that its parameters can be given from outside."""

    def __init__(self, algorithm: MetaAlgorithm, learner: Learner, n_way: int, context: Context) -> None:
        super().__init__()
        self.algorithm = algorithm
        self.learner = learner
        self.n_way = n_way
        self.context = context

    def forward(self, *tensors: Tensor) -> Tensor:
        batch = TaskBatch(**dict(zip(_TENSORS, tensors, strict=True)), n_way=self.n_way)
        return self.algorithm.meta_loss(self.learner, batch, self.context)[0]


def _compile(function: Joint, parameters: list[Tensor], tensors: list[Tensor]) -> Joint:
    # Tensors without values, so that recording takes no memory for what it computes; frozen parameters keep theirs.
    graph = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(parameters, tensors)
    with warnings.catch_warnings():
        # Those of the compiler are about its own code.
        warnings.simplefilter("ignore")
        # In another thread, which has no function modes: the compiler would record ours among its own patterns.
        with ThreadPoolExecutor(1) as thread:
            compiled = thread.submit(compile_graph, graph, parameters, tensors).result()
    del graph
    gc.collect()
    give_back_freed_memory()
    return compiled


@torch.no_grad()
def compile_graph(graph: GraphModule, parameters: list[Tensor], tensors: list[Tensor]) -> Joint:
    """Return a graph of elementary operations compiled for tensors of these shapes and strides."""
    from torch._inductor import compile

    # Not torch.compile, which would first record the graph once more; that takes time and memory.
    compiled: Joint = compile(graph, [parameters, tensors])  # type: ignore[list-item]
    return compiled


def _run(recorded: Joint, parameters: list[Tensor], tensors: list[Tensor]) -> tuple[Tensor | None, ...]:
    # What autocast casts is recorded, and must not be cast once more.
    with torch.no_grad(), torch.autocast(tensors[0].device.type, enabled=False):
        return recorded(parameters, tensors)


def _relative_difference(found: tuple[Tensor | None, ...], wanted: tuple[Tensor | None, ...]) -> float:
    a, b = (torch.cat([t.double().flatten() for t in side if t is not None]) for side in (found, wanted))
    return float((a - b).norm() / b.norm().clamp_min(torch.finfo(torch.float64).tiny))


def _first_lines(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"
