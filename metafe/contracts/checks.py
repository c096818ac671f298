"""Checks of hyperparameters, for plugins."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from metafe.contracts.errors import InvalidParameterError


def check_sizes(owner: str, minimum: int = 1, **sizes: Any) -> None:
    """Check that hyperparameters are whole numbers of at least ``minimum``.

    Parameters
    ----------
    owner : str
        Name of the plugin.
    minimum : int, default=1
    **sizes
        Hyperparameters by name.

    Raises
    ------
    InvalidParameterError
        Naming the owner, the hyperparameter and what was received.

    Examples
    --------
    >>> check_sizes("mlp", depth=2, width=128)
    >>> check_sizes("mlp", depth=0)
    Traceback (most recent call last):
    ...
    metafe.contracts.errors.InvalidParameterError: mlp depth must be a whole number of at least 1; got 0.
    """
    for name, value in sizes.items():
        if not _is_number(value, Integral, minimum):
            raise InvalidParameterError(f"{owner} {name} must be a whole number of at least {minimum}; got {value!r}.")


def check_numbers(owner: str, minimum: float = 0.0, **numbers: Any) -> None:
    """Check that hyperparameters are finite numbers of at least ``minimum``.

    Parameters
    ----------
    owner : str
        Name of the plugin.
    minimum : float, default=0.0
    **numbers
        Hyperparameters by name.

    Raises
    ------
    InvalidParameterError
        Naming the owner, the hyperparameter and what was received.

    Examples
    --------
    >>> check_numbers("maml", inner_rate=0.1)
    >>> check_numbers("maml", inner_rate=-1)
    Traceback (most recent call last):
    ...
    metafe.contracts.errors.InvalidParameterError: maml inner_rate must be a finite number of at least 0; got -1.
    """
    for name, value in numbers.items():
        if not _is_number(value, Real, minimum):
            raise InvalidParameterError(
                f"{owner} {name} must be a finite number of at least {minimum:g}; got {value!r}."
            )


def check_positive(owner: str, **numbers: Any) -> None:
    """Check that hyperparameters are finite numbers above 0.

    Parameters
    ----------
    owner : str
        Name of the plugin.
    **numbers
        Hyperparameters by name.

    Raises
    ------
    InvalidParameterError
        Naming the owner, the hyperparameter and what was received.

    Examples
    --------
    >>> check_positive("matching", temperature=0.1)
    >>> check_positive("matching", temperature=0)
    Traceback (most recent call last):
    ...
    metafe.contracts.errors.InvalidParameterError: matching temperature must be a finite number above 0; got 0.
    """
    for name, value in numbers.items():
        if not _is_number(value, Real, 0.0) or value == 0:
            raise InvalidParameterError(f"{owner} {name} must be a finite number above 0; got {value!r}.")


def check_choice(owner: str, name: str, value: object, choices: Iterable[object]) -> None:
    """Check that a hyperparameter is one of its choices.

    Parameters
    ----------
    owner : str
        Name of the plugin.
    name : str
        Name of the hyperparameter.
    value : object
        What was received.
    choices : iterable of object

    Raises
    ------
    InvalidParameterError
        Naming the owner, the choices and what was received.
    """
    known = list(choices)
    if value not in known:
        raise InvalidParameterError(f"{owner} {name} must be one of {known}; got {value!r}.")


def _is_number(value: object, kind: type, minimum: float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and minimum <= value < math.inf  # type: ignore[operator]
