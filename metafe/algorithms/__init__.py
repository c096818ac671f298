"""The built-in meta-algorithms."""

from __future__ import annotations

from metafe.algorithms.protonet import ProtoNet
from metafe.algorithms.supervised import Supervised
from metafe.algorithms.untrained import Untrained
from metafe.contracts import MetaAlgorithm, hookimpl

__all__ = ["ProtoNet", "Supervised", "Untrained"]


@hookimpl
def metafe_register_algorithms() -> list[type[MetaAlgorithm]]:
    """Return the built-in meta-algorithms."""
    return [ProtoNet, Supervised, Untrained]
