"""What the few classes of one split cannot tell is asked of others."""

from __future__ import annotations

import numpy as np
import pytest

from metafe import MetaFeatureExtractor, class_folds, few_shot_score, load
from metafe.algorithms import ProtoNet
from metafe.contracts import TrainingInterruptedWarning

pytestmark = pytest.mark.filterwarnings(
    "ignore::metafe.contracts.FeatureQualityWarning", "ignore::metafe.contracts.AdaptedSettingWarning"
)
SETTINGS = {"max_steps": 100, "augment": None, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def rows():
    """Rows of sixteen classes, with columns that tell nothing: eight classes of numbers from 0, eight from 100."""
    rng = np.random.default_rng(0)
    y = np.arange(480) % 16
    told = 2 * rng.normal(size=(16, 3))[y] + rng.normal(size=(480, 3))
    return np.hstack([told, 4 * rng.normal(size=(480, 30))]), np.where(y < 8, y, y + 92)


@pytest.fixture
def folds(monkeypatch):
    """The classes in training and those held out, of each further fold."""
    seen = []
    fit = class_folds.fit_model

    def noted(recipe, data, train, valid):
        seen.append(tuple(set(data.y[part.rows].tolist()) for part in (train, valid)))
        return fit(recipe, data, train, valid)

    monkeypatch.setattr(class_folds, "fit_model", noted)
    return seen


def test_a_network_of_eight_classes_is_kept_where_all_of_them_are_better_told_apart(rows, folds):
    X, y = rows
    old = y < 8
    fitted = MetaFeatureExtractor(**SETTINGS).fit(X[old], y[old])
    first = set(range(8)).difference(*(out for _, out in folds))
    assert [len(out) for _, out in folds] == [2, 2, 2]
    assert len(first) == 2
    assert all(kept == set(range(8)) - out for kept, out in folds)
    assert fitted.backbone_.name == "mlp"
    assert fitted.validation_["n_classes"] == 8
    assert fitted.validation_["class_low"] > 0
    assert fitted.decisions_["backbone"].startswith("mlp")
    assert "not surely better" not in fitted.decisions_["backbone"]
    assert "on 8 classes" in fitted.decisions_["validation"]
    learned, plain = (few_shot_score(e, X[~old], y[~old], random_state=0).mean for e in (fitted, None))
    assert learned > plain + 0.1


def test_the_length_of_the_last_training_is_that_of_most_folds(rows, monkeypatch):
    X, y = rows
    asked = []
    monkeypatch.setattr(class_folds.Fitted, "best_length", lambda self, max_steps: asked.append(self.folds) or 7)
    fitted = MetaFeatureExtractor(**SETTINGS).fit(X[y < 8], y[y < 8])
    assert {len(folds) for folds in asked} == {3}
    assert "for 7 steps" in fitted.decisions_["refit"]


def test_no_more_are_asked_where_the_first_can_tell_or_rows_are_better(rows, folds, digits):
    X, y = rows
    many = MetaFeatureExtractor(**SETTINGS).fit(*digits)
    assert many.validation_["low"] <= 0
    MetaFeatureExtractor("mlp", **SETTINGS).fit(X[y < 8], y[y < 8])
    MetaFeatureExtractor(**SETTINGS | {"validation_fraction": 0.0}).fit(X[y < 8], y[y < 8])
    assert folds == []


def test_three_classes_say_nothing_of_others(rows, folds, tmp_path):
    X, y = rows
    three = y < 3
    X = np.hstack([X, 0.3 * np.random.default_rng(1).normal(size=(len(X), 1)) + 3 * (y % 3)[:, None]])
    fitted = MetaFeatureExtractor(**SETTINGS).fit(X[three], y[three])
    assert fitted.validation_["low"] > 0
    assert fitted.backbone_.name == "identity"
    assert "too few to hold any out" in fitted.decisions_["backbone"]
    assert (fitted.validation_["n_classes"], folds) == (0, [])
    named = MetaFeatureExtractor("mlp", **SETTINGS).fit(X[three], y[three])
    assert named.backbone_.name == "mlp"
    fitted.save(tmp_path / "saved")
    assert load(tmp_path / "saved").validation_ == fitted.validation_


@pytest.fixture
def never_sure(monkeypatch):
    """No held-out classes make sure of the next."""
    monkeypatch.setattr("metafe.keeping.over_classes", lambda *fits: {"class_low": -1.0, "class_high": 1.0})


@pytest.mark.usefixtures("never_sure")
def test_what_takes_long_is_not_trained_again(rows, folds, monkeypatch):
    X, y = rows
    monkeypatch.setattr("metafe.keeping.trains_in_seconds", lambda learned: False)
    fitted = MetaFeatureExtractor(**SETTINGS).fit(X[y < 8], y[y < 8])
    assert fitted.validation_["low"] > 0
    assert folds == []


def test_flat_rows_as_they_are_take_seconds(small, digits, images):
    flat, conv4 = small().fit(*digits), small("conv4").fit(*images)
    assert class_folds.trains_in_seconds(class_folds.Fitted(flat.model_))
    assert not class_folds.trains_in_seconds(class_folds.Fitted(conv4.model_))


@pytest.mark.usefixtures("never_sure")
def test_no_more_folds_than_a_search_has(rows, folds):
    MetaFeatureExtractor(**SETTINGS | {"validation_fraction": 0.1}).fit(*rows)
    assert [len(out) for _, out in folds] == [2] * class_folds.MOST_FURTHER_FOLDS


@pytest.mark.usefixtures("never_sure")
def test_a_last_class_is_not_held_out_alone(rows, folds):
    X, y = rows
    MetaFeatureExtractor(**SETTINGS).fit(X[y < 7], y[y < 7])
    assert [len(out) for _, out in folds] == [2, 2]


def test_control_c_in_a_fold_decides_by_those_before_and_trains_no_more(rows):
    class Interrupted(ProtoNet):
        """Prototypical networks that are interrupted in their third training."""

        name = "test-interrupted-fold"
        begun = 0

        def meta_loss(self, learner, batch, context):
            type(self).begun += context.step == 0
            if self.begun == 3:
                raise KeyboardInterrupt
            return super().meta_loss(learner, batch, context)

    X, y = rows
    with pytest.warns(TrainingInterruptedWarning):
        fitted = MetaFeatureExtractor(algorithm=Interrupted(), **SETTINGS).fit(X[y < 8], y[y < 8])
    assert Interrupted.begun == 3
    assert fitted.validation_["n_classes"] == 4


def test_every_training_has_a_checkpoint_of_its_own(rows, tmp_path):
    X, y = rows
    settings = SETTINGS | {"checkpoint": tmp_path}
    fitted = MetaFeatureExtractor(**settings).fit(X[y < 8], y[y < 8])
    folders = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("training.pt")}
    networks = {"all-rows", *(f"all-rows/network-{n}" for n in (1, 2, 3))}
    assert folders == {".", "fold-1", "fold-2", "fold-3"} | networks
    again = MetaFeatureExtractor(**settings).fit(X[y < 8], y[y < 8])
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
