"""Tables for metafe: an encoder of data frames, and networks for rows of numbers."""

from __future__ import annotations

from metafe.contracts import Backbone, Encoder, hookimpl
from metafe_tabular.ft_transformer import FTTransformer
from metafe_tabular.resnet import TabularResNet
from metafe_tabular.table import Table

__all__ = ["FTTransformer", "Table", "TabularResNet"]


@hookimpl
def metafe_register_backbones() -> list[type[Backbone]]:
    """Return the backbones of this distribution."""
    return [FTTransformer, TabularResNet]


@hookimpl
def metafe_register_encoders() -> list[type[Encoder]]:
    """Return the encoders of this distribution."""
    return [Table]
