"""An extractor that was saved, or pickled, and loaded does what it did before."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import metafe
from metafe.algorithms import ProtoNet
from metafe.augmentations import Noise
from metafe.backbones import MLP, Conv4, SklearnTransformer
from metafe.contracts import AdaptedSettingWarning, Backbone, HeadAlgorithm
from metafe.plugins import registry
from metafe.tasks import ClassTasks
from metafe.training.feature_model import FeatureModel

Saved = Callable[[metafe.MetaFeatureExtractor], metafe.MetaFeatureExtractor]


class Letters(Backbone):
    """A backbone with a fitted encoder: words to counts of the letters seen in training."""

    name = "persistence-letters"
    raw_input = True

    def __init__(self, lower: bool = True) -> None:
        self.lower = lower

    def fit(self, X: Any, y: Any, seeds: Any) -> Letters:
        letters = sorted({letter for word in X for letter in self._word(word)})
        self.vocabulary_ = {letter: i for i, letter in enumerate(letters)}
        self.scaler_ = StandardScaler().fit(self._counts(X))
        self.mean_ = np.asfortranarray(self._counts(X).mean(axis=0, keepdims=True))
        return self

    def encode(self, X: Any) -> np.ndarray:
        return self.scaler_.transform(self._counts(X)) + self.mean_

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Linear(input_shape[0], 5)

    def _word(self, word: str) -> str:
        return word.lower() if self.lower else word

    def _counts(self, X: Any) -> np.ndarray:
        return np.array([[self._word(word).count(letter) for letter in self.vocabulary_] for word in X], dtype=float)


class Centred(HeadAlgorithm):
    """An algorithm whose adapted state changes the features, and that learns a weight of its own."""

    name = "persistence-centred"
    adapts_features = True

    def build(self, backbone: Any, n_features: int, problem: Any) -> Any:
        learner = super().build(backbone, n_features, problem)
        learner.gain = nn.Parameter(torch.ones(n_features))
        return learner

    def fit_head(self, learner: Any, features: Any, y: Any, n_way: int) -> Any:
        means = torch.stack([features[..., y == k, :].mean(-2) for k in range(n_way)], -2) if y.ndim == 1 else None
        return {"means": features.mean(-2, keepdim=True) if means is None else means}

    def apply_head(self, learner: Any, state: Any, features: Any) -> Any:
        return -torch.cdist(features * learner.gain, state["means"].expand(*features.shape[:-2], -1, -1))

    def features(self, learner: Any, state: Any, x: Any) -> Any:
        features = learner.backbone(x) * learner.gain
        return features - state["means"].mean(-2) if state else features

    def meta_loss(self, learner: Any, batch: Any, context: Any) -> Any:
        return (learner.backbone(batch.query_x.flatten(0, 1)) * learner.gain).square().mean(), {}


@pytest.fixture(scope="module", autouse=True)
def plugins() -> Iterator[None]:
    """Register the plugins of this file, and take them out again."""
    for cls in (Letters, Centred):
        metafe.register(cls)
    yield
    for cls in (Letters, Centred):
        del registry()._entries[cls.kind, cls.name]


WORDS = [f"{first}{last}" for first in ("Alpha", "bET", "gamm", "Delta") for last in ("x", "yz", "zzx", "Q", "qq", "e")]
BUILT_IN = ["mlp", "supervised", "conv4", "pca", "object", "identity", "auto", "unlabelled", "regression", "beside"]


@pytest.fixture(scope="module")
def fitted(digits: Any, images: Any, small: Any) -> dict[str, tuple[metafe.MetaFeatureExtractor, Any]]:
    """Fitted extractors by name, each with rows to transform."""
    X, y = digits
    recipes = {
        "mlp": (small(max_steps=5), X, y),
        "supervised": (small(MLP(width=16), "supervised", tasks=ClassTasks(n_way=3)), X, y),
        "conv4": (small(Conv4(width=8, depth=2)), images[0], y),
        "pca": (small("sklearn"), X, y),
        "object": (small(SklearnTransformer(make_pipeline(StandardScaler(), PCA(5)))), X, y),
        "identity": (small("identity", "untrained"), X, y),
        "auto": (small("auto", augment=[Noise(), "feature-dropout"]), X, np.array(list("abcdefghij"))[y]),
        "unlabelled": (small("mlp", "auto"), X, None),
        "regression": (small("mlp", "auto"), X, X @ np.random.default_rng(0).normal(size=(64, 2))),
        "beside": (small(Conv4(width=8, depth=2), concat_input="feature"), images[0], y),
        "letters": (small(Letters(lower=False)), WORDS, np.repeat(np.arange(4), 6)),
        "centred": (small(MLP(width=16, n_features=4), "persistence-centred"), X, y),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        return {name: (extractor.fit(X, y), X) for name, (extractor, X, y) in recipes.items()}


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """A function that saves an extractor and loads it."""

    def through_a_folder(extractor: metafe.MetaFeatureExtractor) -> metafe.MetaFeatureExtractor:
        extractor.save(tmp_path / "extractor")
        return metafe.load(tmp_path / "extractor")

    return through_a_folder


def through_pickle(extractor: Any) -> Any:
    return pickle.loads(pickle.dumps(extractor))


def copy_of(extractor: metafe.MetaFeatureExtractor) -> metafe.MetaFeatureExtractor:
    """Return an extractor of its own, whose parameters a test may set."""
    return through_pickle(extractor)


def same(a: Any, b: Any) -> bool:
    """Compare nested values, arrays and plugins included; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return repr(a) == repr(b)


