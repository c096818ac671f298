"""Small sets of series."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", "off")


@pytest.fixture(scope="session")
def waves():
    """A hundred series of two channels and 16 to 40 values, of five classes that differ in frequency and shape."""
    rng = np.random.default_rng(0)
    y = np.arange(100) % 5
    rows = []
    for label in y:
        length = rng.integers(16, 41)
        phase = 2 * np.pi * ((1 + label) * np.linspace(0, 1, length) + rng.random())
        rows.append(np.stack([np.sin(phase), np.sign(np.sin(phase / 2))]) + 0.1 * rng.normal(size=(2, length)))
    return rows, y
