"""What the encoders of text, images and sound share: a pretrained network that stays as it is, and the cache."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from metafe.contracts import (
    Encoder,
    InvalidInputError,
    InvalidParameterError,
    RowCache,
    Seeds,
    UnreadableRowWarning,
    check_choice,
    content_key,
    file_key,
    name_row,
    say_none_readable,
    say_unreadable,
)
from metafe_transformers.pooling import POOLINGS, Pooling, pool_output
from metafe_transformers.weights import Part, fingerprint, frozen_model, model_folder, versions_of

Errors = Literal["warn", "raise"]
# What the network takes of one row, by the names that it has for it.
Inputs = dict[str, np.ndarray]
# Rows by which it is told whether any can be read.
LOOKED_AT = 100


class FrozenEncoder(Encoder):
    """Base of encoders that are pretrained networks; each row is computed once, ever.

    A subclass writes `inputs`, and calls `embedded` with rows that it has checked.

    Attributes
    ----------
    weights_ : str
        Digest of the model's files.
    part : {"text_model", "vision_model", "audio_model"}
        Which tower is taken of models that have two.
    libraries : tuple of str
        Distributions that compute, whose versions are part of what is kept.
    blank : object
        A row that can be read, in place of rows of which none can.
    chunk : int
        Rows that are computed, and kept, together.
    """

    # A network that begins at random would first have to find again what the embedding knows.
    default_backbone = "adapter"
    named_parameter = "model"
    part: ClassVar[Part]
    libraries: ClassVar[tuple[str, ...]]
    blank: ClassVar[Any]
    chunk: ClassVar[int]

    model: str | Path | None
    pooling: Pooling
    normalise: bool
    errors: Errors
    device: str

    def fit(self, X: Any, seeds: Seeds) -> FrozenEncoder:
        """Find the model, and fetch it where it must be; nothing is learned.

        Raises
        ------
        InvalidInputError
            None of the rows can be read.
        InvalidParameterError
            A parameter that cannot be, or a model that cannot be loaded.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached.
        """
        check_choice(self.name, "pooling", self.pooling, POOLINGS)
        check_choice(self.name, "errors", self.errors, ("warn", "raise"))
        self.weights_ = fingerprint(model_folder(self.name, self.model))
        # Where not even this one can be read, the fault is the model's.
        self._blank_inputs()
        refuse_all_unreadable(self.name, list(X), self.why_unreadable, seeds)
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Embed each row.

        Parameters
        ----------
        X : sequence of length n

        Returns
        -------
        ndarray of shape (n, d) float32
            Zeros for rows that cannot be read.

        Raises
        ------
        InvalidInputError
            Rows of another kind; one that cannot be read, with ``errors="raise"``; or other weights than those of
            `fit`.
        """
        if reason := self.accepts(X):
            raise InvalidInputError(reason)
        rows = list(X)
        reasons: dict[int, str] = {}
        embeddings = self.embedded(rows, [_key(row) for row in rows], reasons)
        if reasons:
            warnings.warn(say_unreadable(self.name, "rows", "zeros", reasons, rows), UnreadableRowWarning, stacklevel=2)
        return embeddings

    def embedded(self, rows: Sequence[Any], keys: Sequence[bytes], reasons: dict[int, str]) -> np.ndarray:
        """Return embeddings ``(n, d)``, from the cache where they are, and add to ``reasons`` why rows cannot be read."""

        def compute(which: Sequence[int]) -> np.ndarray:
            inputs = self._inputs([rows[i] for i in which])
            unreadable = {i: one for i, one in zip(which, inputs, strict=True) if isinstance(one, str)}
            reasons.update(unreadable)
            if self.errors == "raise":
                refuse_unreadable(self.name, rows, unreadable)
            return self._run(inputs)

        return RowCache(self._configuration()).rows(keys, compute, self.chunk, reasons)

    def why_unreadable(self, row: Any) -> str | None:
        """Say why a row cannot be read: a few words, or None where it can."""
        (made,) = self._inputs([row])
        return made if isinstance(made, str) else None

    def inputs(self, rows: Sequence[Any], folder: Path) -> list[Inputs | str]:
        """Return what the network takes of each row, or why it cannot be read.

        Parameters
        ----------
        rows : sequence
        folder : Path
            Of the model.
        """
        raise NotImplementedError(f"{type(self).__name__} needs an inputs method.")

    def rows_at_once(self, device: str) -> int:
        """Return how many rows of one shape go through the network together."""
        raise NotImplementedError(f"{type(self).__name__} needs a rows_at_once method.")

    def _inputs(self, rows: Sequence[Any]) -> list[Inputs | str]:
        folder = model_folder(self.name, self.model)
        if fingerprint(folder) != self.weights_:
            raise InvalidInputError(
                f"{self.name} needs the model it was fitted with; {str(folder)!r} holds another one. "
                "Restore that model, or fit again."
            )
        return self.inputs(rows, folder)

    def _run(self, inputs: Sequence[Inputs | str]) -> np.ndarray:
        """Run the network, ``(n, d)``; zeros where there is nothing to run it on."""
        which = [i for i, one in enumerate(inputs) if not isinstance(one, str)]
        readable = [one for one in inputs if not isinstance(one, str)] or [self._blank_inputs()]
        embeddings = self._embeddings(readable)
        rows = np.zeros((len(inputs), embeddings.shape[1]), dtype=np.float32)
        rows[which] = embeddings[: len(which)]
        return rows

    def _blank_inputs(self) -> Inputs:
        (made,) = self._inputs([self.blank])
        if isinstance(made, str):
            raise InvalidParameterError(
                f"{self.name} model must come with a processor that takes its rows; that of {self.model!r} takes none, not even "
                f"a blank one ({made}). Save the processor again with save_pretrained, or choose another model."
            )
        return made

    def _embeddings(self, inputs: Sequence[Any]) -> np.ndarray:
        device = device_of(self.device)
        model = frozen_model(self.name, model_folder(self.name, self.model), self.part, self.weights_, device)
        rows: list[Any] = [None] * len(inputs)
        for which in _batches(inputs, self.rows_at_once(device)):
            for i, row in zip(which, self._forward(model, [inputs[i] for i in which], device), strict=True):
                rows[i] = row
        return np.stack(rows)

    def _forward(self, model: Any, inputs: Sequence[Inputs], device: str) -> np.ndarray:
        import torch
        from torch.nn import functional

        # Torch's own memory, since some kernels' last digits depend on its alignment.
        batch = {name: torch.tensor(np.stack([one[name] for one in inputs])).to(device) for name in inputs[0]}
        with torch.inference_mode():
            output = model(**batch)
            if "last_hidden_state" not in output:
                raise InvalidParameterError(
                    f"{self.name} model must give last_hidden_state; {type(model).__name__} does not. Choose an encoder."
                )
            pooled = pool_output(output, batch.get("attention_mask"), self.pooling)
            rows: np.ndarray = (functional.normalize(pooled, dim=1) if self.normalise else pooled).cpu().numpy()
        return rows

    def _configuration(self) -> dict[str, Any]:
        parameters = {k: v for k, v in self.get_params().items() if k not in ("model", "errors", "device")}
        libraries = ("metafe-transformers", "transformers", "torch", *self.libraries)
        return {
            "encoder": self.name,
            "weights": self.weights_,
            "device": device_of(self.device),
            **parameters,
            **versions_of(self.name, libraries, self.part.removesuffix("_model")),
        }


