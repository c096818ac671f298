"""The distribution as metafe sees it once it is installed."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from metafe_descriptors import ColourHistogram, Hog, Lbp, Sift
from sklearn.base import clone

import metafe
from metafe.testing import DistributionContract

LOAD_AND_TRANSFORM = """
import sys, numpy, metafe
for folder in sys.argv[1:]:
    numpy.save(folder + "/features.npy", metafe.load(folder + "/saved").transform(numpy.load(folder + "/rows.npy")))
"""
# Five baselines, and three more.
N_TRIALS = 8


def extractor(backbone):
    return metafe.MetaFeatureExtractor(backbone, max_steps=2, validation_fraction=0, augment=None, random_state=0)


@pytest.mark.parametrize(("name", "width"), [("hog", 1764), ("sift", 64), ("lbp", 708), ("colour-histogram", 32)])
def test_a_name_stands_for_the_backbone(shapes, name, width):
    X, y = shapes
    features = extractor(name).fit(X, y).transform(X[:5])
    assert features.shape == (5, width)
    assert features.dtype == np.float32


def test_features_are_those_of_the_descriptor(shapes):
    X, y = shapes
    np.testing.assert_array_equal(extractor("hog").fit(X, y).transform(X[:5]), Hog().encode(X[:5]))


def test_a_search_over_descriptors_runs_to_its_end(shapes):
    X, y = shapes
    template = metafe.MetaFeatureExtractor(max_steps=2, random_state=0, device="cpu")
    search = metafe.MetaFeatureSearchCV(
        template, backbones=["hog", "lbp", Sift(n_words=8)], n_trials=N_TRIALS, random_state=0
    )
    with warnings.catch_warnings():
        # Of features that are learned in two steps.
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        search.fit(X, y)
    states = [trial.state.name for trial in search.study_.trials]
    assert len(states) - states.count("WAITING") == N_TRIALS
    assert "FAIL" not in states
    assert search.transform(X[:3]).shape == (3, search.best_estimator_.n_features_out_)


def test_parameters_can_be_set_through_the_extractor(shapes):
    X, y = shapes
    fitted = clone(extractor("hog")).set_params(backbone__orientations=4).fit(X, y)
    assert fitted.n_features_out_ == 1764 * 4 // 9


def test_saved_features_are_the_same_in_another_process(tmp_path, shapes):
    X, y = shapes
    flat = Sift(n_words=8, norm="l1", image_shape=(24, 24))
    expected = {}
    for backbone in (Hog(orientations=4), Lbp(rotation_invariant=True), ColourHistogram(), flat):
        rows = X.reshape(len(X), -1) if backbone is flat else X
        folder = tmp_path / backbone.name
        fitted = extractor(backbone).fit(rows, y)
        fitted.save(folder / "saved")
        np.save(folder / "rows.npy", rows[:20])
        expected[folder] = fitted.transform(rows[:20])
    subprocess.run([sys.executable, "-c", LOAD_AND_TRANSFORM, *map(str, expected)], check=True, timeout=120)
    for folder, features in expected.items():
        np.testing.assert_array_equal(np.load(folder / "features.npy"), features)


def test_a_fitted_extractor_can_be_pickled(shapes):
    X, y = shapes
    fitted = extractor(Sift(n_words=8)).fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(X[:5]), fitted.transform(X[:5]))


class TestDistribution(DistributionContract):
    distribution = "metafe-descriptors"
    package = "metafe_descriptors"
    plugins = {
        "backbone": ["colour-histogram", "hog", "lbp", "sift"],
    }
    heavy = ["skimage"]
