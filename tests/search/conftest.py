"""A search that is over in a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from metafe import MetaFeatureExtractor, MetaFeatureSearchCV
from metafe.backbones import MLP

BriefSearch = Callable[..., MetaFeatureSearchCV]


@pytest.fixture(scope="session")
def brief() -> BriefSearch:
    """A function that returns a search of few trials over a small network, each of which trains for a moment."""

    def make(**parameters: Any) -> MetaFeatureSearchCV:
        extractor = MetaFeatureExtractor(MLP(1, 8, 8), "protonet", "classes", max_steps=4, augment=None, device="cpu")
        settings = {"extractor": extractor, "n_trials": 9, "random_state": 0}
        return MetaFeatureSearchCV(**(settings | parameters))

    return make
