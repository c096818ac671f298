"""Folders of files: each sub-folder is a class."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from metafe.contracts import InvalidInputError


@dataclass(frozen=True)
class Folder:
    """Files of one kind.

    Parameters
    ----------
    root : Path
    paths : list of Path
        Sorted.
    """

    root: Path
    paths: list[Path]

    @property
    def files(self) -> list[str]:
        """Paths below the folder."""
        return [path.relative_to(self.root).as_posix() for path in self.paths]

    @property
    def classes(self) -> list[str] | None:
        """Sub-folder of each file; None where files lie in the folder itself."""
        if self.paths[0].parent == self.root:
            return None
        return [path.relative_to(self.root).parts[0] for path in self.paths]


def find_files(root: Path, suffixes: Collection[str], what: str) -> Folder:
    """Find all files with some suffixes: all of them in sub-folders, which are their classes, or none.

    Parameters
    ----------
    root : Path
    suffixes : collection of str
        In lower case, with their dot.
    what : str
        What the files are, in the plural.

    Returns
    -------
    Folder

    Raises
    ------
    InvalidInputError
        No such files, or some beside sub-folders.
    """
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    in_classes = [path for path in found if path.parent != root]
    if in_classes and len(in_classes) < len(found):
        stray = next(path for path in found if path.parent == root)
        raise InvalidInputError(
            f"A folder of {what} must have them all in sub-folders, or none; got {str(stray)!r} beside "
            "sub-folders. Move it."
        )
    if not found:
        raise InvalidInputError(
            f"A folder of {what} must have a sub-folder per class with files ending in {', '.join(sorted(suffixes))}; "
            f"got none in {str(root)!r}. Check the path."
        )
    return Folder(root, found)
