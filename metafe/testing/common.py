"""What the contract tests share: example data and comparisons."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from metafe.contracts import Problem

N_CLASSES = 4
ROWS_PER_CLASS = 10


def example_problems(input_shape: tuple[int, ...] = (6,)) -> list[Problem]:
    """Return a problem of each kind: with classes, with targets, with neither."""
    return [
        Problem("classification", input_shape, n_classes=8, max_way=4),
        Problem("regression", input_shape, n_targets=2),
        Problem("unlabelled", input_shape),
    ]


def example_rows(row_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of four classes, whose means differ, and their class codes in random order.

    Parameters
    ----------
    row_shape : tuple of int

    Returns
    -------
    X : ndarray of shape (40, *row_shape) float64
    y : ndarray of shape (40,) int64
    """
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(np.arange(N_CLASSES), ROWS_PER_CLASS))
    means = rng.normal(size=(N_CLASSES, *row_shape))
    return means[y] + 0.5 * rng.normal(size=(len(y), *row_shape)), y


def is_sentence(reason: Any) -> bool:
    """Tell whether a refusal can be shown to a user as it is: several words that end with a full stop."""
    return isinstance(reason, str) and len(reason.split()) >= 3 and reason.endswith((".", "?", "!"))


def is_refusal_or_none(reason: Any) -> bool:
    """Tell whether ``accepts`` returned what it may."""
    return reason is None or is_sentence(reason)


def is_savable(value: Any) -> bool:
    """Tell whether metafe can save a value of ``get_state``: JSON types, arrays and scikit-learn estimators."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if isinstance(value, list | tuple):
        return all(is_savable(v) for v in value)
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and is_savable(v) for k, v in value.items())
    return value is None or isinstance(value, bool | int | float | str | np.generic | BaseEstimator)


def is_plain_name(name: Any) -> bool:
    """Tell whether a name can be typed: lower-case letters, digits, dashes and underscores."""
    return isinstance(name, str) and re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) is not None


def build_seeded(build: Callable[[], Any], seed: int = 0) -> Any:
    """Call ``build`` with torch's global generator at a seed, and put the generator back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copy the parameters and buffers of a module."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Tell whether two state dicts are equal to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def same_values(first: Any, second: Any) -> bool:
    """Tell whether two nests of JSON types, arrays and estimators are equal to the last bit."""
    if type(first) is not type(second):
        return False
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    if isinstance(first, np.random.RandomState):
        return same_values(first.get_state(legacy=False), second.get_state(legacy=False))
    if isinstance(first, BaseEstimator):
        return same_values(vars(first), vars(second))
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same_values(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same_values, first, second))
    return bool(first == second)


@contextmanager
def untouched_global_generators() -> Iterator[None]:
    """Fail when the code inside reads or writes NumPy's or torch's global generator."""
    numpy_before = np.random.get_state(legacy=False)  # noqa: NPY002 - it is watched, not used
    torch_before = torch.random.get_rng_state()
    yield
    numpy_after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert same_values(numpy_before, numpy_after), "NumPy's global generator was used or seeded; take seeds or rng."
    assert torch.equal(torch_before, torch.random.get_rng_state()), "torch's global generator was used or seeded."
