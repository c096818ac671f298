"""What ``"auto"`` stands for: decided by rule from the data, and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metafe.contracts import (
    Augmentation,
    Backbone,
    Encoder,
    ImageBackbone,
    InvalidParameterError,
    MetaAlgorithm,
    ProblemKind,
    TaskData,
    TaskSource,
)
from metafe.encoding import choose_encoder
from metafe.plugins import resolve

# With fewer, a learned network has not been seen to beat the standardised rows without labels.
FEWEST_UNLABELLED_ROWS = 200
FEWEST_UNLABELLED_COLUMNS = 8


@dataclass
class Decisions:
    """The plugins to use, and a sentence on each that was not named by the user.

    Parameters
    ----------
    said : dict of str to str
        Parameter to what was decided and why.
    encoder : Encoder or None
        What has made arrays of the rows, which may say what suits them.
    """

    said: dict[str, str] = field(default_factory=dict)
    encoder: Encoder | None = None

    def choose_encoder(self, spec: str | Encoder | None, X: Any) -> Encoder | None:
        """Return what makes arrays of the rows; None where they are arrays."""
        self.encoder = choose_encoder(spec, X)
        if self.encoder is not None and isinstance(spec, str) and spec == "auto":
            self.said["encoder"] = f"{self.encoder.name}, since rows are {self.encoder.reads}"
            if self.encoder.takes_for_granted:
                self.said["encoder"] += f"; {self.encoder.takes_for_granted}"
        return self.encoder

    def backbone(self, spec: str | Backbone, X: Any, kind: ProblemKind) -> Backbone:
        """Return the backbone: for ``"auto"`` a convolutional network for images, a perceptron for anything else.

        What an encoder brings shares its settings, such as a model, also where it is named without any.
        """
        brought = None if self.encoder is None else self.encoder.default_backbone
        if isinstance(brought, Backbone) and isinstance(spec, str) and spec == brought.name:
            return brought
        if spec != "auto":
            return resolve("backbone", spec)
        if kind == "unlabelled":
            self.said["backbone"] = "identity, since there is no y to learn from and no task to be made without"
            return resolve("backbone", "identity")
        if self.encoder is not None and brought is not None:
            backbone = resolve("backbone", brought)
            self.said["backbone"] = f"{backbone.name}, since {self.encoder.name} has encoded the rows"
            return backbone
        if _are_images(X):
            self.said["backbone"] = "conv4, since rows are images"
            return resolve("backbone", "conv4")
        self.said["backbone"] = "mlp, since rows are no images of 8×8 or more"
        return resolve("backbone", "mlp")

    def keep_rows(self, identity: Backbone, validation: Mapping[str, float] | None) -> None:
        """Say that the rows are kept, and why; nothing is augmented then.

        Parameters
        ----------
        identity : Backbone
            That keeps them.
        validation : mapping of str to float or None
            As `MetaFeatureExtractor` has it; None where nothing was held out.
        """
        learned = self.said["backbone"].split(",")[0]
        reason = "nothing was held out"
        if validation is not None:
            unit, key = ("tasks", "") if validation["low"] <= 0 else ("classes", "class_")
            low, high = validation[f"{key}low"], validation[f"{key}high"]
            reason = f"{learned} was not surely better: over held-out {unit}, the 95 % interval of its gain is {low:+.3f} to {high:+.3f}"
            if validation.get("n_classes") == 0:
                reason = f"the classes are too few to hold any out, and {learned} may be no better on others"
        self.said["backbone"] = f"{identity!r}, since {reason}"
        self.said.pop("augment", None)

    def judge_on_more_classes(self, n_classes: int) -> None:
        """Say on how many classes the network was judged, all told."""
        self.said["validation"] = (
            f"on {n_classes} classes, held out in turn, since those of one split were too few to tell"
        )

    def put_rows_beside(self) -> None:
        """Say that the rows stand beside what was learned, and why."""
        learned, _, reason = self.said["backbone"].partition(", ")
        self.said["backbone"] = (
            f"{learned}, {reason}; with the standardised rows beside its features, since the held-out classes are too few to "
            "be sure of it alone"
        )

    def train_on_all(self, n_steps: int, n_networks: int, n_of_discriminants: int, concat_input: str | None) -> None:
        """Say that what was held out is trained on too, by how many networks, how they see rows, what is beside them, and why."""
        networks = "" if n_networks == 1 else f", {n_networks} networks side by side"
        if n_of_discriminants:
            networks += f", {n_of_discriminants} of which see rows by discriminants"
        if concat_input == "discriminants":
            networks += ", with discriminants beside their features"
        self.said["refit"] = (
            f"on all rows for {n_steps} steps{networks}, since few classes are left where some are held out"
        )

    def tasks(self, spec: str | TaskSource, data: TaskData, backbone: str | Backbone = "auto") -> TaskSource | None:
        """Return the task source; None where there is nothing to make tasks of.

        Without ``y``, ``"auto"`` takes ``augment`` for images, ``columns`` for flat rows of at least 8 columns, and none
        for other rows, fewer than 200 of them, or images that the backbone takes for plain matrices.
        """
        if spec != "auto":
            return resolve("task source", spec)
        name: str | None
        if data.kind == "unlabelled":
            name, reason = _tasks_without_labels(data, backbone)
        elif data.groups is not None:
            name, reason = "groups", "since groups were given"
        elif data.kind == "classification":
            name, reason = "classes", "since y has classes"
        else:
            name, reason = "rows", "since y is continuous and there are no groups"
        self.said["tasks"] = f"{name or 'none'}, {reason}"
        return resolve("task source", name) if name else None

    def algorithm(self, spec: str | MetaAlgorithm, kind: ProblemKind) -> MetaAlgorithm:
        """Return the meta-algorithm that fits the target."""
        if spec != "auto":
            return resolve("algorithm", spec)
        name = {"classification": "protonet", "regression": "supervised", "unlabelled": "untrained"}[kind]
        self.said["algorithm"] = f"{name}, since the problem is {kind}"
        return resolve("algorithm", name)

    def augmentations(self, spec: Any, input_shape: tuple[int, ...], kind: ProblemKind) -> list[Augmentation]:
        """Return the augmentations: for ``"auto"`` those of the encoder that fit, or those that fit images, or tables."""
        if is_auto(spec):
            names = self._usual_augmentations(input_shape, kind)
            self.said["augment"] = f"{', '.join(names) or 'none'}, since rows have shape {input_shape}"
            return [resolve("augmentation", name) for name in names]
        chosen = resolve_augmentations(spec)
        for augmentation in chosen:
            if reason := augmentation.accepts(input_shape):
                raise InvalidParameterError(f"{reason} Leave it out of augment.")
        return chosen

    def _usual_augmentations(self, input_shape: tuple[int, ...], kind: ProblemKind) -> list[str]:
        if self.encoder is None or self.encoder.default_augment is None:
            return _augmentations_for(input_shape, kind)
        own = self.encoder.default_augment
        fitting = [name for name in own if resolve("augmentation", name).accepts(input_shape) is None]
        # Where the backbone has made something else of the encoder's arrays, such as features, none of its own fits.
        return fitting if fitting or not own else _augmentations_for(input_shape, kind)


def resolve_augmentations(spec: Any) -> list[Augmentation]:
    """Return the augmentations that a parameter names: none for None, and for ``"auto"``, which names none."""
    if spec is None or is_auto(spec):
        return []
    specs = spec if isinstance(spec, Sequence) and not isinstance(spec, str) else [spec]
    return [resolve("augmentation", one) for one in specs]


def advised_settings(algorithm: MetaAlgorithm, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the outer loop that an algorithm advises, beside those that the user named.

    A learning rate is advised for an optimiser: with another one that the user names it is left out.

    Parameters
    ----------
    algorithm : MetaAlgorithm
    named : mapping of str to object
        Settings of the user; ``"auto"`` is none.

    Returns
    -------
    dict of str to object
    """
    advised = dict(algorithm.training_defaults())
    optimizer = named.get("optimizer", "auto")
    if "optimizer" in advised and not is_auto(optimizer) and optimizer != advised["optimizer"]:
        advised.pop("learning_rate", None)
    return advised


