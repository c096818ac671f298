"""The search: one call finds backbone, meta-algorithm, task source and settings together."""

from __future__ import annotations

from metafe.search.estimator import MetaFeatureSearchCV

__all__ = ["MetaFeatureSearchCV"]
