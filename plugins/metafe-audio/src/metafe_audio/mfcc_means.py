"""Mean cepstral coefficients."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from metafe_audio.sounds import Errors, Sounds, why_no_path


class MfccMeans(Sounds):
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
        A file that cannot be read, or has no samples, becomes zeros and is named in an `UnreadableRowWarning`, or ends the call.

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
    reads = "sound files"
    by_default = False

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
        from librosa.feature import mfcc

        coefficients = mfcc(S=self.decibels(signal), n_mfcc=self.n_coefficients)
        parts = [coefficients.mean(axis=1), *([coefficients.std(axis=1)] if self.deviations else [])]
        return np.concatenate(parts).astype(np.float32)

    def _check_parameters(self) -> None:
        from metafe.contracts import InvalidParameterError, check_sizes

        super()._check_parameters()
        check_sizes(self.name, n_coefficients=self.n_coefficients)
        if self.n_coefficients > self.n_mels:
            raise InvalidParameterError(
                f"{self.name} n_coefficients must be at most n_mels={self.n_mels}; got {self.n_coefficients}. Lower it."
            )

    def _why_no_clip(self, row: Any) -> str | None:
        return why_no_path(self.name, row)
