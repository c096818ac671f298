"""Random numbers for code that only knows torch's global generator."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional, init
from torch.overrides import TorchFunctionMode

# In-place fills take a generator themselves; initialisers of torch.nn.init pass theirs on to such a fill.
_FILLS: set[Callable[..., Any]] = {
    torch.Tensor.uniform_,
    torch.Tensor.normal_,
    torch.Tensor.bernoulli_,
    torch.Tensor.random_,
    torch.Tensor.exponential_,
    torch.Tensor.log_normal_,
    torch.Tensor.cauchy_,
    torch.Tensor.geometric_,
    torch.Tensor.bernoulli,
    torch.Tensor.multinomial,
    torch.bernoulli,
    torch.binomial,
    torch.multinomial,
    torch.normal,
    torch.poisson,
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    init.uniform_,
    init.normal_,
    init.trunc_normal_,
    init.xavier_uniform_,
    init.xavier_normal_,
    init.kaiming_uniform_,
    init.kaiming_normal_,
    init.orthogonal_,
}
# These draw inside compiled code and take no generator; they run one at a time on a forked global generator.
_WITHOUT_GENERATOR: set[Callable[..., Any]] = {
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
    functional.fractional_max_pool2d,
    functional.gumbel_softmax,
    functional.multi_head_attention_forward,
    functional.rrelu,
    functional.scaled_dot_product_attention,
    torch.gru,
    torch.lstm,
    torch.rnn_relu,
    torch.rnn_tanh,
}
_GLOBAL_GENERATOR = threading.Lock()
# These take no generator, but what they stand for does.
_LIKE: dict[Callable[..., Any], Callable[..., torch.Tensor]] = {
    torch.rand_like: torch.rand,
    torch.randn_like: torch.randn,
    torch.randint_like: torch.randint,
}


class use_generator(TorchFunctionMode):  # noqa: N801 - a context manager, named like torch.no_grad
    """Make torch functions in this thread draw from one generator in place of the global one.

    Layer initialisation and dropout offer no generator argument, and forking the global generator is process-wide:
    fits in parallel threads would disturb each other. A function mode is local to its thread.

    Parameters
    ----------
    generator : torch.Generator
        Where random numbers come from.

    Examples
    --------
    >>> before = torch.random.get_rng_state()
    >>> with use_generator(torch.Generator().manual_seed(0)):
    ...     layer = torch.nn.Linear(2, 2)
    >>> bool((torch.random.get_rng_state() == before).all())
    True
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``func`` with this generator where it draws at random."""
        handle = _HANDLERS.get(func)
        if handle is None:
            return func(*args, **kwargs) if kwargs else func(*args)
        return handle(self.generator, func, args, kwargs or {})


def _fill(generator: torch.Generator, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs.get("generator") is None:
        kwargs = {**kwargs, "generator": generator}
    return func(*args, **kwargs)


def _fill_like(
    generator: torch.Generator, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    like, *bounds = args
    options = {"dtype": like.dtype, "device": like.device, **kwargs, "generator": generator}
    return _LIKE[func](*bounds, size=like.shape, **options)


def _call_dropout(
    generator: torch.Generator, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return _DROPOUTS[func](generator, *args, **kwargs)


def _call_on_a_forked_global(
    generator: torch.Generator, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    devices = [generator.device] if generator.device.type == "cuda" else []
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(seed))
        return func(*args, **kwargs)


def _dropout(
    generator: torch.Generator, x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    return _drop(generator, x, x.shape, p, training, inplace)


def _channel_dropout(
    generator: torch.Generator, x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    return _drop(generator, x, (*x.shape[:2], *(1,) * (x.ndim - 2)), p, training, inplace)


def _drop(
    generator: torch.Generator, x: torch.Tensor, mask_shape: tuple[int, ...], p: float, training: bool, inplace: bool
) -> torch.Tensor:
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0
    kept = torch.empty(mask_shape, dtype=x.dtype, device=x.device).bernoulli_(1 - p, generator=generator)
    return x.mul_(kept / (1 - p)) if inplace else x * (kept / (1 - p))


_DROPOUTS: dict[Callable[..., Any], Callable[..., torch.Tensor]] = {
    functional.dropout: _dropout,
    torch.dropout: lambda generator, x, p, train: _dropout(generator, x, p, train),
    functional.dropout1d: _channel_dropout,
    functional.dropout2d: _channel_dropout,
    functional.dropout3d: _channel_dropout,
}

_HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys(_FILLS, _fill),
    **dict.fromkeys(_LIKE, _fill_like),
    **dict.fromkeys(_DROPOUTS, _call_dropout),
    **dict.fromkeys(_WITHOUT_GENERATOR, _call_on_a_forked_global),
}
