"""One clip, of a file or an array, as samples."""

from __future__ import annotations

import os

import numpy as np

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


def why_no_samples(samples: np.ndarray) -> str | None:
    """Say what an array is, where it holds no samples."""
    if samples.ndim == 1 and samples.dtype.kind in "iuf":
        return None
    return f"{samples.dtype} of shape {samples.shape}"


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
