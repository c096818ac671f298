"""The built-in backbones."""

from __future__ import annotations

from metafe.backbones.adapter import Adapter
from metafe.backbones.conv4 import Conv4
from metafe.backbones.identity import Identity
from metafe.backbones.mlp import MLP
from metafe.backbones.plda import PLDA
from metafe.backbones.sklearn_transformer import SklearnTransformer
from metafe.contracts import Backbone, hookimpl

__all__ = ["MLP", "PLDA", "Adapter", "Conv4", "Identity", "SklearnTransformer"]


@hookimpl
def metafe_register_backbones() -> list[type[Backbone]]:
    """Return the built-in backbones."""
    return [Identity, SklearnTransformer, PLDA, Adapter, MLP, Conv4]
