"""What a trial keeps of itself in the study, beside its value."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

# The objective that each search has.
SCORE = "score"
# Set when a trial is enqueued: the name of a baseline, parameters to use in place of choices, and whether choices stand
# for them.
BASELINE = "baseline"
GIVEN = "given_parameters"
# Of what was named before any class was looked at, since it has been good on other data; what is drawn has to beat it.
OUT_OF_THE_BOX = "out_of_the_box"
CHOSEN = "chosen"
# Set when it begins: the extractor's parameters as JSON types, and the process that runs it.
PARAMETERS = "parameters"
WORKER = "worker"
# Set when it ends.
FOLD_SCORES = "fold_scores"
EPISODE_SCORES = "episode_scores"
CLASS_SCORES = "class_scores"
# For each fold, how many steps of training did best on what it held out for that; none where nothing was.
BEST_STEPS = "best_steps"
# On episodes that nothing was chosen by, for the finals.
FRESH_SCORES = "fresh_scores"
FRESH_CLASS_SCORES = "fresh_class_scores"
# The same scores with the rows beside the features, by how those stand there.
BESIDE = "beside"
# Some rows that the first fold held out, in two dimensions.
VIEW = "view"
FIT_SECONDS = "fit_seconds"
# What the trainings would have taken without a limit of their time.
WHOLE_FIT_SECONDS = "whole_fit_seconds"
SECONDS = "seconds"
N_FEATURES = "n_features"
N_PARAMETERS = "n_parameters"
LATENCY = "latency"
ERROR = "error"
# The type of the error of a network that was pruned since it is too slow for the timeout.
TOO_SLOW = "TooSlow"
# What a trial says of one attempt, not of what is tried.
OF_ATTEMPT = (
    *(PARAMETERS, WORKER, FOLD_SCORES, EPISODE_SCORES, CLASS_SCORES, FRESH_SCORES, FRESH_CLASS_SCORES, VIEW),
    *(BEST_STEPS, BESIDE),
    *(FIT_SECONDS, WHOLE_FIT_SECONDS, SECONDS, N_FEATURES, N_PARAMETERS, LATENCY, ERROR),
)


def packed(values: np.ndarray) -> str:
    """Return floats as text, four bytes each before base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def unpacked(text: str) -> np.ndarray:
    """Return the floats that `packed` was given, ``(n,)`` float64."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64)


def this_process() -> dict[str, Any]:
    """Return what tells this process from every other, also from a later one with the same number."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": process_start(os.getpid())}


def process_start(pid: int) -> int | None:
    """Return when a process of this host began, in ticks since the host did; None where it is gone or unknown."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name of the program stands in parentheses and may hold anything; the start is the 20th field after it.
    fields = status.rpartition(")")[2].split()
    # What has ended stays listed until its parent asks for it.
    return None if fields[0] in "ZX" else int(fields[19])


def score_of(trial: FrozenTrial, objectives: Sequence[str]) -> float:
    """Return the score of a trial that has values, whatever else is optimised."""
    assert trial.values is not None
    return float(trial.values[objectives.index(SCORE)])


def is_baseline(attributes: Mapping[str, Any]) -> bool:
    """Tell whether a trial is a baseline."""
    return BASELINE in attributes


def is_too_slow(attributes: Mapping[str, Any]) -> bool:
    """Tell whether a trial was pruned since its network is too slow for the timeout."""
    return ERROR in attributes and attributes[ERROR]["type"] == TOO_SLOW
