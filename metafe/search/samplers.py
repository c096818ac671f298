"""Which trial comes next, and which one ends early."""

from __future__ import annotations

import warnings
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from metafe.contracts import InvalidParameterError

# Validations of a training, which are what trials report.
REPORTS = 20
# With fewer to compare with, a trial would end because it is not the best of two.
FEWEST_TRAINED = 4


class Hyperband(BasePruner):
    """Optuna's Hyperband, whose sampler learns from the trials of all brackets.

    Optuna shows a sampler the trials of one bracket alone when it sees its own class; with some fifty trials in all, too
    few would be left to learn from.
    """

    def __init__(self) -> None:
        self.brackets = HyperbandPruner(min_resource=1, max_resource=REPORTS, reduction_factor=3)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial is among the worst of its bracket."""
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        # Of a trial that trains nothing, the only report is that before the first step.
        if sum(any(1 <= n <= REPORTS for n in other.intermediate_values) for other in finished) < FEWEST_TRAINED:
            return False
        return self.brackets.prune(study, trial)


def make_sampler(sampler: Any, seed: int) -> BaseSampler:
    """Return the sampler.

    Parameters
    ----------
    sampler : {"auto", "random"} or optuna sampler
        ``"auto"`` is TPE over all parameters that occur together.
    seed : int
        Of a sampler that is named.

    Raises
    ------
    InvalidParameterError
        Something else.
    """
    if isinstance(sampler, BaseSampler):
        return sampler
    if sampler == "random":
        return RandomSampler(seed)
    if sampler == "auto":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)
    raise InvalidParameterError(f"sampler must be 'auto', 'random' or a sampler of optuna; got {sampler!r}.")


def make_pruner(pruner: Any) -> BasePruner:
    """Return the pruner.

    Parameters
    ----------
    pruner : {"auto", "none"}, None or optuna pruner
        ``"auto"`` is Hyperband over the validations of a training.

    Raises
    ------
    InvalidParameterError
        Something else.
    """
    if isinstance(pruner, BasePruner):
        return pruner
    if pruner is None or pruner == "none":
        return NopPruner()
    if pruner == "auto":
        return Hyperband()
    raise InvalidParameterError(f"pruner must be 'auto', None or a pruner of optuna; got {pruner!r}.")
