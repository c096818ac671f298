"""The built-in meta-algorithms."""

from __future__ import annotations

from metafe.algorithms.cosine import Cosine
from metafe.algorithms.imaml import IMAML
from metafe.algorithms.maml import ANIL, BOIL, MAML
from metafe.algorithms.matching import MatchingNetworks
from metafe.algorithms.meta_sgd import MetaSGD
from metafe.algorithms.protonet import ProtoNet
from metafe.algorithms.r2d2 import R2D2
from metafe.algorithms.relation import RelationNetworks
from metafe.algorithms.reptile import Reptile
from metafe.algorithms.supervised import Supervised
from metafe.algorithms.untrained import Untrained
from metafe.contracts import MetaAlgorithm, hookimpl

__all__ = [
    "ANIL",
    "BOIL",
    "IMAML",
    "MAML",
    "R2D2",
    "Cosine",
    "MatchingNetworks",
    "MetaSGD",
    "ProtoNet",
    "RelationNetworks",
    "Reptile",
    "Supervised",
    "Untrained",
]


@hookimpl
def metafe_register_algorithms() -> list[type[MetaAlgorithm]]:
    """Return the built-in meta-algorithms."""
    return [
        ANIL,
        BOIL,
        IMAML,
        MAML,
        Cosine,
        MatchingNetworks,
        MetaSGD,
        ProtoNet,
        R2D2,
        RelationNetworks,
        Reptile,
        Supervised,
        Untrained,
    ]
