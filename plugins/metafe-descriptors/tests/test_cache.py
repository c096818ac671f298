"""What was described is looked up, and nobody can tell from the features."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from metafe_descriptors import ColourHistogram, Hog, Lbp, Sift
from metafe_descriptors.pages import PAGE, cached_vectors

from metafe.contracts import RowCache, Seeds

BACKBONES = [Hog(), Lbp(), ColourHistogram(), Sift(n_words=8)]
LIBRARY = {
    "hog": "skimage.feature.hog",
    "lbp": "skimage.feature.local_binary_pattern",
    "colour-histogram": "skimage.color.rgb2hsv",
    "sift": "skimage.feature.SIFT",
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
    def encode_all():
        return np.concatenate([encode(backbone, images) for backbone in BACKBONES], axis=1)

    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", FIT_AND_ENCODE, str(tmp_path / "images.npy"), str(tmp_path / "there.npy")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"ready\n"
        other.stdin.write(b"go\n")
        other.stdin.flush()
        here = encode_all()
        other.communicate(timeout=120)
    assert other.returncode == 0
    with monkeypatch.context() as patch:
        patch.setenv("METAFE_CACHE", "off")
        expected = encode_all()
    np.testing.assert_array_equal(here, expected)
    np.testing.assert_array_equal(np.load(tmp_path / "there.npy"), expected)
    for backbone in BACKBONES:
        forbid(backbone)
    np.testing.assert_array_equal(encode_all(), expected)
