"""Contract tests for plugin authors: what metafe expects of a plugin, as pytest classes.

Derive a test class from the contract of your kind of plugin and override its ``plugin`` fixture; pytest then collects
every check. Several settings are several parameters of the fixture.

Examples
--------
In ``test_my_plugin.py``:

>>> import pytest
>>> from metafe.contracts import Backbone
>>> from metafe.testing import BackboneContract
>>> class Linear(Backbone):
...     name = "linear"
...     def __init__(self, width=8):
...         self.width = width
...     def build(self, input_shape):
...         from torch import nn
...         return nn.Linear(input_shape[0], self.width)
>>> class TestLinear(BackboneContract):
...     @pytest.fixture(params=[4, 32])
...     def plugin(self, request):
...         return Linear(width=request.param)
"""

from __future__ import annotations

try:
    import pytest
except ImportError as error:
    from metafe.contracts import MissingDependencyError

    raise MissingDependencyError(
        "metafe.testing needs pytest; it is not installed. Run: pip install 'metafe[test]'"
    ) from error

# The checks are plain asserts, which pytest explains only in modules that it knows of before they are imported.
pytest.register_assert_rewrite(
    "metafe.testing.algorithm",
    "metafe.testing.augmentation",
    "metafe.testing.backbone",
    "metafe.testing.common",
    "metafe.testing.distribution",
    "metafe.testing.encoder",
    "metafe.testing.plugin",
    "metafe.testing.task_source",
)

from metafe.testing.algorithm import MetaAlgorithmContract  # noqa: E402 - after the lines above
from metafe.testing.augmentation import AugmentationContract  # noqa: E402
from metafe.testing.backbone import BackboneContract  # noqa: E402
from metafe.testing.common import example_rows  # noqa: E402
from metafe.testing.distribution import DistributionContract  # noqa: E402
from metafe.testing.encoder import EncoderContract  # noqa: E402
from metafe.testing.task_source import TaskSourceContract  # noqa: E402

__all__ = [
    "AugmentationContract",
    "BackboneContract",
    "DistributionContract",
    "EncoderContract",
    "MetaAlgorithmContract",
    "TaskSourceContract",
    "example_rows",
]
