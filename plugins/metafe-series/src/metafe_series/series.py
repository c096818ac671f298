"""The encoder of series of unequal length."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any, Literal

import numpy as np

from metafe.contracts import (
    Encoder,
    InvalidInputError,
    InvalidParameterError,
    Seeds,
    UnreadableRowWarning,
    check_choice,
    check_sizes,
    name_rows,
)

# The shortest that MiniRocket takes, and what "auto" goes up to when it resamples.
SHORTEST, LONGEST = 9, 512


class Series(Encoder):
    """Series of unequal length, of one or several channels, as arrays of one length.

    Parameters
    ----------
    length : int or "auto", default="auto"
        Common length. ``"auto"`` is the median length of the rows in `fit`, 512 at most, or the greatest with
        ``how="pad"``; 9 at least, which is the shortest that MiniRocket takes.
    how : {"resample", "pad"}, default="resample"
        ``"resample"`` stretches or squeezes each series to the common length; ``"pad"`` adds zeros after its end, or cuts
        what lies beyond.
    normalise : bool, default=False
        Whether each channel of each series is brought to mean 0 and standard deviation 1, so that its shape alone counts.
        Where level and amplitude say something, as in most raw measurements, this throws it away.
    errors : {"warn", "raise"}, default="warn"
        What becomes of rows that cannot be read: a warning names them, and they are zeros, or an error names the first.

    Attributes
    ----------
    length_ : int
        The common length.
    n_channels_ : int
        The number of channels, that of most rows in `fit`.

    Notes
    -----
    - A row is an array ``(length,)`` or ``(n_channels, length)``, or an entry of an array ``(n, n_channels, length)``. Lists of
      numbers and torch tensors are arrays.
    - Series that all have one length are rows of numbers like any others, so that this encoder is used only where it is named.
    - Gaps (NaN, infinite numbers, and those that float32 cannot hold) are filled by a line between the values beside them; at
      the ends the nearest value stays. A channel without any value is zero.
    - A constant channel is zero if ``normalise``. A series of a single value is constant.
    - Longer series are squeezed by averaging the values that fall together, so that nothing between samples is lost, and
      shorter ones stretched by lines between values.
    - Rows without a value, of another number of channels, or that are no series of numbers, cannot be read.

    Examples
    --------
    >>> rows = [np.arange(9.0), np.arange(18.0), np.array([[1.0, np.nan, 1.0]])]
    >>> encoded = Series().fit(rows, Seeds(0)).encode(rows)
    >>> encoded.shape
    (3, 1, 9)
    >>> encoded[1, 0].tolist()
    [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 14.5, 16.5]
    """

    name = "series"
    reads = "series"
    default_backbone = "inception-time"
    default_augment = ("jitter", "scaling", "window-warping")

    def __init__(
        self,
        length: int | Literal["auto"] = "auto",
        how: Literal["resample", "pad"] = "resample",
        normalise: bool = False,
        errors: Literal["warn", "raise"] = "warn",
    ) -> None:
        self.length = length
        self.how = how
        self.normalise = normalise
        self.errors = errors

    def accepts(self, X: Any) -> str | None:
        """Say that none of the rows is a series."""
        rows = list(X) if hasattr(X, "__iter__") else [X]
        if not rows or any(_as_numbers(row) is not None for row in rows):
            return None
        return (
            "series needs a list of arrays of numbers, of shape (length,) or (n_channels, length); got "
            f"{type(rows[0]).__name__} rows in a {type(X).__name__}. Convert them with numpy.asarray."
        )

    def fit(self, X: Any, seeds: Seeds) -> Series:
        """Settle the length and the number of channels.

        Parameters
        ----------
        X : sequence of n arrays of shape (length,) or (n_channels, length)
        seeds : Seeds
            Not used.

        Raises
        ------
        InvalidInputError
            No row can be read.
        InvalidParameterError
            A length or name that cannot be.
        """
        self._check_parameters()
        shapes = [row.shape for row in map(_read, X) if row is not None]
        if not shapes:
            raise InvalidInputError(f"series needs rows with at least one number; got {len(X)} without any.")
        self.n_channels_ = Counter(n_channels for n_channels, _ in shapes).most_common(1)[0][0]
        self.length_ = int(self.length) if self.length != "auto" else self._usual([length for _, length in shapes])
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Bring each series to the common length.

        Parameters
        ----------
        X : sequence of n arrays of shape (length,) or (n_channels, length)

        Returns
        -------
        ndarray of shape (n, n_channels, length) float32
            Zeros for a row that cannot be read.

        Raises
        ------
        InvalidInputError
            With ``errors="raise"``: a row cannot be read.
        """
        if reason := self.accepts(X):
            raise InvalidInputError(reason)
        encoded = np.zeros((len(X), self.n_channels_, self.length_), dtype=np.float32)
        unreadable: dict[int, str] = {}
        for i, row in enumerate(X):
            read = _read(row)
            if read is None or len(read) != self.n_channels_:
                unreadable[i] = "no numbers" if read is None else f"{len(read)} channels"
            else:
                encoded[i] = self._encode(read)
        if unreadable:
            self._name(unreadable)
        return encoded

    def _check_parameters(self) -> None:
        if self.length != "auto":
            check_sizes("series", length=self.length)
        check_choice("series", "how", self.how, ("resample", "pad"))
        check_choice("series", "errors", self.errors, ("warn", "raise"))
        if not isinstance(self.normalise, bool):
            raise InvalidParameterError(f"series normalise must be True or False; got {self.normalise!r}.")

    def _usual(self, lengths: list[int]) -> int:
        usual = max(lengths) if self.how == "pad" else min(LONGEST, round(float(np.median(lengths))))
        return max(SHORTEST, usual)

    def _encode(self, series: np.ndarray) -> np.ndarray:
        filled = np.stack([_without_gaps(channel) for channel in series])
        values = _normalised(filled) if self.normalise else filled
        if self.how == "resample":
            return _resampled(values, self.length_)
        n_missing = max(0, self.length_ - values.shape[1])
        return np.pad(values[:, : self.length_], ((0, 0), (0, n_missing)))

    def _name(self, unreadable: dict[int, str]) -> None:
        needs = f"Series must be of {self.n_channels_} channel(s) with at least one number"
        named = name_rows(unreadable)
        if self.errors == "raise":
            raise InvalidInputError(f"{needs}; got {named}. Leave them out, or pass errors='warn' to take zeros.")
        message = f"{needs}; got {len(unreadable)} others: {named}. They are zeros."
        warnings.warn(message, UnreadableRowWarning, stacklevel=3)


