"""Finding, loading and naming plugins."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from types import SimpleNamespace
from typing import Any

import pluggy

from metafe.contracts import (
    Augmentation,
    Backbone,
    DuplicatePluginError,
    Encoder,
    MetaAlgorithm,
    MetafeWarning,
    Plugin,
    PluginLoadWarning,
    TaskSource,
    UnknownPluginError,
    hookimpl,
)
from metafe.contracts.errors import suggest
from metafe.plugins import hookspecs

BUILT_IN_MODULES = ("metafe.backbones", "metafe.algorithms", "metafe.tasks", "metafe.augmentations")

_KINDS: dict[str, tuple[str, type[Plugin]]] = {
    "backbone": ("metafe_register_backbones", Backbone),
    "algorithm": ("metafe_register_algorithms", MetaAlgorithm),
    "task source": ("metafe_register_task_sources", TaskSource),
    "augmentation": ("metafe_register_augmentations", Augmentation),
    "encoder": ("metafe_register_encoders", Encoder),
}


@dataclass(frozen=True)
class PluginInfo:
    """One line of the plugin listing.

    Parameters
    ----------
    kind : str
        Kind of plugin; empty for a distribution that failed to load.
    name : str
        Name of the plugin, or of the entry point that failed.
    distribution : str
        What to install to get it; ``"script"`` for a class given to `register`.
    version : str
        Version of the distribution; empty where there is none.
    error : str
        Why it could not be loaded; empty when it was.
    """

    kind: str
    name: str
    distribution: str
    version: str
    error: str = ""


@dataclass(frozen=True)
class _Entry:
    plugin: type[Plugin]
    distribution: str
    version: str


class Registry:
    """All plugins of this process, looked up by kind and name.

    Entry points are loaded on construction, never at import; use `registry` for the shared instance.
    """

    def __init__(self, allowed: Sequence[str] | None = None) -> None:
        self.manager = pluggy.PluginManager("metafe")
        self.manager.add_hookspecs(hookspecs)
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._failures: list[PluginInfo] = []
        for module in BUILT_IN_MODULES:
            self._add(import_module(module), module, "metafe", version("metafe"))
        for entry_point in entry_points(group="metafe"):
            if allowed is None or _distribution_name(entry_point) in allowed:
                self._load(entry_point)

    def get(self, kind: str, name: str) -> type[Plugin]:
        """Return the plugin class of a kind and name.

        Raises
        ------
        UnknownPluginError
            With the close matches, and how to bring a plugin of one's own.
        """
        if (kind, name) in self._entries:
            return self._entries[kind, name].plugin
        known = suggest(name, self.names(kind))
        failed = "".join(f" {f.distribution} failed to load: {f.error}" for f in self._failures)
        raise UnknownPluginError(
            f"{kind.capitalize()} must be the name of an installed or registered plugin, or an object; got {name!r}. "
            f"{known}{failed} metafe.register(cls) adds a class of your own."
        )

    def names(self, kind: str) -> list[str]:
        """Return the sorted names of one kind."""
        return sorted(name for k, name in self._entries if k == kind)

    def register(self, cls: type[Plugin], distribution: str = "script", version: str = "") -> None:
        """Add one class."""
        hook, _ = _KINDS[kind_of(cls)]
        namespace = SimpleNamespace(**{hook: hookimpl(specname=hook)(lambda: [cls])})
        self._add(namespace, f"{cls.__module__}.{cls.__qualname__}", distribution, version)

    def distribution_of(self, cls: type[Plugin]) -> tuple[str, str]:
        """Return the distribution a class came from and its version, also when it was never registered."""
        entry = self._entries.get((cls.kind, cls.name))
        if entry is not None and entry.plugin is cls:
            return entry.distribution, entry.version
        found = packages_distributions().get(cls.__module__.split(".")[0])
        return (found[0], version(found[0])) if found else ("script", "")

    def listing(self) -> list[PluginInfo]:
        """Return every plugin, and every failure to load one, sorted by kind and name."""
        loaded = [PluginInfo(kind, name, e.distribution, e.version) for (kind, name), e in self._entries.items()]
        return sorted(loaded, key=lambda p: (p.kind, p.name)) + self._failures

    def _load(self, entry_point: EntryPoint) -> None:
        distribution = _distribution_name(entry_point)
        number = entry_point.dist.version if entry_point.dist else ""
        try:
            self._add(entry_point.load(), entry_point.value, distribution, number)
        except DuplicatePluginError:
            raise
        except Exception as error:  # a plugin's code may raise anything; one broken plugin must not break the rest
            reason = f"{type(error).__name__}: {error}"
            self._failures.append(PluginInfo("", entry_point.name, distribution, number, reason))
            warnings.warn(
                f"Plugin distribution {distribution!r} must load without error; got {reason}. It is ignored; "
                f"upgrade or uninstall it (metafe plugins lists it).",
                PluginLoadWarning,
                stacklevel=2,
            )

    def _add(self, module: Any, label: str, distribution: str, number: str) -> None:
        """Register a module's hooks, or leave everything as it was."""
        if self.manager.has_plugin(label):
            self.manager.unregister(name=label)
        try:
            self.manager.register(module, name=label)
            self.manager.check_pending()
            found: dict[tuple[str, str], _Entry] = {}
            for kind, (hook, base) in _KINDS.items():
                for cls in _call(self.manager, hook, label):
                    _check_class(cls, base, hook)
                    self._check_free(kind, cls, distribution)
                    if found.setdefault((kind, cls.name), _Entry(cls, distribution, number)).plugin is not cls:
                        raise TypeError(f"{hook} must return one class of each name; got two named {cls.name!r}.")
        except Exception:
            # Some versions of pluggy keep a plugin whose hooks they have rejected.
            if self.manager.has_plugin(label):
                self.manager.unregister(name=label)
            raise
        self._entries.update(found)

    def _check_free(self, kind: str, cls: type[Plugin], distribution: str) -> None:
        taken = self._entries.get((kind, cls.name))
        if taken is None or _same_definition(taken.plugin, cls):
            return
        raise DuplicatePluginError(
            f"Each {kind} name must be unique; got {cls.name!r} from both {taken.distribution!r} "
            f"({_path(taken.plugin)}) and {distribution!r} ({_path(cls)}). Rename one or uninstall one of them."
        )


