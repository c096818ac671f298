"""From JSON back to Python values; the counterpart of `metafe.persistence.encoding`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import InconsistentVersionWarning
from torch import Tensor

from metafe.contracts import SavedFormatError
from metafe.persistence.layout import inverse
from metafe.plugins import registry

Node = Mapping[str, Any]


class Decoder:
    """Turns JSON types into values. What a file names is looked up in fixed tables or the registry, never imported.

    Parameters
    ----------
    files : dict of str to bytes
        Checked content of the files beside the manifest.
    trusted : sequence of str or type
        Types that skops may load beside those it trusts.

    Raises
    ------
    SavedFormatError
        A scikit-learn part holds types that are not trusted.
    """

    def __init__(self, files: Mapping[str, bytes], trusted: Sequence[str | type]) -> None:
        from safetensors.torch import load

        self.files = files
        self.trusted = [name if isinstance(name, str) else f"{name.__module__}.{name.__qualname__}" for name in trusted]
        _check_trusted(files, self.trusted)
        self.tensors: dict[str, Tensor] = load(files["weights.safetensors"])
        self._objects: dict[int, Any] = {}

    def decode_contents(self, contents: Mapping[str, Any]) -> dict[str, Any]:
        """Decode the contents of an extractor."""
        return {name: self.decode(part) for name, part in contents.items()}

    def decode(self, node: Any) -> Any:
        """Decode one value."""
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "type" not in node:
            return {key: self.decode(item) for key, item in node.items()}
        return _BY_TYPE[node["type"]](self, node)

    def _tuple(self, node: Node) -> tuple[Any, ...]:
        return tuple(self.decode(node["items"]))

    def _set(self, node: Node) -> set[Any] | frozenset[Any]:
        items = self.decode(node["items"])
        return set(items) if node["type"] == "set" else frozenset(items)

    def _dict(self, node: Node) -> dict[Any, Any]:
        return {self.decode(key): self.decode(value) for key, value in node["items"]}

    def _complex(self, node: Node) -> complex:
        return complex(*self.decode(node["parts"]))

    def _dtype(self, node: Node) -> torch.dtype:
        dtype = getattr(torch, node["value"])
        if not isinstance(dtype, torch.dtype):
            raise TypeError(f"{node['value']!r} is no torch.dtype")
        return dtype

    def _scalar(self, node: Node) -> np.generic:
        scalar: np.generic = np.frombuffer(bytes.fromhex(node["bytes"]), _dtype(node))[0]
        return scalar

    def _array(self, node: Node) -> np.ndarray:
        dtype = _dtype(node)
        if "items" in node:
            array = np.empty(len(node["items"]), dtype)
            for i, item in enumerate(node["items"]):
                array[i] = self.decode(item)
            return array.reshape(node["shape"])
        order, stored = node["order"], self.tensors[node["key"]].numpy()
        if stored.dtype != dtype:
            stored = np.frombuffer(stored.tobytes(), dtype)
        dense = np.array(stored, copy=True).reshape([node["shape"][dimension] for dimension in order])
        return dense.transpose(inverse(order))

    def _tensor(self, node: Node) -> Tensor:
        # A copy with memory of its own, aligned as torch aligns it.
        tensor = self.tensors[node["key"]].clone().permute(inverse(node["order"]))
        return tensor.as_strided(tensor.shape, node["strides"]) if "strides" in node else tensor

    def _plugin(self, node: Node) -> Any:
        state = self.decode(node["state"])
        plugin = registry().get(node["kind"], node["name"])(**self.decode(node["parameters"]))
        if state:
            plugin.set_state(state)
        self._objects[node["id"]] = plugin
        return plugin

    def _estimator(self, node: Node) -> Any:
        from skops.io import loads

        with warnings.catch_warnings():
            # One warning of ours lists all versions that differ.
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            self._objects[node["id"]] = loads(self.files[node["file"]], trusted=self.trusted)
        return self._objects[node["id"]]


_BY_TYPE: dict[str, Callable[[Decoder, Node], Any]] = {
    "array": Decoder._array,
    "bytes": lambda decoder, node: bytes.fromhex(node["value"]),
    "complex": Decoder._complex,
    "dict": Decoder._dict,
    "estimator": Decoder._estimator,
    "float": lambda decoder, node: float(node["value"]),
    "frozenset": Decoder._set,
    "numpy scalar": Decoder._scalar,
    "path": lambda decoder, node: Path(node["value"]),
    "plugin": Decoder._plugin,
    "same": lambda decoder, node: decoder._objects[node["id"]],
    "set": Decoder._set,
    "tensor": Decoder._tensor,
    "torch.device": lambda decoder, node: torch.device(node["value"]),
    "torch.dtype": Decoder._dtype,
    "tuple": Decoder._tuple,
}


def _dtype(node: Node) -> np.dtype[Any]:
    return np.dtype(node["dtype"])


def _check_trusted(files: Mapping[str, bytes], trusted: Sequence[str]) -> None:
    parts = [data for name, data in files.items() if name.endswith(".skops")]
    if not parts:
        return
    from skops.io import get_untrusted_types

    untrusted = sorted({name for data in parts for name in get_untrusted_types(data=data)} - set(trusted))
    if untrusted:
        raise SavedFormatError(
            "Scikit-learn parts of a saved extractor must consist of types that skops trusts, or you; got "
            f"{', '.join(untrusted)}. If you know their code and trust the folder, pass trusted={untrusted!r}."
        )
