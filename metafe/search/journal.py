"""A study in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock, JournalStorage

# What a trial notes while it runs, as the journal numbers its operations: parameters, reports and attributes.
NOTES = (5, 7, 8, 9)


class JournalFile(JournalFileBackend):
    """A journal that waits for the disk when a trial begins or ends, not at each of its some thirty notes.

    Other processes read every note at once, and a killed process loses none; the end of a trial makes sure of all before it.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = JournalFileSymlinkLock(str(path))
        super().__init__(str(path), self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations to the end of the file."""
        if not all(log["op_code"] in NOTES for log in logs):
            super().append_logs(logs)
            return
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self.lock.acquire()
        try:
            with self.path.open("ab") as file:
                file.write(lines.encode())
        finally:
            self.lock.release()


def open_journal(path: Path) -> JournalStorage:
    """Return the storage in a file, made with its folders where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFile(path))
