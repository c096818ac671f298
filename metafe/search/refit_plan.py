"""The fit of the winner on all rows: how long it takes, and its settings."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from metafe.decisions import is_auto
from metafe.refitting import SEVERAL
from metafe.search import attributes as attribute
from metafe.search.baselines import is_label_free
from metafe.search.judging import Judge
from metafe.search.space import Parameters
from metafe.search.standings import contenders

if TYPE_CHECKING:
    from metafe.search.objective import Objective

# What the refit has of the time, if it needs so much, where trainings were cut short: longer ones would have been better.
REFIT_SHARE = 0.4
# What it has of it for several networks, if they need so much.
SEVERAL_SHARE = 0.2
# Larger ones begin with what someone else has trained, so that they would differ little, and take much memory.
MOST_PARAMETERS_OF_SEVERAL = 20_000_000
# Of a training that holds nothing out.
WHOLE: Parameters = {"validation_fraction": 0.0}


@dataclass(frozen=True)
class RefitPlan:
    """How a winner will be fitted on all rows.

    Parameters
    ----------
    objective : Objective
        What the winner was found with.
    """

    objective: Objective

    def seconds(self, trials: Sequence[FrozenTrial]) -> float:
        """Return how long it takes to judge the baselines on all rows, and would take to fit a likely winner on all rows."""
        finished = [t for t in trials if t.state == TrialState.COMPLETE]
        judging = sum(t.user_attrs[attribute.SECONDS] for t in finished if is_label_free(t))
        likely = self._likely_winners(finished) if self.objective.refits else []
        of_one = max(map(self._refit_seconds_of, likely), default=0.0)
        of_each = max(map(self._refit_seconds_of_each, likely), default=0.0) if self._trains_several else 0.0
        return max(of_one, min(SEVERAL * of_each, self.objective.whole_time * SEVERAL_SHARE)) + judging

    def settings(self, trial: FrozenTrial) -> Parameters:
        """Return the settings of the training of a winner that learns: on all rows, as long as did best where something was held out."""
        best_steps = trial.user_attrs[attribute.BEST_STEPS]
        length = {"max_steps": round(float(np.median(best_steps)))} if best_steps else {}
        whole = WHOLE if best_steps or self.objective.trains_whole else {}
        return whole | length | self._networks(trial)

    def _networks(self, trial: FrozenTrial) -> Parameters:
        """Return how many networks it is fitted as: several, or as many of them as there is time for."""
        if not self._trains_several or trial.user_attrs.get("n_parameters", 0) > MOST_PARAMETERS_OF_SEVERAL:
            return {}
        deadline = self.objective.deadline
        n_fitting = np.inf if deadline is None else (deadline - time.time()) / self._refit_seconds_of_each(trial)
        return {"n_networks": int(np.clip(n_fitting, self._n_networks_of(trial), SEVERAL))}

    def _n_networks_of(self, trial: FrozenTrial) -> int:
        """Return how many networks a trial has: as few as see rows in each way that it asks for."""
        own = json.loads(trial.user_attrs.get(attribute.PARAMETERS, "{}"))
        return 2 if own.get("inputs", self.objective.template.inputs) == "both" else 1

    @property
    def _trains_several(self) -> bool:
        """Whether several networks are what was judged, only better: not where size counts too, or what a scorer makes of them."""
        objective = self.objective
        return objective.prunes and isinstance(objective.judge, Judge) and is_auto(objective.template.n_networks)

    def _likely_winners(self, finished: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the searched trials that may win, and the baselines that learn and may beat the others."""
        by_score = sorted(finished, key=lambda t: attribute.score_of(t, self.objective.objectives), reverse=True)
        searched = [t for t in by_score if not attribute.is_baseline(t.user_attrs)]
        baselines = [t for t in by_score if attribute.is_baseline(t.user_attrs)]
        return contenders(searched) + list(takewhile(lambda t: not is_label_free(t), baselines))

    def _refit_seconds_of(self, trial: FrozenTrial) -> float:
        fits = max(trial.user_attrs[attribute.FIT_SECONDS])
        whole = max(trial.user_attrs.get(attribute.WHOLE_FIT_SECONDS, [np.inf]))
        n_train = min(len(train) for train, _ in self.objective.judge.folds.parts)
        return float(max(fits * len(self.objective.data) / n_train, self._least_refit_seconds(fits, whole)))

    def _refit_seconds_of_each(self, trial: FrozenTrial) -> float:
        return self._refit_seconds_of(trial) / self._n_networks_of(trial)

    def _least_refit_seconds(self, fit_seconds: float, whole: float) -> float:
        """Return the time for a training that was cut short: as long as it would have been, but no more than its share."""
        if self.objective.fold_seconds is None or fit_seconds < self.objective.fold_seconds:
            return 0.0
        return min(whole, REFIT_SHARE * self.objective.whole_time)
