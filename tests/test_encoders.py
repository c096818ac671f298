"""Rows that are no numbers: an encoder makes arrays of them before everything else."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import metafe
from metafe import FewShotClassifier, MetaFeatureExtractor, MetaFeatureSearchCV, few_shot_score
from metafe.contracts import (
    Encoder,
    InvalidInputError,
    MissingDependencyError,
    PluginContractError,
    UnreadableRowWarning,
    kind_of_input,
    name_row,
)
from metafe.encoding import encode
from metafe.plugins import registry
from metafe.testing import EncoderContract

LETTERS = "abcdefghijkl"


class LetterCounts(Encoder):
    """Count letters."""

    name = "test-letter-counts"
    reads = "text"
    default_augment = ("noise",)

    def __init__(self, most=100):
        self.most = most

    def accepts(self, X):
        return (
            None
            if kind_of_input(X) == "text"
            else "test-letter-counts needs strings; got something else. Pass strings."
        )

    def fit(self, X, seeds):
        self.longest_ = max(len(text) for text in X)
        return self

    def encode(self, X):
        counts = [[text.count(letter) for letter in LETTERS] for text in X]
        return np.minimum(np.array(counts), self.most) / self.longest_


@pytest.fixture
def registered(monkeypatch):
    """The encoder of this module, in a registry that forgets it again."""
    monkeypatch.setattr(registry(), "_entries", dict(registry()._entries))
    metafe.register(LetterCounts)


@pytest.fixture(scope="module")
def texts():
    """120 strings of eight classes, each with a favourite letter."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 8
    weights = 1 + 3 * np.eye(8, len(LETTERS))
    drawn = [rng.choice(list(LETTERS), size=rng.integers(20, 30), p=weights[k] / weights[k].sum()) for k in y]
    return ["".join(letters) for letters in drawn], y


def extractor(**settings):
    """A short training."""
    return MetaFeatureExtractor("mlp", max_steps=5, validation_fraction=0, random_state=0, **settings)