@pytest.mark.parametrize("name", [*BUILT_IN, "letters", "centred"])
def test_a_loaded_extractor_is_the_same(fitted: Any, saved: Saved, name: str) -> None:
    extractor, X = fitted[name]
    loaded = saved(extractor)
    assert loaded.transform(X).dtype == np.float32
    assert np.array_equal(loaded.transform(X), extractor.transform(X))
    assert vars(loaded).keys() == vars(extractor).keys()
    assert same(loaded.get_params(), extractor.get_params())
    plain = {k: v for k, v in vars(extractor).items() if k != "model_"}
    assert same({k: v for k, v in vars(loaded).items() if k != "model_"}, plain)
    assert repr(loaded) == repr(extractor)
    assert loaded.get_feature_names_out().tolist() == extractor.get_feature_names_out().tolist()
    assert same(clone(loaded).get_params(), clone(extractor).get_params())
    assert loaded.model_.learner.problem == extractor.model_.learner.problem


def test_every_part_of_a_model_is_known_to_saving() -> None:
    known = {"backbone", "algorithm", "learners", "normalisers", "input_shape", "states", "n_way", "beside"}
    assert set(FeatureModel.__dataclass_fields__) == known, "metafe.persistence.contents must save the new part"


def test_another_process_with_another_hash_seed_gives_the_same_features(fitted: Any, tmp_path: Path) -> None:
    for name in BUILT_IN:
        extractor, X = fitted[name]
        extractor.save(tmp_path / name)
        np.save(tmp_path / f"{name}-X.npy", X)
    # Unpickling asks for classes by name, which raises this event.
    script = """
import sys
from pathlib import Path
import numpy as np
import metafe, torch
def refuse(event, arguments):
    if event == "pickle.find_class":
        raise RuntimeError(f"pickle asked for {arguments}")
sys.addaudithook(refuse)
folder = Path(sys.argv[1])
for name in sys.argv[2:]:
    np.save(folder / f"{name}-features.npy", metafe.load(folder / name).transform(np.load(folder / f"{name}-X.npy")))
"""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(tmp_path), *BUILT_IN],
        check=True,
        env=environment,
        timeout=120,
    )
    for name in BUILT_IN:
        extractor, X = fitted[name]
        assert np.array_equal(np.load(tmp_path / f"{name}-features.npy"), extractor.transform(X)), name


