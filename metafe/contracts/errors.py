"""Exceptions and warnings: one root, whose leaves also inherit the builtin that a scikit-learn user would catch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MetafeError(Exception):
    """Root of every error that metafe raises on purpose."""


class InvalidInputError(MetafeError, ValueError):
    """Data that cannot be used: its shape, type, labels or amount."""


class InvalidParameterError(MetafeError, ValueError):
    """A parameter whose value, or combination with the data, cannot work."""


class UnknownPluginError(MetafeError, ValueError):
    """A plugin name that nothing has registered."""


class DuplicatePluginError(MetafeError, ValueError):
    """Two different plugins of one kind and name."""


class PluginContractError(MetafeError, ValueError):
    """A plugin that returned something its contract forbids, or that raised."""


class MissingDependencyError(MetafeError, ImportError):
    """An optional library, or the distribution of a plugin, that is not installed."""


class SearchError(MetafeError, RuntimeError):
    """A search that cannot go on: no trial finished, or its storage holds another search or cannot be reached."""


class SavedFormatError(MetafeError, ValueError):
    """A folder that is not a saved extractor, is damaged, or is of a newer format."""


class MetafeWarning(UserWarning):
    """Root of the warnings that metafe gives."""


class AdaptedSettingWarning(MetafeWarning):
    """A setting that did not fit the data and was adapted to it."""


class FeatureQualityWarning(MetafeWarning):
    """Learned features that lose to the standardised input on held-out tasks."""


class PluginLoadWarning(MetafeWarning):
    """An installed plugin that could not be loaded, or that a search could not ask about the data; everything else works."""


class TrainingInterruptedWarning(MetafeWarning):
    """Training stopped early by the user; the best weights so far are kept."""


class UnreadableRowWarning(MetafeWarning):
    """Rows that could not be read, such as damaged files; they are blank, and everything else works."""


class VersionMismatchWarning(MetafeWarning):
    """A saved extractor made with other versions than those installed."""


def suggest(name: str, candidates: Iterable[str]) -> str:
    """Write the part of an error message that helps with a mistyped name.

    Parameters
    ----------
    name : str
        What was asked for.
    candidates : iterable of str
        What exists.

    Returns
    -------
    str
        ``"Did you mean 'mlp'? Available: ..."``, the question only where a close match exists.

    Examples
    --------
    >>> suggest("mpl", ["mlp", "conv4"])
    "Did you mean 'mlp'? Available: conv4, mlp."
    """
    known = sorted(candidates)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    question = f"Did you mean '{close[0]}'? " if close else ""
    return f"{question}Available: {', '.join(known) or 'none'}."
