"""A plugin that may be chosen, and which of its parameters are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.base import clone

from metafe.contracts import (
    Distribution,
    Int,
    Plugin,
    TaskData,
    When,
)
from metafe.contracts.errors import UnknownPluginError
from metafe.decisions import advised_settings
from metafe.plugins import registry, resolve
from metafe.search.describing import described
from metafe.training.settings import TrainingSettings

Ranges = Mapping[str, Distribution | When]

# By parameter of the extractor: the kind of plugin, and the argument of the search that narrows it.
KINDS = {"backbone": "backbone", "algorithm": "algorithm", "tasks": "task source", "augment": "augmentation"}
ARGUMENTS = {"backbone": "backbones", "algorithm": "algorithms", "tasks": "tasks"}
# What there is to do for backbones without anything to train; for others it would leave random features.
UNTRAINED = "untrained"
# What training takes where an algorithm does not say.
USUAL_LEARNING_RATE = 1e-3
USUAL_LENGTH = TrainingSettings().max_steps


@dataclass(frozen=True, eq=False)
class Option:
    """A plugin that may be chosen; equal to another that offers the same.

    Parameters
    ----------
    parameter : {"backbone", "algorithm", "tasks", "augment"}
        Of the extractor.
    label : str
        By which trials name it: the plugin's name, numbered where several objects share it.
    plugin : Plugin
        With the parameters that are not searched.
    ranges : mapping of str to Distribution or When
        The parameters that are.
    """

    parameter: str
    label: str
    plugin: Any
    ranges: Ranges = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Option) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def is_named(self) -> bool:
        """Whether a name and JSON values say all about the plugin."""
        return is_nameable(self.plugin)

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """The parameters that are set to something else than their default."""
        return changed_parameters(self.plugin)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Every parameter as it is where it is not searched."""
        return dict(self.plugin.get_params())

    @cached_property
    def order(self) -> list[str]:
        """The searched parameters, those that others depend on first."""
        ordered: list[str] = []
        pending = list(self.ranges)
        while pending:
            free = [name for name in pending if not _siblings(self.ranges[name]) & set(pending) - {name}]
            # Parameters that depend on each other are taken as they come.
            ordered += free or pending
            pending = [name for name in pending if name not in ordered]
        return ordered

    def exists(self, name: str, chosen: Mapping[str, Any]) -> bool:
        """Tell whether a searched parameter exists under the values of its siblings."""
        declared = self.ranges[name]
        if not isinstance(declared, When):
            return True
        values = {**self.defaults, **chosen}
        return all(values.get(sibling) in allowed for sibling, allowed in declared.siblings.items())

    def distribution(self, name: str) -> Distribution:
        """Return the range of a searched parameter."""
        declared = self.ranges[name]
        return declared.distribution if isinstance(declared, When) else declared

    def parameters(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the extractor's parameters that stand for the plugin with chosen values."""
        whole = {**self.fixed, **chosen} if self.is_named else chosen
        spec = self.plugin.name if self.is_named else clone(self.plugin)
        return {self.parameter: spec} | {f"{self.parameter}__{name}": plain(v) for name, v in whole.items()}

    def describe(self) -> dict[str, Any]:
        """Return what is fixed and what is searched."""
        fixed = {name: described(value) for name, value in self.fixed.items()}
        searched = {name: repr(self.ranges[name]) for name in sorted(self.ranges)}
        return {"plugin": type(self.plugin).__name__, "fixed": fixed, "searched": searched}

    @cached_property
    def _key(self) -> tuple[str, str, str, str]:
        return self.parameter, self.label, repr(self.plugin), repr(sorted(self.ranges.items()))


def refusal(option: Option, data: TaskData) -> str | None:
    """Say why a backbone or a task source does not accept the data; None where it does."""
    said: str | None = option.plugin.accepts(data.x if option.parameter == "backbone" else data)
    return said


def limited(option: Option, data: TaskData) -> Option:
    """Return a task source whose ranges of whole numbers end where it no longer accepts the data."""

    def accepted(name: str, value: int) -> bool:
        return refusal(replace(option, plugin=clone(option.plugin).set_params(**{name: value})), data) is None

    ranges = dict(option.ranges)
    for name, declared in option.ranges.items():
        if isinstance(declared, Int) and accepted(name, declared.low) and not accepted(name, declared.high):
            accepting, refusing = declared.low, declared.high
            while refusing - accepting > 1:
                middle = (accepting + refusing) // 2
                accepting, refusing = (middle, refusing) if accepted(name, middle) else (accepting, middle)
            ranges[name] = Int(declared.low, accepting, declared.log)
    return replace(option, ranges=ranges)


def changed_parameters(plugin: Plugin) -> dict[str, Any]:
    """Return the constructor parameters that differ from their defaults."""
    defaults = type(plugin)().get_params(deep=False)
    return {k: v for k, v in plugin.get_params(deep=False).items() if repr(v) != repr(defaults[k])}


def is_nameable(plugin: Plugin) -> bool:
    """Tell whether a registered name and JSON values say all about a plugin."""
    try:
        known = registry().get(plugin.kind, plugin.name) is type(plugin)
    except UnknownPluginError:
        return False
    return known and all(_is_plain(value) for value in changed_parameters(plugin).values())


def plain(value: Any) -> Any:
    """Return a value as the JSON types it consists of; anything else as it is."""
    if isinstance(value, np.generic):
        return value.item()
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def effective_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of an extractor with those of its plugins spelt out, defaults included, for comparison."""
    spelt = {"augment": "auto"} | flat_parameters(parameters)
    for parameter, kind in KINDS.items():
        if isinstance(spelt.get(parameter), str) and spelt[parameter] != "auto":
            plugin = resolve(kind, spelt[parameter])
            values = {f"{parameter}__{name}": plain(value) for name, value in plugin.get_params(deep=False).items()}
            spelt = values | spelt | {parameter: plugin.name}
    if isinstance(spelt.get("algorithm"), str) and spelt.get("learning_rate", "auto") == "auto":
        algorithm = registry().get("algorithm", spelt["algorithm"])()
        spelt["learning_rate"] = own_learning_rate(algorithm, spelt.get("optimizer", "auto"))
    return {
        name: value if isinstance(value, str | int | float | None) else repr(value) for name, value in spelt.items()
    }


def flat_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of an extractor with a name and values in place of each plugin object that they describe."""
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        flat |= Option(name, "", value).parameters({}) if name in KINDS and isinstance(value, Plugin) else {name: value}
    return flat


def trains(parameters: Mapping[str, Any]) -> bool:
    """Tell whether parameters of a trial say that something is trained."""
    return "tasks" in parameters and parameters.get("algorithm") != UNTRAINED


def own_learning_rate(algorithm: Any, optimizer: str = "auto") -> float:
    """Return the learning rate that an algorithm advises with an optimiser."""
    return float(advised_settings(algorithm, {"optimizer": optimizer}).get("learning_rate", USUAL_LEARNING_RATE))


def own_length(algorithm: Any) -> int:
    """Return how many steps of training an algorithm advises."""
    return int(algorithm.training_defaults().get("max_steps", USUAL_LENGTH))


def _siblings(declared: Distribution | When) -> set[str]:
    return set(declared.siblings) if isinstance(declared, When) else set()


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str | np.generic)
