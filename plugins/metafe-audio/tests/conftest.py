"""Small sound files."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

RATE = 8000


def tone(pitch, seconds, rate=RATE):
    """A tone of two partials that fades in and out."""
    time = np.arange(round(seconds * rate)) / rate
    wave = np.sin(2 * np.pi * pitch * time) + 0.5 * np.sin(2 * np.pi * 2 * pitch * time)
    return (0.4 * wave * np.hanning(len(time))).astype(np.float32)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def make_tone():
    """A function from pitch and seconds to samples."""
    return tone


@pytest.fixture(scope="session")
def tones():
    """Sixty clips of four pitches and unequal lengths, and the class of each."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 4
    pitches = np.array([300, 500, 900, 1500])[y] * rng.uniform(0.95, 1.05, 60)
    return [tone(pitch, seconds) for pitch, seconds in zip(pitches, rng.uniform(0.25, 0.6, 60), strict=True)], y


@pytest.fixture(scope="session")
def files(tones, tmp_path_factory):
    """The clips as WAV files."""
    folder = tmp_path_factory.mktemp("tones")
    paths = [folder / f"{i:02d}.wav" for i in range(len(tones[0]))]
    for path, samples in zip(paths, tones[0], strict=True):
        soundfile.write(path, samples, RATE, subtype="FLOAT")
    return [str(path) for path in paths]
