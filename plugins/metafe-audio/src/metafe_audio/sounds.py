"""What the encoders of sound share: reading, length, level, the cache, and rows that cannot be read."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from metafe.contracts import (
    Encoder,
    InvalidInputError,
    InvalidParameterError,
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
    say_none_readable,
    say_unreadable,
)

Errors = Literal["warn", "raise"]

# Speech and most other sounds are told apart below 8 kHz.
HIGHEST_AUTO_RATE = 16_000
LOWEST_RATE = 1000
# Nearly all clips are whole then; the longest of many is often a mistake.
LENGTH_QUANTILE = 0.95
SHORTEST, LONGEST_AUTO = 0.2, 10.0
# Clips from which rate and length are decided.
LOOKED_AT = 1000
# Of the analysis, in seconds.
WINDOW, HOP = 0.032, 0.016
# Below the loudest of a clip, in decibels; what is fainter counts as silence.
RANGE = 80.0
# What rows must be, and how they become so.
_NEEDED = {
    "sound files": ("paths of sound files", "Pass strings or Paths."),
    "sound": ("arrays of samples, (n_samples,)", "Convert rows with numpy.asarray."),
}


class Sounds(Encoder):
    """Base of encoders of sound; a subclass writes `describe`.

    Attributes
    ----------
    sample_rate_ : int
        Samples a second of all signals.
    seconds_ : float
        Longest part of a clip that counts.
    """

    n_mels: int
    seconds: float | Literal["auto"]
    sample_rate: int | Literal["auto"]
    errors: Errors

    def accepts(self, X: Any) -> str | None:
        """Say why ``X`` is no sequence of clips."""
        if isinstance(X, str | os.PathLike) or not hasattr(X, "__len__") or not hasattr(X, "__iter__"):
            return f"{self.name} needs a sequence of clips; got a {type(X).__name__}. Pass a list."
        if not len(X):
            return f"{self.name} needs at least one clip; got none. Pass a list of them."
        misfit = first_misfit(X, self._why_no_clip)
        return misfit and f"{self.name} needs {_NEEDED[self.reads][0]}; got {misfit[1]}. {_NEEDED[self.reads][1]}"

    def fit(self, X: Any, seeds: Seeds) -> Sounds:
        """Settle the sample rate and the length, from a thousand clips at most, drawn at random.

        Parameters
        ----------
        X : sequence of length n
        seeds : Seeds

        Raises
        ------
        InvalidInputError
            None of the clips that were looked at can be read.
        InvalidParameterError
            A number or name that cannot be.
        """
        self._check_parameters()
        rows = self._rows(X)
        chosen = seeds.numpy("looked at").choice(len(rows), min(LOOKED_AT, len(rows)), replace=False)
        looks = {i: self._rate_and_length(rows[i]) for i in sorted(chosen)}
        seen = [look for look in looks.values() if not isinstance(look, str)]
        if not seen:
            reasons = {i: look for i, look in looks.items() if isinstance(look, str)}
            raise InvalidInputError(
                f"{say_none_readable(self.name, 'clips', reasons, rows)} Pass clips that exist and have samples."
            )
        rates = [rate for rate, _ in seen]
        self.sample_rate_ = _usual_rate(rates) if self.sample_rate == "auto" else int(self.sample_rate)
        usual = float(np.quantile([seconds for _, seconds in seen], LENGTH_QUANTILE).clip(SHORTEST, LONGEST_AUTO))
        self.seconds_ = round(usual, 2) if self.seconds == "auto" else float(self.seconds)
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Describe each clip.

        Parameters
        ----------
        X : sequence of length n

        Returns
        -------
        ndarray of shape (n, ...) float32
            Zeros for a clip that cannot be read.

        Raises
        ------
        InvalidInputError
            With ``errors="raise"``: a clip cannot be read. Something else than clips.
        """
        rows = self._rows(X)
        reasons: dict[int, str] = {}

        def compute(which: Sequence[int]) -> np.ndarray:
            return np.stack([self._described(rows, i, reasons) for i in which])

        encoded = RowCache(self._configuration()).rows([self._key(row) for row in rows], compute, unreadable=reasons)
        if reasons:
            warnings.warn(
                say_unreadable(self.name, "clips", "zeros", reasons, rows), UnreadableRowWarning, stacklevel=2
            )
        return encoded

    def describe(self, signal: np.ndarray) -> np.ndarray:
        """Return the description of a signal at the common rate, no longer than the common length."""
        raise NotImplementedError(f"{type(self).__name__} needs a describe method.")

    def decibels(self, signal: np.ndarray) -> np.ndarray:
        """Return the mel spectrogram of a signal, ``(n_mels, n_frames)`` float32, in decibels from 0 (silence) to 80 (its loudest)."""
        from librosa.feature import melspectrogram

        window, hop = round(WINDOW * self.sample_rate_), round(HOP * self.sample_rate_)
        # A finer grid than the window asks for, so that no band falls between two frequencies.
        grid = 1 << (2 * window - 1).bit_length()
        power = melspectrogram(
            # Librosa warns of clips below the grid, around which there is silence in any case.
            y=np.pad(signal, (0, max(0, grid - len(signal)))),
            sr=self.sample_rate_,
            n_fft=grid,
            win_length=window,
            hop_length=hop,
            n_mels=self.n_mels,
        )[:, : 1 + len(signal) // hop]
        loudest = power.max()
        if loudest == 0:
            return np.zeros_like(power)
        # The smallest number is far below the range, so that what is cut off is 0 to the last bit on every machine.
        decibels = 10 * np.log10(np.maximum(power / loudest, np.finfo(np.float32).tiny)) + RANGE
        return np.maximum(decibels, 0).astype(np.float32)

    @property
    def n_samples(self) -> int:
        """Samples of the common length."""
        return round(self.seconds_ * self.sample_rate_)

    def _described(self, rows: Sequence[Any], i: int, reasons: dict[int, str]) -> np.ndarray:
        signal = self._signal_or_reason(rows[i])
        if not isinstance(signal, str):
            return self.describe(signal)
        if self.errors == "raise":
            raise InvalidInputError(
                f"{self.name} needs clips that can be read; {name_row(i, rows)}, cannot ({signal}). Repair or remove it, or "
                "pass errors='warn'."
            )
        reasons[i] = signal
        return np.zeros_like(self.describe(np.zeros(self.n_samples, dtype=np.float32)))

    def _signal_or_reason(self, row: Any) -> np.ndarray | str:
        """Return the samples in the middle of a clip, scaled to 1, or why there are none."""
        if reason := self._why_no_clip(row):
            return reason
        try:
            signal = read_file(row, self.sample_rate_, self.seconds_) if _is_path(row) else read_array(row)
        # Damaged files make soundfile raise whatever the decoder of their format stumbles over.
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if reason := _why_no_signal(signal):
            return reason
        start = max(0, (len(signal) - self.n_samples) // 2)
        signal = signal[start : start + self.n_samples]
        loudest = np.abs(signal).max()
        return signal / loudest if loudest > 0 else signal

    def _rate_and_length(self, row: Any) -> tuple[int, float] | str:
        """Return samples a second and seconds of a clip, or why it cannot be read."""
        if reason := self._why_no_clip(row):
            return reason
        try:
            if not _is_path(row):
                samples, rate = read_array(row), int(self.sample_rate)
                return _why_no_signal(samples) or (rate, len(samples) / rate)
            from soundfile import info

            found = info(os.fspath(row))
            return (found.samplerate, found.duration) if found.frames else "no samples"
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _configuration(self) -> dict[str, Any]:
        settled = {"sample_rate": self.sample_rate_, "seconds": self.seconds_}
        parameters = {k: v for k, v in self.get_params().items() if k not in ("errors", *settled)}
        versions = {name: version(name) for name in ("metafe-audio", "librosa", "soundfile", "soxr")}
        analysis = {"window": WINDOW, "hop": HOP, "range": RANGE}
        return {"encoder": self.name, **parameters, **settled, **analysis, **versions}

    def _check_parameters(self) -> None:
        check_choice(self.name, "errors", self.errors, ("warn", "raise"))
        check_sizes(self.name, minimum=8, n_mels=self.n_mels)
        if self.sample_rate != "auto" or self.reads == "sound":
            check_sizes(self.name, minimum=LOWEST_RATE, sample_rate=self.sample_rate)
        is_number = isinstance(self.seconds, int | float) and not isinstance(self.seconds, bool)
        if self.seconds != "auto" and not (is_number and SHORTEST <= float(self.seconds) < float("inf")):
            raise InvalidParameterError(
                f"{self.name} seconds must be a number of at least {SHORTEST}, or 'auto'; got {self.seconds!r}."
            )

    def _rows(self, X: Any) -> list[Any]:
        if reason := self.accepts(X):
            raise InvalidInputError(reason)
        return list(X)

    def _why_no_clip(self, row: Any) -> str | None:
        """Say what a row is that can be no clip at all."""
        return _why_no_array(row) if self.reads == "sound" else None if _is_path(row) else say_kind(row)

    def _key(self, row: Any) -> bytes:
        """Return the key of a clip; rows that are none, which are never kept, have one of no clip."""
        if self._why_no_clip(row):
            return content_key("")
        return file_key(row) if _is_path(row) else content_key(row)


def read_file(path: str | os.PathLike[str], rate: int, seconds: float) -> np.ndarray:
    """Return the middle of a file, all channels averaged, at ``rate`` samples a second: ``(n_samples,)`` float32."""
    from librosa import resample
    from soundfile import SoundFile

    with SoundFile(os.fspath(path)) as file:
        wanted = int(np.ceil(seconds * file.samplerate))
        if file.frames > wanted:
            file.seek((file.frames - wanted) // 2)
        samples = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
        own = file.samplerate
    return resample(samples, orig_sr=own, target_sr=rate) if own != rate and len(samples) else samples


def read_array(row: Any) -> np.ndarray:
    """Return an array of samples as float32, whole numbers scaled by the range of their type to that from -1 to 1."""
    samples = np.asarray(row)
    if samples.ndim != 1 or samples.dtype.kind not in "iuf":
        raise ValueError(f"needs numbers in one dimension, got {samples.dtype} of shape {samples.shape}")
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    # Whole numbers without a sign have silence in their middle.
    silence = half if samples.dtype.kind == "u" else 0
    return ((samples.astype(np.float64) - silence) / half).astype(np.float32)


def _why_no_array(row: Any) -> str | None:
    """Say what a row is that is no array of samples."""
    if isinstance(row, np.ndarray) and row.ndim == 1 and row.dtype.kind in "iuf":
        return None
    return f"{row.dtype} of shape {row.shape}" if isinstance(row, np.ndarray) else say_kind(row)


def _why_no_signal(samples: np.ndarray) -> str | None:
    if not samples.size:
        return "no samples"
    return None if np.isfinite(samples).all() else "samples that are not finite"


def _is_path(row: Any) -> bool:
    return isinstance(row, str | os.PathLike)


def _usual_rate(rates: Sequence[int]) -> int:
    """Return the rate of most clips, 16 kHz at most."""
    return min(HIGHEST_AUTO_RATE, Counter(rates).most_common(1)[0][0])
