"""A plugin that returns what it must not is named in the error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from metafe.contracts import (
    Augmentation,
    Backbone,
    PluginContractError,
    TaskBatch,
    TaskSource,
)

pytestmark = pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")


class BrokenBackbone(Backbone):
    """Breaks its contract in the way it is told."""

    name = "test-broken-backbone"

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def fit(self, X: Any, y: Any, seeds: Any) -> Any:
        return None if self.fault == "fit" else self

    def encode(self, X: Any) -> Any:
        encoded = {"rows": X[:1], "text": X.astype(str), "encoded nan": np.where(X > 0, np.nan, X), "list": X.tolist()}
        return encoded.get(self.fault, X)

    def build(self, input_shape: tuple[int, ...]) -> Any:
        faults = {"module": 3, "3-d": nn.Unflatten(1, (1, -1)), "nan": Nan(), "integers": Integers()}
        return faults.get(self.fault, nn.Identity())


class Nan(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float("nan")


class Integers(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.long()


@pytest.fixture(scope="module")
def broken_algorithm() -> type:
    from metafe.algorithms import ProtoNet

    class Broken(ProtoNet):
        name = "test-broken-algorithm"

        def __init__(self, fault: str = "") -> None:
            super().__init__()
            self.fault = fault

        def build(self, backbone: Any, n_features: int, problem: Any) -> Any:
            return None if self.fault == "build" else super().build(backbone, n_features, problem)

        def meta_loss(self, learner: Any, batch: Any, context: Any) -> Any:
            loss, metrics = super().meta_loss(learner, batch, context)
            faults = {
                "no metrics": loss,
                "vector": (loss.repeat(2), metrics),
                "float": (1.0, metrics),
                "nan": (loss * float("nan"), metrics),
                "metrics": (loss, [1.0]),
                "metric": (loss, {"spread": "large"}),
                "metric vector": (loss, {"spread": loss.repeat(2)}),
                "metric name": (loss, {"score": 1.0}),
            }
            return faults.get(self.fault, (loss, metrics))

        def features(self, learner: Any, state: Any, x: Any) -> Any:
            features = super().features(learner, state, x)
            faults = {
                "row": features[:1],
                "width": features[:, :1],
                "none": None,
                "nan features": features * float("nan"),
            }
            return faults.get(self.fault, features)

    return Broken


class BrokenSource(TaskSource):
    name = "test-broken-source"

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def task(self, data: Any, rng: Any) -> Any:
        rows = data.take(rng.permutation(data.rows)[:8].reshape(1, 8))
        y = np.arange(8)[None] % 2
        faults = {
            "label": {"query_y": y + 5},
            "rows": {"support_x": rows[..., :1]},
            "length": {"query_y": y[:, :3]},
            "nan": {"query_x": rows * np.nan},
        }
        return TaskBatch(
            **(
                {"support_x": rows, "support_y": y, "query_x": rows, "query_y": y, "n_way": 2}
                | faults.get(self.fault, {})
            )
        )

    def draw(self, data: Any, n: int, step: int, seeds: Any) -> Any:
        return {"nothing": [], "dict": {}}.get(self.fault, super().draw(data, n, step, seeds))


class BrokenAugmentation(Augmentation):
    name = "test-broken-augmentation"

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def __call__(self, x: Any, generator: Any) -> Any:
        return {"shape": x[:, :1], "none": None, "nan": x * float("nan")}.get(self.fault, x)

    def n_views(self, input_shape: Any) -> int:
        return 2 if self.fault == "view" else 1

    def view(self, x: Any, k: int) -> Any:
        return x[:, :2]


class TestBrokenPlugins:
    @pytest.mark.parametrize("validation_fraction", [0.0, 0.5])
    @pytest.mark.parametrize(
        "fault", ["fit", "rows", "text", "encoded nan", "list", "module", "3-d", "nan", "integers"]
    )
    def test_backbone(self, small, whole, count_steps, fault, validation_fraction):
        with pytest.raises(PluginContractError, match=r"Backbone 'test-broken-backbone' must .*; got .*\. Fix its "):
            small(BrokenBackbone(fault), "counting", validation_fraction=validation_fraction).fit(*whole)
        assert not count_steps

    @pytest.mark.parametrize("validation_fraction", [0.0, 0.5])
    @pytest.mark.parametrize(
        "fault",
        [
            "build",
            "no metrics",
            "vector",
            "float",
            "nan",
            "metrics",
            "metric",
            "metric vector",
            "metric name",
            "row",
            "width",
            "none",
            "nan features",
        ],
    )
    def test_algorithm(self, small, whole, broken_algorithm, fault, validation_fraction):
        extractor = small("mlp", broken_algorithm(fault), validation_fraction=validation_fraction)
        with pytest.raises(
            PluginContractError, match=r"Algorithm 'test-broken-algorithm' .*must .*; got .*\. Fix its "
        ):
            extractor.fit(*whole)

    @pytest.mark.parametrize("validation_fraction", [0.0, 0.5])
    @pytest.mark.parametrize("fault", ["label", "rows", "length", "nan", "nothing", "dict"])
    def test_task_source(self, small, whole, count_steps, fault, validation_fraction):
        extractor = small("mlp", "counting", tasks=BrokenSource(fault), validation_fraction=validation_fraction)
        with pytest.raises(PluginContractError, match=r"Task source 'test-broken-source' must .*; got .*\. Fix its "):
            extractor.fit(*whole)
        assert not count_steps

    @pytest.mark.parametrize("fault", ["shape", "none", "nan", "view"])
    def test_augmentation(self, small, whole, count_steps, fault):
        extractor = small("mlp", "counting", augment=BrokenAugmentation(fault))
        with pytest.raises(
            PluginContractError, match=r"Augmentation 'test-broken-augmentation' must .*; got .*\. Fix its "
        ):
            extractor.fit(*whole)
        assert not count_steps

    def test_the_same_plugins_without_a_fault_work(self, small, whole, broken_algorithm):
        extractor = small(BrokenBackbone(), broken_algorithm(), tasks=BrokenSource(), augment=BrokenAugmentation()).fit(
            *whole
        )
        assert np.isfinite(extractor.transform(whole[0])).all()
