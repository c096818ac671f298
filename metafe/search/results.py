"""What scikit-learn's users expect of a finished search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import rankdata

from metafe.contracts import SearchError
from metafe.search import attributes as attribute
from metafe.search.objective import Objective
from metafe.search.standings import failures


def cv_results(trials: Sequence[FrozenTrial], objective: Objective) -> dict[str, Any]:
    """Return a row for each finished trial, as scikit-learn's searches do.

    Parameters
    ----------
    trials : sequence of FrozenTrial
        The finished ones.
    objective : Objective

    Returns
    -------
    dict of str to ndarray or list
        Scores are NaN where a trial did not get that far; such trials rank last.
    """
    n_folds = len(objective.judge.folds)
    splits = np.full((len(trials), n_folds), np.nan)
    for row, trial in zip(splits, trials, strict=True):
        scores = trial.user_attrs.get(attribute.FOLD_SCORES, [])
        row[: len(scores)] = scores
    means = np.array(
        [np.nan if t.state != TrialState.COMPLETE else _mean(row) for row, t in zip(splits, trials, strict=True)]
    )
    fit_seconds = [trial.user_attrs.get(attribute.FIT_SECONDS, []) for trial in trials]
    return {
        "params": [_parameters(trial, objective) for trial in trials],
        **{f"split{fold}_test_score": splits[:, fold] for fold in range(n_folds)},
        "mean_test_score": means,
        "std_test_score": np.array([np.nan if np.isnan(row).any() else row.std() for row in splits]),
        "rank_test_score": rankdata(-np.nan_to_num(means, nan=-np.inf), method="min").astype(np.int32),
        "mean_fit_time": np.array([np.mean(seconds) if seconds else np.nan for seconds in fit_seconds]),
        **{f"mean_{name}": _measured(trials, name) for name in objective.objectives if name != "score"},
        "state": [trial.state.name.lower() for trial in trials],
        "baseline": [trial.user_attrs.get(attribute.BASELINE) for trial in trials],
        "trial": np.array([trial.number for trial in trials]),
    }


def check_any_complete(trials: Sequence[FrozenTrial]) -> None:
    """Raise unless a trial is complete, grouping the causes, with a traceback of each as a note."""
    if any(trial.state == TrialState.COMPLETE for trial in trials):
        return
    found = failures(trials)
    if not found:
        raise SearchError("A search needs at least one finished trial; got none in the time allowed. Raise timeout.")
    causes = [f"{error['plugin']}: {error['type']}: {error['message']}" for _, error in found]
    listed = " ".join(f"({n} times) {cause}" for (n, _), cause in zip(found, causes, strict=True))
    failed = SearchError(
        f"A search needs at least one trial that does not fail; got {sum(n for n, _ in found)} failures: {listed} "
        "A traceback of each cause is in the notes of this error; with storage=, the study keeps that of every trial."
    )
    for (_, error), cause in zip(found, causes, strict=True):
        failed.add_note(f"\n{cause}\n{error['traceback']}")
    raise failed


def _mean(scores: np.ndarray) -> float:
    """Return the mean over the folds that were judged."""
    judged = scores[~np.isnan(scores)]
    return float(judged.mean()) if len(judged) else float("nan")


def _measured(trials: Sequence[FrozenTrial], name: str) -> np.ndarray:
    return np.array([trial.user_attrs.get(name, np.nan) for trial in trials], dtype=np.float64)


def _parameters(trial: FrozenTrial, objective: Objective) -> dict[str, Any]:
    return objective.parameters_of(trial) if attribute.PARAMETERS in trial.user_attrs else {}
