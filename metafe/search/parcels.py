"""What worker processes get: the study and the objective, once for each process and not with every trial."""

from __future__ import annotations

import pickle
import threading
import uuid
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import optuna
import torch
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study

from metafe.plugins import register, registry
from metafe.search.attempts import wait_for_server

# Smaller arrays are not worth a file of their own.
MAPPED_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class Parcel:
    """A study and an objective on their way to other processes.

    Parameters
    ----------
    key : str
        By which a process knows that it has opened it already.
    content : Path or ndarray of shape (n_bytes,) uint8
        A folder that the process can read, with an array in each file but the first; or everything.
    """

    key: str
    content: Path | np.ndarray

    @classmethod
    def pack(cls, study: Study, objective: Any, folder: Path | None = None) -> Parcel:
        """Pack a study, whose storage other processes can reach, and an objective.

        Parameters
        ----------
        study : optuna.study.Study
        objective : callable
        folder : Path, optional
            Existing and empty, on the host of those who will open the parcel. Large arrays are not copied by them, but
            mapped from there.
        """
        sent = (_scripted(), study, objective, optuna.logging.get_verbosity())
        key = uuid.uuid4().hex
        if folder is None:
            return cls(key, np.frombuffer(cloudpickle.dumps(sent), dtype=np.uint8))

        def store(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes >= MAPPED_BYTES:
                (folder / f"{len(list(folder.iterdir()))}.array").write_bytes(raw)
            return raw.nbytes < MAPPED_BYTES

        pickled = cloudpickle.dumps(sent, protocol=5, buffer_callback=store)
        (folder / "rest.pickle").write_bytes(pickled)
        return cls(key, folder)

    def open(self) -> tuple[Study, Any]:
        """Return the study and the objective, the same ones every time in a process."""
        with _opening:
            if self.key not in _opened:
                # One search at a time: what another has left behind would keep its data in memory.
                _opened.clear()
                _opened[self.key] = self._unpack()
            return _opened[self.key]

    def _unpack(self) -> tuple[Study, Any]:
        torch.set_num_threads(1)
        # The user's own process has the same setting, but only while it searches.
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        scripted, study, objective, verbosity = self._load()
        for pickled in scripted:
            # One that cannot be had here is missed by name, where a trial asks for it.
            with suppress(ImportError, AttributeError):
                register(pickle.loads(pickled))  # noqa: S301 -- a parent process wrote it
        optuna.logging.set_verbosity(verbosity)
        wait_for_server(study)
        # Samplers with the same seed would all draw the same.
        study.sampler.reseed_rng()
        return study, objective

    def _load(self) -> Any:
        if isinstance(self.content, np.ndarray):
            return pickle.loads(self.content.data)  # noqa: S301 -- a parent process wrote it
        arrays = sorted(self.content.glob("*.array"), key=lambda path: int(path.stem))
        mapped = [np.memmap(path, np.uint8, mode="r") for path in arrays]
        return pickle.loads((self.content / "rest.pickle").read_bytes(), buffers=mapped)  # noqa: S301 -- likewise


def _scripted() -> list[bytes]:
    """Return the plugins that a script has registered, which other processes do not find by their names otherwise."""
    found = []
    for info in registry().listing():
        if info.distribution == "script":
            with suppress(pickle.PicklingError, TypeError):
                found.append(cloudpickle.dumps(registry().get(info.kind, info.name)))
    return found


_opened: dict[str, tuple[Study, Any]] = {}
_opening = threading.Lock()
