"""What plugin authors use; everything else in metafe is built on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metafe.contracts.algorithm import Context, MetaAlgorithm, State
from metafe.contracts.augmentation import Augmentation
from metafe.contracts.backbone import Backbone
from metafe.contracts.checks import check_choice, check_numbers, check_positive, check_sizes
from metafe.contracts.encoder import Encoder
from metafe.contracts.errors import (
    AdaptedSettingWarning,
    DuplicatePluginError,
    FeatureQualityWarning,
    InvalidInputError,
    InvalidParameterError,
    MetafeError,
    MetafeWarning,
    MissingDependencyError,
    PluginContractError,
    PluginLoadWarning,
    SavedFormatError,
    SearchError,
    TrainingInterruptedWarning,
    UnknownPluginError,
    UnreadableRowWarning,
    VersionMismatchWarning,
)
from metafe.contracts.hooks import hookimpl
from metafe.contracts.image_arrays import eight_bit_image, white_of, why_not_image
from metafe.contracts.images import Channels, ImageBackbone
from metafe.contracts.input_kinds import is_missing, kind_of_input
from metafe.contracts.plugin import Plugin
from metafe.contracts.row_cache import RowCache, content_key, file_key
from metafe.contracts.seeds import Seeds
from metafe.contracts.spaces import Categorical, Distribution, Float, Int, When
from metafe.contracts.task_batch import Problem, ProblemKind, TaskBatch, TaskData, collate
from metafe.contracts.task_source import TaskSource
from metafe.contracts.unreadable import first_misfit, name_row, name_rows, say_kind, say_none_readable, say_unreadable

if TYPE_CHECKING:
    from metafe.contracts.learner import HeadAlgorithm, Learner, features_of_batch
    from metafe.contracts.losses import Differentiated, accuracy, carry_gradient, differentiate, sum_losses, task_loss

_NEEDS_TORCH = {
    "Differentiated": "losses",
    "HeadAlgorithm": "learner",
    "Learner": "learner",
    "features_of_batch": "learner",
    "accuracy": "losses",
    "carry_gradient": "losses",
    "differentiate": "losses",
    "sum_losses": "losses",
    "task_loss": "losses",
}

__all__ = [
    "AdaptedSettingWarning",
    "Augmentation",
    "Backbone",
    "Categorical",
    "Channels",
    "Context",
    "Differentiated",
    "Distribution",
    "DuplicatePluginError",
    "Encoder",
    "FeatureQualityWarning",
    "Float",
    "HeadAlgorithm",
    "ImageBackbone",
    "Int",
    "InvalidInputError",
    "InvalidParameterError",
    "Learner",
    "MetaAlgorithm",
    "MetafeError",
    "MetafeWarning",
    "MissingDependencyError",
    "Plugin",
    "PluginContractError",
    "PluginLoadWarning",
    "Problem",
    "ProblemKind",
    "RowCache",
    "SavedFormatError",
    "SearchError",
    "Seeds",
    "State",
    "TaskBatch",
    "TaskData",
    "TaskSource",
    "TrainingInterruptedWarning",
    "UnknownPluginError",
    "UnreadableRowWarning",
    "VersionMismatchWarning",
    "When",
    "accuracy",
    "carry_gradient",
    "check_choice",
    "check_numbers",
    "check_positive",
    "check_sizes",
    "collate",
    "content_key",
    "differentiate",
    "eight_bit_image",
    "features_of_batch",
    "file_key",
    "first_misfit",
    "hookimpl",
    "is_missing",
    "kind_of_input",
    "name_row",
    "name_rows",
    "say_kind",
    "say_none_readable",
    "say_unreadable",
    "sum_losses",
    "task_loss",
    "white_of",
    "why_not_image",
]


def __getattr__(name: str) -> Any:
    """Load the names that need torch when they are first asked for."""
    if name in _NEEDS_TORCH:
        from importlib import import_module

        return getattr(import_module(f"metafe.contracts.{_NEEDS_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
