"""A training that may take some time and no longer."""

from __future__ import annotations

import time

import numpy as np
import pytest

from metafe import MetaFeatureExtractor
from metafe.search import procedure
from metafe.search.procedure import Refit

SETTINGS = {"backbone": "mlp", "algorithm": "protonet", "max_steps": 40, "patience": 100, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    """Eight classes of 30 rows."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 8
    return rng.normal(size=(8, 10))[y] + 0.3 * rng.normal(size=(240, 10)), y


@pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
@pytest.mark.parametrize("deadline", [None, time.time() + 1e9], ids=["none", "far away"])
def test_enough_time_changes_nothing(rows, deadline):
    plain = MetaFeatureExtractor(**SETTINGS).fit(*rows)
    refitted = Refit(**SETTINGS).until(deadline).fit(*rows)
    np.testing.assert_array_equal(refitted.transform(rows[0]), plain.transform(rows[0]))
    assert [row["step"] for row in refitted.history_] == [row["step"] for row in plain.history_]


@pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
def test_a_training_that_is_late_ends_after_a_step_with_a_validation(rows, monkeypatch):
    monkeypatch.setattr(procedure, "SHORTEST_REFIT", 1e-9)
    fitted = Refit(**SETTINGS).until(time.time() - 10).fit(*rows)
    assert [row["step"] for row in fitted.history_] == [0, 1]
    assert np.isfinite(fitted.transform(rows[0])).all()