@pytest.mark.parametrize("name", ["mlp", "conv4", "centred"])
def test_adapting_after_loading_and_loading_after_adapting_agree(fitted: Any, saved: Saved, name: str) -> None:
    extractor, X = fitted[name]
    support = X[::40], np.array(list("ab"))[np.arange(10) % 2]
    adapted = extractor.adapt(*support)
    for other in (saved(extractor).adapt(*support), saved(adapted), through_pickle(adapted)):
        assert np.array_equal(other.transform(X), adapted.transform(X))
        assert other.adapted_classes_.tolist() == ["a", "b"]
        assert other.model_.n_way == 2
        device = torch.device("cpu")
        assert np.array_equal(other.model_.predict(X, device), adapted.model_.predict(X, device))
    if name == "centred":
        assert not np.array_equal(adapted.transform(X), extractor.transform(X))


@pytest.mark.parametrize("random_state", [0, np.random.RandomState(3)])
def test_fitting_a_loaded_extractor_again_repeats_what_the_original_would_do(
    fitted: Any, digits: Any, saved: Saved, random_state: Any
) -> None:
    extractor = copy_of(fitted["mlp"][0]).set_params(random_state=random_state, validation_fraction=0)
    loaded = saved(extractor)
    assert np.array_equal(loaded.fit(*digits).transform(digits[0]), extractor.fit(*digits).transform(digits[0]))


def test_a_data_frame_keeps_names_output_and_metadata_requests(digits: Any, small: Any, saved: Saved) -> None:
    X, y = digits
    frame = pd.DataFrame(X[:, :8], columns=[f"pixel {i}" for i in range(8)])
    extractor = small("identity", "untrained").fit(frame, y).set_output(transform="pandas")
    with config_context(enable_metadata_routing=True):
        extractor.set_fit_request(groups="customer")
    loaded = saved(extractor)
    assert loaded.feature_names_in_.tolist() == list(frame.columns)
    pd.testing.assert_frame_equal(loaded.transform(frame), extractor.transform(frame))
    assert loaded.get_metadata_routing().fit.requests == {"groups": "customer"}
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(frame.rename(columns={"pixel 0": "other"}))


def test_the_manifest_is_json_that_says_what_was_saved(fitted: Any, tmp_path: Path) -> None:
    extractor = copy_of(fitted["supervised"][0])
    extractor.history_ = [{"step": 1, "loss": float("nan"), "score": float("-inf")}]
    extractor.save(tmp_path / "e")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    manifest = json.loads((tmp_path / "e" / "manifest.json").read_text(), parse_constant=refuse)
    assert manifest["format"] == 1
    assert manifest["versions"]["torch"] == torch.__version__
    assert {"metafe", "numpy", "scikit-learn", "python"} <= manifest["versions"].keys()
    here = {"distribution": "metafe", "version": metafe.__version__}
    assert {"kind": "backbone", "name": "mlp", **here} in manifest["plugins"]
    assert {"kind": "task source", "name": "classes", **here} in manifest["plugins"]
    assert manifest["contents"]["model"]["backbone"]["parameters"]["width"] == 16
    assert manifest["files"].keys() == {"weights.safetensors"}
    assert same(metafe.load(tmp_path / "e").history_, extractor.history_)


def test_one_object_in_two_places_is_one_object_again(fitted: Any, saved: Saved) -> None:
    loaded = saved(fitted["supervised"][0])
    assert loaded.tasks_ is loaded.tasks
    assert loaded.backbone_ is loaded.model_.backbone
    assert loaded.algorithm_ is loaded.model_.algorithm
    assert loaded.backbone_ is not loaded.backbone


def test_weights_keep_their_layout_in_memory(fitted: Any, saved: Saved) -> None:
    extractor, X = fitted["conv4"]
    extractor = copy_of(extractor)
    extractor.model_.learner.to(memory_format=torch.channels_last)
    loaded = saved(extractor)
    layouts = [
        {name: weight.stride() for name, weight in e.model_.learner.state_dict().items()} for e in (extractor, loaded)
    ]
    assert layouts[0] == layouts[1]
    assert np.array_equal(loaded.transform(X), extractor.transform(X))


