"""Keeping freed memory for the next training step."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Parameters of mallopt(3), from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
# Where glibc's own adaptive threshold ends.
_LARGEST_MMAP_THRESHOLD = 32 * 2**20

_lock = threading.Lock()
_users = 0


@contextmanager
def reuse_freed_memory(device: torch.device) -> Iterator[None]:
    """Keep freed memory in the process while training on a CPU, and give it back at the end.

    Every step allocates and frees the same large activations. glibc gives freed memory back to the kernel, which clears
    each page again before the next step, and that took up to a third of a convolutional network's step. Blocks above 32 MB are
    still mapped anew: kept among the others, they would not fit where they were before, since what alignment leaves over is
    soon in use, and the peak would rise by half.

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


def give_back_freed_memory() -> None:
    """Give memory that the process has freed back to the kernel, where the C library is glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


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
            library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
            library.mallopt(_TRIM_THRESHOLD, _NEVER)


def _leave(library: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
            library.malloc_trim(0)