@cache
def registry() -> Registry:
    """Return the registry of this process, made on first use.

    ``METAFE_PLUGINS`` limits which distributions are loaded: a comma-separated list of their names, empty for none.
    """
    limit = os.environ.get("METAFE_PLUGINS")
    return Registry(None if limit is None else [part.strip().lower() for part in limit.split(",") if part.strip()])


def register(cls: type[Plugin]) -> type[Plugin]:
    """Add a plugin class to this process, so that its name can be used; works as a decorator too.

    Parameters
    ----------
    cls : type
        Subclass of `Backbone`, `MetaAlgorithm`, `TaskSource`, `Augmentation` or `Encoder`, with a ``name``. A class registered
        again from the same place replaces its former self, so a notebook cell can be run twice.

    Returns
    -------
    type
        ``cls``.

    Raises
    ------
    DuplicatePluginError
        Another class has that name.
    TypeError
        ``cls`` is not a plugin class.

    Examples
    --------
    >>> import metafe
    >>> from metafe.contracts import Augmentation
    >>> @metafe.register
    ... class Mirror(Augmentation):
    ...     name = "doctest-mirror"
    ...     def __call__(self, x, generator):
    ...         return x.flip(-1)
    """
    registry().register(cls)
    return cls


def resolve(kind: str, spec: str | Plugin) -> Plugin:
    """Return the plugin object that a string or an object stands for.

    Parameters
    ----------
    kind : {"backbone", "algorithm", "task source", "augmentation", "encoder"}
        What is wanted.
    spec : str or Plugin
        A string is shorthand for the plugin of that name with its defaults, or, as ``"name:value"``, with a value of its
        `named_parameter`.

    Returns
    -------
    Plugin
        ``spec`` itself if it is an object.

    Raises
    ------
    UnknownPluginError
        Nothing of that name, a value after one that takes none, or an object of another type.
    """
    if isinstance(spec, str):
        return _of_name(kind, spec)
    if isinstance(spec, _KINDS[kind][1]):
        return spec
    raise UnknownPluginError(
        f"{kind.capitalize()} must be a name or an object of a subclass of {_KINDS[kind][1].__name__}; "
        f"got {spec!r}. {suggest('', registry().names(kind))}"
    )


def _of_name(kind: str, spec: str) -> Plugin:
    name, colon, value = spec.partition(":")
    plugin = registry().get(kind, name)
    if not colon:
        return plugin()
    if plugin.named_parameter is None or not value:
        takes = "no value" if plugin.named_parameter is None else f"its {plugin.named_parameter}"
        raise UnknownPluginError(
            f"{kind.capitalize()} {name!r} must be followed by {takes} after a colon; got {spec!r}. Pass an object to set "
            "parameters."
        )
    return plugin(**{plugin.named_parameter: value})


def kind_of(cls: Any) -> str:
    """Return the kind of a plugin class; a TypeError when it is not one."""
    for kind, (_, base) in _KINDS.items():
        if isinstance(cls, type) and issubclass(cls, base):
            return kind
    bases = ", ".join(base.__name__ for _, base in _KINDS.values())
    raise TypeError(f"A plugin must be a class that derives from one of {bases}; got {cls!r}.")


def _call(manager: pluggy.PluginManager, hook: str, label: str) -> list[Any]:
    """Call one hook of one plugin."""
    implementations = getattr(manager.hook, hook).get_hookimpls()
    returned = [impl.function() for impl in implementations if impl.plugin_name == label]
    for classes in returned:
        if not isinstance(classes, list | tuple):
            raise TypeError(f"{hook} must return a list of classes; got {classes!r}.")
    return [cls for classes in returned for cls in classes]


def _check_class(cls: Any, base: type[Plugin], hook: str) -> None:
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise TypeError(f"{hook} must return subclasses of {base.__name__}; got {cls!r}.")
    if not isinstance(getattr(cls, "name", None), str) or not cls.name:
        raise TypeError(f"{_path(cls)} must set name to a non-empty string; got {getattr(cls, 'name', None)!r}.")


def _same_definition(a: type, b: type) -> bool:
    return a is b or (a.__module__ == b.__module__ and a.__qualname__ == b.__qualname__)


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _distribution_name(entry_point: EntryPoint) -> str:
    return entry_point.dist.name.lower() if entry_point.dist else entry_point.module


def notify(event: str, **facts: Any) -> None:
    """Tell every plugin that listens of an event; one that fails is named in a warning and costs nothing else.

    Parameters
    ----------
    event : str
        Name of a life-cycle hook.
    **facts
        Its arguments.
    """
    manager = registry().manager
    listeners = [implementation.plugin for implementation in getattr(manager.hook, event).get_hookimpls()]
    for listener in listeners:
        others = [other for other in listeners if other is not listener]
        try:
            manager.subset_hook_caller(event, others)(**facts)
        except Exception as error:
            warnings.warn(
                f"Plugin {manager.get_name(listener)!r} must take {event} without an error; it raised "
                f"{type(error).__name__}: {error}. Work goes on without it: fix or unregister the plugin.",
                MetafeWarning,
                stacklevel=2,
            )
