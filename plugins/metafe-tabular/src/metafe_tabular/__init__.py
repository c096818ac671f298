"""Tables for metafe: an encoder of data frames, networks for rows of numbers, and embeddings of in-context models."""

from __future__ import annotations

from metafe.contracts import Backbone, Encoder, hookimpl
from metafe_tabular.ft_transformer import FTTransformer
from metafe_tabular.resnet import TabularResNet
from metafe_tabular.tabicl_backbone import TabICL
from metafe_tabular.table import Table
from metafe_tabular.tabpfn_backbone import TabPFN

__all__ = ["FTTransformer", "TabICL", "TabPFN", "Table", "TabularResNet"]


@hookimpl
def metafe_register_backbones() -> list[type[Backbone]]:
    """Return the backbones of this distribution."""
    return [FTTransformer, TabICL, TabPFN, TabularResNet]


@hookimpl
def metafe_register_encoders() -> list[type[Encoder]]:
    """Return the encoders of this distribution."""
    return [Table]
