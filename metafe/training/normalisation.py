"""Standardising encoded rows with statistics of the training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from metafe.contracts import TaskData

CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class Normaliser:
    """Subtract a mean and divide by a scale; both broadcast over rows. Where there is a projection, flatten rows and apply it.

    Parameters
    ----------
    mean, scale : Tensor of shape (*input_shape,) or (C, 1, 1, ...), or None
        float64 statistics; None only changes the type of rows.
    projection : Tensor of shape (n_values, n_columns) or None, default=None
        float32, from a flattened standardised row to what takes its place.
    wide : bool, default=False
        Whether float32 cannot hold the training rows exactly, so that the mean is subtracted in float64. A time stamp
        of 1.7e9 seconds keeps a resolution of two minutes in float32. It is the values that decide, not their type:
        equal values in another type are standardised to the same last bit.
    """

    mean: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    wide: bool = False
    projection: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the standardised rows of ``(b, *input_shape)``, of any numeric type, as float32."""
        if self.mean is None or self.scale is None:
            return x.float()
        dtype = torch.float64 if self.wide else torch.float32
        mean, scale = self.mean.to(x.device, dtype), self.scale.to(x.device, dtype)
        standardised = (x.to(dtype) - mean).div_(scale).float()
        if self.projection is None:
            return standardised
        # Rows may stand in tasks; the mean has as many axes as a row.
        return standardised.flatten(-self.mean.ndim) @ self.projection.to(x.device)

    def shape_of(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what becomes of a row."""
        return row_shape if self.projection is None else (self.projection.shape[1],)


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
    scaler, wide = StandardScaler(), False
    for rows in _chunks(data):
        taken = data.take(rows).astype(np.float64, copy=False)
        wide = wide or not _fits_float32(taken)
        scaler.partial_fit(np.moveaxis(taken, 1, -1).reshape(-1, row_shape[0]) if own else taken.reshape(-1, 1))
    shape = (row_shape[0] if own else 1,) + (1,) * (len(row_shape) - 1)
    mean, scale = (torch.tensor(v.reshape(shape), dtype=torch.float64) for v in (scaler.mean_, scaler.scale_))
    return Normaliser(mean, scale, wide)


def _fits_float32(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return np.array_equal(values, values.astype(np.float32))


def _first_axis_has_own_scales(how: str, n_axes: int) -> bool:
    """Tell whether positions along the first axis of a row have scales of their own."""
    return how == "channel" or (how == "feature" and n_axes == 1)


def _chunks(data: TaskData) -> list[np.ndarray]:
    bytes_per_row = 8 * max(1, int(np.prod(data.x.shape[1:])))
    n_chunks = -(-len(data) * bytes_per_row // CHUNK_BYTES)
    return np.array_split(data.rows, max(1, n_chunks))
