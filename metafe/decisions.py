"""What ``"auto"`` stands for: decided by rule from the data, and said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metafe.contracts import (
    Augmentation,
    Backbone,
    InvalidParameterError,
    MetaAlgorithm,
    ProblemKind,
    TaskSource,
)
from metafe.plugins import resolve


@dataclass
class Decisions:
    """The plugins to use, and a sentence on each that was not named by the user.

    Parameters
    ----------
    said : dict of str to str
        Parameter to what was decided and why.
    """

    said: dict[str, str] = field(default_factory=dict)

    def backbone(self, spec: str | Backbone, X: Any, kind: ProblemKind) -> Backbone:
        """Return the backbone: for ``"auto"`` a convolutional network for images, a perceptron for anything else."""
        if spec != "auto":
            return resolve("backbone", spec)
        if kind == "unlabelled":
            self.said["backbone"] = "identity, since there is no y to learn from"
            return resolve("backbone", "identity")
        conv4: Backbone = resolve("backbone", "conv4")
        if np.ndim(X) in (3, 4) and conv4.accepts(X) is None:
            self.said["backbone"] = "conv4, since rows are images"
            return conv4
        self.said["backbone"] = "mlp, since rows are no images of 8×8 or more"
        return resolve("backbone", "mlp")

    def keep_rows(self, identity: Backbone, compared: bool) -> None:
        """Say that the rows are kept, and why; nothing is augmented then."""
        learned = self.said["backbone"].split(",")[0]
        reason = (
            f"{learned} was not surely better on held-out tasks and classes" if compared else "nothing was held out"
        )
        self.said["backbone"] = f"{identity!r}, since {reason}"
        self.said.pop("augment", None)

    def tasks(self, spec: str | TaskSource, kind: ProblemKind, has_groups: bool) -> TaskSource | None:
        """Return the task source; None where there is nothing to make tasks of."""
        if spec != "auto":
            return resolve("task source", spec)
        if kind == "unlabelled":
            self.said["tasks"] = "none, since there is no y"
            return None
        if has_groups:
            name, reason = "groups", "since groups were given"
        elif kind == "classification":
            name, reason = "classes", "since y has classes"
        else:
            name, reason = "rows", "since y is continuous and there are no groups"
        self.said["tasks"] = f"{name}, {reason}"
        return resolve("task source", name)

    def algorithm(self, spec: str | MetaAlgorithm, kind: ProblemKind) -> MetaAlgorithm:
        """Return the meta-algorithm that fits the target."""
        if spec != "auto":
            return resolve("algorithm", spec)
        name = {"classification": "protonet", "regression": "supervised", "unlabelled": "untrained"}[kind]
        self.said["algorithm"] = f"{name}, since the problem is {kind}"
        return resolve("algorithm", name)

    def augmentations(self, spec: Any, input_shape: tuple[int, ...], kind: ProblemKind) -> list[Augmentation]:
        """Return the augmentations: for ``"auto"`` those that fit images, or tables."""
        if spec == "auto":
            names = _augmentations_for(input_shape, kind)
            self.said["augment"] = f"{', '.join(names) or 'none'}, since rows have shape {input_shape}"
            return [resolve("augmentation", name) for name in names]
        specs = (
            [] if spec is None else list(spec) if isinstance(spec, Sequence) and not isinstance(spec, str) else [spec]
        )
        chosen: list[Augmentation] = [resolve("augmentation", s) for s in specs]
        for augmentation in chosen:
            if reason := augmentation.accepts(input_shape):
                raise InvalidParameterError(f"{reason} Leave it out of augment.")
        return chosen


def _augmentations_for(input_shape: tuple[int, ...], kind: ProblemKind) -> list[str]:
    if len(input_shape) == 3:
        return ["rotate90", "affine"] if kind == "classification" else ["affine"]
    return ["noise", "feature-dropout"] if len(input_shape) == 1 else []
