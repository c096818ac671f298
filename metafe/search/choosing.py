"""Who chooses: a trial of optuna, or parameters that are given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from metafe.contracts import Categorical, Distribution, Float, Int
from metafe.search.options import Option, flat_parameters, plain

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


class Chooser(Protocol):
    """Chooses options and values; ``name`` is what optuna knows a choice by."""

    def option(self, name: str, options: Sequence[Option]) -> Option:
        """Choose a plugin."""

    def value(self, name: str, parameter: str, distribution: Distribution, default: Any) -> Any:
        """Choose a value of the extractor's ``parameter``."""


class TrialChooser:
    """Asks a trial.

    Parameters
    ----------
    trial : optuna.trial.BaseTrial
    """

    def __init__(self, trial: BaseTrial) -> None:
        self.trial = trial

    def option(self, name: str, options: Sequence[Option]) -> Option:
        """Choose a plugin."""
        by_label = {option.label: option for option in options}
        return by_label[self.trial.suggest_categorical(name, list(by_label))]

    def value(self, name: str, parameter: str, distribution: Distribution, default: Any) -> Any:
        """Choose a value."""
        if isinstance(distribution, Categorical):
            return self.trial.suggest_categorical(name, list(distribution.choices))
        assert isinstance(distribution, Float | Int)
        suggest = self.trial.suggest_float if isinstance(distribution, Float) else self.trial.suggest_int
        return suggest(name, distribution.low, distribution.high, log=distribution.log)  # type: ignore[arg-type]


class NotInSpaceError(Exception):
    """Parameters name a plugin that is not among the options."""


class GivenParameters:
    """Takes what parameters of an extractor say, and notes what a trial would have to choose for it.

    Parameters
    ----------
    parameters : mapping of str to object
        What is left out has its default; values outside a range become the nearest one in it.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = flat_parameters(parameters)
        self.choices: dict[str, Any] = {}

    def option(self, name: str, options: Sequence[Option]) -> Option:
        """Choose the plugin that the parameters name, with the fixed values that they have."""
        for option in options:
            if self._describe(option):
                self.choices[name] = option.label
                return option
        raise NotInSpaceError(name)

    def value(self, name: str, parameter: str, distribution: Distribution, default: Any) -> Any:
        """Choose the nearest value."""
        given = self.parameters.get(parameter, default)
        self.choices[name] = nearest(distribution, default if given == "auto" else given)
        return self.choices[name]

    def _describe(self, option: Option) -> bool:
        given = self.parameters.get(option.parameter)
        if not option.is_named:
            return repr(given) == repr(option.plugin)
        fixed = {f"{option.parameter}__{name}": plain(v) for name, v in option.fixed.items()}
        return given == option.plugin.name and all(self.parameters.get(k) == v for k, v in fixed.items())


def nearest(distribution: Distribution, value: Any) -> Any:
    """Return the value of a range that comes nearest to what a parameter may hold.

    Parameters
    ----------
    distribution : Distribution
    value : object
        For a number: one, a pair whose middle is taken, None, which stands for as many as there are, or ``"auto"``.
    """
    if isinstance(distribution, Categorical):
        return value if value in distribution.choices else distribution.choices[0]
    assert isinstance(distribution, Float | Int)
    if value == "auto":
        # What a plugin takes by itself lies about the middle of what it declares.
        return middle(distribution)
    if isinstance(value, list | tuple) and value:
        value = sum(value) / len(value)
    number = (
        min(max(value, distribution.low), distribution.high) if isinstance(value, int | float) else distribution.high
    )
    return round(number) if isinstance(distribution, Int) else float(number)


def middle(distribution: Float | Int) -> float:
    """Return the middle of a range, of a logarithmic one in logarithms."""
    low, high = distribution.low, distribution.high
    value = math.sqrt(low * high) if distribution.log else (low + high) / 2
    return round(value) if isinstance(distribution, Int) else value
