"""The folder of a saved extractor: files with checksums, replaced as one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from metafe.contracts import SavedFormatError

FORMAT = 1
KIND = "metafe extractor"
MANIFEST = "manifest.json"

# A name from a manifest is never used as a path to anywhere else.
_FILE_NAME = re.compile(r"[a-z0-9-]+\.(safetensors|skops)")


def write_folder(folder: str | Path, content: dict[str, Any], files: dict[str, bytes]) -> None:
    """Write a folder beside the wanted place and move it there once it is complete.

    Parameters
    ----------
    folder : str or Path
        Made with its parents when it does not exist; a saved extractor in it is replaced.
    content : dict
        JSON types; goes to the manifest.
    files : dict of str to bytes
        Name and content of every other file.

    Raises
    ------
    SavedFormatError
        The folder holds something else.
    """
    target = Path(folder).resolve()
    _check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex}.unfinished")
    unfinished.mkdir()
    try:
        for name, data in {**files, MANIFEST: _manifest(content, files)}.items():
            _write_durably(unfinished / name, data)
        _put_in_place(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read a folder and check every byte of it.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    manifest : dict
    files : dict of str to bytes

    Raises
    ------
    SavedFormatError
        The folder does not exist, is not a saved extractor, is damaged or of a newer format.
    """
    place = Path(folder)
    if not place.exists():
        place = _former(place.resolve())
        if not place.exists():
            raise SavedFormatError(
                f"A saved extractor must be a folder that exists; got {str(folder)!r}. Check the path."
            )
    manifest = _read_manifest(place)
    if manifest is None:
        raise SavedFormatError(
            f"A saved extractor must be a folder with a {MANIFEST} that metafe wrote; got {str(folder)!r}, "
            "which is none or whose manifest is damaged. Check the path, or copy the folder again."
        )
    if isinstance(manifest.get("format"), int) and manifest["format"] > FORMAT:
        raise SavedFormatError(
            f"The format of a saved extractor must be {FORMAT} or older for this version of metafe; got the newer "
            f"format {manifest['format']} in {str(folder)!r}. Upgrade metafe."
        )
    if manifest.get("format") != FORMAT or manifest.get("digest") != _digest(manifest):
        raise SavedFormatError(_damaged(place / MANIFEST))
    return manifest, {name: _read_checked(place, name, sha256) for name, sha256 in _checksums(manifest).items()}


def _manifest(content: dict[str, Any], files: dict[str, bytes]) -> bytes:
    checksums = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()}
    manifest = {"kind": KIND, "format": FORMAT, **content, "files": checksums}
    return json.dumps({**manifest, "digest": _digest(manifest)}, indent=1, allow_nan=False).encode()


def _digest(manifest: dict[str, Any]) -> str:
    """Return the digest of all of a manifest but the digest itself, however it is laid out."""
    rest = {k: v for k, v in manifest.items() if k != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest; None when there is none, or none of ours."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("kind") == KIND else None


def _checksums(manifest: dict[str, Any]) -> dict[str, str]:
    """Return name and checksum of the files that a manifest lists."""
    try:
        return {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise SavedFormatError(_damaged(Path(MANIFEST))) from error


def _read_checked(folder: Path, name: str, sha256: str) -> bytes:
    path = folder / name
    if not _FILE_NAME.fullmatch(name):
        raise SavedFormatError(
            f"Files of a saved extractor must lie in its folder; got the name {name!r}. Do not trust this folder."
        )
    if not path.is_file():
        raise SavedFormatError(
            f"A saved extractor must have all its files; {str(path)!r} is missing. Copy the whole folder again."
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SavedFormatError(_damaged(path))
    return data


def _damaged(path: Path) -> str:
    return (
        f"A saved extractor must be as metafe wrote it; got {str(path)!r}, which is damaged or was altered. "
        "Copy the folder again."
    )


def _check_replaceable(target: Path) -> None:
    """Refuse to replace anything but an empty folder or a saved extractor with nothing beside it."""
    if not target.exists():
        return
    present = {p.name for p in target.iterdir()} if target.is_dir() else {target.name}
    manifest = _read_manifest(target)
    known = {MANIFEST, *_checksums(manifest)} if manifest else set()
    if foreign := sorted(present - known):
        raise SavedFormatError(
            f"A folder to save to must be new, empty or hold a saved extractor alone; got {str(target)!r}, which holds "
            f"{foreign[0]!r}. Choose another folder."
        )


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(finished: Path, target: Path) -> None:
    """Move a finished folder to where the former one is; that is kept aside meanwhile, where `read_folder` finds it."""
    former = _former(target)
    if target.exists():
        shutil.rmtree(former, ignore_errors=True)
        target.rename(former)
    try:
        finished.rename(target)
    except BaseException:
        if former.exists():
            former.rename(target)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _former(target: Path) -> Path:
    """Return where a folder is kept while another takes its place."""
    return target.with_name(f".{target.name}.former")