class TestLetterCounts(EncoderContract):
    @pytest.fixture(params=[LetterCounts(), LetterCounts(most=2)], ids=["defaults", "few"])
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def rows(self, texts):
        return texts[0]


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        (np.zeros((3, 4)), "array"),
        ([[1.0, 2.0], [3.0, 4.0]], "array"),
        ([np.zeros(4), np.zeros(4)], "array"),
        ([], "array"),
        (np.zeros(3), "array"),
        (["a/b.png", "c.JPG"], "image files"),
        (["a.wav", "c.flac"], "sound files"),
        (["a.png", "b.wav"], "files"),
        (["a.png", "b.wav", "c.jfif", "notes"], "files"),
        (["a.png", "b.wav", "notes", "more notes"], "text"),
        (["a.png", "b.jpg", "c.jfif", "notes"], "image files"),
        (["a.opus", "b.WAVE", "c"], "sound files"),
        ([Path("a.png"), "b.wav"], "files"),
        ([Path("a.xyz"), Path("b.xyz")], "files"),
        ([None] * 30 + ["one"], "text"),
        ([None, "one", float("nan"), pd.NA], "text"),
        ([None, None], "array"),
        (["a.png", None], "image files"),
        (["a.png", np.float32("nan"), 3, "b.png"], "image files"),
        (["one", 2, "three"], "text"),
        (["one", 2], "array"),
        (np.array(["one", "two"]), "text"),
        (pd.Series(["one", "two"]), "text"),
        (pl.Series(["one", "two"]), "text"),
        ([np.zeros(30), np.zeros(40)], "series"),
        ([np.zeros((2, 3000)), np.zeros((2, 4000))], "series"),
        ([np.zeros(3000), np.zeros(4000)], "sound"),
        ([np.zeros(3000), None, np.zeros(4000)], "sound"),
        ([np.zeros(3000), np.zeros(4000), np.zeros((2, 9))], "sound"),
        ([np.zeros((30, 40), np.uint8), np.zeros((30, 25), np.uint8)], "images"),
        ([np.zeros((30, 40)), np.zeros((25, 50)), np.zeros((28, 28))], "images"),
        ([torch.zeros((30, 40), dtype=torch.uint8), torch.zeros((30, 25), dtype=torch.uint8)], "images"),
        ([np.zeros((30, 40, 3)), np.zeros((30, 45, 3))], "images"),
        ([np.zeros((3, 30, 40)), None, np.zeros((3, 30, 40))], "images"),
        ([np.zeros((28, 28)), None, np.zeros((28, 28))], "images"),
        ([np.zeros((28, 28)), np.zeros((28, 20)), np.zeros((28, 28))], "images"),
        ([np.zeros((30, 40, 3)), np.zeros((35, 45)), np.zeros((28, 50))], "images"),
        ([np.zeros((9, 40)), np.zeros((9, 50))], "series"),
        ([np.zeros((40, 9)), np.zeros((50, 9))], "series"),
        ([np.zeros((3, 40), np.uint8), np.zeros((3, 50), np.uint8)], "series"),
        ([[0.5, 1.5], [1, 2, 3]], "series"),
        ([[0.5, None], [1, 2]], "array"),
        ([["a"], ["b", "c"]], "array"),
        ([[[1], [2]], [[1, 2], [3, 4]]], "series"),
        ([torch.zeros(30), torch.zeros(40, requires_grad=True)], "series"),
        ([torch.zeros(30), torch.zeros(30)], "array"),
        ([torch.zeros(3000), torch.zeros(4000)], "sound"),
        ([None] * 30 + [np.zeros(30), np.zeros(40)], "series"),
        ([np.zeros(30), "gap", np.zeros(30)], "series"),
        (pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}), "array"),
        (pd.DataFrame({"a": [1.0, np.nan]}), "table"),
        (pd.DataFrame({"a": ["x", "y"]}), "table"),
        (pl.DataFrame({"a": [1, 2]}), "array"),
        (pl.DataFrame({"a": [1, None]}), "table"),
        (pl.DataFrame({"a": [1.0, float("nan")]}), "table"),
        (pl.DataFrame({"a": ["x", "y"]}), "table"),
    ],
)
def test_kinds_of_input_are_told_apart(X, kind):
    assert kind_of_input(X) == kind


@pytest.mark.parametrize("rows", [["a.png"], [Path("a.png")], np.array(["a.png"])])
def test_a_path_is_named_as_it_is_written(rows):
    assert name_row(0, rows) == "row 0, 'a.png'"


@pytest.mark.usefixtures("registered")
def test_what_reads_the_kind_of_input_is_used_and_said(texts):
    X, y = texts
    fitted = extractor().fit(X, y)
    assert isinstance(fitted.encoder_, LetterCounts)
    assert fitted.decisions_["encoder"] == "test-letter-counts, since rows are text"
    assert fitted.decisions_["augment"].startswith("noise,")
    assert fitted.input_shape_ == (len(LETTERS),)
    assert fitted.transform(X[:3]).shape == (3, fitted.n_features_out_)


@pytest.mark.usefixtures("registered")
def test_features_are_those_of_the_encoded_rows(texts):
    X, y = texts
    encoded = LetterCounts().fit(X, None).encode(X)
    plain = extractor(augment="noise").fit(encoded, y).transform(encoded)
    np.testing.assert_array_equal(extractor().fit(X, y).transform(X), plain)


@pytest.mark.parametrize(
    ("own", "taken"),
    [
        (None, "noise, feature-dropout"),
        ((), "none"),
        (("noise", "rotate90"), "noise"),
        (("rotate90",), "noise, feature-dropout"),
    ],
    ids=str,
)
def test_augmentations_of_an_encoder_are_left_out_where_the_backbone_makes_other_rows(texts, monkeypatch, own, taken):
    monkeypatch.setattr(LetterCounts, "default_augment", own)
    fitted = extractor(encoder=LetterCounts()).fit(*texts)
    assert fitted.decisions_["augment"] == f"{taken}, since rows have shape ({len(LETTERS)},)"


