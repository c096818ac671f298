"""The distribution as metafe sees it once it is installed."""

from __future__ import annotations

import ast
import pickle
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import metafe_transformers
import numpy as np
import pytest
from metafe_transformers import ImageEncoder, ImageTransformer, SoundEncoder, TextEncoder, Tokens, Transformer

import metafe
from metafe.contracts import InvalidInputError, InvalidParameterError, Seeds
from metafe.plugins import registry

PUBLIC = {"metafe", "metafe.contracts", "metafe.plugins", "metafe.testing"}
SOURCES = [*Path(metafe_transformers.__file__).parent.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]

LOAD_AND_TRANSFORM = """
import sys, numpy, metafe
numpy.save(sys.argv[3], metafe.load(sys.argv[1]).transform(numpy.load(sys.argv[2])))
"""
LOAD_ALL_AND_TRANSFORM = """
import pathlib, sys, numpy, metafe
folder = pathlib.Path(sys.argv[1])
for name in sys.argv[2:]:
    features = metafe.load(folder / name).transform(numpy.load(folder / f"{name}.npy"))
    numpy.save(folder / f"{name}-features.npy", features)
"""
FROZEN = {"images": (ImageEncoder, "vit"), "sound": (SoundEncoder, "wav2vec2")}


def ids_of(model, texts):
    rows = [f"{text} {i}" for i, text in enumerate(texts * 15)]
    return Tokens(model).fit(rows, Seeds(0)).encode(rows), np.arange(len(rows)) % len(texts)


def extractor(backbone, **parameters):
    parameters = {"max_steps": 2, "validation_fraction": 0, "augment": None, "random_state": 0} | parameters
    return metafe.MetaFeatureExtractor(backbone, **parameters)


def test_the_listing_shows_distribution_and_version():
    listed = {(p.kind, p.name, p.version) for p in registry().listing() if p.distribution == "metafe-transformers"}
    number = version("metafe-transformers")
    encoders = {"text-encoder", "tokens", "image-encoder", "sound-encoder"}
    backbones = {"transformer", "image-transformer"}
    assert listed == {("encoder", name, number) for name in encoders} | {
        ("backbone", name, number) for name in backbones
    }


def test_registering_imports_no_heavy_library():
    heavy = "{'transformers', 'peft', 'tokenizers', 'PIL', 'librosa', 'soundfile'}"
    code = f"import sys, metafe_transformers; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


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


def test_features_of_images_and_sound_are_the_same_in_another_process(saved, images, clips, tmp_path, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", "off")
    pixels, waves = np.tile(images, (15, 1, 1, 1)), np.stack([clip[:600] for clip in clips * 15])
    models = {name: shutil.copytree(saved(name), tmp_path / name) for name in ("vit", "wav2vec2")}
    parameters = {
        "image-encoder": ({"backbone": "identity", "encoder": ImageEncoder(str(models["vit"]))}, pixels),
        "sound-encoder": ({"backbone": "identity", "encoder": SoundEncoder(str(models["wav2vec2"]))}, waves),
        "image-transformer": ({"backbone": ImageTransformer(str(models["vit"]))}, pixels),
    }
    fitted = {name: extractor(**given).fit(rows, np.arange(90) % 6) for name, (given, rows) in parameters.items()}
    for name, (_, rows) in parameters.items():
        fitted[name].save(tmp_path / name)
        np.save(tmp_path / f"{name}.npy", rows[:7])
    subprocess.run([sys.executable, "-c", LOAD_ALL_AND_TRANSFORM, str(tmp_path), *fitted], check=True, timeout=240)
    expected = {name: fitted[name].transform(rows[:7]) for name, (_, rows) in parameters.items()}
    for name, features in expected.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}-features.npy"), features)
    for folder in models.values():
        shutil.rmtree(folder)
    np.testing.assert_array_equal(
        metafe.load(tmp_path / "image-transformer").transform(pixels[:7]), expected["image-transformer"]
    )
    for name in ("image-encoder", "sound-encoder"):
        with pytest.raises(InvalidParameterError, match=f"^{name} model must be a folder"):
            metafe.load(tmp_path / name).transform(parameters[name][1][:7])


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


@pytest.mark.parametrize("adapt", ["lora", "full"])
def test_saved_features_are_the_same_in_another_process_without_the_model(model, texts, tmp_path, adapt):
    folder = shutil.copytree(model, tmp_path / "model")
    ids, y = ids_of(str(folder), texts)
    fitted = extractor(Transformer(str(folder), adapt)).fit(ids, y)
    fitted.save(tmp_path / "saved")
    np.save(tmp_path / "rows.npy", ids)
    shutil.rmtree(folder)
    paths = [str(tmp_path / name) for name in ("saved", "rows.npy", "features.npy")]
    subprocess.run([sys.executable, "-c", LOAD_AND_TRANSFORM, *paths], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(paths[-1]), fitted.transform(ids))


def test_a_fitted_extractor_can_be_pickled(model, texts):
    ids, y = ids_of(model, texts)
    fitted = extractor(Transformer(model)).fit(ids, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(ids[:5]), fitted.transform(ids[:5]))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_what_metafe_makes_public_is_imported(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
            assert not node.level, "Imports are absolute."
    assert {name for name in imported if name.split(".")[0] == "metafe"} <= PUBLIC


def test_imported_names_are_exported():
    from metafe import contracts, plugins, testing

    exported = {"metafe": metafe, "metafe.contracts": contracts, "metafe.plugins": plugins, "metafe.testing": testing}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in PUBLIC - {"metafe"}:
                assert {alias.name for alias in node.names} <= set(exported[node.module].__all__)
