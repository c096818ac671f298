"""A run that is stopped and started again ends as if it had never been stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
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
import os, pathlib, signal, sys, warnings
import numpy, torch
from sklearn.datasets import load_digits
from metafe import MetaFeatureExtractor, algorithms
from metafe.backbones import MLP, Conv4
warnings.simplefilter("ignore")
folder, name, backbone, optimizer, fraction = sys.argv[1:]
moment, at = os.environ.get("KILL_AT", "never 0").split()
n_written = 0

def kill_if(is_now):
    if is_now:
        os.kill(os.getpid(), signal.SIGKILL)

class Killed(getattr(algorithms, name)):
    name = "killed"
    n_trainings = 0
    def meta_loss(self, learner, batch, context):
        type(self).n_trainings += context.step == 0
        is_now = moment == "step" or (moment == "again-step" and self.n_trainings == 2)
        kill_if(is_now and context.step == int(at))
        return super().meta_loss(learner, batch, context)

def save_and_die(state, path, save=torch.save):
    global n_written
    n_written += 1
    save(state, path)
    if n_written == int(at):
        os.truncate(path, os.path.getsize(path) // 2)
    kill_if(n_written == int(at))

def replace_or_die(self, target, replace=pathlib.Path.replace):
    global n_written
    n_written += 1
    kill_if(n_written == int(at))
    return replace(self, target)

if moment == "half-written":
    torch.save = save_and_die
if moment == "unreplaced":
    pathlib.Path.replace = replace_or_die

X, y = load_digits(return_X_y=True)
X, y = X[:300], y[:300]
norm = {"ProtoNet": {"normalisation": "batch", "dropout": 0.2}}.get(name, {"normalisation": "layer"})
network = MLP(width=16, n_features=8, **norm)
if backbone == "conv4":
    # Tasks run side by side.
    torch.set_num_threads(2)
    X, network = X.reshape(-1, 8, 8), Conv4(depth=2, width=8)
else:
    # Columns that a network has to learn to leave alone.
    X = numpy.hstack([X, 10 * numpy.random.default_rng(0).normal(size=(300, 64))])
extractor = MetaFeatureExtractor(
    network, Killed(), "classes", max_steps=60, optimizer=optimizer, schedule="cosine",
    random_state=0, device="cpu", learning_rate=0.01, checkpoint=folder, validation_fraction=float(fraction),
    augment="noise",
).fit(X, y)
weights = b"".join(v.numpy().tobytes() for v in extractor.model_.learner.state_dict().values())
history = [sorted((k, v) for k, v in line.items() if k != "seconds") for line in extractor.history_]
print(weights.hex(), history, extractor.transform(X).tobytes().hex())
"""


def run_to_be_killed(folder: Path, *recipe: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Train in a process of its own, which kills itself at ``KILL_AT``."""
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), *recipe],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        check=False,
    )


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """A function from a recipe to what a run prints that nothing has stopped."""

    @cache
    def run(*recipe: str) -> bytes:
        whole = run_to_be_killed(tmp_path_factory.mktemp("whole"), *recipe)
        assert whole.returncode == 0, whole.stderr.decode()
        assert len(whole.stdout) > 1000
        return whole.stdout

    return run


# With 60 steps there is a checkpoint after every third.
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
@pytest.mark.parametrize(
    ("kill_at", "recipe", "left"),
    [
        ("step 22", ("ProtoNet", "mlp", "momentum", "0.25"), ["training.pt"]),
        ("step 1", ("ProtoNet", "mlp", "momentum", "0.25"), []),
        ("again-step 1", ("ProtoNet", "mlp", "momentum", "0.25"), ["training.pt"]),
        ("again-step 11", ("ProtoNet", "mlp", "momentum", "0.25"), ["all-rows", "training.pt"]),
        ("half-written 1", ("ProtoNet", "mlp", "momentum", "0.25"), ["training.partial"]),
        ("half-written 4", ("ProtoNet", "mlp", "momentum", "0.25"), ["training.partial", "training.pt"]),
        ("unreplaced 4", ("ProtoNet", "mlp", "momentum", "0.25"), ["training.partial", "training.pt"]),
        ("step 58", ("ProtoNet", "mlp", "adam", "0.0"), ["training.pt"]),
        ("half-written 8", ("MAML", "mlp", "adam", "0.0"), ["training.partial", "training.pt"]),
        ("step 31", ("BOIL", "conv4", "adam", "0.0"), ["training.pt"]),
        ("step 40", ("Reptile", "mlp", "sgd", "0.0"), ["training.pt"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_killed_run_ends_as_if_it_had_never_been(tmp_path, never_killed, kill_at, recipe, left):
    folder = tmp_path / "run"
    killed = run_to_be_killed(folder, *recipe, KILL_AT=kill_at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert sorted(path.name for path in folder.glob("*")) == left
    resumed = run_to_be_killed(folder, *recipe)
    assert resumed.returncode == 0, resumed.stderr.decode()
    assert resumed.stdout == never_killed(*recipe)
    trained_again = ["all-rows"] if recipe[-1] != "0.0" else []
    assert sorted(path.name for path in folder.iterdir()) == [*trained_again, "training.pt"]


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
        assert sorted(path.name for path in finished.rglob("*.*")) == ["training.pt"] * 2

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