def refuse_unreadable(owner: str, rows: Sequence[Any], reasons: dict[int, str]) -> None:
    """Refuse rows of which some cannot be read.

    Raises
    ------
    InvalidInputError
        Naming the first of ``reasons``.
    """
    if reasons:
        row, reason = next(iter(reasons.items()))
        raise InvalidInputError(
            f"{owner} needs rows that can be read; {name_row(row, rows)} is not one ({reason}). Repair or remove it, or "
            "pass errors='warn'."
        )


def refuse_all_unreadable(
    owner: str, rows: Sequence[Any], why_unreadable: Callable[[Any], str | None], seeds: Seeds
) -> None:
    """Refuse rows of which none can be read, by a hundred of them; the look at them ends at the first that can.

    Raises
    ------
    InvalidInputError
        Naming the first of them.
    """
    reasons: dict[int, str] = {}
    for i in sorted(seeds.numpy("looked at").permutation(len(rows))[:LOOKED_AT].tolist()):
        reason = why_unreadable(rows[i])
        if reason is None:
            return
        reasons[i] = reason
    raise InvalidInputError(f"{say_none_readable(owner, 'rows', reasons, rows)} Pass some that can.")


def why_no_sequence(owner: str, X: Any, what: str) -> str | None:
    """Say why ``X`` is no sequence of rows.

    Parameters
    ----------
    owner : str
    X : object
    what : str
        Of which it should be one.
    """
    if is_path(X) or hasattr(X, "columns") or not hasattr(X, "__len__") or not hasattr(X, "__iter__"):
        return f"{owner} needs a sequence of {what}; got a {type(X).__name__}. Pass a list."
    return None if len(X) else f"{owner} needs at least one row; got none. Pass a list of {what}."


def why_no_model(owner: str, model: str | Path | None, examples: str) -> str | None:
    """Say that a model must be named."""
    return (
        None
        if model is not None
        else f"{owner} needs a model; got None. Pass a folder or a name on the hub: {examples}."
    )


def is_path(row: Any) -> bool:
    """Tell whether a row is the path of a file."""
    return isinstance(row, str | os.PathLike)


def _key(row: Any) -> bytes:
    """Return the key of a row; one that is neither a path nor numbers, which is never kept, has that of no row."""
    if is_path(row):
        return file_key(row)
    return content_key(row if isinstance(row, np.ndarray) and row.dtype.kind in "biuf" else "")


def _batches(inputs: Sequence[Inputs], size: int) -> Iterator[list[int]]:
    """Yield positions of rows of one shape, always equally many; the last one is repeated."""
    shapes = [tuple(value.shape for value in one.values()) for one in inputs]
    for shape in dict.fromkeys(shapes):
        alike = [i for i, other in enumerate(shapes) if other == shape]
        for start in range(0, len(alike), size):
            which = alike[start : start + size]
            yield which + which[-1:] * (size - len(which))


def device_of(device: str) -> str:
    """Return the device, which is an accelerator for ``"auto"`` where there is one."""
    import torch

    if device != "auto":
        return str(device)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator.type if accelerator else "cpu"
