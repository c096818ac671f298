from __future__ import annotations

import numpy as np
import pytest
from metafe_descriptors import Sift
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from metafe.contracts import InvalidInputError, InvalidParameterError, Seeds

pytestmark = pytest.mark.usefixtures("kept")


@pytest.fixture(scope="module")
def fitted(shapes):
    return Sift(n_words=32).fit(shapes[0], shapes[1], Seeds(0))


def test_shapes_anywhere_can_be_told_apart(fitted, shapes):
    accuracy = cross_val_score(LogisticRegression(max_iter=1000), fitted.encode(shapes[0]), shapes[1], cv=3).mean()
    assert accuracy > 0.6, "Chance is a third."


def test_digits_of_eight_pixels_can_be_told_apart(digits):
    X, y = digits[0][:200], digits[1][:200]
    encoded = Sift().fit(X, y, Seeds(0)).encode(X)
    assert cross_val_score(LogisticRegression(max_iter=1000), encoded, y, cv=3).mean() > 0.4, "Chance is a tenth."


def test_histograms_are_normalised(fitted, shapes):
    encoded = fitted.encode(shapes[0])
    assert (encoded >= 0).all()
    has_keypoints = encoded.any(axis=1)
    assert has_keypoints.mean() > 0.9
    np.testing.assert_allclose((encoded[has_keypoints] ** 2).sum(axis=1), 1, rtol=1e-5)
    shares = clone(fitted).set_params(norm="l1")
    shares.set_state(fitted.get_state())
    np.testing.assert_allclose(shares.encode(shapes[0][:10]), encoded[:10] ** 2, atol=1e-6)


def test_an_image_without_keypoints_gives_zeros(fitted):
    plain = np.stack([np.zeros((24, 24)), np.full((24, 24), 7.0), np.tile(np.arange(24.0), (24, 1))])
    assert not fitted.encode(plain).any()


def test_images_without_any_keypoint_cannot_teach_words():
    with pytest.raises(InvalidInputError, match=r"^sift needs images with keypoints; got 5 without any\."):
        Sift().fit(np.zeros((5, 16, 16)), None, Seeds(0))


def test_there_are_no_more_words_than_keypoints(shapes):
    sift = Sift(n_words=500).fit(shapes[0][:2], None, Seeds(0))
    assert 0 < len(sift.words_) < 100


def test_the_vocabulary_follows_the_seed(shapes):
    few = shapes[0][:20]
    first, again, other = (Sift(n_words=8).fit(few, None, Seeds(seed)).words_ for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_vocabulary_is_learned_from_as_many_images_as_asked(shapes):
    poisoned = np.zeros_like(shapes[0])
    chosen = np.sort(Seeds(0).numpy("vocabulary").choice(len(poisoned), 4, replace=False))
    poisoned[chosen] = shapes[0][chosen]
    few = Sift(n_words=4, n_vocabulary_images=4)
    np.testing.assert_array_equal(few.fit(poisoned, None, Seeds(0)).words_, few.fit(shapes[0], None, Seeds(0)).words_)


def test_brightness_and_contrast_do_not_matter(fitted, shapes):
    images = shapes[0][:10].astype(float)
    np.testing.assert_allclose(fitted.encode(images), fitted.encode(0.25 * images - 8), atol=1e-6)


@pytest.mark.parametrize("axis", [1, 3])
def test_grey_equals_repeated_colour(fitted, shapes, axis):
    grey = shapes[0][:10]
    np.testing.assert_array_equal(fitted.encode(np.stack([grey] * 3, axis=axis)), fitted.encode(grey))


def test_threads_change_nothing(shapes, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", "off")
    few = shapes[0][:20]
    alone, threaded = (Sift(n_words=8, n_jobs=n_jobs).fit(few, None, Seeds(0)) for n_jobs in (1, 2))
    np.testing.assert_array_equal(threaded.words_, alone.words_)
    np.testing.assert_array_equal(threaded.encode(few), alone.encode(few))


@pytest.mark.parametrize(
    "parameters",
    [{"n_words": 0}, {"norm": "l2"}, {"smallest_side": 8}, {"n_vocabulary_images": 0}, {"n_words": True}],
    ids=str,
)
def test_a_parameter_that_cannot_be_is_named(shapes, parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^sift {name} must be .*; got {value!r}"):
        Sift(**parameters).fit(shapes[0], None, Seeds(0))
