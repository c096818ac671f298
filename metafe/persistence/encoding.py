"""Python values as JSON, with arrays and scikit-learn estimators in files of their own.

``None``, booleans, whole numbers, finite floats, strings, lists and dictionaries with string keys are themselves.
Anything else is a JSON object with a ``"type"``, which `metafe.persistence.decoding` turns back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from metafe.contracts import Plugin, SavedFormatError, UnknownPluginError
from metafe.persistence.layout import memory_order
from metafe.plugins import registry
from metafe.plugins.registry import kind_of

# NumPy types that safetensors holds as they are; the bytes of others are stored as uint8.
_STORED_AS_THEY_ARE = {"bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64"}
_STORED_AS_BYTES = "biufcSmM"
_THROUGH_SKOPS = (BaseEstimator, np.random.RandomState, np.random.Generator)

Path_ = tuple[str, ...]


class Encoder:
    """Turns values into JSON types and collects what goes into other files.

    Attributes
    ----------
    tensors : dict of str to Tensor
        What goes into the weights file.
    files : dict of str to bytes
        Name and content of scikit-learn parts.
    plugins : list of dict
        ``kind``, ``name``, ``distribution`` and ``version`` of every plugin met.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.files: dict[str, bytes] = {}
        self.plugins: list[dict[str, str]] = []
        self._with_state = True
        self._seen: dict[int, tuple[int, Any]] = {}

    def encode_contents(self, contents: Mapping[str, Any]) -> dict[str, Any]:
        """Encode the contents of an extractor; plugins among its ``"parameters"`` are saved without fitted state."""
        encoded = {}
        for name, part in contents.items():
            self._with_state = name != "parameters"
            encoded[name] = self.encode(part, (name,))
        return encoded

    def encode(self, value: Any, path: Path_) -> Any:
        """Encode one value.

        Parameters
        ----------
        value : object
        path : tuple of str
            Where it lies; names arrays in the weights file, and the value in errors.

        Returns
        -------
        JSON types

        Raises
        ------
        SavedFormatError
            A value that cannot be saved without pickle.
        """
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) in _EXACT:
            return _EXACT[type(value)](self, value, path)
        for family, method in _FAMILIES:
            if isinstance(value, family):
                return method(self, value, path)
        if isinstance(value, _THROUGH_SKOPS) or type(value).__module__.startswith("sklearn."):
            return self._estimator(value, path)
        raise _refusal(value, path)

    def weights(self) -> bytes:
        """Return the content of the weights file."""
        from safetensors.torch import save

        return save(self.tensors)

    def _float(self, value: float, path: Path_) -> Any:
        return value if math.isfinite(value) else {"type": "float", "value": repr(value)}

    def _list(self, value: Any, path: Path_) -> list[Any]:
        return [self.encode(item, (*path, str(i))) for i, item in enumerate(value)]

    def _tuple(self, value: tuple[Any, ...], path: Path_) -> dict[str, Any]:
        return {"type": "tuple", "items": self._list(value, path)}

    def _set(self, value: set[Any] | frozenset[Any], path: Path_) -> dict[str, Any]:
        items = sorted(self._list(value, path), key=json.dumps)
        return {"type": type(value).__name__, "items": items}

    def _dict(self, value: dict[Any, Any], path: Path_) -> dict[str, Any]:
        if all(type(key) is str for key in value) and "type" not in value:
            return {key: self.encode(item, (*path, key)) for key, item in value.items()}
        pairs = [[self.encode(key, path), self.encode(item, (*path, str(key)))] for key, item in value.items()]
        return {"type": "dict", "items": pairs}

    def _bytes(self, value: bytes, path: Path_) -> dict[str, str]:
        return {"type": "bytes", "value": value.hex()}

    def _complex(self, value: complex, path: Path_) -> dict[str, Any]:
        return {"type": "complex", "parts": [self._float(value.real, path), self._float(value.imag, path)]}

    def _path(self, value: Path, path: Path_) -> dict[str, str]:
        return {"type": "path", "value": str(value)}

    def _device(self, value: torch.device, path: Path_) -> dict[str, str]:
        return {"type": "torch.device", "value": str(value)}

    def _dtype(self, value: torch.dtype, path: Path_) -> dict[str, str]:
        return {"type": "torch.dtype", "value": str(value).removeprefix("torch.")}

    def _scalar(self, value: np.generic, path: Path_) -> dict[str, str]:
        if value.dtype.kind not in _STORED_AS_BYTES + "U":
            raise _refusal(value, path)
        array = np.asarray(value)  # of one character for an empty string, whose own type has no width
        return {"type": "numpy scalar", "dtype": array.dtype.str, "bytes": array.tobytes().hex()}

    def _array(self, value: np.ndarray, path: Path_) -> dict[str, Any]:
        node: dict[str, Any] = {"type": "array", "dtype": value.dtype.str, "shape": list(value.shape)}
        if type(value) not in (np.ndarray, np.memmap):
            raise _refusal(value, path)
        if value.dtype.kind in "OU":
            return {**node, "items": self._list(value.ravel().tolist(), path)}
        if value.dtype.kind not in _STORED_AS_BYTES:
            raise _refusal(value, path)
        order = list(range(value.ndim)) if value.flags.c_contiguous else memory_order(value.strides)
        dense = np.array(value.transpose(order), order="C", copy=True)
        as_it_is = value.dtype.name in _STORED_AS_THEY_ARE and value.dtype.isnative
        stored = dense if as_it_is else np.frombuffer(bytearray(dense.tobytes()), np.uint8)
        return {**node, "order": order, "key": self._store(torch.from_numpy(stored), path)}

    def _tensor(self, value: Tensor, path: Path_) -> dict[str, Any]:
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise _refusal(value, path)
        order = list(range(value.ndim)) if value.is_contiguous() else memory_order(value.stride())
        permuted = value.detach().resolve_conj().resolve_neg().permute(order)
        # A copy, since safetensors refuses tensors that share memory, as tied weights do.
        dense = permuted.to("cpu", copy=True, memory_format=torch.contiguous_format)
        node = {"type": "tensor", "order": order, "key": self._store(dense, path)}
        # Kernels look at strides of dimensions of length one too, which the order does not tell.
        return {**node, "strides": list(value.stride())} if permuted.is_contiguous() else node

    def _plugin(self, plugin: Plugin, path: Path_) -> dict[str, Any]:
        if id(plugin) in self._seen:
            return {"type": "same", "id": self._seen[id(plugin)][0]}
        node = {"type": "plugin", "id": self._remember(plugin), **self._named(plugin, path)}
        # The state comes first: a plugin that is a parameter and also part of the state keeps its own state.
        node["state"] = self.encode(dict(plugin.get_state()), path) if self._with_state else None
        node["parameters"] = self._without_state(plugin.get_params(deep=False), path)
        return node

    def _without_state(self, value: Any, path: Path_) -> Any:
        before, self._with_state = self._with_state, False
        encoded = self.encode(value, path)
        self._with_state = before
        return encoded

    def _named(self, plugin: Plugin, path: Path_) -> dict[str, str]:
        """Return kind and name of a plugin and note where it comes from."""
        cls = type(plugin)
        kind, name = kind_of(cls), getattr(cls, "name", None)
        if not isinstance(name, str) or not name:
            raise SavedFormatError(
                f"A plugin must have a name to be saved; {cls.__name__} has none. Set {cls.__name__}.name to a string."
            )
        if _taken_by_another(cls, kind, name):
            raise SavedFormatError(
                f"A plugin must have a name of its own to be saved; {cls.__name__} has that of another {kind}, "
                f"{name!r}. Set {cls.__name__}.name to another string."
            )
        distribution, version = registry().distribution_of(cls)
        entry = {"kind": kind, "name": name, "distribution": distribution, "version": version}
        if entry not in self.plugins:
            self.plugins.append(entry)
        return {"kind": kind, "name": name}

    def _estimator(self, value: Any, path: Path_) -> dict[str, Any]:
        if id(value) in self._seen:
            return {"type": "same", "id": self._seen[id(value)][0]}
        number = self._remember(value)
        name = f"sklearn-{len(self.files)}.skops"
        self.files[name] = _skops_bytes(value, path)
        return {"type": "estimator", "id": number, "file": name}

    def _remember(self, value: Any) -> int:
        """Give an object a number, so that what was one object is one again; keeping it alive keeps its id."""
        self._seen[id(value)] = (len(self._seen), value)
        return len(self._seen) - 1

    def _store(self, tensor: Tensor, path: Path_) -> str:
        key = ".".join(path)
        while key in self.tensors:
            key += "~"
        self.tensors[key] = tensor
        return key


