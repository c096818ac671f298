"""A study in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock, JournalStorage

from metafe.contracts import InvalidParameterError

# What a trial notes while it runs, as the journal numbers its operations: parameters, reports and attributes.
NOTES = (5, 7, 8, 9)
JOURNAL = b'{"op_code"'


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
    """Return the storage in a file, made with its folders where there is none.

    Raises
    ------
    InvalidParameterError
        There is a folder, or a file of something else, which is left alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() or (path.is_file() and not _begins_as_journal(path)):
        raise InvalidParameterError(
            f"storage must be the path of a journal file, or of none yet; got {str(path)!r}, which is something else. Name another "
            "file, or write sqlite:/// before the path of a database."
        )
    return JournalStorage(JournalFile(path))


def _begins_as_journal(path: Path) -> bool:
    """Tell whether a file is empty or begins with an operation."""
    with path.open("rb") as file:
        return JOURNAL.startswith(file.read(len(JOURNAL)))
