"""Values in words that are the same in every process and differ where the values do, for the fingerprint of a study."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import joblib
import numpy as np

ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


def described(value: Any, around: tuple[int, ...] = ()) -> str:
    """Return what a value is, without where it lies in memory.

    Parameters
    ----------
    value : object
        Estimators, functions, arrays and collections are described by what they consist of; anything else by its ``repr``.
    around : tuple of int, default=()
        Identities of the values that it is a part of, which are not described again.

    Returns
    -------
    str

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> described([1, "a", np.log1p]), described(described)
    ("[1, 'a', <ufunc 'log1p'>]", 'metafe.search.describing.described()')
    >>> described(lambda x: x + 1) == described(lambda x: x + 2)
    False
    """
    if id(value) in around:
        return "…"
    around = (*around, id(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(described(part, around) for part in value)}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(described(part, around) for part in value))}}}"
    if isinstance(value, Mapping):
        parts = [f"{described(k, around)}: {described(v, around)}" for k, v in value.items()]
        return f"{{{', '.join(sorted(parts))}}}"
    if isinstance(value, np.ndarray):
        return f"array {joblib.hash(value)}"
    named = _consists_of(value)
    if named is None:
        return ADDRESS.sub("", repr(value))
    name, members = named
    return f"{name}({', '.join(f'{k}={described(v, around)}' for k, v in sorted(members.items()))})"


def _consists_of(value: Any) -> tuple[str, Mapping[str, Any]] | None:
    """Return the name of a function, an estimator or another object, and what tells it from others of that name."""
    if isinstance(value, type):
        return _path(value), {}
    if isinstance(value, FunctionType):
        return _path(value), _own(value) if "<" in value.__qualname__ else {}
    if isinstance(value, MethodType):
        return _path(value), {"self": value.__self__}
    if isinstance(value, partial):
        return "partial", {"function": value.func, "arguments": value.args, "named": value.keywords}
    if hasattr(value, "get_params"):
        return _path(type(value)), value.get_params(deep=False)
    members = getattr(value, "__dict__", {})
    if ADDRESS.search(repr(value)) or any(isinstance(member, FunctionType | partial) for member in members.values()):
        return _path(type(value)), members
    return None


def _own(function: FunctionType) -> dict[str, Any]:
    """Return what makes up a function that its name says too little of: a lambda, or one made by another function."""
    closure = []
    for cell in function.__closure__ or ():
        # One that is filled later is empty.
        with suppress(ValueError):
            closure.append(cell.cell_contents)
    return {
        "code": hashlib.sha256(_code(function.__code__).encode()).hexdigest(),
        "closure": closure,
        "defaults": [function.__defaults__, function.__kwdefaults__],
    }


def _code(code: CodeType) -> str:
    constants = [_code(c) if isinstance(c, CodeType) else described(c) for c in code.co_consts]
    return repr((code.co_code, code.co_names, constants))


def _path(named: Any) -> str:
    return f"{named.__module__}.{named.__qualname__}"
