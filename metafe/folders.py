"""Folders of files: each sub-folder is a class."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from metafe.contracts import InvalidInputError, MetafeWarning
from metafe.contracts.input_kinds import IMAGE_SUFFIXES, SOUND_SUFFIXES

SUFFIXES = {"image files": IMAGE_SUFFIXES, "sound files": SOUND_SUFFIXES}


@dataclass(frozen=True)
class Folder:
    """Files of one kind.

    Parameters
    ----------
    root : Path
    kind : str
        ``"image files"`` or ``"sound files"``.
    paths : list of Path
        Sorted.
    """

    root: Path
    kind: str
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


def read_folder(folder: str | PathLike[str]) -> tuple[list[str], np.ndarray | None]:
    """Return the paths of the images, or sound files, in a folder, with a class for each sub-folder.

    Parameters
    ----------
    folder : str or PathLike
        With all files in sub-folders, at any depth, or none. Of images and sound files the more frequent are taken.
        Names that begin with a dot are passed over.

    Returns
    -------
    paths : list of str
        Sorted: what `MetaFeatureExtractor.fit` takes where ``metafe-vision`` or ``metafe-audio`` is installed.
    classes : ndarray of shape (n,) of str, or None
        Name of the sub-folder that each file is in; None where files lie in the folder itself.

    Raises
    ------
    InvalidInputError
        No such folder, no such files, or some beside sub-folders.

    Warns
    -----
    MetafeWarning
        Files of another kind are left out.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         (Path(folder) / name).mkdir()
    ...         (Path(folder) / name / "1.png").touch()
    ...     paths, classes = read_folder(folder)
    >>> [Path(path).name for path in paths], classes.tolist()
    (['1.png', '1.png'], ['cat', 'dog'])
    """
    if not Path(folder).is_dir():
        raise InvalidInputError(f"folder must be a folder that exists; got {str(folder)!r}. Check the path.")
    found = find_files(Path(folder))
    return [str(path) for path in found.paths], None if found.classes is None else np.array(found.classes)


def find_files(root: Path, kind: str | None = None) -> Folder:
    """Find all files of one kind: all of them in sub-folders, which are their classes, or none.

    Parameters
    ----------
    root : Path
    kind : {"image files", "sound files"} or None, default=None
        None takes what there is most of.

    Returns
    -------
    Folder

    Raises
    ------
    InvalidInputError
        No such files, or some beside sub-folders.

    Warns
    -----
    MetafeWarning
        Files of another kind are left out.
    """
    files = _visible_files(root)
    kinds = [_kind_of(path) for path in files]
    counted = Counter(known for known in kinds if known is not None)
    chosen = kind or max(SUFFIXES, key=lambda known: counted[known])
    found = [path for path, of_path in zip(files, kinds, strict=True) if of_path == chosen]
    what = "images" if chosen == "image files" else chosen
    if not found:
        wanted = what if kind else "images or sound files"
        raise InvalidInputError(
            f"A folder of {wanted} must have a sub-folder per class with files ending as they do, such as .jpg or .wav; got "
            f"{len(files)} others in {str(root)!r}. Check the path."
        )
    in_classes = [path for path in found if path.parent != root]
    if in_classes and len(in_classes) < len(found):
        stray = next(path for path in found if path.parent == root)
        raise InvalidInputError(
            f"A folder of {what} must have them all in sub-folders, or none; got {str(stray)!r} beside "
            "sub-folders. Move it."
        )
    if len(found) < len(files):
        other = next(path for path, of_path in zip(files, kinds, strict=True) if of_path != chosen)
        warnings.warn(
            f"A folder should have files of one kind; got {len(files)} in {str(root)!r}, of which {len(found)} {what} are "
            f"taken and {len(files) - len(found)} left out, such as {str(other)!r}.",
            MetafeWarning,
            stacklevel=3,
        )
    return Folder(root, chosen, found)


def _visible_files(root: Path) -> list[Path]:
    """Return all files below a folder, sorted, but what programs hide beside them."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def _kind_of(path: Path) -> str | None:
    return next((kind for kind, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes), None)
