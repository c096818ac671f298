"""metafe learns, from many old problems, features on which a few labels of a new one are enough."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metafe.contracts import MetafeError, MetafeWarning, hookimpl
    from metafe.evaluation import FewShotScore, few_shot_score
    from metafe.extractor import MetaFeatureExtractor
    from metafe.few_shot import FewShotClassifier, FewShotRegressor
    from metafe.folders import read_folder
    from metafe.persistence import load
    from metafe.plugins import register
    from metafe.search import MetaFeatureSearchCV

_HOME = {
    "FewShotClassifier": "metafe.few_shot",
    "FewShotRegressor": "metafe.few_shot",
    "FewShotScore": "metafe.evaluation",
    "MetaFeatureExtractor": "metafe.extractor",
    "MetaFeatureSearchCV": "metafe.search",
    "MetafeError": "metafe.contracts",
    "MetafeWarning": "metafe.contracts",
    "few_shot_score": "metafe.evaluation",
    "hookimpl": "metafe.contracts",
    "load": "metafe.persistence",
    "read_folder": "metafe.folders",
    "register": "metafe.plugins",
}

__all__ = [
    "FewShotClassifier",
    "FewShotRegressor",
    "FewShotScore",
    "MetaFeatureExtractor",
    "MetaFeatureSearchCV",
    "MetafeError",
    "MetafeWarning",
    "few_shot_score",
    "hookimpl",
    "load",
    "read_folder",
    "register",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that importing metafe stays cheap."""
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name == "__version__":
        from importlib.metadata import version

        return version("metafe")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