_Method = Callable[[Encoder, Any, Path_], Any]
_EXACT: dict[type, _Method] = {
    float: Encoder._float,
    complex: Encoder._complex,
    bytes: Encoder._bytes,
    list: Encoder._list,
    tuple: Encoder._tuple,
    set: Encoder._set,
    frozenset: Encoder._set,
    dict: Encoder._dict,
}
_FAMILIES: list[tuple[type, _Method]] = [
    (np.generic, Encoder._scalar),
    (np.ndarray, Encoder._array),
    (Tensor, Encoder._tensor),
    (torch.device, Encoder._device),
    (torch.dtype, Encoder._dtype),
    (Path, Encoder._path),
    (Plugin, Encoder._plugin),
]


def _taken_by_another(cls: type[Plugin], kind: str, name: str) -> bool:
    """Tell whether loading would find another class than this one; a class defined again in a notebook is the same."""
    try:
        found = registry().get(kind, name)
    except UnknownPluginError:
        return False
    return (found.__module__, found.__qualname__) != (cls.__module__, cls.__qualname__)


def _skops_bytes(value: Any, path: Path_) -> bytes:
    """Dump through skops, and load again, since skops writes functions that it cannot find later."""
    from skops.io import dumps, get_untrusted_types, loads

    try:
        data: bytes = dumps(value)
        loads(data, trusted=get_untrusted_types(data=data))
    except Exception as error:  # whatever a part's own code raises
        raise _refusal(value, path, f", of which skops says: {error}") from error
    return data


def _refusal(value: Any, path: Path_, why: str = "") -> SavedFormatError:
    if isinstance(value, nn.Module):
        remedy = "Write a Backbone whose build makes the module; pickle saves it, for files that only you will load."
    elif isinstance(value, FunctionType):
        remedy = "Write a plugin or a transformer class that calls the function."
    else:
        remedy = "Pass one of these instead."
    return SavedFormatError(
        f"{'__'.join(path[1:])} must be of a JSON type, a tuple, set, array, path, device, plugin or scikit-learn "
        "estimator to be saved without pickle; got "
        f" {type(value).__module__}.{type(value).__qualname__}{why}. {remedy}"
    )
