"""A command line to call in tests, and files to call it with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner, Result

import metafe
from metafe.cli.app import app
from metafe.plugins import registry

COLUMNS = [f"pixel{i}" for i in range(64)]
TRAIN_A_MOMENT = ("--backbone", "mlp", "-p", "backbone__width=8", "--max-steps", "2", "-p", "validation_fraction=0")


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], prog_name="metafe", catch_exceptions=False
    )


def succeed(*arguments: Any) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def fail(*arguments: Any) -> str:
    """Return the error, after checking that it is one line on standard error and nothing else is anywhere."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"Error: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


def table(X: np.ndarray, y: np.ndarray) -> pl.DataFrame:
    known = {"digit": [f"digit {label}" for label in y], "site": np.arange(len(y)) % 3}
    return pl.DataFrame(X, schema=COLUMNS).with_columns(**{name: pl.Series(values) for name, values in known.items()})


def save_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def rows_of(text: str) -> dict[str, list[str]]:
    """Return the cells of a plain table by its first column."""
    return {cells[0]: cells[1:] for line in text.splitlines() if len(cells := re.split(r"  +", line)) > 1}


def process(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    # The variables that make Rich and Typer colour pipes are what a pipe must withstand, except where a test sets them.
    variables = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "PY_COLORS")} | environment
    command = [sys.executable, "-c", "from metafe.cli import main; main()", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=variables, check=False, timeout=300
    )


@pytest.fixture(scope="session")
def cli() -> SimpleNamespace:
    """The functions and values of this file that tests call."""
    shared = (run, succeed, fail, save_image, rows_of, process)
    return SimpleNamespace(COLUMNS=COLUMNS, TRAIN_A_MOMENT=TRAIN_A_MOMENT, **{f.__name__: f for f in shared})


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with old.csv, new.csv, old.npz, new.npz and images/, of 300 digits; 6 to 9 are new."""
    folder = tmp_path_factory.mktemp("data")
    digits = load_digits()
    X, y = digits.data[:300].astype(np.uint8), digits.target[:300]
    for name, chosen in (("old", y < 6), ("new", y >= 6)):
        table(X[chosen], y[chosen]).write_csv(folder / f"{name}.csv")
        np.savez(folder / f"{name}.npz", X=X[chosen].reshape(-1, 8, 8), y=y[chosen], site=np.arange(chosen.sum()) % 3)
    for i in range(60):
        save_image(folder / "images" / f"digit {y[i]}" / f"{i:02}.png", X[i].reshape(8, 8) * 15)
    return folder


@pytest.fixture(scope="session")
def extractor(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extractor fitted on old.csv."""
    folder = tmp_path_factory.mktemp("saved") / "extractor"
    succeed("fit", files / "old.csv", "--target", "digit", "--ignore", "site", "-o", folder, *TRAIN_A_MOMENT)
    return folder


@pytest.fixture
def interrupt_at() -> Iterator[Callable[[str], None]]:
    """A function that makes the next fit be interrupted, as by Ctrl-C, when a life-cycle hook is called."""
    plugins: list[Any] = []

    def install(hook: str) -> None:
        class Interrupter:
            pass

        def press(extractor: Any) -> None:
            raise KeyboardInterrupt

        def press_after_a_step(extractor: Any, step: int, metrics: Any) -> None:
            if step:
                raise KeyboardInterrupt

        implementation = press_after_a_step if hook == "metafe_step_finished" else press
        setattr(Interrupter, hook, staticmethod(metafe.hookimpl(implementation)))
        plugins.append(Interrupter())
        registry().manager.register(plugins[-1])

    yield install
    for plugin in plugins:
        registry().manager.unregister(plugin)
