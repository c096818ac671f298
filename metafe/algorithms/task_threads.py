"""Tasks side by side, on one thread each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Apply a function to each item, as many at a time as torch has threads, each on a single one.

    A task's tensors are small: threads that share one operation wait for each other at its end, those that have tasks of
    their own do not.

    Parameters
    ----------
    function : callable
        Called in other threads, under the autocast and the gradient mode of this one. Draws no random numbers from
        torch's global generator.
    items : sequence

    Yields
    ------
    object
        The results in the order of the items, whatever order they were ready in.
    """
    n_threads = min(torch.get_num_threads(), len(items))
    if n_threads < 2:
        yield from map(function, items)
        return
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    gradients = torch.is_grad_enabled()

    def call(item: Item) -> Result:
        with torch.autocast("cpu", dtype, enabled=autocast), torch.set_grad_enabled(gradients):
            return function(item)

    with ThreadPoolExecutor(n_threads, initializer=_use_one_thread) as pool:
        yield from pool.map(call, items)


def _use_one_thread() -> None:
    """Give operations of the calling thread no further threads; `torch.set_num_threads` would change those of all."""
    # A thread's first operation takes torch's number for it, and must not come later.
    torch.get_num_threads()
    for library in _openmp_libraries():
        library.set_num_threads(1)


@functools.cache
def _openmp_libraries() -> list[Any]:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return list(ThreadpoolController().select(user_api="openmp").lib_controllers)
