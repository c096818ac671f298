"""Small images, in files and in arrays."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def save(tmp_path):
    """A function that writes an array or an image to a file of a name, and returns its path."""

    def write(name, image, **options):
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image.save(tmp_path / name, **options)
        return str(tmp_path / name)

    return write


@pytest.fixture(scope="session")
def paths(tmp_path_factory):
    """Twelve image files of three classes, in colour and grey, of several formats, sizes and shapes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    made = []
    for i in range(12):
        height, width = rng.integers(30, 60, size=2)
        pixels = rng.integers(0, 60, size=(height, width, 3)).astype(np.uint8)
        pixels[..., i % 3] += 150
        path = folder / f"{i}.{('png', 'jpg', 'bmp', 'webp', 'tiff', 'gif')[i % 6]}"
        Image.fromarray(pixels if i % 4 else pixels[..., 0]).save(path)
        made.append(path)
    return made


@pytest.fixture(scope="session")
def arrays(paths):
    """What the files show, in colour and grey."""
    shown = []
    for i, path in enumerate(paths):
        with Image.open(path) as file:
            shown.append(np.asarray(file.convert("RGB" if i % 4 else "L")))
    return shown


@pytest.fixture(scope="session")
def images():
    """64 colour images of four classes, ``(64, 3, 16, 12)`` uint8."""
    rng = np.random.default_rng(0)
    y = np.arange(64) % 4
    means = rng.integers(0, 200, size=(4, 3, 16, 12))
    return (means[y] + rng.integers(0, 50, size=(64, 3, 16, 12))).astype(np.uint8), y