def test_an_encoder_may_be_an_object_with_parameters(texts):
    X, y = texts
    fitted = extractor(encoder=LetterCounts(most=1)).set_params(encoder__most=2).fit(X, y)
    assert fitted.encoder_.most == 2
    assert fitted.encoder_ is not fitted.encoder


@pytest.mark.usefixtures("registered")
def test_parameters_of_a_named_encoder_can_be_set(texts):
    assert extractor(encoder="test-letter-counts").set_params(encoder__most=3).fit(*texts).encoder_.most == 3


@pytest.mark.parametrize(
    ("X", "package"),
    [
        (["a.png", "b.png"], "metafe-vision"),
        ([np.zeros((30, 40)), np.zeros((25, 50))], "metafe-vision"),
        ([np.zeros((30, 40, 3)), None], "metafe-vision"),
        (["a.wav", "b.wav"], "metafe-audio"),
        (["one", "two"], "metafe-transformers"),
        (pd.DataFrame({"a": ["x", "y"]}), "metafe-tabular"),
        ([np.zeros(30), np.zeros(40)], "metafe-series"),
        ([np.zeros(3000), np.zeros(4000)], "metafe-audio"),
    ],
    ids=["image files", "images", "damaged images", "sound files", "text", "table", "series", "sound"],
)
def test_without_an_encoder_the_package_is_named(X, package, monkeypatch):
    others = {key: entry for key, entry in registry()._entries.items() if key[0] != "encoder"}
    monkeypatch.setattr(registry(), "_entries", others)
    with pytest.raises(MissingDependencyError, match=f"pip install {package}"):
        extractor().fit(X, [0, 1])


def test_paths_of_other_files_are_never_text():
    with pytest.raises(InvalidInputError, match=r"^X must be numbers, or paths .*; got 'a\.xyz'\. Rename"):
        extractor().fit([Path("a.xyz"), Path("b.xyz")], [0, 1])


def test_rows_of_another_kind_are_an_error(texts):
    X, y = texts
    fitted = extractor(encoder=LetterCounts()).fit(X, y)
    with pytest.raises(InvalidInputError, match="needs strings"):
        fitted.transform(np.zeros((3, 2)))
    with pytest.raises(InvalidInputError, match="at least 1 samples"):
        fitted.transform([])


@pytest.mark.parametrize(
    "encoded", [None, np.zeros((2, 3)), np.zeros(120), np.full((120, 2), np.nan), np.full((120, 2), "a")]
)
def test_what_an_encoder_returns_is_checked(texts, encoded, monkeypatch):
    monkeypatch.setattr(LetterCounts, "encode", lambda self, X: encoded)
    with pytest.raises(PluginContractError, match="finite row of numbers for each of 120 rows"):
        extractor(encoder=LetterCounts()).fit(*texts)


def test_checking_what_an_encoder_returns_leaves_it_on_disk(tmp_path):
    class Mapped(Encoder):
        name = "test-mapped"

        def encode(self, X):
            return rows

    rows = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(5, 2**21))
    texts = ["one", "two", "three", "four", "five"]
    tracemalloc.start()
    assert encode(Mapped(), texts) is rows
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
    rows[4, -1] = np.inf
    with pytest.raises(PluginContractError, match="finite row"):
        encode(Mapped(), texts)


@pytest.mark.usefixtures("registered")
def test_a_saved_extractor_has_its_encoder(texts, tmp_path):
    X, y = texts
    fitted = extractor(encoder=LetterCounts(most=2)).fit(X, y)
    fitted.save(tmp_path / "saved")
    loaded = metafe.load(tmp_path / "saved")
    assert loaded.encoder_.longest_ == fitted.encoder_.longest_
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))


