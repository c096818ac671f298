"""A run that is stopped and started again ends as if it had never been stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from metafe.algorithms import ProtoNet
from metafe.augmentations import Noise
from metafe.backbones import MLP
from metafe.contracts import (
    SavedFormatError,
    TrainingInterruptedWarning,
    hookimpl,
)
from metafe.plugins import registry

pytestmark = pytest.mark.filterwarnings(
    "ignore::metafe.contracts.FeatureQualityWarning", "ignore::metafe.contracts.AdaptedSettingWarning"
)


def history_without_clock(extractor: Any) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in extractor.history_]


def one_value_changed(X: np.ndarray) -> np.ndarray:
    """Return rows of which one in the midst differs a little."""
    X = np.copy(X)
    X[202, 33] += 1e-9
    return X


class InterruptAt:
    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def metafe_step_finished(self, extractor: Any, step: int, metrics: Any) -> None:
        if step > self.step:
            raise KeyboardInterrupt


KILLED = """
import os, signal, sys, warnings
import numpy as np
from sklearn.datasets import load_digits
from metafe import MetaFeatureExtractor
from metafe.algorithms import ProtoNet
from metafe.backbones import MLP
warnings.simplefilter("ignore")

class Killed(ProtoNet):
    name = "killed"
    def meta_loss(self, learner, batch, context):
        if context.step == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().meta_loss(learner, batch, context)

folder, optimizer, fraction = sys.argv[1:]
X, y = load_digits(return_X_y=True)
X, y = X[:300], y[:300]
backbone = MLP(width=16, n_features=8, normalisation="batch", dropout=0.2)
extractor = MetaFeatureExtractor(
    backbone, Killed(), "classes", max_steps=60, optimizer=optimizer, schedule="cosine", random_state=0, device="cpu",
    learning_rate=0.01, checkpoint=folder, validation_fraction=float(fraction), augment="noise",
).fit(X, y)
weights = b"".join(v.numpy().tobytes() for v in extractor.model_.learner.state_dict().values())
history = [(int(h["step"]), h["loss"], h.get("score")) for h in extractor.history_]
print(weights.hex(), history, extractor.transform(X).tobytes().hex())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
@pytest.mark.parametrize(("kill_at", "optimizer", "fraction"), [(22, "momentum", "0.25"), (58, "adam", "0.0")])
def test_a_killed_run_ends_as_if_it_had_never_been(tmp_path, kill_at, optimizer, fraction):
    def run(folder: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        arguments = [sys.executable, "-c", KILLED, str(tmp_path / folder), optimizer, fraction]
        return subprocess.run(
            arguments, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, capture_output=True, check=False
        )

    killed = run("killed", KILL_AT=str(kill_at))
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "training.pt").exists()
    resumed, whole = run("killed"), run("whole")
    assert resumed.returncode == whole.returncode == 0, resumed.stderr.decode()
    assert len(whole.stdout) > 1000
    assert resumed.stdout == whole.stdout


class TestCheckpoints:
    @pytest.fixture
    def finished(self, small, digits, tmp_path):
        small(max_steps=4, checkpoint=tmp_path).fit(*digits)
        return tmp_path

    @pytest.mark.parametrize(
        "change",
        [
            {"X": lambda X: X + 1},
            {"X": one_value_changed},
            {"X": lambda X: X[:, :50]},
            {"y": lambda y: 9 - y},
            {"max_steps": 5},
            {"learning_rate": 0.5},
            {"random_state": 1},
            {"backbone": MLP(width=7)},
            {"augment": Noise(0.5)},
        ],
    )
    def test_another_run_is_refused(self, small, digits, count_steps, finished, change):
        X, y = digits
        rows, labels = change.get("X", np.copy)(X), change.get("y", np.copy)(y)
        parameters = {k: v for k, v in change.items() if k not in ("X", "y")}
        extractor = small(**({"max_steps": 4, "checkpoint": finished} | parameters))
        with pytest.raises(
            SavedFormatError, match=r"must come from the same data, settings and random_state.*Pass another folder"
        ):
            extractor.fit(rows, labels)
        assert not hasattr(extractor, "model_")

    def test_a_damaged_file_is_refused(self, small, digits, finished):
        (finished / "training.pt").write_bytes(b"nonsense")
        with pytest.raises(SavedFormatError, match=r"must be readable.*Delete it to start again"):
            small(max_steps=4, checkpoint=finished).fit(*digits)

    def test_other_verbosity_and_an_equal_generator_are_accepted(self, small, digits, tmp_path):
        first = small(max_steps=4, checkpoint=tmp_path, random_state=np.random.RandomState(3)).fit(*digits)
        again = small(max_steps=4, checkpoint=str(tmp_path), random_state=np.random.RandomState(3), device="cpu").fit(
            *digits
        )
        np.testing.assert_array_equal(first.transform(digits[0]), again.transform(digits[0]))

    def test_a_seed_is_needed(self, small, digits, tmp_path):
        with pytest.raises(ValueError, match=r"checkpoint needs a random_state.*got None\. Set random_state"):
            small(checkpoint=tmp_path, random_state=None).fit(*digits)

    def test_nothing_else_is_left_in_the_folder(self, finished):
        assert [path.name for path in finished.iterdir()] == ["training.pt"]

    def test_going_on_from_a_checkpoint_equals_never_having_stopped(self, small, digits, tmp_path):
        X, y = digits
        expected = small(MLP(dropout=0.2), ProtoNet(), max_steps=60).fit(X, y)
        interrupt = InterruptAt(23)
        registry().manager.register(interrupt, name="test-interrupt-at")
        try:
            with pytest.warns(TrainingInterruptedWarning):
                small(MLP(dropout=0.2), ProtoNet(), max_steps=60, checkpoint=tmp_path / "run").fit(X, y)
        finally:
            registry().manager.unregister(name="test-interrupt-at")
        resumed = small(MLP(dropout=0.2), ProtoNet(), max_steps=60, checkpoint=tmp_path / "run").fit(X, y)
        assert history_without_clock(resumed)[1:] == history_without_clock(expected)[1:]
        seconds = [line["seconds"] for line in resumed.history_]
        assert seconds == sorted(seconds)
        np.testing.assert_array_equal(resumed.transform(X), expected.transform(X))
        again = small(MLP(dropout=0.2), ProtoNet(), max_steps=60, checkpoint=str(tmp_path / "run")).fit(X, y)
        np.testing.assert_array_equal(again.transform(X), expected.transform(X))
