"""Checking the parameters of heads."""

from __future__ import annotations

from numbers import Integral, Real

from sklearn.base import BaseEstimator

from metafe.contracts import InvalidParameterError


def check_at_least(head: BaseEstimator, minimum: float, *names: str) -> None:
    """Raise unless parameters are finite numbers of at least a minimum, whole ones where the minimum is one.

    Raises
    ------
    InvalidParameterError
        Another value.
    """
    whole = isinstance(minimum, int)
    for name in names:
        value = getattr(head, name)
        is_number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if not is_number or not minimum <= value < float("inf"):
            kind = "whole number" if whole else "finite number"
            raise InvalidParameterError(
                f"{type(head).__name__} {name} must be a {kind} of at least {minimum}; got {value!r}."
            )
