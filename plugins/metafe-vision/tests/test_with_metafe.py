"""The distribution as metafe sees it once it is installed."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from metafe_vision import ColourJitter, HorizontalFlip, ImageFiles, RandomCrop, ResNet12
from PIL import Image

import metafe
from metafe.contracts import InvalidInputError, UnreadableRowWarning
from metafe.testing import DistributionContract

LOAD_AND_TRANSFORM = """
import json, sys, numpy, metafe
numpy.save(sys.argv[3], metafe.load(sys.argv[1]).transform(json.loads(sys.argv[2])))
"""
# Five baselines, and three more.
N_TRIALS = 8


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of 64 colour images of four classes, and their classes."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    y = np.arange(64) % 4
    colours = rng.integers(0, 200, size=(4, 3))
    paths = []
    for i, label in enumerate(y):
        pixels = colours[label] + rng.integers(0, 50, size=(*rng.integers(10, 20, size=2), 3))
        paths.append(str(folder / f"{i}.png"))
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths, y


def extractor(backbone=None, **parameters):
    settings = {"max_steps": 2, "validation_fraction": 0, "augment": None, "random_state": 0, "device": "cpu"}
    return metafe.MetaFeatureExtractor(backbone or ResNet12(width=4), "protonet", **settings | parameters)


def test_a_name_stands_for_the_backbone(images):
    X, y = images
    features = extractor("resnet12").set_params(backbone__width=8).fit(X, y).transform(X[:5])
    assert features.shape == (5, 80)
    assert features.dtype == np.float32


def test_augmentations_train(images):
    X, y = images
    plain = extractor().fit(X, y).transform(X[:5])
    for augment in (
        ["random-crop", "colour-jitter", "horizontal-flip"],
        RandomCrop(),
        ColourJitter(),
        HorizontalFlip(),
    ):
        first, again = (extractor(augment=augment).fit(X, y).transform(X[:5]) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, plain)


def test_a_search_over_networks_runs_to_its_end(images):
    X, y = np.concatenate([images[0]] * 2), np.concatenate([images[1], images[1] + 4])
    template = metafe.MetaFeatureExtractor(max_steps=2, random_state=0, device="cpu")
    search = metafe.MetaFeatureSearchCV(
        template, backbones=[ResNet12(width=4), "conv4"], algorithms=["protonet"], n_trials=N_TRIALS, random_state=0
    )
    with warnings.catch_warnings():
        # Of features that are learned in two steps.
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        search.fit(X, y)
    states = [trial.state.name for trial in search.study_.trials]
    assert len(states) - states.count("WAITING") == N_TRIALS
    assert "FAIL" not in states
    assert search.transform(X[:3]).shape == (3, search.best_estimator_.n_features_out_)


def test_paths_are_rows(files):
    paths, y = files
    fitted = extractor().fit(paths, y)
    alone = ImageFiles(side=28, channels=3).fit(paths, None).encode(paths)
    np.testing.assert_array_equal(fitted.transform(paths), extractor().fit(alone, y).transform(alone))
    np.testing.assert_array_equal(fitted.transform(paths[3:4])[0], fitted.transform(paths)[3])


def test_a_damaged_file_does_not_end_a_fit(files):
    paths, y = files
    with pytest.warns(UnreadableRowWarning, match=r"1 of 64 files, .* row 2, 'missing\.png'"):
        fitted = extractor().fit([*paths[:2], "missing.png", *paths[3:]], y)
    assert np.isfinite(fitted.transform(paths)).all()
    with pytest.raises(InvalidInputError, match=r"row 0, 'missing\.png'"):
        fitted.set_params(encoder=ImageFiles(errors="raise")).fit(["missing.png", *paths[1:]], y)


def test_saved_features_are_the_same_in_another_process(tmp_path, files):
    paths, y = files
    fitted = extractor(encoder=ImageFiles(side=20, channels=1, resize="crop")).fit(paths, y)
    fitted.save(tmp_path / "saved")
    arguments = [str(tmp_path / "saved"), json.dumps(paths[:20]), str(tmp_path / "features.npy")]
    subprocess.run([sys.executable, "-c", LOAD_AND_TRANSFORM, *arguments], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(arguments[2]), fitted.transform(paths[:20]))


def test_a_fitted_extractor_can_be_pickled(files):
    paths, y = files
    fitted = extractor().fit(paths, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(paths[:5]), fitted.transform(paths[:5]))


@pytest.mark.parametrize("algorithm", ["maml", "anil", "supervised"])
def test_the_network_learns_by_other_algorithms(images, algorithm):
    X, y = images
    fitted = extractor(meta_batch_size=1).set_params(algorithm=algorithm).fit(X, y)
    assert np.isfinite(fitted.transform(X[:5])).all()


class TestDistribution(DistributionContract):
    distribution = "metafe-vision"
    package = "metafe_vision"
    plugins = {
        "encoder": ["image-arrays", "image-files"],
        "backbone": ["resnet12", "timm", "torchvision"],
        "augmentation": ["colour-jitter", "horizontal-flip", "random-crop"],
    }
    heavy = ["kornia", "timm", "torchvision"]
