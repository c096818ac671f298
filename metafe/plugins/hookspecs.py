"""The hooks that a plugin may implement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from metafe.contracts import Augmentation, Backbone, Encoder, MetaAlgorithm, TaskSource

hookspec = pluggy.HookspecMarker("metafe")


@hookspec
def metafe_register_backbones() -> Sequence[type[Backbone]]:  # type: ignore[empty-body]
    """Return the backbone classes that this plugin brings."""


@hookspec
def metafe_register_algorithms() -> Sequence[type[MetaAlgorithm]]:  # type: ignore[empty-body]
    """Return the meta-algorithm classes that this plugin brings."""


@hookspec
def metafe_register_task_sources() -> Sequence[type[TaskSource]]:  # type: ignore[empty-body]
    """Return the task-source classes that this plugin brings."""


@hookspec
def metafe_register_augmentations() -> Sequence[type[Augmentation]]:  # type: ignore[empty-body]
    """Return the augmentation classes that this plugin brings."""


@hookspec
def metafe_register_encoders() -> Sequence[type[Encoder]]:  # type: ignore[empty-body]
    """Return the encoder classes that this plugin brings."""


@hookspec
def metafe_fit_started(extractor: Any, settings: Mapping[str, Any]) -> None:
    """Hear that an extractor begins to train, and with which settings."""


@hookspec
def metafe_step_finished(extractor: Any, step: int, metrics: Mapping[str, float]) -> None:
    """Hear the metrics of a validation: ``step``, ``loss``, ``score``, ``seconds``, ``share`` and what the algorithm's loss adds.

    The share is that of the training that is over, by steps or by time.
    """


@hookspec
def metafe_fit_finished(extractor: Any) -> None:
    """Hear that an extractor has been fitted; its ``history_`` and ``decisions_`` are set."""


@hookspec
def metafe_trial_finished(trial: Any) -> None:
    """Hear that a trial of a search has ended."""