def test_a_device_that_is_not_here_becomes_auto(fitted: Any, saved: Saved) -> None:
    extractor, X = fitted["mlp"]
    elsewhere = copy_of(extractor).set_params(device="cuda:63")
    with pytest.warns(AdaptedSettingWarning, match="cuda:63") as caught:
        loaded = saved(elsewhere)
    assert caught[0].filename == __file__
    assert loaded.device == "auto"
    np.testing.assert_allclose(loaded.transform(X), extractor.transform(X), atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", "auto", torch.device("cpu")])
def test_a_device_that_is_here_is_kept(fitted: Any, saved: Saved, device: Any) -> None:
    loaded = saved(copy_of(fitted["mlp"][0]).set_params(device=device))
    assert same(loaded.device, device)


def global_generators() -> tuple[Any, ...]:
    numpys = np.random.get_state()[1].tolist()  # noqa: NPY002 - the global one is meant
    return random.getstate(), numpys, torch.random.get_rng_state().tolist()


@pytest.mark.parametrize("name", ["conv4", "supervised"])
def test_loading_leaves_global_generators_alone(fitted: Any, tmp_path: Path, name: str) -> None:
    fitted[name][0].save(tmp_path / "e")
    before = global_generators()
    metafe.load(tmp_path / "e")
    assert global_generators() == before


def test_threads_may_load_at_once(fitted: Any, tmp_path: Path) -> None:
    extractor, X = fitted["conv4"]
    extractor.save(tmp_path / "e")
    features: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: features.append(metafe.load(tmp_path / "e").transform(X))) for _ in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(features) == 4
    assert all(np.array_equal(f, extractor.transform(X)) for f in features)


def test_saving_changes_nothing(fitted: Any, tmp_path: Path) -> None:
    extractor, X = fitted["object"]
    before = extractor.transform(X), repr(vars(extractor).keys())
    extractor.save(tmp_path / "e")
    assert np.array_equal(extractor.transform(X), before[0])
    assert repr(vars(extractor).keys()) == before[1]


def test_an_unfitted_extractor_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        metafe.MetaFeatureExtractor().save(tmp_path / "e")
    assert not (tmp_path / "e").exists()


def through_joblib(extractor: Any, tmp_path: Path) -> Any:
    joblib.dump(extractor, tmp_path / "extractor.joblib")
    return joblib.load(tmp_path / "extractor.joblib")


@pytest.mark.parametrize("name", [*BUILT_IN, "letters", "centred"])
@pytest.mark.parametrize("through", ["pickle", "joblib"])
def test_pickles_give_the_same_features(fitted: Any, tmp_path: Path, name: str, through: str) -> None:
    extractor, X = fitted[name]
    loaded = through_pickle(extractor) if through == "pickle" else through_joblib(extractor, tmp_path)
    assert np.array_equal(loaded.transform(X), extractor.transform(X))
    assert same(loaded.get_params(), extractor.get_params())


@pytest.mark.parametrize("through", ["pickle", "joblib"])
def test_unfitted_extractors_pickle_and_fit(digits: Any, small: Any, tmp_path: Path, through: str) -> None:
    extractor = small(MLP(width=8), ProtoNet(distance="cosine"), validation_fraction=0)
    loaded = through_pickle(extractor) if through == "pickle" else through_joblib(extractor, tmp_path)
    assert same(loaded.get_params(), extractor.get_params())
    assert np.array_equal(loaded.fit(*digits).transform(digits[0]), extractor.fit(*digits).transform(digits[0]))


def test_what_was_loaded_can_be_saved_and_pickled_again(fitted: Any, saved: Saved) -> None:
    extractor, X = fitted["object"]
    again = through_pickle(saved(saved(extractor)))
    assert np.array_equal(again.transform(X), extractor.transform(X))