@pytest.mark.usefixtures("registered")
def test_text_goes_through_a_pipeline_and_a_few_shot_classifier(texts):
    X, y = texts
    features = extractor().fit(X, y)
    assert make_pipeline(FrozenEstimator(features), LogisticRegression()).fit(X, y).score(X, y) > 0.5
    few = FewShotClassifier(FrozenEstimator(features)).fit(X[:16], y[:16])
    assert few.predict(X[60:70]).shape == (10,)
    assert few_shot_score(features, X, y, n_way=5, n_shot=1, n_query=5, n_episodes=20, random_state=0).mean > 0.3


@pytest.mark.usefixtures("registered")
def test_a_search_encodes_and_its_winner_does(texts):
    X, y = texts
    search = MetaFeatureSearchCV(extractor(), n_trials=2, random_state=0).fit(X, y)
    assert isinstance(search.best_estimator_.encoder_, LetterCounts)
    assert search.transform(X[:4]).shape == (4, search.best_estimator_.n_features_out_)


def test_a_row_that_cannot_be_read_is_named_once_in_a_fit_and_in_a_search(texts):
    class Careful(LetterCounts):
        name = "test-careful"

        def accepts(self, X):
            return None

        def fit(self, X, seeds):
            return super().fit([text for text in X if text], seeds)

        def encode(self, X):
            if None in X:
                warnings.warn("row 5 is missing", UnreadableRowWarning, stacklevel=2)
            return super().encode([text or "" for text in X])

    X, y = texts
    X = [*X[:5], None, *X[6:]]
    template = extractor(encoder=Careful())
    search = MetaFeatureSearchCV(template, final_estimator=LogisticRegression(), n_trials=2, random_state=0)
    for estimator in (template, search):
        with pytest.warns(UnreadableRowWarning) as caught:
            estimator.fit(X, y)
        assert len([w for w in caught if w.category is UnreadableRowWarning]) == 1


def test_names_of_columns_are_kept_and_left_to_the_encoder():
    class Columns(Encoder):
        name = "test-columns"
        reads = "table"

        def encode(self, X):
            return X[["a", "c"]].fillna(0).to_numpy(float)

    table = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 3)), columns=list("abc"))
    table.iloc[0, 0] = np.nan
    fitted = extractor(encoder=Columns()).fit(table, np.arange(80) % 4)
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(fitted.transform(table[["c", "a"]]), fitted.transform(table))


class Stacked(Encoder):
    """Stack rows, and say which network suits them."""

    name = "test-stacked"
    reads = "series"

    def __init__(self, network=None):
        self.network = network

    @property
    def default_backbone(self):
        return self.network

    def accepts(self, X):
        return None

    def fit(self, X, seeds):
        return self

    def encode(self, X):
        return np.stack(X)


@pytest.mark.parametrize(("network", "stand_beside"), [("mlp", True), (None, False)])
def test_rows_that_are_no_features_stand_beside_a_network_that_few_classes_speak_for(
    network, stand_beside, monkeypatch
):
    # Never sure of the next class.
    monkeypatch.setattr("metafe.keeping.over_classes", lambda *fits: {"class_low": -1.0, "class_high": 1.0})
    rng = np.random.default_rng(0)
    y = np.arange(400) % 20
    X = np.hstack([2 * rng.normal(size=(20, 3))[y] + rng.normal(size=(400, 3)), 4 * rng.normal(size=(400, 30))])
    fitted = MetaFeatureExtractor(encoder=Stacked(network), max_steps=200, augment=None, random_state=0).fit(list(X), y)
    assert (fitted.model_.beside is not None) == stand_beside
    assert ("rows beside its features" in fitted.decisions_["backbone"]) == stand_beside
    assert fitted.validation_["low"] > 0
    if stand_beside:
        assert fitted.n_features_out_ == sum(learner.n_features for learner in fitted.model_.learners) + 33
        plain = MetaFeatureExtractor("identity", encoder=Stacked(), random_state=0).fit(list(X), y)
        assert few_shot_score(fitted, list(X), y, n_way=5).mean > few_shot_score(plain, list(X), y, n_way=5).mean
