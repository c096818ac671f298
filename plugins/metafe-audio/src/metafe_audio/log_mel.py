"""Log-mel spectrograms."""

from __future__ import annotations

from typing import Literal

import numpy as np

from metafe_audio.sounds import Errors, Sounds


class _LogMel(Sounds):
    default_backbone = "conv4"
    # Hiding parts made features of few and small classes worse on classes held out.
    default_augment = ("stretch", "time-shift")
    further_augment = ("spec-augment",)

    def describe(self, signal: np.ndarray) -> np.ndarray:
        """Return the spectrogram ``(1, n_mels, n_frames)`` of a signal, with silence on both sides of a short one."""
        missing = self.n_samples - len(signal)
        return self.decibels(np.pad(signal, (missing // 2, missing - missing // 2)))[None]


class LogMel(_LogMel):
    """Sound files as log-mel spectrograms: how loud each band of pitches is at each time, an image for ``conv4``.

    Parameters
    ----------
    n_mels : int, default=40
        Bands of pitches, at least 8.
    seconds : float or "auto", default="auto"
        Length of all clips: the middle of longer ones is taken, shorter ones get silence on both sides. ``"auto"`` is the
        0.95 quantile of the lengths in `fit`, from 0.2 to 10.
    sample_rate : int or "auto", default="auto"
        Samples a second to which files are resampled; pitches up to half of it are seen. ``"auto"`` is the rate of most files
        in `fit`, 16000 at most.
    errors : {"warn", "raise"}, default="warn"
        A file that cannot be read or has no samples, or a row that is missing (None, NaN), becomes zeros and is named in an
        `UnreadableRowWarning`, or ends the call.

    Attributes
    ----------
    sample_rate_ : int
    seconds_ : float

    Notes
    -----
    Channels are averaged. Windows of 32 ms, one every 16 ms, from which `librosa` computes mel bands. Values are decibels above
    a floor 80 below the loudest value of the clip, so that the level of a recording does not matter and silence is 0; a silent
    clip is 0 all over, and is no error. Only the part of a file that is used is decoded. What was read is kept by
    `metafe.contracts.RowCache` until the file changes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import soundfile
    >>> from metafe.contracts import Seeds
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "tone.wav")
    ...     soundfile.write(path, np.sin(np.arange(8000)), 8000)
    ...     LogMel().fit([path], Seeds(0)).encode([path]).shape
    (1, 1, 40, 63)
    """

    name = "log-mel"
    reads = "sound files"

    def __init__(
        self,
        n_mels: int = 40,
        seconds: float | Literal["auto"] = "auto",
        sample_rate: int | Literal["auto"] = "auto",
        errors: Errors = "warn",
    ) -> None:
        self.n_mels = n_mels
        self.seconds = seconds
        self.sample_rate = sample_rate
        self.errors = errors


class LogMelOfArrays(_LogMel):
    """Arrays of samples as log-mel spectrograms: how loud each band of pitches is at each time, an image for ``conv4``.

    Parameters
    ----------
    n_mels : int, default=40
        Bands of pitches, at least 8.
    seconds : float or "auto", default="auto"
        Length of all clips: the middle of longer ones is taken, shorter ones get silence on both sides. ``"auto"`` is the
        0.95 quantile of the lengths in `fit`, from 0.2 to 10.
    sample_rate : int, default=16000
        Samples a second that the arrays have, which cannot be seen in them. Nothing is resampled.
    errors : {"warn", "raise"}, default="warn"
        An array without samples, or with one that is not finite, or a row that is missing (None), becomes zeros and is named
        in an `UnreadableRowWarning`, or ends the call.

    Attributes
    ----------
    sample_rate_ : int
    seconds_ : float

    Notes
    -----
    What `LogMel` gives for files of these samples. Whole numbers are scaled by the range of their type; those without a sign
    have silence in its middle, as files of 8 bits do. The loudest sample of each clip then becomes 1.

    Rows may be a list of arrays, of one length or of several, or one array ``(n, n_samples)``. ``encoder="auto"`` takes this
    encoder for arrays of unequal lengths alone: those of one length are a table, for which it must be named.

    Examples
    --------
    >>> from metafe.contracts import Seeds
    >>> tones = [np.sin(np.arange(8000)), np.sin(np.arange(4000))]
    >>> LogMelOfArrays(sample_rate=8000, seconds=1.0).fit(tones, Seeds(0)).encode(tones).shape
    (2, 1, 40, 63)
    """

    name = "log-mel-of-arrays"
    reads = "sound"
    takes_for_granted = "arrays are taken to have 16000 samples a second: LogMelOfArrays(sample_rate=...) says another"

    def __init__(
        self,
        n_mels: int = 40,
        seconds: float | Literal["auto"] = "auto",
        sample_rate: int = 16_000,
        errors: Errors = "warn",
    ) -> None:
        self.n_mels = n_mels
        self.seconds = seconds
        self.sample_rate = sample_rate
        self.errors = errors
