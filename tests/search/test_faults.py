"""Searches whose workers or parent are killed in the middle of a trial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import TrialState
from torch import nn

from metafe.backbones import MLP
from metafe.contracts import Int, Problem
from metafe.search import attributes as attribute
from metafe.search.reclaiming import n_finished
from metafe.search.storage import make_storage
from tests.search.tiny import WAIT_SECONDS, is_gone, meanwhile, numbers_by_state, wait_until, workers_of


class Lingering(MLP):
    """An MLP that is not built as long as a file exists."""

    name = "lingering"

    def __init__(self, width: int = 8, flag: str = "") -> None:
        super().__init__(1, width, 8)
        self.flag = flag

    def search_space(self, problem: Problem) -> dict[str, Int]:
        return {"width": Int(4, 16)}

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        give_up_at = time.monotonic() + WAIT_SECONDS
        while Path(self.flag).exists() and time.monotonic() < give_up_at:
            time.sleep(0.02)
        return super().build(input_shape)


def lingering_worker(study: Study) -> int | None:
    """Return the process that is in the middle of a trial of the backbone that lingers."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "lingering" in trial.user_attrs.get(attribute.PARAMETERS, ""):
            return int(trial.user_attrs[attribute.WORKER]["pid"])
    return None


def only_study(path: Path) -> Study | None:
    """Return the study of a journal file, whatever its name."""
    names = optuna.get_all_study_names(make_storage(path)) if path.exists() else []
    return optuna.load_study(study_name=names[0], storage=make_storage(path)) if names else None


def test_a_search_survives_a_killed_worker(brief: Any, blobs: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    flag, journal = tmp_path / "flag", tmp_path / "study.log"
    flag.touch()
    search = brief(storage=journal, n_jobs=2, n_trials=8).set_params(extractor__backbone=Lingering(flag=str(flag)))

    def kill() -> None:
        study = wait_until(lambda: only_study(journal))
        os.kill(wait_until(lambda: lingering_worker(study)), signal.SIGKILL)
        flag.unlink()

    with meanwhile(kill):
        search.fit(*blobs)
    states = numbers_by_state(search.study_)
    assert len(states["FAIL"]) == 1
    assert len(states["COMPLETE"]) + len(states.get("PRUNED", [])) == 8
    assert set(states) <= {"FAIL", "COMPLETE", "PRUNED"}
    assert np.isfinite(search.best_score_)
    assert search.transform(blobs[0]).shape[0] == len(blobs[0])


SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from metafe import MetaFeatureExtractor, MetaFeatureSearchCV, register
from tests.search.test_faults import Lingering

FLAG, JOURNAL, N_JOBS = sys.argv[1:]

@register
class Own(Lingering):
    name = "own-lingering"
    def __init__(self, width=8):
        super().__init__(width, FLAG)

rng = np.random.default_rng(0)
y = np.repeat(np.arange(8), 15)
X = rng.normal(scale=4.0, size=(8, 6))[y] + rng.normal(size=(len(y), 6))
brief = MetaFeatureExtractor("own-lingering", "protonet", "classes", max_steps=4, augment=None, device="cpu")
search = MetaFeatureSearchCV(brief, n_trials=8, storage=JOURNAL, n_jobs=int(N_JOBS)).fit(X, y)
print(*search.cv_results_["trial"])
"""


def test_a_search_whose_parent_was_killed_is_continued(tmp_path: Path) -> None:
    flag, journal = tmp_path / "flag", tmp_path / "study.log"
    flag.touch()

    def command(n_jobs: int) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(flag), str(journal), str(n_jobs)]

    root = Path(__file__).parents[2]
    parent = subprocess.Popen(command(2), cwd=root)
    try:
        study = wait_until(lambda: only_study(journal))
        wait_until(lambda: n_finished(study) >= 3 and lingering_worker(study))
    finally:
        parent.kill()
        parent.wait()
    orphans = workers_of(study, TrialState.RUNNING)
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(is_gone(pid) for pid in orphans))
    finished = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    flag.unlink()
    printed = subprocess.run(command(1), cwd=root, check=True, capture_output=True, text=True).stdout
    states = numbers_by_state(study)
    assert "RUNNING" not in states
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert {trial.user_attrs[attribute.ERROR]["type"] for trial in failed} == {"WorkerDied"}
    assert n_finished(study) == 8
    assert [study.trials[trial.number].values for trial in finished] == [trial.values for trial in finished]
    assert {trial.number for trial in finished} <= {int(number) for number in printed.split()}
