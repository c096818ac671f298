"""Image files to arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Literal, TypeVar

import numpy as np
import PIL
from joblib import effective_n_jobs
from sklearn.utils.validation import check_is_fitted

from metafe.contracts import (
    Encoder,
    InvalidInputError,
    RowCache,
    Seeds,
    UnreadableRowWarning,
    check_choice,
    check_sizes,
    content_key,
    file_key,
    first_misfit,
    name_row,
    say_kind,
    say_unreadable,
)
from metafe_vision.pixels import Resize, read_pixels, shorter_side

# Images below the first are too small for a convolutional network, and above the second slow on a processor.
SMALLEST_AUTO, LARGEST_AUTO = 28, 84
SMALLEST_SIDE = 8
# Files from which size and colour are decided.
LOOKED_AT = 100
# Side at which a file is looked at for colours.
LOOKED_AT_SIDE = 32
# Of one task of a thread, so that handing it over costs little against the work.
FILES_AT_ONCE = 16

Result = TypeVar("Result")


class ImageFiles(Encoder):
    """Files of images, of any size and kind that Pillow reads, as one array.

    Parameters
    ----------
    side : int or "auto", default="auto"
        Height and width of all images. ``"auto"`` is the median of the shorter sides of a hundred files at most, drawn at
        random, and lies from 28 to 84.
    channels : {"auto", 1, 3}, default="auto"
        Grey or colour. ``"auto"`` is grey where those files have no colour in them, however they are stored.
    resize : {"pad", "crop", "stretch"}, default="pad"
        What becomes of images that are not square: put in the middle of a square of the median colour of their long edges,
        cut to the square in their middle, or distorted.
    errors : {"warn", "raise"}, default="warn"
        A file that cannot be read, or a row that is missing (None, NaN) or no path among others that are, becomes a black
        image and is named in an `UnreadableRowWarning`, or ends the call.
    n_jobs : int or None, default=-1
        Threads that decode; ``None`` is 1 unless in a `joblib.parallel_config`, -1 all processors.

    Attributes
    ----------
    side_ : int
    channels_ : int

    Notes
    -----
    Images are turned as their EXIF orientation says. Transparent pixels show white. Of animations the first frame is read.
    Of 16 bits the upper eight are kept; whole numbers of 32 bits and real numbers are stretched to the range of the image,
    since what is white is not known. JPEGs are decoded at the smallest of their sizes that is at least twice ``side``.

    What was read is kept by `metafe.contracts.RowCache` until the file changes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     paths = [Path(folder) / f"{i}.png" for i in range(3)]
    ...     for i, path in enumerate(paths):
    ...         Image.new("RGB", (40, 50 + i), "red").save(path)
    ...     images = ImageFiles().fit(paths, Seeds(0)).encode(paths)
    >>> images.shape, images.dtype
    ((3, 3, 40, 40), dtype('uint8'))
    """

    name = "image-files"
    reads = "image files"

    def __init__(
        self,
        side: int | Literal["auto"] = "auto",
        channels: Literal["auto", 1, 3] = "auto",
        resize: Resize = "pad",
        errors: Literal["warn", "raise"] = "warn",
        n_jobs: int | None = -1,
    ) -> None:
        self.side = side
        self.channels = channels
        self.resize = resize
        self.errors = errors
        self.n_jobs = n_jobs

    def accepts(self, X: Any) -> str | None:
        """Say why ``X`` is no sequence of paths."""
        if isinstance(X, str | os.PathLike):
            return f"image-files needs a sequence of paths; got the single path {os.fspath(X)!r}. Pass it in a list."
        if not hasattr(X, "__len__") or getattr(X, "ndim", 1) != 1:
            return f"image-files needs a sequence of paths; got {type(X).__name__}. Pass a list of paths."
        if not len(X):
            return "image-files needs at least one path; got none. Pass a list of paths."
        if misfit := first_misfit(X, _why_no_path):
            return f"image-files needs a sequence of paths; row {misfit[0]} is {misfit[1]}. Pass strings or Paths."
        return None

    def fit(self, X: Any, seeds: Seeds) -> ImageFiles:
        """Decide on size and channels.

        Parameters
        ----------
        X : sequence of str or PathLike of length n
        seeds : Seeds

        Returns
        -------
        ImageFiles
            Itself.

        Raises
        ------
        InvalidInputError
            None of the files that were looked at can be read.
        InvalidParameterError
            A size or name that cannot be.
        """
        if self.side != "auto":
            check_sizes(self.name, minimum=SMALLEST_SIDE, side=self.side)
        check_choice(self.name, "channels", self.channels, ("auto", 1, 3))
        check_choice(self.name, "resize", self.resize, ("pad", "crop", "stretch"))
        check_choice(self.name, "errors", self.errors, ("warn", "raise"))
        if self.side == "auto" or self.channels == "auto":
            sides, colours = self._look(list(X), seeds)
        self.side_ = _auto_side(sides) if self.side == "auto" else int(self.side)
        self.channels_ = (3 if any(colours) else 1) if self.channels == "auto" else int(self.channels)
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Read the files, in several threads.

        Parameters
        ----------
        X : sequence of str or PathLike of length n

        Returns
        -------
        ndarray of shape (n, channels_, side_, side_) uint8
            Memory-mapped where it is large.

        Raises
        ------
        InvalidInputError
            A file that cannot be read, with ``errors="raise"``.
        """
        check_is_fitted(self, ("side_", "channels_"))
        paths = list(X)
        if not paths:
            return np.zeros((0, self.channels_, self.side_, self.side_), np.uint8)
        reasons: dict[int, str] = {}
        with self._threads() as in_threads:

            def compute(which: Sequence[int]) -> np.ndarray:
                images = np.zeros((len(which), self.channels_, self.side_, self.side_), np.uint8)
                for k, image in enumerate(in_threads(self._read, [paths[i] for i in which])):
                    if isinstance(image, str):
                        reasons[which[k]] = image
                        self._refuse(paths, reasons)
                    else:
                        images[k] = image
                return images

            rows = RowCache(self._configuration()).rows(list(map(_key, paths)), compute, unreadable=reasons)
        if reasons:
            message = say_unreadable(self.name, "files", "black images", reasons, paths)
            warnings.warn(message, UnreadableRowWarning, stacklevel=2)
        return rows

    def _configuration(self) -> dict[str, Any]:
        return {
            "encoder": self.name,
            "version": version("metafe-vision"),
            "pillow": PIL.__version__,
            "side": self.side_,
            "channels": self.channels_,
            "resize": self.resize,
        }

    def _read(self, path: Any) -> np.ndarray | str:
        """Return the pixels of a file, or why it cannot be read."""
        return _or_reason(path, lambda readable: read_pixels(readable, self.side_, self.channels_, self.resize))

    def _refuse(self, paths: Sequence[Any], reasons: dict[int, str]) -> None:
        if self.errors == "raise":
            ((row, reason),) = reasons.items()
            raise InvalidInputError(
                f"image-files needs files that can be read; {name_row(row, paths)}, cannot ({reason}). Repair or remove "
                "it, or pass ImageFiles(errors='warn')."
            )

    def _look(self, paths: Sequence[Any], seeds: Seeds) -> tuple[list[int], list[bool]]:
        """Return the shorter sides of some files, and whether there is colour in them."""
        chosen = seeds.numpy("looked at").choice(len(paths), min(LOOKED_AT, len(paths)), replace=False)
        with self._threads() as in_threads:
            looks = list(in_threads(_look, [paths[i] for i in sorted(chosen)]))
        seen = [look for look in looks if not isinstance(look, str)]
        if not seen:
            raise InvalidInputError(
                f"image-files needs files that can be read; got {len(paths)}, and none of {len(looks)} that were looked at "
                f"can, such as {_shown(paths[min(chosen)])!r} ({looks[0]}). Pass paths that exist from the current folder."
            )
        return [side for side, _ in seen], [colour for _, colour in seen]

    @contextmanager
    def _threads(self) -> Iterator[Callable[[Callable[[Any], Result], Sequence[Any]], Iterable[Result]]]:
        """Give a function that applies another to each path, in order, in threads that are kept."""
        with ThreadPoolExecutor(effective_n_jobs(self.n_jobs)) as pool:

            def in_threads(function: Callable[[Any], Result], paths: Sequence[Any]) -> Iterator[Result]:
                parts = [paths[k : k + FILES_AT_ONCE] for k in range(0, len(paths), FILES_AT_ONCE)]
                for results in pool.map(lambda part: [function(path) for path in part], parts):
                    yield from results

            yield in_threads


def _why_no_path(row: Any) -> str | None:
    return None if isinstance(row, str | os.PathLike) else say_kind(row)


def _key(row: Any) -> bytes:
    """Return the key of a file; rows that are no path, which are never kept, have one of no file."""
    return content_key("") if _why_no_path(row) else file_key(row)


def _shown(row: Any) -> Any:
    return row if _why_no_path(row) else os.fspath(row)


def _look(path: Any) -> tuple[int, bool] | str:
    """Return the shorter side of a file and whether there is colour in it, or why it cannot be read."""
    return _or_reason(path, lambda readable: (shorter_side(readable), _has_colour(readable)))


def _has_colour(path: str) -> bool:
    pixels = read_pixels(path, LOOKED_AT_SIDE, 3, "stretch")
    return bool((pixels != pixels[:1]).any())


def _auto_side(sides: Sequence[int]) -> int:
    return int(np.clip(np.median(sides), SMALLEST_AUTO, LARGEST_AUTO))


def _or_reason(row: Any, read: Callable[[str], Result]) -> Result | str:
    if reason := _why_no_path(row):
        return reason
    try:
        return read(os.fspath(row))
    # Damaged files make Pillow raise whatever the decoder of their format stumbles over.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
