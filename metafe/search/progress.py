"""Showing how far a search is, whoever runs its trials."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from metafe.search.reclaiming import n_finished
from metafe.search.standings import TOO_SLOW, best_trial, count_outcomes, label_of, score_of

# The study is looked at so often: on a terminal, and where each look is a line in a file.
SECONDS_ON_TERMINAL = 1.0
SECONDS_BETWEEN_LINES = 10.0
# What the speed is taken from; the first trials are baselines, which are over in a moment.
RECENT = 10


@dataclass(frozen=True)
class Snapshot:
    """What is known of a study at some moment.

    Parameters
    ----------
    n_finished, n_trials : int
        Trials that are over, and how many are wanted.
    text : str
        The best so far, how many trials have ended in which way, and the time left.
    """

    n_finished: int
    n_trials: int
    text: str


@contextmanager
def show_search(study: Study, n_trials: int, deadline: float | None, verbose: int) -> Iterator[None]:
    """Show how a search goes while it runs: a bar on a terminal, now and then a line elsewhere.

    The study itself is asked, so that the trials of all workers count, on whatever machine.

    Parameters
    ----------
    study : optuna.study.Study
    n_trials : int
        Finished trials that are wanted.
    deadline : float or None
        When the search ends at the latest, as `time.time` tells it.
    verbose : int
        0 shows nothing.
    """
    if not verbose:
        yield
        return
    console = Console(stderr=True, highlight=False)
    seconds = SECONDS_ON_TERMINAL if console.is_terminal else SECONDS_BETWEEN_LINES
    with _bar(console) if console.is_terminal else _lines(console) as display:
        watch = _Watch(study, n_trials, deadline, display)
        watcher = threading.Thread(target=watch.look_every, args=(seconds,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            watch.ended.set()
            # A storage that is down may hold it up for long.
            watcher.join(seconds)
            watch.look()


def take_snapshot(study: Study, n_trials: int, deadline: float | None, since: datetime | None = None) -> Snapshot:
    """Ask a study how far it is.

    Parameters
    ----------
    study : optuna.study.Study
    n_trials : int
        Finished trials that are wanted.
    deadline : float or None
        As `time.time` tells it.
    since : datetime or None
        The speed is that of trials that have ended after it.

    Returns
    -------
    Snapshot
    """
    trials = study.get_trials(deepcopy=False)
    finished = n_finished(study)
    parts = [_best(study, trials), _counts(trials)]
    left = _seconds_left(trials, n_trials - finished, deadline, since)
    if left is not None:
        parts.append(f"{_clock(left)} left")
    return Snapshot(finished, n_trials, "; ".join(parts))


class _Lines:
    """Lines on a console, none twice in a row."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.said = -1

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.n_finished != self.said:
            self.said = snapshot.n_finished
            line = f"trials {snapshot.n_finished}/{snapshot.n_trials}: {snapshot.text}"
            self.console.print(line, markup=False, soft_wrap=True)


class _Bar:
    """A bar on a terminal."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress = progress
        self.task = task

    def show(self, snapshot: Snapshot) -> None:
        self.progress.update(self.task, completed=snapshot.n_finished, total=snapshot.n_trials, text=snapshot.text)


@contextmanager
def _lines(console: Console) -> Iterator[_Lines]:
    yield _Lines(console)


@contextmanager
def _bar(console: Console) -> Iterator[_Bar]:
    texts = TextColumn("trials"), TextColumn("{task.fields[text]}", markup=False)
    with Progress(texts[0], BarColumn(20), MofNCompleteColumn(), texts[1], console=console) as progress:
        yield _Bar(progress, progress.add_task("trials", total=None, text=""))


class _Watch:
    """Who looks at a study and shows what is seen.

    Parameters
    ----------
    study : optuna.study.Study
    n_trials : int
    deadline : float or None
    display : _Bar or _Lines
    """

    def __init__(self, study: Study, n_trials: int, deadline: float | None, display: _Bar | _Lines) -> None:
        self.study, self.n_trials, self.deadline, self.display = study, n_trials, deadline, display
        # Optuna's own times have no zone.
        self.began = datetime.now()
        self.ended = threading.Event()

    def look_every(self, seconds: float) -> None:
        while not self.ended.wait(seconds):
            self.look()

    def look(self) -> None:
        try:
            snapshot = take_snapshot(self.study, self.n_trials, self.deadline, self.began)
        except Exception:
            # The workers say what is wrong with the storage, and wait for it; a study may also be on its way to another.
            return
        self.display.show(snapshot)


def _counts(trials: list[FrozenTrial]) -> str:
    counts = count_outcomes(trials)
    shown = ["complete", "pruned", "failed", "running", *(name for name in (TOO_SLOW, "cut off") if counts[name])]
    return ", ".join(f"{counts[name]} {name}" for name in shown)


def _best(study: Study, trials: list[FrozenTrial]) -> str:
    best = best_trial(study, trials)
    return "best so far: none" if best is None else f"best so far {score_of(study, best):.3f} ({label_of(best)})"


def _seconds_left(
    trials: list[FrozenTrial], n_left: int, deadline: float | None, since: datetime | None
) -> float | None:
    """Return the shorter of what the trials that are left would take and the time allowed; None where neither is known."""
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    recent = sorted(end for end in ends if since is None or end >= since)[-RECENT:]
    known = []
    if len(recent) > 1:
        known.append(max(n_left, 0) * (recent[-1] - recent[0]).total_seconds() / (len(recent) - 1))
    if deadline is not None:
        known.append(max(deadline - time.time(), 0.0))
    return min(known, default=None)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
