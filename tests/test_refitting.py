"""Training once more on what was held out too."""

from __future__ import annotations

import numpy as np
import pytest

from metafe import load
from metafe.algorithms import ProtoNet
from metafe.contracts import InvalidParameterError, TrainingInterruptedWarning
from metafe.training.trainer import Outcome

pytestmark = pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
SETTINGS = {"max_steps": 40, "learning_rate": 0.02, "patience": 3}


def best_length(extractor):
    """Return how long a training did best on what it held out."""
    steps = [row["step"] for row in extractor.history_]
    best = steps[int(np.argmax([row["score"] for row in extractor.history_]))]
    return SETTINGS["max_steps"] if best == steps[-1] else best


@pytest.fixture(scope="module")
def many():
    """Rows of 32 classes, with columns that tell nothing."""
    rng = np.random.default_rng(0)
    y = np.arange(480) % 32
    told = rng.normal(size=(32, 8))[y] + 0.5 * rng.normal(size=(480, 8))
    return np.hstack([told, 2 * rng.normal(size=(480, 20))]), y


@pytest.mark.parametrize("refit", ["auto", True])
def test_few_classes_are_all_trained_on_for_as_long_as_did_best(small, digits, refit):
    X, y = digits
    fitted = small(**SETTINGS, refit=refit).fit(X, y)
    n_steps = best_length(fitted)
    assert n_steps > 0
    whole = small(**SETTINGS | {"max_steps": n_steps}, validation_fraction=0.0).fit(X, y)
    np.testing.assert_array_equal(fitted.transform(X), whole.transform(X))
    early = small(**SETTINGS, refit=False).fit(X, y)
    assert [row["score"] for row in fitted.history_] == [row["score"] for row in early.history_]
    assert fitted.validation_ == early.validation_
    assert not np.allclose(fitted.transform(X), early.transform(X))
    assert ("refit" in fitted.decisions_) == (refit == "auto")


@pytest.mark.parametrize(("refit", "trains_again"), [("auto", False), (True, True)])
def test_many_classes_are_where_it_is_asked_for(small, many, refit, trains_again):
    X, y = many
    early = small(**SETTINGS, refit=False).fit(X, y).transform(X)
    assert np.allclose(small(**SETTINGS, refit=refit).fit(X, y).transform(X), early) != trains_again


def test_rows_held_out_are_not_missed(small, digits):
    X, _ = digits
    targets = np.sin(X[:, 20]) + X[:, 30]
    early = small(algorithm="supervised", **SETTINGS, refit=False).fit(X, targets).transform(X)
    np.testing.assert_array_equal(small(algorithm="supervised", **SETTINGS).fit(X, targets).transform(X), early)


def test_the_rows_stand_beside_what_is_trained_again(small, digits, tmp_path):
    X, y = digits
    beside = small(**SETTINGS, concat_input="feature").fit(X, y)
    alone = small(**SETTINGS).fit(X, y)
    n = alone.n_features_out_
    np.testing.assert_allclose(beside.transform(X)[:, :n], alone.transform(X), atol=1e-6)
    assert beside.n_features_out_ == n + X.shape[1]
    beside.save(tmp_path / "saved")
    np.testing.assert_array_equal(load(tmp_path / "saved").transform(X), beside.transform(X))


def test_control_c_in_it_keeps_what_was_trained_before(small, digits):
    class InterruptedAgain(ProtoNet):
        """Prototypical networks that are interrupted in the first step of their second training."""

        name = "test-interrupted-again"
        begun = 0

        def meta_loss(self, learner, batch, context):
            type(self).begun += context.step == 0
            if self.begun == 2:
                raise KeyboardInterrupt
            return super().meta_loss(learner, batch, context)

    X, y = digits
    with pytest.warns(TrainingInterruptedWarning):
        fitted = small(algorithm=InterruptedAgain(), **SETTINGS).fit(X, y)
    np.testing.assert_array_equal(fitted.transform(X), small(**SETTINGS, refit=False).fit(X, y).transform(X))


@pytest.mark.parametrize(
    ("steps", "best", "out_of_time", "length"),
    [
        ([], 0, False, 90),
        ([0, 3, 6], 6, False, 90),
        ([0, 3, 6], 3, False, 3),
        ([0, 3, 6], 3, True, 45),
        ([0, 3, 6], 6, True, 90),
        ([0, 3], 0, False, 0),
    ],
)
def test_a_training_is_as_long_as_did_best_unless_that_was_at_its_end(steps, best, out_of_time, length):
    outcome = Outcome([{"step": step} for step in steps], best, out_of_time=out_of_time)
    assert outcome.best_length(90) == length


@pytest.mark.parametrize("refit", ["always", None, 2])
def test_what_it_may_be(small, digits, refit):
    with pytest.raises(InvalidParameterError, match="refit must be"):
        small(refit=refit).fit(*digits)
