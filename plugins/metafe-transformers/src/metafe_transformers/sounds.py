"""One clip, of a file or an array, as samples."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from metafe.contracts import InvalidParameterError, first_misfit, say_kind
from metafe_transformers.frozen import Inputs, is_path

# Networks of sound begin with windows that are longer than what some clips have.
SHORTEST = 0.1


def read_samples(
    row: str | os.PathLike[str] | np.ndarray, array_rate: int, rate: int, seconds: float | None
) -> np.ndarray:
    """Return the middle of a clip.

    Parameters
    ----------
    row : str, PathLike or ndarray of shape (n,)
        A file, whose channels are averaged, or samples, of which whole numbers are scaled by the range of their type.
    array_rate : int
        Samples a second of arrays; files have their own.
    rate : int
        Samples a second of the result.
    seconds : float or None
        Longest part of the clip; None takes all.

    Returns
    -------
    ndarray of shape (m,) float32
        Silence is added at the end of clips below a tenth of a second.

    Raises
    ------
    Exception
        Of any kind, where there is no such file, it is damaged, or there are no samples or some that are not finite.
    """
    from librosa import resample

    if isinstance(row, np.ndarray):
        samples, own = _middle(row, array_rate, seconds), array_rate
    else:
        samples, own = _of_file(row, seconds)
    if not samples.size:
        raise ValueError("no samples")
    if not np.isfinite(samples).all():
        raise ValueError("samples that are not finite")
    if own != rate:
        samples = resample(samples, orig_sr=own, target_sr=rate)
    return np.pad(samples, (0, max(0, round(SHORTEST * rate) - len(samples))))


def inputs_or_reason(extractor: Any, row: Any, array_rate: int, seconds: float | None) -> Inputs | str:
    """Return what a model's feature extractor makes of a clip, or why it cannot be read.

    Parameters
    ----------
    extractor : transformers.FeatureExtractionMixin
    row : object
        A file or an array of samples; anything else cannot be read.
    array_rate, seconds
        As for `read_samples`.
    """
    if reason := why_no_clip(row):
        return reason
    rate = int(extractor.sampling_rate)
    try:
        samples = read_samples(row, array_rate, rate, seconds)
        made = extractor(samples, sampling_rate=rate, return_tensors="np", return_attention_mask=True)
    # Damaged files make soundfile raise whatever the decoder of their format stumbles over, and odd clips the extractor.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return {name: np.asarray(value)[0] for name, value in made.items()}


def inputs_of_silence(owner: str, extractor: Any, seconds: float) -> Inputs:
    """Return what a model's feature extractor makes of a silent clip.

    Raises
    ------
    InvalidParameterError
        It is not for sound.
    """
    rate = int(getattr(extractor, "sampling_rate", 0))
    made = (
        inputs_or_reason(extractor, np.zeros(round(seconds * rate)), rate, None) if rate else "it has no sampling_rate"
    )
    if isinstance(made, str):
        raise InvalidParameterError(
            f"{owner} model must come with a feature extractor of sound; that of this one takes no silent clip ({made}). "
            "Choose another model."
        )
    return made


def packed(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Put what a feature extractor makes of a clip into one array, whatever the model.

    Parameters
    ----------
    values : ndarray of shape (length,), (channels, length) or (length, channels)
        Samples, or a spectrogram; without a mask, time comes first.
    mask : ndarray of shape (length,) or None
        Which moments are no padding.

    Returns
    -------
    ndarray of shape (1 + channels, length) float32
        The mask comes first.
    """
    channels = np.atleast_2d(values.T if has_time_first(values, mask) else values)
    heard = np.ones(channels.shape[1]) if mask is None else mask
    return np.concatenate([heard[None], channels]).astype(np.float32)


def has_time_first(values: np.ndarray, mask: np.ndarray | None) -> bool:
    """Tell whether the first axis of a spectrogram is time."""
    return values.ndim == 2 and (mask is None or values.shape[1] != len(mask))


def check_seconds(owner: str, seconds: float | None, none_is_all: bool = True) -> None:
    """Check the longest part of a clip that counts.

    Raises
    ------
    InvalidParameterError
        Neither a finite number of at least a tenth of a second nor None, where that stands for the whole clip.
    """
    if seconds is None and none_is_all:
        return
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is None or not (is_number and SHORTEST <= seconds < float("inf")):
        alternative = ", or None" if none_is_all else ""
        raise InvalidParameterError(
            f"{owner} seconds must be a number of at least {SHORTEST}{alternative}; got {seconds!r}."
        )


def why_no_clips(owner: str, X: Any) -> str | None:
    """Say why rows are neither files nor arrays of samples."""
    misfit = first_misfit(X, why_no_clip)
    return misfit and (
        f"{owner} needs files or arrays of samples, (n_samples,); row {misfit[0]} is {misfit[1]}. "
        "Convert rows with numpy.asarray."
    )


def why_no_clip(row: Any) -> str | None:
    """Say what a row is that is neither a file nor an array of samples."""
    if not isinstance(row, np.ndarray):
        return None if is_path(row) else say_kind(row)
    return None if row.ndim == 1 and row.dtype.kind in "iuf" else f"{row.dtype} of shape {row.shape}"


def _middle(samples: np.ndarray, rate: int, seconds: float | None) -> np.ndarray:
    wanted = _wanted(len(samples), rate, seconds)
    start = (len(samples) - wanted) // 2
    return _scaled(samples[start : start + wanted])


def _of_file(path: str | os.PathLike[str], seconds: float | None) -> tuple[np.ndarray, int]:
    """Return the samples in the middle of a file, and how many it has in a second; only they are decoded."""
    from soundfile import SoundFile

    with SoundFile(os.fspath(path)) as file:
        wanted = _wanted(file.frames, file.samplerate, seconds)
        if wanted < file.frames:
            file.seek((file.frames - wanted) // 2)
        return file.read(wanted, dtype="float32", always_2d=True).mean(axis=1), file.samplerate


def _wanted(n_samples: int, rate: int, seconds: float | None) -> int:
    return n_samples if seconds is None else min(n_samples, round(seconds * rate))


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Return samples from -1 to 1 as float32."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    limits = np.iinfo(samples.dtype)
    half = (limits.max - limits.min + 1) / 2
    # Whole numbers without a sign have silence in their middle.
    silence = half if samples.dtype.kind == "u" else 0
    return ((samples.astype(np.float64) - silence) / half).astype(np.float32)
