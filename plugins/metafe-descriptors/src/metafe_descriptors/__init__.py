"""Image descriptors as metafe backbones: nothing, or little, to train."""

from __future__ import annotations

from metafe.contracts import Backbone, hookimpl
from metafe_descriptors.colour_histogram import ColourHistogram
from metafe_descriptors.hog import Hog
from metafe_descriptors.lbp import Lbp
from metafe_descriptors.sift import Sift

__all__ = ["ColourHistogram", "Hog", "Lbp", "Sift"]


@hookimpl
def metafe_register_backbones() -> list[type[Backbone]]:
    """Return the backbones of this distribution."""
    return [Hog, Sift, Lbp, ColourHistogram]
