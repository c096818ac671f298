"""Searching on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import polars as pl
import pytest

import metafe

BRIEF = ("--n-trials", 2, "--backbone", "mlp", "-p", "tasks=classes", "-p", "algorithm=protonet", "--max-steps", 2)
TABLE = ("--target", "digit", "--ignore", "site")


def test_the_winner_is_saved_and_transforms(cli: Any, files: Path, tmp_path: Path) -> None:
    result = cli.succeed(
        "search", files / "old.csv", *TABLE, *BRIEF, "-o", tmp_path / "out", "--report", tmp_path / "r"
    )
    saved = metafe.load(tmp_path / "out")
    assert list(saved.feature_names_in_) == cli.COLUMNS
    assert saved.verbose == 0
    assert re.search(
        r"(standardised rows|rows on one scale|rows on both scales) \(baseline\) +\d +0\.\d{3} ± 0\.\d{3} +[+-]0\.\d{3}",
        result.stdout,
    )
    assert "judged again on 3 folds by class" in result.stdout
    assert f"Saved {saved.n_features_out_} features a row in {tmp_path / 'out'}" in result.stdout
    assert "What the search found" in (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    cli.succeed("transform", tmp_path / "out", files / "new.csv", *TABLE, "-o", tmp_path / "new.csv")
    assert len(pl.read_csv(tmp_path / "new.csv")) == len(pl.read_csv(files / "new.csv"))


def test_parameters_that_are_not_searched_stay(cli: Any, files: Path, tmp_path: Path) -> None:
    cli.succeed("search", files / "old.npz", *BRIEF, "-p", "optimizer=sgd", "-o", tmp_path / "out")
    saved = metafe.load(tmp_path / "out")
    assert (saved.max_steps, saved.optimizer, saved.tasks) == (2, "sgd", "classes")
    assert saved.input_shape_ == (8, 8)


def test_the_labels_that_there_will_be_are_judged_with(cli: Any, files: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    for n_shot in (1, 3):
        cli.succeed("search", files / "old.npz", *BRIEF, "--storage", storage, "--n-shot", n_shot)
    studies = [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    one, three = sorted(studies, key=lambda study: study.trials[0].datetime_start)
    assert three.trials[0].value > one.trials[0].value


def test_a_study_is_joined_and_continued(cli: Any, files: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    options = (files / "old.npz", *BRIEF, "--storage", storage, "--study", "digits")
    first = cli.succeed("search", *options)
    assert "Study digits: the same command goes on" in first.stdout
    assert "Saved" not in first.stdout
    finished = [t for t in optuna.load_study(study_name="digits", storage=storage).trials if t.state.is_finished()]
    assert len(finished) == 2
    cli.succeed("search", *options, "--n-trials", 3, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").is_file()
    study = optuna.load_study(study_name="digits", storage=storage)
    assert sum(trial.state.is_finished() for trial in study.trials) == 3
    assert study.metric_names == ["score"]


def test_a_study_of_other_data_is_refused(cli: Any, files: Path, tmp_path: Path) -> None:
    options = (*BRIEF, "--storage", tmp_path / "journal.log", "--study", "digits")
    cli.succeed("search", files / "old.npz", *options)
    assert "got another data" in cli.fail("search", files / "new.npz", *options)


def test_the_same_seed_finds_the_same(cli: Any, files: Path, tmp_path: Path) -> None:
    printed = [cli.succeed("search", files / "old.npz", *BRIEF, "-o", tmp_path / "out").stdout for _ in range(2)]
    assert printed[0] == printed[1]


def test_groups_are_held_out(cli: Any, files: Path, tmp_path: Path) -> None:
    options = ("-t", "digit", "-g", "site", "--n-trials", 1, "--backbone", "mlp", "-o", tmp_path / "out")
    assert "3 folds by group" in cli.succeed("search", files / "old.csv", *options).stdout


def test_several_objectives_are_reported(cli: Any, files: Path, tmp_path: Path) -> None:
    options = (*BRIEF, "--objective", "score", "--objective", "n_features", "--report", tmp_path / "r")
    cli.succeed("search", files / "old.npz", *options)
    assert (tmp_path / "r" / "pareto.png").is_file()


def test_quiet_prints_nothing_and_verbose_shows_progress(cli: Any, files: Path, tmp_path: Path) -> None:
    options = (files / "old.npz", *BRIEF, "--n-trials", 1, "-o", tmp_path / "out")
    assert cli.succeed("search", *options, "--quiet").output == ""
    assert "trials 1/1: best so far" in cli.succeed("search", *options, "--verbose").stderr


def test_ctrl_c_keeps_the_best_so_far(
    cli: Any, files: Path, tmp_path: Path, interrupt_at: Callable[[str], None]
) -> None:
    interrupt_at("metafe_step_finished")
    result = cli.succeed("search", files / "old.npz", *BRIEF, "--n-trials", 40, "-o", tmp_path / "out")
    assert "Warning: The search was interrupted after" in result.stderr
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "needs a place for what it finds"),
        (("-o", "out", "--backbone", "mpl"), "Did you mean 'mlp'?"),
        (("-o", "out", "--n-trials", 0), "--n-trials"),
        (("-o", "out", "--objective", "speed"), "objectives must be known names; got 'speed'"),
        (("-o", "out", "-p", "algorithm=protonet", "--algorithm", "maml"), "must not both say what to search"),
        (("--storage", "nothing://here"), "storage of a search must be reachable"),
        (("-o", "out", "--report", "taken/index.html"), "--report must be a folder that may be written"),
        (("-o", "taken/index.html"), "--output must be a folder"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    cli: Any, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[Any, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "index.html").write_text("mine")
    assert said in cli.fail("search", files / "old.npz", *options)
