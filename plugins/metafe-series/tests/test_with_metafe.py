"""The distribution as metafe sees it once it is installed."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import metafe_series
import numpy as np
import pytest
import torch
from metafe_series import MiniRocket, Series
from sklearn.frozen import FrozenEstimator

import metafe
from metafe.contracts import Problem, When
from metafe.plugins import resolve
from metafe.testing import DistributionContract

LOAD_AND_TRANSFORM = """
import sys, numpy, metafe
with numpy.load(sys.argv[2]) as file:
    rows = [file[name] for name in file]
numpy.save(sys.argv[3], metafe.load(sys.argv[1]).transform(rows))
"""


def extractor(backbone, **parameters):
    settings = {"max_steps": 2, "validation_fraction": 0, "augment": None, "random_state": 0}
    return metafe.MetaFeatureExtractor(backbone, **{**settings, **parameters})


@pytest.mark.parametrize(
    "backbone",
    [metafe_series.InceptionTime(2, 4), metafe_series.DilatedConv(2, 4), MiniRocket(200)],
    ids=["inception-time", "dilated-conv", "minirocket"],
)
def test_saved_features_are_the_same_in_another_process(tmp_path, waves, backbone):
    rows, y = waves
    fitted = extractor(backbone, encoder=Series(how="pad")).fit(rows, y)
    fitted.save(tmp_path / "saved")
    np.savez(tmp_path / "rows.npz", *rows[:20])
    paths = [str(tmp_path / name) for name in ("saved", "rows.npz", "features.npy")]
    subprocess.run([sys.executable, "-c", LOAD_AND_TRANSFORM, *paths], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(paths[-1]), fitted.transform(rows[:20]))


@pytest.mark.parametrize("name", ["dilated-conv", "minirocket"])
def test_a_fitted_extractor_can_be_pickled(waves, name):
    rows, y = waves
    fitted = extractor(name).fit(rows, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(rows[:5]), fitted.transform(rows[:5]))


def test_series_find_their_encoder_backbone_and_augmentations(waves):
    rows, y = waves
    fitted = extractor("auto", augment="auto", validation_fraction=0.4).fit(rows, y)
    assert fitted.decisions_["encoder"].startswith("series")
    assert "inception-time" in fitted.decisions_["backbone"]
    assert fitted.transform(rows[:3]).dtype == np.float32


def test_series_may_be_lists_or_tensors(waves):
    rows, y = waves
    expected = extractor("dilated-conv").fit(rows, y).transform(rows[:5])
    for same in ([row.tolist() for row in rows], [torch.from_numpy(row).requires_grad_() for row in rows]):
        np.testing.assert_array_equal(extractor("dilated-conv").fit(same, y).transform(same[:5]), expected)


def test_few_labelled_series_are_enough_to_predict(waves):
    rows, y = waves
    classifier = metafe.FewShotClassifier(FrozenEstimator(extractor("minirocket").fit(rows, y)))
    assert (classifier.fit(rows[:15], y[:15]).predict(rows[15:]) == y[15:]).mean() > 0.5, "Chance is a fifth."


@pytest.mark.parametrize("names", [["dilated-conv", "inception-time"], ["minirocket"]], ids=["trained", "frozen"])
def test_a_search_tries_each_backbone_over_its_own_space(waves, names):
    rows, y = waves[0][:60], waves[1][:60]
    template = metafe.MetaFeatureExtractor(tasks="classes", max_steps=1, validation_fraction=0, device="cpu")
    search = metafe.MetaFeatureSearchCV(
        template, backbones=names, n_trials=9, sampler="random", refit=False, random_state=0
    )
    with warnings.catch_warnings():
        # Of features that are learned in a step.
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        search.fit(rows, y)
    assert not {trial.state.name for trial in search.study_.trials} - {"COMPLETE", "PRUNED"}
    tried = {name for trial in search.study_.trials for name in trial.params}
    for name in names:
        declared = resolve("backbone", name).search_space(Problem("classification", (2, 20), 5))
        # Others depend on what was drawn.
        unconditional = {
            f"{name}.{parameter}" for parameter, values in declared.items() if not isinstance(values, When)
        }
        assert unconditional
        assert unconditional <= tried


class TestDistribution(DistributionContract):
    distribution = "metafe-series"
    package = "metafe_series"
    plugins = {
        "encoder": ["series"],
        "backbone": ["dilated-conv", "inception-time", "minirocket"],
        "augmentation": ["jitter", "scaling", "window-warping"],
    }
    heavy = ["aeon", "numba"]
