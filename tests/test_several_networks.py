"""Several networks, whose features stand side by side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from metafe import FewShotClassifier, fitting, load
from metafe.algorithms import MAML, ProtoNet
from metafe.backbones import PLDA
from metafe.contracts import InvalidParameterError, MetafeWarning, Seeds, TrainingInterruptedWarning
from metafe.fitting import Recipe
from metafe.training.trainer import Outcome

pytestmark = pytest.mark.filterwarnings(
    "ignore::metafe.contracts.FeatureQualityWarning", "ignore::metafe.contracts.AdaptedSettingWarning"
)
BRIEFLY = {"max_steps": 10, "learning_rate": 0.01}


class CutShort(ProtoNet):
    """Prototypical networks of which a later training does not end well."""

    name = "test-cut-short"
    begun: ClassVar[int] = 0
    last: ClassVar[int] = 2

    def meta_loss(self, learner, batch, context):
        type(self).begun += context.step == 0
        loss, metrics = super().meta_loss(learner, batch, context)
        return self.spoil(loss) if self.begun == self.last and context.step else loss, metrics


class Interrupted(CutShort):
    name = "test-cut-short-interrupted"

    @staticmethod
    def spoil(loss):
        raise KeyboardInterrupt


class Diverged(CutShort):
    name = "test-cut-short-diverged"

    @staticmethod
    def spoil(loss):
        return loss * float("nan")


@pytest.mark.parametrize("validation_fraction", [0.0, 0.25])
def test_the_first_is_the_one_that_would_be_alone_and_the_others_differ(small, digits, validation_fraction):
    X, y = digits
    settings = BRIEFLY | {"validation_fraction": validation_fraction, "refit": False}
    alone = small(**settings).fit(X, y)
    three = small(**settings, n_networks=3).fit(X, y)
    first, *others = np.hsplit(three.transform(X), 3)
    np.testing.assert_array_equal(first, alone.transform(X))
    assert not any(np.allclose(first, other, atol=0.1) for other in others)
    assert not np.allclose(*others, atol=0.1)
    assert three.n_features_out_ == 3 * alone.n_features_out_ == len(three.get_feature_names_out())
    assert [row.get("score") for row in three.history_] == [row.get("score") for row in alone.history_]
    np.testing.assert_array_equal(small(**settings, n_networks=3).fit(X, y).transform(X), three.transform(X))


@pytest.mark.parametrize(
    "settings", [{}, {"algorithm": MAML(n_steps=1)}, {"concat_input": "all"}, {"tasks": "columns"}], ids=str
)
def test_they_are_judged_together(small, digits, settings):
    X, y = digits
    settings = BRIEFLY | {"refit": False} | settings
    labels = y if "tasks" not in settings else None
    alone, four = (small(**settings, n_networks=n).fit(X, labels).validation_ for n in (1, 4))
    assert alone.get("baseline") == four.get("baseline")
    assert alone["score"] != four["score"]


@pytest.mark.parametrize("algorithm", ["protonet", MAML(n_steps=2)], ids=["protonet", "maml"])
def test_each_adapts_and_their_predictions_are_averaged(small, digits, algorithm):
    X, y = digits
    two = small(algorithm=algorithm, **BRIEFLY, validation_fraction=0.0, n_networks=2).fit(X[y < 7], y[y < 7])
    new, labels = X[y >= 7], y[y >= 7]
    adapted = two.adapt(new[:30], labels[:30])
    scores = adapted.predict_adapted(new)
    assert scores.shape == (len(new), 3)
    of_each = []
    for learner, state in zip(adapted.model_.learners, adapted.model_.states, strict=True):
        rows = adapted.model_.normalisers[0](torch.as_tensor(new))
        of_each.append(two.model_.algorithm.predict(learner, state, rows).detach().numpy())
    assert not np.allclose(*of_each, atol=1e-3)
    np.testing.assert_allclose(scores, np.mean(of_each, axis=0), rtol=1e-4, atol=1e-4)
    classifier = FewShotClassifier(FrozenEstimator(two), head="own").fit(new[:30], labels[:30])
    assert classifier.score(new[30:], labels[30:]) > 0.5


def test_all_are_saved(small, digits, tmp_path):
    X, y = digits
    fitted = small(**BRIEFLY, n_networks=2, concat_input="all").fit(X, y)
    fitted.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    adapted = fitted.adapt(X[:20], y[:20])
    adapted.save(tmp_path / "adapted")
    np.testing.assert_array_equal(load(tmp_path / "adapted").predict_adapted(X), adapted.predict_adapted(X))


@pytest.mark.parametrize("at", [1, 2, 3])
def test_one_that_the_user_cuts_short_is_left_out_and_so_are_those_after_it(small, digits, monkeypatch, at):
    X, y = digits
    monkeypatch.setattr(CutShort, "last", at)
    monkeypatch.setattr(Interrupted, "begun", 0)
    settings = BRIEFLY | {"validation_fraction": 0.0}
    with pytest.warns(TrainingInterruptedWarning):
        fitted = small(algorithm=Interrupted(), **settings, n_networks=4).fit(X, y)
    n_whole = max(1, at - 1)
    assert len(fitted.model_.learners) == n_whole
    if at > 1:
        whole = small(**settings, n_networks=n_whole).fit(X, y)
        np.testing.assert_array_equal(fitted.transform(X), whole.transform(X))


def test_one_that_diverges_is_left_out(small, digits, monkeypatch):
    monkeypatch.setattr(Diverged, "begun", 0)
    with pytest.warns(MetafeWarning, match="finite loss"):
        fitted = small(algorithm=Diverged(), **BRIEFLY, validation_fraction=0.0, n_networks=3).fit(*digits)
    assert len(fitted.model_.learners) == 2


def test_an_interrupted_run_goes_on_with_the_network_that_it_was_at(small, digits, monkeypatch, tmp_path):
    X, y = digits
    monkeypatch.setattr(Interrupted, "begun", 0)
    settings = BRIEFLY | {"max_steps": 40, "validation_fraction": 0.0, "n_networks": 3, "checkpoint": tmp_path}
    with pytest.warns(TrainingInterruptedWarning):
        small(algorithm=Interrupted(), **settings).fit(X, y)
    monkeypatch.setattr(CutShort, "last", 0)
    begun = Interrupted.begun
    resumed = small(algorithm=Interrupted(), **settings).fit(X, y)
    # The first was done with and the second had no checkpoint yet.
    assert Interrupted.begun == begun + 2
    whole = small(algorithm=Interrupted(), **settings | {"checkpoint": None}).fit(X, y)
    np.testing.assert_array_equal(resumed.transform(X), whole.transform(X))


@pytest.mark.parametrize(("backbone", "algorithm"), [("identity", "protonet"), ("plda", "untrained")])
def test_what_trains_nothing_is_there_once(small, digits, backbone, algorithm):
    fitted = small(backbone, algorithm, n_networks=4).fit(*digits)
    assert len(fitted.model_.learners) == 1


@pytest.fixture(scope="module")
def told_apart_by_few_columns():
    """Rows of 20 classes, with columns that tell nothing, which a network surely learns to leave alone."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 20
    return np.hstack([2 * rng.normal(size=(20, 3))[y] + rng.normal(size=(400, 3)), 4 * rng.normal(size=(400, 30))]), y


