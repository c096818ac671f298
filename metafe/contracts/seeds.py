"""Named random generators derived, statelessly, from one integer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Seeds:
    """A tree of independent random streams, addressed by name.

    A stream depends on the root and its own address alone, so the thousandth step draws the same numbers
    whether or not the first 999 ran in this process: resuming needs no generator state.

    Parameters
    ----------
    root : int
        The one integer from which all streams derive.
    path : tuple of str or int, default=()
        Address of this branch of the tree.

    Examples
    --------
    >>> seeds = Seeds(0)
    >>> seeds.numpy("tasks", 3).integers(100) == seeds.numpy("tasks", 3).integers(100)
    np.True_
    >>> seeds.integer("tasks", 3) == seeds.integer("tasks", 4)
    False
    """

    root: int
    path: tuple[str | int, ...] = ()

    def child(self, *path: str | int) -> Seeds:
        """Return the branch at ``path`` below this one."""
        return Seeds(self.root, self.path + path)

    def integer(self, *path: str | int) -> int:
        """Return a 63-bit integer that belongs to ``path``.

        The digest does not depend on Python's hash seed, so every process derives the same one.
        """
        address = repr((self.root, *self.path, *path)).encode()
        return int.from_bytes(hashlib.blake2b(address, digest_size=8).digest(), "little") >> 1

    def numpy(self, *path: str | int) -> np.random.Generator:
        """Return a fresh NumPy generator for ``path``."""
        return np.random.default_rng(self.integer(*path))

    def torch(self, *path: str | int, device: str | torch.device = "cpu") -> torch.Generator:
        """Return a fresh torch generator for ``path`` on ``device``."""
        import torch

        return torch.Generator(device=device).manual_seed(self.integer(*path))
