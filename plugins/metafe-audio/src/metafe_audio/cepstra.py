"""Cepstral coefficients, their means over time or their course."""

from __future__ import annotations

from typing import Literal

import numpy as np

from metafe.contracts import InvalidParameterError, check_sizes
from metafe_audio.sounds import RANGE, Errors, Sounds

# Below the loudest band of a clip, in decibels; where all bands are fainter, at either end, nobody speaks.
SPEECH_RANGE = 35.0


class _Cepstra(Sounds):
    reads = "sound files"
    by_default = False
    n_coefficients: int

    def coefficients(self, decibels: np.ndarray) -> np.ndarray:
        """Return the coefficients at each time, ``(n_coefficients, n_frames)``, of a spectrogram."""
        from librosa.feature import mfcc

        return np.asarray(mfcc(S=decibels, n_mfcc=self.n_coefficients))

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_sizes(self.name, n_coefficients=self.n_coefficients)
        if self.n_coefficients > self.n_mels:
            raise InvalidParameterError(
                f"{self.name} n_coefficients must be at most n_mels={self.n_mels}; got {self.n_coefficients}. Lower it."
            )


class MfccMeans(_Cepstra):
    """Sound files as the means of their mel-frequency cepstral coefficients over time: a baseline without training.

    Parameters
    ----------
    n_coefficients : int, default=20
        Of the discrete cosine transform of the mel bands, the first counted; at most ``n_mels``.
    deviations : bool, default=False
        Whether the standard deviations over time are given too.
    n_mels : int, default=40
        Bands of pitches, at least 8.
    seconds : float or "auto", default="auto"
        The middle of longer clips is taken; shorter ones stay as they are. ``"auto"`` is the 0.95 quantile of the lengths
        in `fit`, from 0.2 to 10.
    sample_rate : int or "auto", default="auto"
        Samples a second to which files are resampled. ``"auto"`` is the rate of most files in `fit`, 16000 at most.
    errors : {"warn", "raise"}, default="warn"
        A file that cannot be read or has no samples, or a row that is missing (None, NaN), becomes zeros and is named in an
        `UnreadableRowWarning`, or ends the call.

    Attributes
    ----------
    sample_rate_ : int
    seconds_ : float

    Notes
    -----
    Davis and Mermelstein, "Comparison of Parametric Representations for Monosyllabic Word Recognition in Continuously Spoken
    Sentences", 1980, by `librosa`. The order of sounds in a clip is lost.

    Examples
    --------
    >>> MfccMeans().accepts([3])
    'mfcc-means needs paths of sound files; got a int. Pass strings or Paths.'
    """

    name = "mfcc-means"

    def __init__(
        self,
        n_coefficients: int = 20,
        deviations: bool = False,
        n_mels: int = 40,
        seconds: float | Literal["auto"] = "auto",
        sample_rate: int | Literal["auto"] = "auto",
        errors: Errors = "warn",
    ) -> None:
        self.n_coefficients = n_coefficients
        self.deviations = deviations
        self.n_mels = n_mels
        self.seconds = seconds
        self.sample_rate = sample_rate
        self.errors = errors

    def describe(self, signal: np.ndarray) -> np.ndarray:
        """Return the means, and deviations, of the coefficients of a signal."""
        coefficients = self.coefficients(self.decibels(signal))
        parts = [coefficients.mean(axis=1), *([coefficients.std(axis=1)] if self.deviations else [])]
        return np.concatenate(parts).astype(np.float32)


class MfccTimes(_Cepstra):
    """Sound files as the course of their mel-frequency cepstral coefficients: their values at equal steps from beginning to end.

    For words and other short sounds, told apart by what follows what: a slow and a fast speaker's word become alike.

    Parameters
    ----------
    n_coefficients : int, default=13
        Of the discrete cosine transform of the mel bands, the first counted, which is the loudness and is left out; from 2
        to ``n_mels``.
    n_times : int, default=16
        Steps from the beginning to the end of what is heard.
    n_mels : int, default=40
        Bands of pitches, at least 8.
    seconds : float or "auto", default="auto"
        The middle of longer clips is taken; shorter ones stay as they are. ``"auto"`` is the 0.95 quantile of the lengths
        in `fit`, from 0.2 to 10.
    sample_rate : int or "auto", default="auto"
        Samples a second to which files are resampled. ``"auto"`` is the rate of most files in `fit`, 16000 at most.
    errors : {"warn", "raise"}, default="warn"
        A file that cannot be read or has no samples, or a row that is missing (None, NaN), becomes zeros and is named in an
        `UnreadableRowWarning`, or ends the call.

    Attributes
    ----------
    sample_rate_ : int
    seconds_ : float

    Notes
    -----
    The beginning and end of a clip that are 35 decibels below its loudest band are cut off. From each coefficient its mean over
    time is subtracted, which is what a voice or a microphone has added throughout: Atal, "Effectiveness of Linear
    Prediction Characteristics of the Speech Wave for Automatic Speaker Identification and Verification", 1974. Between
    windows, values are interpolated. A silent clip is 0 all over.

    Examples
    --------
    >>> MfccTimes().accepts([3])
    'mfcc-times needs paths of sound files; got a int. Pass strings or Paths.'
    """

    name = "mfcc-times"
    # Few classes teach a network less than the coefficients hold already.
    default_backbone = "adapter"

    def __init__(
        self,
        n_coefficients: int = 13,
        n_times: int = 16,
        n_mels: int = 40,
        seconds: float | Literal["auto"] = "auto",
        sample_rate: int | Literal["auto"] = "auto",
        errors: Errors = "warn",
    ) -> None:
        self.n_coefficients = n_coefficients
        self.n_times = n_times
        self.n_mels = n_mels
        self.seconds = seconds
        self.sample_rate = sample_rate
        self.errors = errors

    def describe(self, signal: np.ndarray) -> np.ndarray:
        """Return the coefficients of a signal at each step, ``((n_coefficients - 1) * n_times,)``, one after the other."""
        course = self.coefficients(_heard(self.decibels(signal)))[1:]
        course = course - course.mean(axis=1, keepdims=True)
        frames = np.arange(course.shape[1])
        steps = np.linspace(0, frames[-1], self.n_times)
        return np.concatenate([np.interp(steps, frames, values) for values in course]).astype(np.float32)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_sizes(self.name, minimum=2, n_coefficients=self.n_coefficients, n_times=self.n_times)


def _heard(decibels: np.ndarray) -> np.ndarray:
    """Return the frames from the first to the last that is loud enough; all of them where none is."""
    loud = np.flatnonzero(decibels.max(axis=0) >= RANGE - SPEECH_RANGE)
    return decibels[:, loud[0] : loud[-1] + 1] if len(loud) else decibels
