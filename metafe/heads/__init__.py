"""Classifiers that learn a new problem from a handful of rows of features."""

from __future__ import annotations

from metafe.heads.nearest_mean import NearestMeanClassifier
from metafe.heads.pt_map import PTMAP
from metafe.heads.tim import TIM

__all__ = ["PTMAP", "TIM", "NearestMeanClassifier"]
