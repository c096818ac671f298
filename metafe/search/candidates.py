"""Which plugins a search may choose, and what happens to one whose code raises when it is asked about the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sklearn.base import clone

from metafe.contracts import (
    Distribution,
    InvalidParameterError,
    MetafeError,
    Plugin,
    PluginContractError,
    Problem,
    When,
)
from metafe.contracts.errors import suggest
from metafe.decisions import is_auto
from metafe.plugins import registry, resolve
from metafe.search.options import ARGUMENTS, KINDS, UNTRAINED, Option, changed_parameters


class BrokenPluginError(PluginContractError):
    """A plugin that raised when a search asked it about the data.

    Parameters
    ----------
    parameter : str
        Of the extractor that the plugin is for.
    name : str
        Of the plugin.
    raised : str
        Type and message of what it raised.
    """

    def __init__(self, parameter: str, name: str, raised: str) -> None:
        super().__init__(parameter, name, raised)
        self.parameter, self.name, self.raised = parameter, name, raised

    def __str__(self) -> str:
        kind = KINDS[self.parameter]
        return (
            f"{kind.capitalize()} {self.name!r}{_origin(kind, self.name)} must be able to say what a search asks it; it raised "
            f"{self.raised.rstrip('.: ')}. Fix, upgrade or leave out the plugin."
        )


@dataclass(frozen=True)
class Candidates:
    """The plugins that a search may choose for one parameter of the extractor.

    Parameters
    ----------
    parameter : {"backbone", "algorithm", "tasks", "augment"}
    narrowed : None, name, Plugin, sequence of them, or mapping of name to mapping
        As the search takes it: None for all that are registered; a mapping overrides ranges too.
    named : bool
        Whether the user has named them.
    broken : frozenset of str, default=frozenset()
        Names of plugins to do without.
    """

    parameter: str
    narrowed: Any
    named: bool
    broken: frozenset[str] = frozenset()

    @classmethod
    def of(cls, parameter: str, narrowed: Any, template: Any) -> Candidates:
        """Return what the search is narrowed to, or what the extractor names.

        Parameters
        ----------
        parameter : {"backbone", "algorithm", "tasks"}
        narrowed : object
            The argument of the search.
        template : str or Plugin
            The parameter of the extractor that is searched around; ``"auto"`` leaves it open.

        Raises
        ------
        InvalidParameterError
            Both say what to search, or what is named is nothing, or no names or objects.
        """
        if is_auto(template):
            candidates = cls(parameter, narrowed, named=narrowed is not None)
        elif narrowed is None:
            candidates = cls(parameter, [template], named=True)
        else:
            raise InvalidParameterError(
                f"{ARGUMENTS[parameter]} and the extractor's {parameter} must not both say what to search; got "
                f"{narrowed!r} and {template!r}. Leave {parameter}='auto' in the extractor."
            )
        if candidates.named and not list(candidates._specs()):
            raise InvalidParameterError(
                f"{ARGUMENTS[parameter]} must name at least one {KINDS[parameter]}; got {narrowed!r}. Leave it out for all."
            )
        return candidates

    def without(self, name: str) -> Candidates:
        """Return the others."""
        return replace(self, broken=self.broken | {name})

    @contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """Turn whatever the code of a candidate raises into an error that says which it is.

        Raises
        ------
        BrokenPluginError
            The candidate raised. What metafe says of one that the user has named is left as it is.
        """
        try:
            yield
        except Exception as error:  # a plugin's code may raise anything
            if isinstance(error, BrokenPluginError) or (self.named and isinstance(error, MetafeError)):
                raise
            raise BrokenPluginError(self.parameter, name, f"{type(error).__name__}: {error}") from error

    def options(self, problem: Callable[[Any], Problem]) -> list[Option]:
        """Return an option for each, before it is asked whether it accepts the data.

        Parameters
        ----------
        problem : callable
            From a plugin to what its ranges may depend on.

        Returns
        -------
        list of Option
            In the order given; by name where all are taken.

        Raises
        ------
        UnknownPluginError, InvalidParameterError
            A name that nothing has registered, or a parameter that the plugin does not have.
        BrokenPluginError
            One that raised.
        """
        options: list[Option] = []
        for spec, overrides in self._working():
            with self.asking(_name(spec)):
                plugin = resolve(KINDS[self.parameter], spec)
                same = sum(type(plugin).name == type(o.plugin).name for o in options)
                label = f"{plugin.name} {same + 1}" if same else plugin.name
                options.append(_with_ranges(Option(self.parameter, label, plugin), overrides, problem))
        return options

    def plugins(self) -> list[Plugin]:
        """Return an object of each."""
        found = []
        for spec, _ in self._working():
            with self.asking(_name(spec)):
                found.append(resolve(KINDS[self.parameter], spec))
        return found

    def _working(self) -> Iterable[tuple[Any, Mapping[str, Any]]]:
        return ((spec, overrides) for spec, overrides in self._specs() if _name(spec) not in self.broken)

    def _specs(self) -> Iterable[tuple[Any, Mapping[str, Any]]]:
        """Return names or objects, each with what is overridden of it."""
        narrowed = self.narrowed
        if narrowed is None:
            return [(name, {}) for name in registry().names(KINDS[self.parameter]) if name != UNTRAINED]
        if isinstance(narrowed, str | Plugin):
            return [(narrowed, {})]
        if isinstance(narrowed, Mapping):
            return [(name, self._overrides(name, given)) for name, given in narrowed.items()]
        if isinstance(narrowed, Sequence):
            return [(spec, {}) for spec in narrowed]
        raise InvalidParameterError(
            f"{ARGUMENTS[self.parameter]} must be None, a list of names or objects, or a mapping of names to ranges; got "
            f"{narrowed!r}."
        )

    def _overrides(self, name: Any, given: Any) -> Mapping[str, Any]:
        if given is None or isinstance(given, Mapping):
            return given or {}
        raise InvalidParameterError(
            f"{ARGUMENTS[self.parameter]} must map each name to a mapping of parameters to ranges or values; got {given!r} "
            f"for {name!r}. Write {{{name!r}: {{'parameter': {given!r}}}}}."
        )


def takes_raw_input(narrowed: Any, template: Any) -> bool:
    """Tell whether every backbone that is named wants the rows as they come; False where none is named."""
    candidates = Candidates.of("backbone", narrowed, template)
    if not candidates.named:
        return False
    backbones = candidates.plugins()
    return all(getattr(backbone, "raw_input", False) for backbone in backbones)


def _with_ranges(option: Option, overrides: Mapping[str, Any], problem: Callable[[Any], Problem]) -> Option:
    changed = changed_parameters(option.plugin)
    declared = _declared(option, problem(option.plugin))
    ranges = {name: searched for name, searched in declared.items() if name not in changed}
    constants = {}
    known = option.plugin.get_params()
    for name, value in overrides.items():
        if name not in known:
            raise InvalidParameterError(
                f"{ARGUMENTS[option.parameter]} must override parameters of {option.label!r}; got {name!r}. "
                f"{suggest(name, known)}"
            )
        if isinstance(value, Distribution | When):
            ranges[name] = value
        elif _is_meant_as_range(value, option.parameter, known[name]):
            raise InvalidParameterError(
                f"{ARGUMENTS[option.parameter]} must override {name!r} of {option.label!r} by a range or by one value; got "
                f"{value!r}. Write {_as_range(value)} of metafe.contracts."
            )
        else:
            ranges.pop(name, None)
            constants[name] = value
    plugin = clone(option.plugin).set_params(**constants) if constants else option.plugin
    return replace(option, plugin=plugin, ranges=ranges)


def _is_meant_as_range(value: Any, parameter: str, default: Any) -> bool:
    """Tell whether several values are given of what is one; task sources take pairs themselves."""
    return isinstance(value, list | tuple) and parameter != "tasks" and isinstance(default, str | int | float)


def _as_range(values: Sequence[Any]) -> str:
    """Return the code of the range that a list of values was probably meant as."""
    is_interval = isinstance(values, tuple) and len(values) == 2 and all(type(v) in (int, float) for v in values)
    if not is_interval:
        return f"Categorical({list(values)!r})"
    kind = "Int" if all(isinstance(v, int) for v in values) else "Float"
    return f"{kind}{values!r}"


def _declared(option: Option, problem: Problem) -> Mapping[str, Distribution | When]:
    """Return the ranges that a plugin declares, which must be ranges of its parameters."""
    declared = option.plugin.search_space(problem)
    known = option.plugin.get_params()
    if not isinstance(declared, Mapping) or not all(
        name in known and isinstance(searched, Distribution | When) for name, searched in declared.items()
    ):
        raise PluginContractError(
            f"search_space of {KINDS[option.parameter]} {option.label!r} must return a mapping from its parameters to ranges; "
            f"got {declared!r}. Fix its search_space."
        )
    return declared


def _name(spec: Any) -> str:
    return getattr(spec, "name", str(spec))


def _origin(kind: str, name: str) -> str:
    """Return where a plugin was installed from, in words; nothing for a class of a script."""
    if name not in registry().names(kind):
        return ""
    distribution, version = registry().distribution_of(registry().get(kind, name))
    return f" of {distribution} {version}" if version else ""
