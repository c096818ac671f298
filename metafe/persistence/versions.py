"""Which versions an extractor was saved with, and whether they and its plugins are here."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from metafe.contracts import MissingDependencyError, UnknownPluginError
from metafe.plugins import registry

# What features depend on; the others are only recorded.
_COMPARED = ("metafe", "torch", "scikit-learn")
_RECORDED = (*_COMPARED, "numpy", "safetensors", "skops")


def versions() -> dict[str, str]:
    """Return the installed versions of Python and of what metafe computes and saves with."""
    return {"python": platform.python_version(), **{name: version(name) for name in _RECORDED}}


def mismatches(saved: dict[str, str], plugins: Sequence[dict[str, str]]) -> list[str]:
    """Return a phrase for each version that differs from the installed one.

    Parameters
    ----------
    saved : dict of str to str
        What `versions` returned.
    plugins : sequence of dict
        With ``kind``, ``name``, ``distribution`` and ``version``.

    Returns
    -------
    list of str
        ``"torch 2.9 (here 2.13)"`` and the like; ``+cpu`` and other builds of one version do not differ.
    """
    pairs = [(f"{name} {_public(saved[name])}", f"{name} {_public(version(name))}") for name in _COMPARED]
    here = {(info.kind, info.name): f"{info.distribution} {info.version}" for info in registry().listing()}
    pairs += [(f"{p['distribution']} {p['version']}", here[p["kind"], p["name"]]) for p in plugins]
    return [f"{was.strip()} (here {now.strip()})" for was, now in dict.fromkeys(pairs) if was != now]


def check_plugins_present(plugins: Sequence[dict[str, str]]) -> None:
    """Check that every plugin of a saved extractor can be found by name.

    Raises
    ------
    MissingDependencyError
        One error for all that are absent, saying how to get each.
    """
    absent = [plugin for plugin in plugins if not _is_present(plugin)]
    if absent:
        names = ", ".join(f"{plugin['kind']} {plugin['name']!r}" for plugin in absent)
        remedies = " ".join(dict.fromkeys(_remedy(plugin) for plugin in absent))
        raise MissingDependencyError(
            f"Loading needs the plugins the extractor was saved with; {names} cannot be found. {remedies}"
        )


def _is_present(plugin: dict[str, str]) -> bool:
    try:
        registry().get(plugin["kind"], plugin["name"])
    except UnknownPluginError:
        return False
    return True


def _remedy(plugin: dict[str, str]) -> str:
    distribution, number = plugin["distribution"], plugin["version"]
    if distribution == "script":
        return f"Register the class of {plugin['name']!r} first: metafe.register(cls), as the script that saved it did."
    failure = next(
        (info.error for info in registry().listing() if info.error and info.distribution == distribution.lower()), ""
    )
    if failure:
        return f"Its distribution {distribution} is installed but failed to load: {failure}."
    try:
        installed = version(distribution)
    except PackageNotFoundError:
        return f"Install its distribution: pip install {distribution} (saved with version {number})."
    limited = " and see that METAFE_PLUGINS names it" if "METAFE_PLUGINS" in os.environ else ""
    return (
        f"Its distribution {distribution} {installed} is installed but did not register it: install version "
        f"{number}{limited}, or call metafe.register on the class of {plugin['name']!r}."
    )


def _public(number: str) -> str:
    return number.split("+")[0]
