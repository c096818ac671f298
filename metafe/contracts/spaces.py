"""How a plugin declares which values of its parameters are worth searching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Distribution:
    """Base of the ranges that a parameter may be searched over."""


@dataclass(frozen=True)
class Float(Distribution):
    """A real number in ``[low, high]``, uniform or, with ``log``, log-uniform."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)


@dataclass(frozen=True)
class Int(Distribution):
    """A whole number in ``[low, high]``, uniform or, with ``log``, log-uniform."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)


@dataclass(frozen=True)
class Categorical(Distribution):
    """One of ``choices``."""

    choices: Sequence[str | int | float | bool | None]

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError("Categorical needs at least one choice; got none.")


@dataclass(frozen=True)
class When:
    """A range that exists only while siblings have certain values.

    Parameters
    ----------
    distribution : Distribution
        The range.
    siblings : mapping of str to sequence
        For each sibling parameter, the values under which this one exists.

    Examples
    --------
    >>> When(Float(0.8, 0.99), {"optimizer": ["sgd"]}).siblings
    {'optimizer': ['sgd']}
    """

    distribution: Distribution
    siblings: Mapping[str, Sequence[object]]


SearchSpace = Mapping[str, Distribution | When]


def _check_range(low: float, high: float, log: bool) -> None:
    if not low <= high:
        raise ValueError(f"A range needs low <= high; got low={low}, high={high}.")
    if log and low <= 0:
        raise ValueError(f"A logarithmic range needs low > 0; got low={low}.")
