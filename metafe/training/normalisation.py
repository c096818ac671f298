"""Standardising encoded rows with statistics of the training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from metafe.contracts import TaskData

CHUNK_BYTES = 2**25


# float32 holds every value of these exactly enough to subtract a mean; wider types are standardised in float64.
_NARROW = {torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.bool}


@dataclass(frozen=True)
class Normaliser:
    """Subtract a mean and divide by a scale; both broadcast over rows.

    Parameters
    ----------
    mean, scale : Tensor of shape (*input_shape,) or (C, 1, 1, ...), or None
        float64 statistics; None only changes the type of rows.
    """

    mean: torch.Tensor | None = None
    scale: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the standardised rows of ``(b, *input_shape)``, of any numeric type, as float32."""
        if self.mean is None or self.scale is None:
            return x.float()
        if x.dtype in _NARROW:
            mean, scale = self._statistics(x.device, torch.float32)
            return (x - mean).div_(scale) if x.dtype == torch.float32 else x.float().sub_(mean).div_(scale)
        # A time stamp of 1.7e9 seconds keeps a resolution of two minutes in float32.
        mean, scale = self._statistics(x.device, torch.float64)
        return ((x - mean) / scale).float()

    def _statistics(self, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.mean is not None
        assert self.scale is not None
        return self.mean.to(device, dtype), self.scale.to(device, dtype)


def fit_normaliser(data: TaskData, how: str) -> Normaliser:
    """Compute statistics over the training rows, a chunk at a time.

    Parameters
    ----------
    data : TaskData
        Encoded training rows; memory-mapped ones stay on disk.
    how : {"feature", "channel", "all", "none"}
        What shares a scale: each column of flat rows has its own (rows of more dimensions, such as images, have one),
        each channel has its own, all values have one, or rows stay as they are.

    Returns
    -------
    Normaliser
    """
    if how == "none":
        return Normaliser()
    row_shape = data.x.shape[1:]
    own = _first_axis_has_own_scales(how, len(row_shape))
    scaler = StandardScaler()
    for rows in _chunks(data):
        taken = data.take(rows).astype(np.float64)
        scaler.partial_fit(np.moveaxis(taken, 1, -1).reshape(-1, row_shape[0]) if own else taken.reshape(-1, 1))
    shape = (row_shape[0] if own else 1,) + (1,) * (len(row_shape) - 1)
    mean, scale = (torch.tensor(v.reshape(shape), dtype=torch.float64) for v in (scaler.mean_, scaler.scale_))
    return Normaliser(mean, scale)


def _first_axis_has_own_scales(how: str, n_axes: int) -> bool:
    """Tell whether positions along the first axis of a row have scales of their own."""
    return how == "channel" or (how == "feature" and n_axes == 1)


def _chunks(data: TaskData) -> list[np.ndarray]:
    bytes_per_row = 8 * max(1, int(np.prod(data.x.shape[1:])))
    n_chunks = -(-len(data) * bytes_per_row // CHUNK_BYTES)
    return np.array_split(data.rows, max(1, n_chunks))