@pytest.mark.parametrize(
    ("settings", "n_networks"),
    [
        ({}, 4),
        ({"backbone": "mlp"}, 1),
        ({"refit": False}, 1),
        ({"backbone": "mlp", "n_networks": 2}, 2),
        ({"backbone": "mlp", "n_networks": 2, "refit": False}, 2),
        ({"backbone": "identity"}, 1),
    ],
    ids=str,
)
def test_how_many_are_trained_of_their_own_accord(small, told_apart_by_few_columns, settings, n_networks):
    fitted = small(**{"backbone": "auto", "max_steps": 200} | settings).fit(*told_apart_by_few_columns)
    assert len(fitted.model_.learners) == n_networks
    said = fitted.decisions_.get("refit", "")
    assert said.count("networks") == ("refit" not in settings and n_networks > 1)
    assert ("2 of which see rows by discriminants, with discriminants beside their features" in said) == (not settings)


def test_images_are_learned_by_one(small, images, monkeypatch):
    monkeypatch.setattr("metafe.extractor.MetaFeatureExtractor._judge", lambda self, learned, *rest: learned)
    fitted = small("auto", **BRIEFLY).fit(*images)
    assert (fitted.backbone_.name, len(fitted.model_.learners)) == ("conv4", 1)
    assert "refit" in fitted.decisions_


