"""The distribution as metafe sees it once it is installed."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import metafe_series
import numpy as np
import pytest
from metafe_series import MiniRocket, Series
from sklearn.frozen import FrozenEstimator

import metafe
from metafe.plugins import registry

PUBLIC = {"metafe", "metafe.contracts", "metafe.plugins", "metafe.testing"}
SOURCES = [*Path(metafe_series.__file__).parent.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]

LOAD_AND_TRANSFORM = """
import sys, numpy, metafe
with numpy.load(sys.argv[2]) as file:
    rows = [file[name] for name in file]
numpy.save(sys.argv[3], metafe.load(sys.argv[1]).transform(rows))
"""
HEAVY = {"aeon", "numba"}
LIST_PLUGINS = f"""
import sys
from metafe.plugins import registry
assert any(p.distribution == "metafe-series" for p in registry().listing())
print(*({HEAVY!r} & sys.modules.keys()))
"""


def extractor(backbone, **parameters):
    settings = {"max_steps": 2, "validation_fraction": 0, "augment": None, "random_state": 0}
    return metafe.MetaFeatureExtractor(backbone, **{**settings, **parameters})


def test_the_listing_shows_distribution_and_version():
    listed = {(p.kind, p.name, p.version) for p in registry().listing() if p.distribution == "metafe-series"}
    number = version("metafe-series")
    kinds = {
        "encoder": ["series"],
        "backbone": ["dilated-conv", "inception-time", "minirocket"],
        "augmentation": ["jitter", "scaling", "window-warping"],
    }
    assert listed == {(kind, name, number) for kind, names in kinds.items() for name in names}
    assert not [p for p in registry().listing() if p.error]


def test_listing_plugins_loads_no_heavy_library():
    found = subprocess.run(
        [sys.executable, "-c", LIST_PLUGINS], check=True, timeout=120, capture_output=True, text=True
    )
    assert not found.stdout.split()


@pytest.mark.parametrize(
    "backbone", [metafe_series.InceptionTime(2, 4), MiniRocket(200)], ids=["inception-time", "minirocket"]
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


def test_few_labelled_series_are_enough_to_predict(waves):
    rows, y = waves
    classifier = metafe.FewShotClassifier(FrozenEstimator(extractor("minirocket").fit(rows, y)))
    assert (classifier.fit(rows[:15], y[:15]).predict(rows[15:]) == y[15:]).mean() > 0.5, "Chance is a fifth."


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
