"""The distribution as metafe sees it once it is installed."""

from __future__ import annotations

import pickle
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from metafe_audio import LogMel, LogMelOfArrays, MfccMeans, MfccTimes

import metafe
from metafe.testing import DistributionContract

LOAD_AND_TRANSFORM = """
import sys, numpy, metafe
numpy.save(sys.argv[2], metafe.load(sys.argv[1]).transform(sys.argv[3:]))
"""
LOAD_AND_TRANSFORM_ARRAYS = """
import sys, numpy, metafe
numpy.save(sys.argv[2], metafe.load(sys.argv[1]).transform(list(numpy.load(sys.argv[3]).values())))
"""
# Five baselines, and three more.
N_TRIALS = 8


def extractor(**parameters):
    return metafe.MetaFeatureExtractor(max_steps=2, validation_fraction=0, random_state=0, **parameters)


def test_files_are_what_an_extractor_takes(files, tones):
    fitted = extractor(backbone="conv4").fit(files, tones[1])
    assert fitted.encoder_.name == "log-mel"
    assert fitted.transform(files[:3]).shape == (3, fitted.n_features_out_)
    assert fitted.decisions_["augment"].startswith("stretch, time-shift")


def test_arrays_are_what_an_extractor_takes(tones):
    fitted = extractor(encoder="log-mel-of-arrays").set_params(encoder__sample_rate=8000).fit(*tones)
    assert fitted.transform(tones[0][:3]).shape == (3, fitted.n_features_out_)


def test_the_rate_that_arrays_are_taken_to_have_is_said(tones):
    clips = [np.tile(clip, 2) for clip in tones[0]]
    fitted = extractor().fit(clips, tones[1])
    assert fitted.encoder_.name == "log-mel-of-arrays"
    assert "arrays are taken to have 16000 samples a second" in fitted.decisions_["encoder"]
    named = extractor(encoder=LogMelOfArrays(sample_rate=8000)).fit(clips, tones[1])
    assert "encoder" not in named.decisions_


def test_a_search_over_networks_on_spectrograms_runs_to_its_end(files, tones):
    template = metafe.MetaFeatureExtractor(encoder=LogMel(n_mels=16), max_steps=2, random_state=0, device="cpu")
    search = metafe.MetaFeatureSearchCV(
        template, backbones=["conv4", "mlp"], algorithms=["protonet"], n_trials=N_TRIALS, random_state=0
    )
    with warnings.catch_warnings():
        # Of features that are learned in two steps.
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        search.fit(files, tones[1])
    states = [trial.state.name for trial in search.study_.trials]
    assert len(states) - states.count("WAITING") == N_TRIALS
    assert "FAIL" not in states
    assert search.transform(files[:3]).shape == (3, search.best_estimator_.n_features_out_)


def test_resnet12_learns_from_spectrograms(files, tones):
    vision = pytest.importorskip("metafe_vision")
    encoder = LogMel(n_mels=16)
    fitted = extractor(encoder=encoder, backbone=vision.ResNet12(width=4)).fit(files, tones[1])
    assert fitted.transform(files[:3]).shape == (3, 40)
    assert fitted.decisions_["augment"].startswith("stretch, time-shift")


def test_the_network_for_images_is_the_default(files, tones):
    validated = metafe.MetaFeatureExtractor(max_steps=1, random_state=0)
    with warnings.catch_warnings(record=True):
        validated.fit(files, tones[1])
    assert validated.validation_ is not None
    assert "conv4" in validated.decisions_["backbone"]


@pytest.mark.parametrize(
    ("encoder", "backbone"),
    [(LogMel(n_mels=16), "conv4"), (MfccMeans(deviations=True), "mlp"), (MfccTimes(), "adapter")],
    ids=["log-mel", "mfcc-means", "mfcc-times"],
)
def test_saved_features_are_the_same_in_another_process(tmp_path, files, tones, encoder, backbone, monkeypatch):
    fitted = extractor(encoder=encoder, backbone=backbone).fit(files, tones[1])
    fitted.save(tmp_path / "saved")
    paths = [str(tmp_path / "saved"), str(tmp_path / "features.npy")]
    monkeypatch.setenv("METAFE_CACHE", "off")
    subprocess.run([sys.executable, "-c", LOAD_AND_TRANSFORM, *paths, *files[:20]], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(paths[1]), fitted.transform(files[:20]))


def test_saved_features_of_arrays_are_the_same_in_another_process(tmp_path, tones, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", "off")
    fitted = extractor(encoder=LogMelOfArrays(sample_rate=8000), backbone="conv4").fit(*tones)
    fitted.save(tmp_path / "saved")
    rows = {str(i): clip for i, clip in enumerate(tones[0][:20])}
    np.savez(tmp_path / "rows.npz", **rows)
    paths = [str(tmp_path / name) for name in ("saved", "features.npy", "rows.npz")]
    subprocess.run([sys.executable, "-c", LOAD_AND_TRANSFORM_ARRAYS, *paths], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(paths[1]), fitted.transform(tones[0][:20]))


def test_a_fitted_extractor_can_be_pickled(files, tones):
    fitted = extractor().fit(files, tones[1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(files[:5]), fitted.transform(files[:5]))


def test_the_example_learns_from_a_folder_of_spoken_digits(make_tone, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for digit in range(10):
        for speaker in ("ann", "bob", "cem", "dan"):
            for i in range(4):
                clip = make_tone(300 + 150 * digit + 20 * rng.random(), 0.3)
                soundfile.write(tmp_path / f"{digit}_{speaker}_{i}.wav", clip, 8000)
    example = Path(__file__).parents[1] / "examples" / "spoken_digits.py"
    monkeypatch.setattr(sys, "argv", [str(example), str(tmp_path), "--max-steps", "1", "--episodes", "10"])
    with warnings.catch_warnings():
        # Of features that are learned in a step.
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        runpy.run_path(str(example), run_name="__main__")
    printed = capsys.readouterr().out
    assert re.findall(r"(.*): [01]\.\d+ ± ", printed) == ["conv4 on spectrograms", "MFCC means"]
    monkeypatch.setattr(sys, "argv", [str(example), str(tmp_path / "nothing")])
    with pytest.raises(SystemExit):
        runpy.run_path(str(example), run_name="__main__")
    assert "must hold files such as 7_jackson_32.wav" in capsys.readouterr().err


class TestDistribution(DistributionContract):
    distribution = "metafe-audio"
    package = "metafe_audio"
    plugins = {
        "encoder": ["log-mel", "log-mel-of-arrays", "mfcc-means", "mfcc-times"],
        "augmentation": ["spec-augment", "stretch", "time-shift"],
    }
    heavy = ["librosa", "soundfile", "numba"]
