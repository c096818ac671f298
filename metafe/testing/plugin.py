"""What every kind of plugin keeps."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.base import clone

from metafe.contracts import Categorical, Distribution, Float, Int, Plugin, Problem, When
from metafe.testing.common import example_problems, is_plain_name, is_savable


class PluginContract:
    """Base of the contract tests; derive from the one of your kind of plugin instead."""

    base: ClassVar[type[Plugin]] = Plugin

    @pytest.fixture
    def plugin(self) -> Plugin:
        """Override this: return the plugin object to test."""
        raise NotImplementedError(f"{type(self).__name__} needs a plugin fixture that returns the object to test.")

    @pytest.fixture
    def problems(self) -> list[Problem]:
        """Return the problems to declare search spaces for; may be overridden."""
        return example_problems()

    def test_derives_from_the_base_of_its_kind(self, plugin: Plugin) -> None:
        assert isinstance(plugin, self.base)
        assert plugin.kind == self.base.kind, "kind is set by the base; leave it alone."

    def test_name_can_be_typed(self, plugin: Plugin) -> None:
        assert is_plain_name(type(plugin).name), "name must be lower-case letters, digits, dashes and underscores."

    def test_value_after_the_name_is_a_parameter(self, plugin: Plugin) -> None:
        assert type(plugin).named_parameter in {None, *_parameters(plugin)}

    def test_name_stands_for_defaults(self, plugin: Plugin) -> None:
        assert isinstance(type(plugin)(), type(plugin)), "A string stands for the plugin with its defaults."

    def test_constructor_only_stores(self, plugin: Plugin) -> None:
        marks = {name: object() for name in _parameters(plugin)}
        made = type(plugin)(**marks)
        stored = {name: value for name, value in vars(made).items() if name in marks}
        assert stored == marks, "__init__ must store each parameter as it is, under its own name."
        assert vars(made).keys() == marks.keys(), "__init__ must set nothing but its parameters."

    def test_constructor_names_each_parameter(self, plugin: Plugin) -> None:
        kinds = {p.kind for p in inspect.signature(type(plugin)).parameters.values()}
        variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
        assert not kinds & variable, "__init__ must have neither *args nor **kwargs."

    def test_clone_has_the_same_parameters(self, plugin: Plugin) -> None:
        copy = clone(plugin)
        assert copy is not plugin
        assert repr(copy.get_params()) == repr(plugin.get_params())

    def test_set_params_sets_each(self, plugin: Plugin) -> None:
        copy = type(plugin)()
        parameters = plugin.get_params(deep=False)
        assert copy.set_params(**parameters) is copy
        assert all(copy.get_params(deep=False)[name] is value for name, value in parameters.items())

    def test_repr_names_the_class(self, plugin: Plugin) -> None:
        assert repr(plugin).startswith(f"{type(plugin).__name__}(")

    def test_search_space_is_declared_over_parameters(self, plugin: Plugin, problems: list[Problem]) -> None:
        known = plugin.get_params(deep=True).keys()
        for problem in problems:
            space = plugin.search_space(problem)
            assert space.keys() <= known, f"search_space names {space.keys() - known}, which are no parameters."
            for name, declared in space.items():
                _check_declared(name, declared, known)

    def test_values_of_the_search_space_can_be_set(self, plugin: Plugin, problems: list[Problem]) -> None:
        for problem in problems:
            for name, declared in plugin.search_space(problem).items():
                for value in _edge_values(declared):
                    assert clone(plugin).set_params(**{name: value}).get_params()[name] == value

    def test_state_is_empty_before_fit(self, plugin: Plugin) -> None:
        state = clone(plugin).get_state()
        assert is_savable(state)
        assert not state, "A plugin that is not fitted has no state; fitted attributes end in an underscore."


def _parameters(plugin: Plugin) -> list[str]:
    return list(plugin.get_params(deep=False))


def _check_declared(name: str, declared: Any, known: Collection[str]) -> None:
    assert isinstance(declared, Distribution | When), f"{name} must be a Distribution or When; got {declared!r}."
    if isinstance(declared, When):
        assert isinstance(declared.distribution, Distribution), f"When of {name} must hold a Distribution."
        assert declared.siblings, f"When of {name} must name a sibling."
        unknown = declared.siblings.keys() - set(known)
        assert not unknown, f"When of {name} depends on {unknown}, which are no parameters."


def _edge_values(declared: Distribution | When) -> list[Any]:
    distribution = declared.distribution if isinstance(declared, When) else declared
    if isinstance(distribution, Categorical):
        return list(distribution.choices)
    assert isinstance(distribution, Float | Int)
    edges = [distribution.low, distribution.high]
    assert all(np.isfinite(edges)), f"A range must be finite; got {distribution!r}."
    return edges