def is_auto(value: Any) -> bool:
    """Tell whether a parameter is left to be decided; comparing arrays and the like would not give one answer."""
    return isinstance(value, str) and value == "auto"


def _tasks_without_labels(data: TaskData, backbone: str | Backbone) -> tuple[str | None, str]:
    if not isinstance(data.x, np.ndarray) or len(data) < FEWEST_UNLABELLED_ROWS:
        return None, f"since there is no y, and not {FEWEST_UNLABELLED_ROWS} rows of numbers to make tasks of"
    if _are_images(data.x):
        if data.x.ndim == 3 and backbone != "auto" and not isinstance(resolve("backbone", backbone), ImageBackbone):
            return None, "since there is no y, and no augmentation fits rows that the backbone takes for matrices"
        return "augment", "since there is no y, and rows are images"
    if data.x.ndim == 2 and data.x.shape[1] >= FEWEST_UNLABELLED_COLUMNS:
        return "columns", "since there is no y, and rows have columns to make tasks of"
    return None, f"since there is no y, and rows are no images and have no {FEWEST_UNLABELLED_COLUMNS} columns"


def _are_images(X: Any) -> bool:
    return np.ndim(X) in (3, 4) and resolve("backbone", "conv4").accepts(X) is None


def _augmentations_for(input_shape: tuple[int, ...], kind: ProblemKind) -> list[str]:
    if len(input_shape) == 3:
        return ["rotate90", "affine"] if kind == "classification" else ["affine"]
    return ["noise", "feature-dropout"] if len(input_shape) == 1 else []
