"""Loading an extractor where its plugins, or the versions it was saved with, are absent or have changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

import metafe
from metafe.backbones import SklearnTransformer
from metafe.contracts import Backbone, MissingDependencyError, SavedFormatError, VersionMismatchWarning
from metafe.persistence import folder as folders
from metafe.plugins import PluginInfo, registry


class Scaled(Backbone):
    """A backbone whose classes of other versions the tests put in its place."""

    name = "persistence-scaled"

    def __init__(self, width: int = 4) -> None:
        self.width = width

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Linear(input_shape[0], self.width)


class Widened(Scaled):
    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Linear(input_shape[0], self.width + 1)


class Extended(Scaled):
    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(nn.Linear(input_shape[0], self.width), nn.BatchNorm1d(self.width))


class Doubled(Scaled):
    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Linear(input_shape[0], self.width, dtype=torch.float64)


class Broken(Scaled):
    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        raise OSError("no weights here")


class Renamed(Scaled):
    def __init__(self, size: int = 4) -> None:
        self.size = size


@pytest.fixture(autouse=True)
def scaled() -> Iterator[None]:
    """Register a backbone for each test, and take it out again whatever the test did."""
    registry().register(Scaled, distribution="metafe-nowhere", version="1.2")
    yield
    registry()._entries.pop(("backbone", Scaled.name), None)


def replace_scaled(monkeypatch: pytest.MonkeyPatch, cls: type[Backbone] | None, version: str = "1.2") -> None:
    """Make another class, or none, be what the name of `Scaled` stands for."""
    monkeypatch.delitem(registry()._entries, ("backbone", Scaled.name))
    if cls is not None:
        registry().register(cls, distribution="metafe-nowhere", version=version)


@pytest.fixture
def custom(blobs: Any, small: Any, tmp_path: Path) -> Path:
    """An extractor with the backbone `Scaled`, saved."""
    place = tmp_path / "custom"
    small(Scaled(), validation_fraction=0).fit(*blobs).save(place)
    return place


@pytest.fixture
def with_sklearn(blobs: Any, small: Any, tmp_path: Path) -> Path:
    """An extractor with a scikit-learn part, saved."""
    place = tmp_path / "with-sklearn"
    small(SklearnTransformer(PCA(3)), validation_fraction=0).fit(*blobs).save(place)
    return place


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a manifest and make its digest fit, as someone who means harm would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest | {"digest": folders._digest(manifest)}))


def test_an_absent_plugin_names_the_distribution_to_install(custom: Path, monkeypatch: Any) -> None:
    replace_scaled(monkeypatch, None)
    with pytest.raises(
        MissingDependencyError, match=r"backbone 'persistence-scaled'.*pip install metafe-nowhere.*1\.2"
    ):
        metafe.load(custom)


def test_an_absent_class_of_a_script_is_to_be_registered_first(
    blobs: Any, small: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.delitem(registry()._entries, ("backbone", Scaled.name))
    metafe.register(Scaled)
    small(Scaled(), validation_fraction=0).fit(*blobs).save(tmp_path / "e")
    del registry()._entries["backbone", Scaled.name]
    with pytest.raises(
        MissingDependencyError, match=r"Register the class of 'persistence-scaled' first: metafe\.register"
    ):
        metafe.load(tmp_path / "e")
    metafe.register(Scaled)
    assert metafe.load(tmp_path / "e").transform(blobs[0]).shape == (len(blobs[0]), 4)


def test_an_object_that_was_never_registered_is_saved_and_asks_for_it(
    blobs: Any, small: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    replace_scaled(monkeypatch, None)
    small(Scaled(), validation_fraction=0).fit(*blobs).save(tmp_path / "e")
    with pytest.raises(MissingDependencyError, match=r"metafe\.register"):
        metafe.load(tmp_path / "e")


def test_a_distribution_that_is_there_but_does_not_bring_the_plugin(custom: Path, monkeypatch: Any) -> None:
    replace_scaled(monkeypatch, None)
    rewrite(
        custom,
        lambda manifest: [p.update(distribution="joblib") for p in manifest["plugins"] if p["name"] == Scaled.name],
    )
    monkeypatch.setenv("METAFE_PLUGINS", "")
    with pytest.raises(MissingDependencyError, match=r"joblib .* is installed but did not register it.*METAFE_PLUGINS"):
        metafe.load(custom)


def test_a_distribution_that_failed_to_load_says_why(custom: Path, monkeypatch: Any) -> None:
    replace_scaled(monkeypatch, None)
    failure = PluginInfo("", "scaled", "metafe-nowhere", "1.2", "ImportError: no libscale")
    monkeypatch.setattr(registry(), "_failures", [failure])
    with pytest.raises(
        MissingDependencyError, match="metafe-nowhere is installed but failed to load: ImportError: no libscale"
    ):
        metafe.load(custom)


def test_all_absent_plugins_are_named_at_once(custom: Path, monkeypatch: Any) -> None:
    replace_scaled(monkeypatch, None)
    more = {"kind": "algorithm", "name": "other", "distribution": "metafe-other", "version": "3"}
    rewrite(custom, lambda manifest: manifest["plugins"].append(more))
    with pytest.raises(
        MissingDependencyError, match=r"'persistence-scaled', algorithm 'other'.*metafe-nowhere.*metafe-other"
    ):
        metafe.load(custom)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Widened, r"backbone\.weight is .*\(5, 6\).* in the network that is built, .*\(4, 6\).* in the file"),
        (Extended, r"other weights than the saved one: .*backbone\.0\.weight"),
        (Doubled, r"float32|Double"),
        (Broken, "OSError: no weights here"),
        (Renamed, "TypeError: .*width"),
    ],
)
def test_a_plugin_that_changed_is_an_error(custom: Path, monkeypatch: Any, cls: Any, message: str) -> None:
    replace_scaled(monkeypatch, cls)
    with pytest.raises(SavedFormatError, match=message):
        metafe.load(custom)


# Versions


def test_one_warning_lists_all_versions_that_differ(custom: Path, monkeypatch: Any, blobs: Any) -> None:
    features = metafe.load(custom).transform(blobs[0])
    replace_scaled(monkeypatch, Scaled, version="1.3")
    older = {"torch": "2.0.1+cpu", "scikit-learn": "1.0", "metafe": "0.0.1", "numpy": "1.0", "python": "3.0"}
    rewrite(custom, lambda manifest: manifest["versions"].update(older))
    with pytest.warns(VersionMismatchWarning) as caught:
        loaded = metafe.load(custom)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    message = str(caught[0].message)
    assert "torch 2.0.1 (here " in message
    assert "scikit-learn 1.0 (here " in message
    assert "metafe 0.0.1 (here " in message
    assert "metafe-nowhere 1.2 (here metafe-nowhere 1.3)" in message
    assert "numpy" not in message
    assert np.array_equal(loaded.transform(blobs[0]), features)


def test_another_build_of_the_same_torch_is_no_mismatch(with_sklearn: Path) -> None:
    build = torch.__version__.split("+")[0] + "+cu999"
    rewrite(with_sklearn, lambda manifest: manifest["versions"].update(torch=build))
    metafe.load(with_sklearn)  # warnings are errors here


def test_scikit_learn_does_not_warn_a_second_time(with_sklearn: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("sklearn.base.__version__", "9.9")
    rewrite(with_sklearn, lambda manifest: manifest["versions"].update({"scikit-learn": "1.0"}))
    with pytest.warns(VersionMismatchWarning) as caught:
        metafe.load(with_sklearn)
    assert len(caught) == 1
