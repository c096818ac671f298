"""The built-in task sources."""

from __future__ import annotations

from metafe.contracts import TaskSource, hookimpl
from metafe.tasks.classes import ClassTasks
from metafe.tasks.groups import GroupTasks, RowTasks

__all__ = ["ClassTasks", "GroupTasks", "RowTasks"]


@hookimpl
def metafe_register_task_sources() -> list[type[TaskSource]]:
    """Return the built-in task sources."""
    return [ClassTasks, GroupTasks, RowTasks]
