"""Small data and small plugins that several tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.datasets import load_digits

import metafe
from metafe.algorithms import ProtoNet


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """400 flat digits of all ten classes, ``(400, 64)`` float64, never to be written to."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:400], y[:400]
    X.setflags(write=False)
    y.setflags(write=False)
    return X, y


@pytest.fixture(scope="session")
def images(digits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The same digits as images, ``(400, 8, 8)``."""
    X, y = digits
    return X.reshape(-1, 8, 8), y


@pytest.fixture(scope="session")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Eight well separated classes of 15 rows and 6 columns, float64."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), 15)
    X = rng.normal(scale=4.0, size=(8, 6))[y] + rng.normal(size=(len(y), 6))
    return X, y


@pytest.fixture(scope="session")
def whole() -> tuple[np.ndarray, np.ndarray]:
    """Six classes of 15 rows with small whole numbers, which every numeric type holds exactly."""
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(6), 15)
    return (rng.integers(0, 60, size=(6, 5))[y] + rng.integers(0, 30, size=(90, 5))).astype(np.float64), y


Small = Callable[..., metafe.MetaFeatureExtractor]


@pytest.fixture(scope="session")
def small() -> Small:
    """A function that returns an extractor which trains for a moment."""

    def make(backbone: Any = "mlp", algorithm: Any = "protonet", **parameters: Any) -> metafe.MetaFeatureExtractor:
        settings = {"max_steps": 3, "augment": None, "random_state": 0, "device": "cpu", "precision": "float32"}
        return metafe.MetaFeatureExtractor(backbone, algorithm, **(settings | parameters))

    return make


@pytest.fixture
def count_steps() -> list[int]:
    """The steps that the algorithm ``"counting"`` has taken: a list that grows by each."""
    CountingProtoNet.steps.clear()
    return CountingProtoNet.steps


@metafe.register
class CountingProtoNet(ProtoNet):
    """Prototypical networks that note every step they train."""

    name = "counting"
    steps: ClassVar[list[int]] = []

    def meta_loss(self, learner: Any, batch: Any, context: Any) -> Any:
        self.steps.append(context.step)
        return super().meta_loss(learner, batch, context)
