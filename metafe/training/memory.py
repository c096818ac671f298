"""Keeping freed memory for the next training step."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Parameters of mallopt(3), from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER = 2**31 - 1
# Where glibc's own adaptive thresholds end, and its default number of mappings.
_LARGEST_MMAP_THRESHOLD, _DEFAULT_MMAP_MAX = 32 * 2**20, 65536

_lock = threading.Lock()
_users = 0


@contextmanager
def reuse_freed_memory(device: torch.device) -> Iterator[None]:
    """Keep freed memory in the process while training on a CPU, and give it back at the end.

    Every step allocates and frees the same large activations. glibc maps each block above 32 MB anew, and the kernel
    clears each of its pages again, which took a third of a convolutional network's step.

    Parameters
    ----------
    device : torch.device
        Where training runs. Nothing happens on accelerators, whose allocators keep memory themselves, and with other
        C libraries.
    """
    library = _glibc() if device.type == "cpu" else None
    if library is None:
        yield
        return
    _enter(library)
    try:
        yield
    finally:
        _leave(library)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def _enter(library: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            library.mallopt(_MMAP_MAX, 0)
            library.mallopt(_TRIM_THRESHOLD, _NEVER)


def _leave(library: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            library.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
            library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
            library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
            library.malloc_trim(0)
