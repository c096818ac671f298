"""How a search says how far it is."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from metafe.search import progress
from metafe.search.progress import show_search, take_snapshot

PARAMETERS = json.dumps({"backbone": "mlp", "algorithm": "protonet", "tasks": "classes"})


@pytest.fixture
def study():
    """A study with a trial in each state."""
    study = optuna.create_study(direction="maximize")
    study.add_trial(create_trial(value=0.5, user_attrs={"baseline": "PCA", "parameters": "{}"}))
    study.add_trial(create_trial(value=0.75, user_attrs={"parameters": PARAMETERS}))
    study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={"parameters": PARAMETERS}))
    study.add_trial(create_trial(state=TrialState.FAIL))
    study.ask()
    return study


def test_a_snapshot_counts_every_state(study):
    snapshot = take_snapshot(study, 10, None)
    assert (snapshot.n_finished, snapshot.n_trials) == (4, 10)
    assert "best so far 0.750 (mlp with protonet on classes)" in snapshot.text
    assert "2 complete, 1 pruned, 1 failed, 1 running" in snapshot.text


def test_a_snapshot_tells_what_was_too_slow_from_what_was_pruned(study):
    study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={"error": {"type": "TooSlow"}}))
    assert "1 pruned, 1 failed, 1 running, 1 too slow for the timeout" in take_snapshot(study, 10, None).text


def test_time_left_is_that_of_recent_trials():
    study = optuna.create_study()
    now = datetime.now()
    for minutes in (-9000, -30, -20, -10, 0):
        trial = create_trial(value=0.0)
        trial.datetime_start = trial.datetime_complete = now + timedelta(minutes=minutes)
        study.add_trial(trial)
    assert "50:00 left" in take_snapshot(study, 10, None, since=now - timedelta(hours=1)).text
    assert "1:00 left" in take_snapshot(study, 10, time.time() + 60, since=now - timedelta(hours=1)).text


def test_an_empty_study_has_no_best_and_no_time_left():
    text = take_snapshot(optuna.create_study(), 10, None).text
    assert text == "best so far: none; 0 complete, 0 pruned, 0 failed, 0 running"


def test_without_a_terminal_there_are_plain_lines(study, capsys):
    with show_search(study, 10, None, verbose=1):
        pass
    said = capsys.readouterr().err
    assert said.startswith("trials 4/10: best so far 0.750 (mlp with protonet on classes); 2 complete")
    assert "\x1b" not in said
    assert said.count("\n") == 1


def test_lines_come_while_trials_end(study, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.02)
    with show_search(study, 10, None, verbose=1):
        waited = time.monotonic() + 10
        said = ""
        while "trials 4/10" not in said and time.monotonic() < waited:
            time.sleep(0.01)
            said += capsys.readouterr().err
        study.add_trial(create_trial(value=0.9, user_attrs={"parameters": PARAMETERS}))
    assert said.count("trials 4/10") == 1  # not again and again
    assert "trials 5/10: best so far 0.900" in capsys.readouterr().err


def test_on_a_terminal_there_is_a_bar(study, capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with show_search(study, 10, None, verbose=1):
        pass
    said = capsys.readouterr().err
    assert "━" in said
    assert "4/10" in said
    assert "best so far 0.750" in said


def test_quiet_searches_say_nothing(study, capsys):
    with show_search(study, 10, None, verbose=0):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_storage_that_fails_is_not_its_affair(study, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("the storage is gone")

    monkeypatch.setattr(study, "get_trials", fail)
    with show_search(study, 10, None, verbose=1):
        pass
    assert capsys.readouterr().err == ""


def test_a_search_shows_its_progress(brief, blobs, capsys):
    search = brief(n_trials=2, verbose=1).fit(*blobs)
    assert "trials 2/2: best so far" in capsys.readouterr().err
    assert search.study_.metric_names == ["score"]
