"""What the workers of a search need, without a search: an objective that takes some time, and ways to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from metafe.search import attributes as attribute

# Where the machine is busy, a worker takes its time to begin.
WAIT_SECONDS = 120.0


class Tiny:
    """Returns the one parameter after some steps, each of which is reported.

    Parameters
    ----------
    seconds : float
        Of each step.
    n_steps : int
    waiting : sequence of int
        Numbers of the trials that wait to be killed.
    """

    def __init__(self, seconds: float = 0.0, n_steps: int = 2, waiting: Sequence[int] = ()) -> None:
        self.seconds = seconds
        self.n_steps = n_steps
        self.waiting = waiting
        self.deadline: float | None = None
        self.interrupted = False
        self.data = np.arange(2**18)

    def __call__(self, trial: Any) -> float:
        trial.set_user_attr(attribute.WORKER, attribute.this_process())
        x = trial.suggest_float("x", 0.0, 1.0)
        if trial.number in self.waiting:
            # Longer than anyone waits for the other worker to begin.
            time.sleep(2 * WAIT_SECONDS)
        for step in range(self.n_steps):
            time.sleep(self.seconds)
            trial.report(x, step)
        trial.set_user_attr("copied", self.data.flags.owndata or self.data.flags.writeable)
        trial.set_user_attr("threads", torch.get_num_threads())
        return x

    def refit_seconds(self, trials: Sequence[FrozenTrial]) -> float:
        return 0.0


def open_journal(folder: Path) -> Study:
    """Return a study of a journal file, whichever process asks."""
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    return optuna.create_study(storage=storage, study_name="tiny", load_if_exists=True)


def wait_until(condition: Callable[[], Any]) -> Any:
    """Return what a condition returns once that is true."""
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{condition} never came true.")
        time.sleep(0.02)
    return found


@contextmanager
def meanwhile(act: Callable[[], Any]) -> Iterator[None]:
    """Do something in a thread, whose error is the test's."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=guarded)
    thread.start()
    yield
    thread.join()
    if failures:
        raise failures[0]


def is_gone(pid: int) -> bool:
    """Tell whether a process of this host has ended."""
    return attribute.process_start(pid) is None


def numbers_by_state(study: Study) -> dict[str, list[int]]:
    """Return the numbers of a study's trials by the names of their states."""
    trials = study.get_trials(deepcopy=False)
    return {state.name: n for state in TrialState if (n := [t.number for t in trials if t.state == state])}


def workers_of(study: Study, state: TrialState) -> list[int]:
    """Return the process numbers of the trials in a state that have one."""
    trials = study.get_trials(deepcopy=False, states=(state,))
    return [t.user_attrs[attribute.WORKER]["pid"] for t in trials if attribute.WORKER in t.user_attrs]
