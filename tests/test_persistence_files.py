"""The folder of a saved extractor: damage, harmful manifests, and writing that never leaves half of it."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

import metafe
from metafe.backbones import MLP, SklearnTransformer
from metafe.contracts import (
    MetafeWarning,
    MissingDependencyError,
    SavedFormatError,
)
from metafe.persistence import folder as folders


@pytest.fixture(scope="module")
def fitted(blobs: Any, small: Any) -> metafe.MetaFeatureExtractor:
    """An extractor with all kinds of files: weights, statistics and scikit-learn parts."""
    backbone = SklearnTransformer(PCA(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetafeWarning)
        return small(backbone, validation_fraction=0.25).fit(*blobs)


@pytest.fixture(scope="module")
def original(fitted: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It, saved; never to be written to."""
    place = tmp_path_factory.mktemp("original") / "extractor"
    fitted.save(place)
    return place


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    """A copy of the saved folder that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "extractor"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a manifest and make its digest fit, as someone who means harm would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest | {"digest": folders._digest(manifest)}))


def test_it_consists_of_the_promised_files(original: Path) -> None:
    names = sorted(path.name for path in original.iterdir())
    # The parameter as the user gave it, its clone in the fitted backbone, and the fitted transformer.
    parts = ["sklearn-0.skops", "sklearn-1.skops", "sklearn-2.skops"]
    assert names == ["manifest.json", *parts, "weights.safetensors"]
    assert sorted(json.loads((original / "manifest.json").read_text())["files"]) == names[1:]
    assert not any(b"pickle" in path.read_bytes() for path in original.iterdir())


# Damage


@pytest.fixture(scope="module")
def saved_bytes(original: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in original.iterdir()}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_flipped_bit_is_an_error_or_changes_nothing(
    fitted: Any, saved_bytes: Any, blobs: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(saved_bytes)))
    position = data.draw(st.integers(0, len(saved_bytes[name]) - 1))
    altered = bytearray(saved_bytes[name])
    altered[position] ^= 1 << data.draw(st.integers(0, 7))
    place = tmp_path_factory.getbasetemp() / "flipped"
    place.mkdir(exist_ok=True)
    for file, content in (saved_bytes | {name: bytes(altered)}).items():
        (place / file).write_bytes(content)
    try:
        loaded = metafe.load(place)
    except SavedFormatError:
        return
    assert name == "manifest.json", "each byte of the other files has a checksum"
    assert np.array_equal(loaded.transform(blobs[0]), fitted.transform(blobs[0]))


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors", "*.skops"])
def test_a_file_cut_short_is_an_error(copied: Path, name: str, keep: int) -> None:
    path = next(copied.glob(name))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SavedFormatError, match="damaged"):
        metafe.load(copied)


@pytest.mark.parametrize("name", ["weights.safetensors", "*.skops"])
def test_an_altered_file_is_named(copied: Path, name: str) -> None:
    path = next(copied.glob(name))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(SavedFormatError, match=f"{path.name}.*damaged or was altered"):
        metafe.load(copied)


@pytest.mark.parametrize("name", ["weights.safetensors", "*.skops"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    path = next(copied.glob(name))
    path.unlink()
    with pytest.raises(SavedFormatError, match=f"{path.name}.* is missing"):
        metafe.load(copied)


def test_a_parameter_changed_by_hand_is_an_error(copied: Path) -> None:
    text = (copied / "manifest.json").read_text()
    assert '"max_steps": 3' in text
    (copied / "manifest.json").write_text(text.replace('"max_steps": 3', '"max_steps": 4'))
    with pytest.raises(SavedFormatError, match=r"manifest\.json.*damaged or was altered"):
        metafe.load(copied)


def test_a_manifest_laid_out_anew_still_loads(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")))
    assert metafe.load(copied).max_steps == 3


def test_a_newer_format_is_named(copied: Path) -> None:
    rewrite(copied, lambda manifest: manifest.update(format=2, contents="something new"))
    with pytest.raises(SavedFormatError, match=r"newer format 2.*Upgrade metafe"):
        metafe.load(copied)


# What is no saved extractor


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(SavedFormatError, match=r"folder that exists; got.*nothing-here"):
        metafe.load(tmp_path / "nothing-here")


@pytest.mark.parametrize("manifest", [None, "[]", "{}", '{"kind": "web app", "format": 1}', "not JSON", "[" * 100_000])
def test_a_folder_of_something_else(tmp_path: Path, manifest: str | None) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(SavedFormatError, match=r"must be a folder with a manifest\.json that metafe wrote"):
        metafe.load(tmp_path)


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"x")
    with pytest.raises(SavedFormatError, match="must be a folder"):
        metafe.load(str(tmp_path / "model.pkl"))


# Manifests made to do harm: their digests fit


def _contents(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: change(manifest["contents"])


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("files"),
        lambda m: m.update(files=[]),
        lambda m: m["files"].pop("weights.safetensors"),
        lambda m: m["files"].update({"weights.safetensors": {}}),
        lambda m: m.pop("plugins"),
        lambda m: m.update(plugins=[{}]),
        lambda m: m.pop("versions"),
        lambda m: m.update(versions=None),
        lambda m: m.pop("contents"),
        lambda m: m.update(contents=[]),
        lambda m: m.update(format="1"),
        lambda m: m.update(format=0),
        _contents(lambda c: c.pop("model")),
        _contents(lambda c: c.update(more={})),
        _contents(lambda c: c["attributes"].update(__class__={"type": "dict", "items": []})),
        _contents(lambda c: c["attributes"].update(transform=1)),
        _contents(lambda c: c["attributes"].update(n_features_out_=1000)),
        _contents(lambda c: c["parameters"].update(unheard_of=1)),
        _contents(lambda c: c["parameters"].update(device={"type": "torch.device", "value": "toaster"})),
        _contents(lambda c: c["parameters"].update(device={"type": "torch.dtype", "value": "load"})),
        _contents(lambda c: c["parameters"].update(device={"type": "pickle", "value": "gASVIAAAA"})),
        _contents(lambda c: c["parameters"].update(device={"type": ["list"]})),
        _contents(lambda c: c["parameters"].update(backbone={"type": "same", "id": 99})),
        _contents(lambda c: c["parameters"].update(backbone={"type": "estimator", "id": 0, "file": "manifest.json"})),
        _contents(lambda c: c["model"].update(n_way=[], learners=[{"x": 1}])),
        _contents(lambda c: c["model"]["problem"].update(secret=1)),
        _contents(lambda c: c["model"]["backbone"]["parameters"].update(unheard_of=1)),
        _contents(lambda c: c.update(output={"transform": "os.system"})),
    ],
)
def test_a_manifest_that_makes_no_sense_is_an_error(copied: Path, change: Any) -> None:
    rewrite(copied, change)
    with pytest.raises((SavedFormatError, MissingDependencyError)):
        metafe.load(copied)


@pytest.mark.parametrize("name", ["../outside.safetensors", "{parent}/outside.safetensors", "sub/outside.safetensors"])
def test_no_file_outside_the_folder_is_read(copied: Path, name: str) -> None:
    (copied / "sub").mkdir()
    for place in (copied.parent, copied / "sub"):
        shutil.copy(copied / "weights.safetensors", place / "outside.safetensors")
    name = name.format(parent=copied.parent)
    rewrite(copied, lambda manifest: manifest["files"].update({name: manifest["files"]["weights.safetensors"]}))
    with pytest.raises(SavedFormatError, match="must lie in its folder"):
        metafe.load(copied)


def test_a_class_is_never_imported_from_a_path_in_the_file(copied: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "harmful.py").write_text("raise SystemExit('this module was imported')")
    monkeypatch.syspath_prepend(tmp_path)

    def name_it(manifest: dict[str, Any]) -> None:
        for node in (manifest["contents"]["model"]["backbone"], *manifest["plugins"]):
            node["name"] = "harmful.Backbone"

    rewrite(copied, name_it)
    with pytest.raises(MissingDependencyError, match=r"harmful\.Backbone"):
        metafe.load(copied)


# Writing


def test_saving_again_replaces(fitted: Any, blobs: Any, small: Any, copied: Path) -> None:
    other = small(MLP(width=4), "supervised", validation_fraction=0).fit(*blobs)
    other.save(copied)
    assert np.array_equal(metafe.load(copied).transform(blobs[0]), other.transform(blobs[0]))
    assert sorted(p.name for p in copied.iterdir()) == ["manifest.json", "weights.safetensors"]
    assert list(copied.parent.iterdir()) == [copied]


def test_parents_are_made_and_empty_folders_used(fitted: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    fitted.save("new/parent/extractor")
    (tmp_path / "empty").mkdir()
    fitted.save(tmp_path / "empty")
    assert metafe.load("new/parent/extractor").max_steps == metafe.load("empty").max_steps


def test_a_link_to_a_folder_stays_a_link(fitted: Any, copied: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copied, target_is_directory=True)
    fitted.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    metafe.load(tmp_path / "link")


@pytest.mark.parametrize("foreign", ["thesis.txt", "manifest.json"])
def test_a_folder_of_something_else_is_left_alone(fitted: Any, tmp_path: Path, foreign: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / foreign).write_text('{"kind": "web app", "files": {"thesis.txt": {}}}')
    with pytest.raises(SavedFormatError, match=f"hold a saved extractor alone; got .*mine.*{foreign}"):
        fitted.save(tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == [foreign]


def test_a_saved_extractor_with_something_beside_it_is_left_alone(fitted: Any, copied: Path) -> None:
    (copied / "notes.txt").write_text("mine")
    with pytest.raises(SavedFormatError, match=r"notes\.txt"):
        fitted.save(copied)
    metafe.load(copied)
    assert (copied / "notes.txt").read_text() == "mine"


def test_a_file_is_not_replaced_by_a_folder(fitted: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SavedFormatError, match="holds 'file'"):
        fitted.save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_write_that_fails_leaves_the_former_one_whole(
    fitted: Any, blobs: Any, small: Any, copied: Path, monkeypatch: Any
) -> None:
    write = folders._write_durably

    def fail_late(path: Path, data: bytes) -> None:
        if path.name == "manifest.json":
            raise OSError("No space left on device")
        write(path, data)

    monkeypatch.setattr(folders, "_write_durably", fail_late)
    with pytest.raises(OSError, match="No space"):
        small("identity", "untrained", validation_fraction=0).fit(*blobs).save(copied)
    assert np.array_equal(metafe.load(copied).transform(blobs[0]), fitted.transform(blobs[0]))
    assert list(copied.parent.iterdir()) == [copied]


@pytest.mark.parametrize("error", [PermissionError("in use"), KeyboardInterrupt()])
def test_a_move_that_fails_puts_the_former_one_back(fitted: Any, copied: Path, monkeypatch: Any, error: Any) -> None:
    rename = Path.rename

    def fail_to_finish(self: Path, target: Path) -> Path:
        if self.name.endswith(".unfinished"):
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_to_finish)
    with pytest.raises(type(error)):
        fitted.save(copied)
    metafe.load(copied)
    assert list(copied.parent.iterdir()) == [copied]


def test_a_crash_between_the_two_moves_loses_nothing(fitted: Any, copied: Path, blobs: Any) -> None:
    copied.rename(folders._former(copied))
    assert np.array_equal(metafe.load(copied).transform(blobs[0]), fitted.transform(blobs[0]))
    fitted.save(copied)
    assert list(copied.parent.iterdir()) == [copied]
    metafe.load(copied)