@pytest.mark.parametrize(
    ("taken", "given"),
    [([3.0, 3.0, 3.0], [4.0, 4.5, 6.0]), ([12.0], [4.0]), ([4.0, 9.0], [4.0, 4.0])],
    ids=["some is left for the last", "the first took all", "the second took all"],
)
def test_they_share_the_time_that_there_is(monkeypatch, taken, given):
    now, asked = [0.0], []
    monkeypatch.setattr(fitting, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def trained(recipe, view):
        now[0] += taken[len(asked)]
        asked.append(recipe.seconds)
        return nn.Linear(1, 1), Outcome()

    plugins_and_settings = dict.fromkeys(("backbone", "algorithm", "source", "augment", "settings", "device"))
    recipe = Recipe(
        **plugins_and_settings,
        validation_fraction=0.0,
        precision="auto",
        compile=False,
        seeds=Seeds(0),
        seconds=12.0,
        n_networks=3,
    )
    learners, views, _ = fitting._train_all(recipe, trained)
    assert asked == given
    assert len(learners) == len(views) == len(given)


@pytest.mark.parametrize("inputs", ["discriminants", "both"])
def test_they_see_rows_by_what_tells_classes_apart(small, digits, tmp_path, inputs):
    X, y = digits
    settings = BRIEFLY | {"refit": False, "inputs": inputs, "concat_input": "discriminants"}
    fitted = small(**settings).fit(X, y)
    rows = small(**BRIEFLY, refit=False).fit(X, y).transform(X)
    features, n = fitted.transform(X), rows.shape[1]
    n_networks = len(fitted.model_.learners)
    assert n_networks == (2 if inputs == "both" else 1)
    assert np.array_equal(features[:, :n], rows) == (inputs == "both")
    train = X[np.isin(y, fitted.classes_)]
    discriminants = PLDA().fit(train, y, Seeds(0)).encode(X).shape[1]
    assert abs(features.shape[1] - n * n_networks - discriminants) <= 2
    fitted.save(tmp_path / "saved")
    np.testing.assert_array_equal(load(tmp_path / "saved").transform(X), features)
    one_by_one = np.concatenate([fitted.transform(X[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(one_by_one, features[:5])
    adapted = fitted.adapt(X[:6], np.arange(6) % 3)
    assert adapted.predict_adapted(X).shape == (len(X), 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": "columns"}, "inputs must be one of"),
        ({"inputs": "both", "n_networks": 1}, "n_networks of at least 2"),
        ({"concat_input": "rows"}, "concat_input must be one of"),
    ],
)
def test_what_they_may_see(small, digits, settings, message):
    with pytest.raises(InvalidParameterError, match=message):
        small(**settings).fit(*digits)


def test_continuous_targets_have_no_discriminants(small, digits):
    X, _ = digits
    for settings, message in (
        ({"inputs": "both"}, "inputs with discriminants"),
        ({"concat_input": "discriminants"}, "needs classes"),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            small(algorithm="supervised", **BRIEFLY, **settings).fit(X, X[:, 20] + 0.5)


@pytest.mark.parametrize("n_networks", [0, -1, 1.5, "many", True, None])
def test_how_many_there_may_be(small, digits, n_networks):
    with pytest.raises(InvalidParameterError, match="n_networks must be a whole number of at least 1"):
        small(n_networks=n_networks).fit(*digits)
