"""The built-in task sources."""

from __future__ import annotations

from metafe.contracts import TaskSource, hookimpl
from metafe.tasks.augment import AugmentTasks
from metafe.tasks.classes import ClassTasks
from metafe.tasks.clusters import ClusterTasks
from metafe.tasks.columns import ColumnTasks
from metafe.tasks.groups import GroupTasks, RowTasks
from metafe.tasks.sinusoid import Sinusoid

__all__ = ["AugmentTasks", "ClassTasks", "ClusterTasks", "ColumnTasks", "GroupTasks", "RowTasks", "Sinusoid"]


@hookimpl
def metafe_register_task_sources() -> list[type[TaskSource]]:
    """Return the built-in task sources."""
    return [AugmentTasks, ClassTasks, ClusterTasks, ColumnTasks, GroupTasks, RowTasks, Sinusoid]
