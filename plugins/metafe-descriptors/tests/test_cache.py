"""What was described is looked up, and nobody can tell from the features."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from metafe_descriptors import ColourHistogram, Hog, Lbp, Sift
from metafe_descriptors.pages import PAGE, cached_vectors

from metafe.contracts import RowCache, Seeds
from metafe.testing import BackboneContract

BACKBONES = [Hog(), Lbp(), ColourHistogram(), Sift(n_words=8)]
LIBRARY = {
    "hog": "metafe_descriptors.hog.hog",
    "lbp": "metafe_descriptors.lbp.local_binary_pattern",
    "colour-histogram": "metafe_descriptors.colour_histogram.rgb2hsv",
    "sift": "metafe_descriptors.sift.SIFT",
}

FIT_AND_ENCODE = """
import sys, numpy
from metafe.contracts import Seeds
from metafe_descriptors import ColourHistogram, Hog, Lbp, Sift
X = numpy.load(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
rows = [backbone.fit(X, None, Seeds(0)).encode(X) for backbone in (Hog(), Lbp(), ColourHistogram(), Sift(n_words=8))]
numpy.save(sys.argv[2], numpy.concatenate(rows, axis=1))
"""


@pytest.fixture(scope="module")
def images(shapes):
    """20 images in colour, ``(20, 24, 24, 3)`` uint8."""
    few = shapes[0][:20]
    return np.stack([few, few // 2, np.roll(few, 3, axis=2)], axis=-1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a cache that is empty and in use."""
    monkeypatch.setenv("METAFE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def forbid(monkeypatch):
    """A function after which the library that a backbone needs may not be called."""

    def never(*arguments, **options):
        raise AssertionError("It is known and must not be computed again.")

    return lambda backbone: monkeypatch.setattr(LIBRARY[backbone.name], never)


def encode(backbone, X):
    return backbone.fit(X, None, Seeds(0)).encode(X)


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda b: b.name)
def test_features_are_the_same_with_and_without_and_computed_once(images, folder, forbid, monkeypatch, backbone):
    first = encode(backbone, images)
    with monkeypatch.context() as patch:
        patch.setenv("METAFE_CACHE", "off")
        np.testing.assert_array_equal(first, encode(backbone, images))
    forbid(backbone)
    np.testing.assert_array_equal(encode(backbone, images), first)
    np.testing.assert_array_equal(backbone.encode(images[::-1]), first[::-1])


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda b: b.name)
def test_neither_layout_nor_threads_describe_anew(images, folder, forbid, backbone):
    first = encode(backbone, images)
    forbid(backbone)
    flat = type(backbone)(**{**backbone.get_params(), "image_shape": (3, 24, 24), "n_jobs": 2})
    X = np.moveaxis(images, -1, 1).reshape(20, -1)
    np.testing.assert_array_equal(encode(flat, X), first)


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda b: b.name)
def test_off_writes_nothing(images, tmp_path, monkeypatch, backbone):
    monkeypatch.setenv("METAFE_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encode(backbone, images)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Hog(), Hog(block_norm="L1")),
        (Lbp(n_points=8), Lbp(n_points=9)),
        (ColourHistogram(), ColourHistogram(space="lab")),
        (Sift(n_words=8), Sift(n_words=8, smallest_side=48)),
    ],
    ids=lambda b: b.name,
)
def test_other_parameters_give_other_features(images, folder, one, other):
    first = encode(one, images)
    assert not np.array_equal(encode(other, images), first)
    np.testing.assert_array_equal(encode(one, images), first)


def test_another_range_gives_other_features(images, folder):
    numbers = images / 255
    dark = ColourHistogram().fit(numbers, None, Seeds(0)).encode(numbers)
    brighter = np.concatenate([numbers, 2 * numbers])
    assert not np.array_equal(ColourHistogram().fit(brighter, None, Seeds(0)).encode(numbers), dark)


def test_another_vocabulary_needs_no_other_search_for_keypoints(images, folder, forbid):
    encode(Sift(n_words=8), images)
    forbid(Sift())
    assert encode(Sift(n_words=5, norm="l1"), images).shape == (20, 5)


def test_few_pixels_are_described_rather_than_looked_up(folder):
    for backbone in (Hog(), Lbp(), ColourHistogram()):
        encode(backbone, np.ones((5, 8, 8)))
    assert not folder.exists()


@pytest.mark.parametrize("n_vectors", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 300])
def test_any_number_of_vectors_comes_back(folder, n_vectors):
    rows = [np.random.default_rng(n).integers(0, 256, size=(n, 5), dtype=np.uint8) for n in (n_vectors, 3, 40)]
    cache, keys = RowCache({}), [b"a", b"b", b"c"]
    for _ in range(2):
        found = cached_vectors(cache, keys, lambda which: [rows[i] for i in which])
        for vectors, expected in zip(found, rows, strict=True):
            np.testing.assert_array_equal(vectors, expected)


@pytest.mark.parametrize("lost", ["rowid % 2 = 0", "rowid % 2 = 1", "rowid > 3"])
def test_pages_that_made_room_are_computed_again(folder, lost):
    rows = [np.random.default_rng(n).integers(0, 256, size=(n, 5), dtype=np.uint8) for n in (70, 3, 40)]
    cache, keys = RowCache({}), [b"a", b"b", b"c"]
    cached_vectors(cache, keys, lambda which: [rows[i] for i in which])
    with sqlite3.connect(folder / "rows.sqlite") as connection:
        assert connection.execute(f"DELETE FROM rows WHERE {lost}").rowcount
    connection.close()
    for vectors, expected in zip(
        cached_vectors(cache, keys, lambda which: [rows[i] for i in which]), rows, strict=True
    ):
        np.testing.assert_array_equal(vectors, expected)


def test_two_processes_at_once_share_a_cache(images, folder, forbid, tmp_path, monkeypatch):
    np.save(tmp_path / "images.npy", images)
    paths = [tmp_path / f"{k}.npy" for k in range(2)]
    command = [sys.executable, "-c", FIT_AND_ENCODE, str(tmp_path / "images.npy")]
    processes = [
        subprocess.Popen([*command, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ))
        for path in paths
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            process.stdin.write(b"go\n")
            process.stdin.flush()
        for process in processes:
            process.communicate(timeout=120)
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
    with monkeypatch.context() as patch:
        patch.setenv("METAFE_CACHE", "off")
        expected = np.concatenate([encode(backbone, images) for backbone in BACKBONES], axis=1)
    for path in paths:
        np.testing.assert_array_equal(np.load(path), expected)
    for backbone in BACKBONES:
        forbid(backbone)
    np.testing.assert_array_equal(np.concatenate([encode(b, images) for b in BACKBONES], axis=1), expected)


class TestCachedSift(BackboneContract):
    @pytest.fixture(autouse=True)
    def _cached(self, folder):
        """Let every check run on a cache of its own."""

    @pytest.fixture
    def data(self, images):
        return images, np.arange(len(images)) % 4

    @pytest.fixture
    def plugin(self):
        return Sift(n_words=8)


class TestCachedHog(TestCachedSift):
    @pytest.fixture
    def plugin(self):
        return Hog()
