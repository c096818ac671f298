"""What the encoders of images share: one size, threads, the cache, and rows that cannot be read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, ClassVar, Literal, TypeVar

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
    name_row,
    say_none_readable,
    say_unreadable,
)
from metafe_vision.pixels import Resize

# Images below the first are too small for a convolutional network, and above the second slow on a processor.
SMALLEST_AUTO, LARGEST_AUTO = 28, 84
SMALLEST_SIDE = 8
# Images from which size and colour are decided.
LOOKED_AT = 100
# Side at which an image is looked at for colours.
LOOKED_AT_SIDE = 32
# Of one task of a thread, so that handing it over costs little against the work.
ROWS_AT_ONCE = 16

Result = TypeVar("Result")


class Squares(Encoder):
    """Base of encoders that bring images to squares of one size, in threads; a subclass writes the methods that raise here.

    Attributes
    ----------
    side_ : int
    channels_ : int
    what : str
        What a row is, in the plural.
    fix : str
        What to do where none can be read.
    """

    what: ClassVar[str]
    fix: ClassVar[str]

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

    def fit(self, X: Any, seeds: Seeds) -> Squares:
        """Decide on size and channels.

        Parameters
        ----------
        X : sequence of length n
        seeds : Seeds

        Returns
        -------
        Squares
            Itself.

        Raises
        ------
        InvalidInputError
            None of the rows that were looked at can be read.
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
        """Read the images, in several threads.

        Parameters
        ----------
        X : sequence of length n

        Returns
        -------
        ndarray of shape (n, channels_, side_, side_) uint8
            Memory-mapped where it is large.

        Raises
        ------
        InvalidInputError
            One that cannot be read, with ``errors="raise"``.
        """
        check_is_fitted(self, ("side_", "channels_"))
        rows = list(X)
        if not rows:
            return np.zeros((0, self.channels_, self.side_, self.side_), np.uint8)
        reasons: dict[int, str] = {}
        with self._threads() as in_threads:

            def compute(which: Sequence[int]) -> np.ndarray:
                images = np.zeros((len(which), self.channels_, self.side_, self.side_), np.uint8)
                for k, image in enumerate(in_threads(self._read, [rows[i] for i in which])):
                    if isinstance(image, str):
                        reasons[which[k]] = image
                        self._refuse(rows, reasons)
                    else:
                        images[k] = image
                return images

            cache = RowCache(self._configuration())
            encoded = cache.rows([self._key(row) for row in rows], compute, unreadable=reasons)
        if reasons:
            message = say_unreadable(self.name, self.what, "black images", reasons, rows)
            warnings.warn(message, UnreadableRowWarning, stacklevel=2)
        return encoded

    def why_not(self, row: Any) -> str | None:
        """Say what a row is that is no image."""
        raise NotImplementedError(f"{type(self).__name__} needs a why_not method.")

    def key(self, row: Any) -> bytes:
        """Return the key of a row in the cache."""
        raise NotImplementedError(f"{type(self).__name__} needs a key method.")

    def pixels(self, row: Any, side: int, n_channels: int, resize: Resize) -> np.ndarray:
        """Return an image ``(n_channels, side, side)`` uint8, or raise whatever keeps it from being read."""
        raise NotImplementedError(f"{type(self).__name__} needs a pixels method.")

    def shorter_side(self, row: Any) -> int:
        """Return the shorter side of an image in pixels, or raise whatever keeps it from being read."""
        raise NotImplementedError(f"{type(self).__name__} needs a shorter_side method.")

    def _configuration(self) -> dict[str, Any]:
        return {
            "encoder": self.name,
            "version": version("metafe-vision"),
            "pillow": PIL.__version__,
            "side": self.side_,
            "channels": self.channels_,
            "resize": self.resize,
        }

    def _key(self, row: Any) -> bytes:
        """Return the key of a row; those that are no images, which are never kept, have that of no row."""
        return content_key("") if self.why_not(row) else self.key(row)

    def _read(self, row: Any) -> np.ndarray | str:
        """Return the pixels of an image, or why it cannot be read."""
        return self._or_reason(row, lambda: self.pixels(row, self.side_, self.channels_, self.resize))

    def _look_at(self, row: Any) -> tuple[int, bool] | str:
        """Return the shorter side of an image and whether there is colour in it, or why it cannot be read."""
        return self._or_reason(row, lambda: (self.shorter_side(row), self._has_colour(row)))

    def _has_colour(self, row: Any) -> bool:
        pixels = self.pixels(row, LOOKED_AT_SIDE, 3, "stretch")
        return bool((pixels != pixels[:1]).any())

    def _or_reason(self, row: Any, read: Callable[[], Result]) -> Result | str:
        if reason := self.why_not(row):
            return reason
        try:
            return read()
        # Damaged files make Pillow raise whatever the decoder of their format stumbles over.
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _refuse(self, rows: Sequence[Any], reasons: dict[int, str]) -> None:
        if self.errors == "raise":
            ((row, reason),) = reasons.items()
            raise InvalidInputError(
                f"{self.name} needs {self.what} that can be read; {name_row(row, rows)}, cannot ({reason}). Repair or remove "
                f"it, or pass {type(self).__name__}(errors='warn')."
            )

    def _look(self, rows: Sequence[Any], seeds: Seeds) -> tuple[list[int], list[bool]]:
        """Return the shorter sides of some images, and whether there is colour in them."""
        chosen = seeds.numpy("looked at").choice(len(rows), min(LOOKED_AT, len(rows)), replace=False)
        with self._threads() as in_threads:
            looks = list(in_threads(self._look_at, [rows[i] for i in sorted(chosen)]))
        seen = [look for look in looks if not isinstance(look, str)]
        if not seen:
            reasons = {i: look for i, look in zip(sorted(chosen), looks, strict=True) if isinstance(look, str)}
            raise InvalidInputError(f"{say_none_readable(self.name, self.what, reasons, rows)} {self.fix}")
        return [side for side, _ in seen], [colour for _, colour in seen]

    @contextmanager
    def _threads(self) -> Iterator[Callable[[Callable[[Any], Result], Sequence[Any]], Iterable[Result]]]:
        """Give a function that applies another to each row, in order, in threads that are kept."""
        with ThreadPoolExecutor(effective_n_jobs(self.n_jobs)) as pool:

            def in_threads(function: Callable[[Any], Result], rows: Sequence[Any]) -> Iterator[Result]:
                parts = [rows[k : k + ROWS_AT_ONCE] for k in range(0, len(rows), ROWS_AT_ONCE)]
                for results in pool.map(lambda part: [function(row) for row in part], parts):
                    yield from results

            yield in_threads


def _auto_side(sides: Sequence[int]) -> int:
    return int(np.clip(np.median(sides), SMALLEST_AUTO, LARGEST_AUTO))