def _as_numbers(row: Any) -> np.ndarray | None:
    """Return an array ``(n_channels, length)``; None for what is none."""
    try:
        values = np.atleast_2d(_as_array(row))
    except ValueError:  # lists of unequal length
        return None
    return values if np.ndim(row) and values.ndim == 2 and values.dtype.kind in "biuf" else None


def _as_array(row: Any) -> np.ndarray:
    """Return a row as an array; a tensor of torch, which is not imported here, whatever holds it and its gradient."""
    if type(row).__module__.split(".")[0] == "torch":
        row = row.detach().cpu()
        row = row.double() if row.is_floating_point() else row
    return np.asarray(row)


def _read(row: Any) -> np.ndarray | None:
    """Return a series ``(n_channels, length)`` float64 with gaps as NaN; None for what is none or has no value."""
    values = _as_numbers(row)
    if values is None:
        return None
    read = values.astype(np.float64)
    read[~(np.abs(read) <= np.finfo(np.float32).max)] = np.nan
    return None if np.isnan(read).all() else read


def _without_gaps(channel: np.ndarray) -> np.ndarray:
    """Fill gaps by lines between their neighbours; zeros where there is no value at all."""
    known = np.flatnonzero(~np.isnan(channel))
    if not len(known):
        return np.zeros_like(channel)
    return np.interp(np.arange(len(channel)), known, channel[known])


def _normalised(series: np.ndarray) -> np.ndarray:
    """Bring each channel to mean 0 and standard deviation 1; zeros for a constant one."""
    centred = series - series.mean(axis=1, keepdims=True)
    varies = np.ptp(series, axis=1, keepdims=True) > 0
    return np.where(varies, centred / np.where(varies, centred.std(axis=1, keepdims=True), 1), 0)


def _resampled(series: np.ndarray, length: int) -> np.ndarray:
    """Stretch by lines between values, or squeeze by averages of those that fall together."""
    given = series.shape[1]
    if given == length:
        return series
    if given < length:
        at = np.linspace(0, given - 1, length)
        return np.stack([np.interp(at, np.arange(given), channel) for channel in series])
    edges, sums = np.linspace(0, given, length + 1), np.cumsum(np.pad(series, ((0, 0), (1, 0))), axis=1)
    return np.stack([np.diff(np.interp(edges, np.arange(given + 1), s)) for s in sums]) * (length / given)
