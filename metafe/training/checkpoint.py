"""Training that survives being killed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch

from metafe.contracts import SavedFormatError

FILE = "training.pt"
# Of rows that are read at once to be hashed: a memory-mapped array need not fit in memory.
BYTES_AT_ONCE = 2**24


class Checkpoint:
    """One file, replaced atomically, that holds all that a run needs to go on.

    Random streams derive from the seed and the step, so there is no generator state in it.

    Parameters
    ----------
    folder : str or Path
        Made when it does not exist.
    fingerprint : str
        Of the data and settings; a file of another run is refused.
    """

    def __init__(self, folder: str | Path, fingerprint: str) -> None:
        self.path = Path(folder) / FILE
        self.fingerprint = fingerprint

    def inside(self, name: str) -> Checkpoint:
        """Return that of another training of the same run, in a folder of this one."""
        return Checkpoint(self.path.parent / name, self.fingerprint)

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file; whoever is killed meanwhile leaves the former one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".partial")
        torch.save({"fingerprint": self.fingerprint, **state}, unfinished)
        unfinished.replace(self.path)

    def read(self) -> dict[str, Any] | None:
        """Return the last state written, or None when there is none.

        Raises
        ------
        SavedFormatError
            The file cannot be read, or belongs to a run on other data or with other settings.
        """
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises several types for a damaged file
            raise SavedFormatError(
                f"Checkpoint {self.path} must be readable; got {type(error).__name__} while reading it. "
                "Delete it to start again."
            ) from error
        if state.get("fingerprint") != self.fingerprint:
            raise SavedFormatError(
                f"Checkpoint {self.path} must come from the same data, settings and random_state; got one of another "
                "run. Pass another folder, or delete it to start again."
            )
        return state


def hash_rows(x: Any) -> str:
    """Return a hash of every row, so that a change of any of them is noticed.

    Parameters
    ----------
    x : ndarray, or other rows that joblib can hash

    Returns
    -------
    str
    """
    if not isinstance(x, np.ndarray) or x.dtype.hasobject:
        return str(joblib.hash(x))
    digest = hashlib.sha256(f"{x.dtype.str}{x.shape}".encode())
    n_rows = max(1, BYTES_AT_ONCE * len(x) // max(1, x.nbytes))
    for start in range(0, len(x), n_rows):
        digest.update(x[start : start + n_rows].tobytes())
    return digest.hexdigest()
