"""Python code that makes the winner of a search again."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

from sklearn.base import BaseEstimator, clone

from metafe.extractor import MetaFeatureExtractor

WIDTH = 110


def code_of(extractor: MetaFeatureExtractor, final_estimator: Any = None) -> str:
    """Return code that makes an extractor with the same parameters and fits it.

    Parameters
    ----------
    extractor : MetaFeatureExtractor
        Fitted or not.
    final_estimator : estimator or None
        What is fitted on the features.

    Returns
    -------
    str
        It needs ``X``, and ``y`` where the search had it. Classes that were defined in a script are named in a comment.
    """
    imports: dict[str, set[str]] = {}
    made = f"extractor = {_code(clone(extractor).set_params(verbose=0), imports, 0)}"
    lines = [made]
    if final_estimator is None:
        lines.append("extractor.fit(X, y)  # with groups=groups where the search had them")
    else:
        lines += [
            f"final = {_code(clone(final_estimator), imports, 0)}",
            "model = make_pipeline(extractor, final).fit(X, y)",
        ]
        imports.setdefault("sklearn.pipeline", set()).add("make_pipeline")
    return "\n".join([*_imports(imports), "", *lines]) + "\n"


def _code(value: Any, imports: dict[str, set[str]], indent: int) -> str:
    """Write a value as Python, and note what has to be imported for it."""
    if isinstance(value, BaseEstimator):
        imports.setdefault(_public_module(type(value)), set()).add(type(value).__name__)
        arguments = [f"{k}={_code(v, imports, indent + 4)}" for k, v in _changed(value).items()]
        return _wrapped(f"{type(value).__name__}(", arguments, ")", indent)
    if isinstance(value, list | tuple):
        items = [_code(item, imports, indent + 4) for item in value]
        if isinstance(value, list):
            return _wrapped("[", items, "]", indent)
        return _wrapped("(", items, ",)" if len(items) == 1 else ")", indent)
    if isinstance(value, Mapping):
        items = [f"{k!r}: {_code(v, imports, indent + 4)}" for k, v in value.items()]
        return _wrapped("{", items, "}", indent)
    return repr(value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value)


def _wrapped(opening: str, items: list[str], closing: str, indent: int) -> str:
    joined = f"{opening}{', '.join(items)}{closing}"
    if len(joined) + indent <= WIDTH and "\n" not in joined:
        return joined
    inside = " " * (indent + 4)
    body = "".join(f"{inside}{item},\n" for item in items)
    return f"{opening}\n{body}{' ' * indent}{closing.lstrip(',')}"


def _changed(estimator: BaseEstimator) -> dict[str, Any]:
    """Return the parameters that differ from the defaults."""
    defaults = {name: p.default for name, p in inspect.signature(type(estimator)).parameters.items()}
    parameters = estimator.get_params(deep=False)
    return {name: value for name, value in parameters.items() if repr(value) != repr(defaults.get(name))}


def _public_module(kind: type) -> str:
    """Return the module nearest to the root that offers a class."""
    parts = kind.__module__.split(".")
    for n in range(1, len(parts)):
        module = sys.modules.get(".".join(parts[:n]))
        if kind.__name__ in getattr(module, "__all__", ()):
            return ".".join(parts[:n])
    return kind.__module__


def _imports(imports: Mapping[str, set[str]]) -> list[str]:
    lines = []
    for module, names in sorted(imports.items()):
        listed = ", ".join(sorted(names))
        known = module != "__main__"
        lines.append(f"from {module} import {listed}" if known else f"# Needs {listed}, which your own script defines.")
    return lines
