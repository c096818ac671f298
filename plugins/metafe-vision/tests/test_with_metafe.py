"""The distribution as metafe sees it once it is installed."""

from __future__ import annotations

import ast
import json
import pickle
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import metafe_vision
import numpy as np
import pytest
from metafe_vision import ColourJitter, HorizontalFlip, ImageFiles, RandomCrop, ResNet12
from PIL import Image

import metafe
from metafe.contracts import InvalidInputError, UnreadableRowWarning
from metafe.plugins import registry

PUBLIC = {"metafe", "metafe.contracts", "metafe.plugins", "metafe.testing"}
SOURCES = [*Path(metafe_vision.__file__).parent.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]

LOAD_AND_TRANSFORM = """
import json, sys, numpy, metafe
numpy.save(sys.argv[3], metafe.load(sys.argv[1]).transform(json.loads(sys.argv[2])))
"""
HEAVY = """
import sys
from metafe.plugins import registry
registry().listing()
print(sorted({"kornia", "timm", "torchvision"} & set(sys.modules)))
"""


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


def test_the_listing_shows_distribution_and_version():
    listed = {(p.kind, p.name, p.version) for p in registry().listing() if p.distribution == "metafe-vision"}
    number = version("metafe-vision")
    assert listed == {
        ("augmentation", "colour-jitter", number),
        ("augmentation", "horizontal-flip", number),
        ("augmentation", "random-crop", number),
        ("backbone", "resnet12", number),
        ("backbone", "timm", number),
        ("backbone", "torchvision", number),
        ("encoder", "image-files", number),
    }
    assert not [p for p in registry().listing() if p.error]


def test_the_listing_imports_no_heavy_library():
    done = subprocess.run([sys.executable, "-c", HEAVY], check=True, timeout=120, capture_output=True, text=True)
    assert done.stdout == "[]\n"


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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_what_metafe_makes_public_is_imported(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
            assert not node.level, "Imports are absolute."
    # The tests of contracts share their example rows.
    assert {name for name in imported if name.split(".")[0] == "metafe"} <= PUBLIC | {"metafe.testing.common"}


def test_imported_names_are_exported():
    from metafe import contracts, plugins, testing

    exported = {"metafe": metafe, "metafe.contracts": contracts, "metafe.plugins": plugins, "metafe.testing": testing}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in PUBLIC - {"metafe"}:
                assert {alias.name for alias in node.names} <= set(exported[node.module].__all__)
