"""Checking what plugins return, once a fit, so that an error names the plugin that caused it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metafe.contracts import MetaAlgorithm, PluginContractError, TaskBatch, TaskSource
from metafe.training.metrics import OWN_METRICS


def check_batches(source: TaskSource, batches: Any, input_shape: tuple[int, ...]) -> list[TaskBatch]:
    """Check the tasks that a source drew.

    Parameters
    ----------
    source : TaskSource
    batches : object
        What its ``draw`` or ``draw_validation`` returned.
    input_shape : tuple of int
        Shape of one encoded row.

    Returns
    -------
    list of TaskBatch
        ``batches``.

    Raises
    ------
    PluginContractError
        Not a non-empty list of `TaskBatch`, or one with rows or labels that its contract forbids.
    """
    if not (isinstance(batches, list) and batches and all(isinstance(batch, TaskBatch) for batch in batches)):
        received = [type(b).__name__ for b in batches] if isinstance(batches, list) else type(batches).__name__
        raise _wrong_batch(source, "draw a non-empty list of TaskBatch", received)
    for batch in batches:
        for part in ("support", "query"):
            _check_part(source, part, getattr(batch, f"{part}_x"), getattr(batch, f"{part}_y"), batch, input_shape)
    return batches


def _check_part(source: TaskSource, part: str, x: Any, y: Any, batch: TaskBatch, input_shape: tuple[int, ...]) -> None:
    shape, n_tasks = np.shape(x), len(batch)
    if len(shape) < 2 or shape[0] != n_tasks or shape[2:] != input_shape:
        wanted = f"({n_tasks}, n_rows, {', '.join(map(str, input_shape))})"
        raise _wrong_batch(source, f"give {part}_x the shape {wanted}", shape)
    if np.shape(y)[:2] != shape[:2]:
        raise _wrong_batch(source, f"give {part}_y a label for each of the {shape[:2]} rows", f"shape {np.shape(y)}")
    if not _is_finite(x) or not _is_finite(y):
        raise _wrong_batch(source, f"give {part} rows and labels that are finite", "NaN or infinity")
    if batch.n_way and np.size(y) and not 0 <= y.min() <= y.max() < batch.n_way:
        raise _wrong_batch(source, f"label {part} rows 0 to {batch.n_way - 1}", f"{y.min()} to {y.max()}")


def _wrong_batch(source: TaskSource, requirement: str, received: object) -> PluginContractError:
    return PluginContractError(f"Task source {source.name!r} must {requirement}; got {received}. Fix its task or draw.")


def _is_finite(values: Any) -> bool:
    return np.asarray(values).dtype.kind != "f" or bool(np.isfinite(values).all())


def checked_loss(
    algorithm: MetaAlgorithm, returned: Any, *, first: bool
) -> tuple[Tensor, Mapping[str, float | Tensor]]:
    """Return the loss and the metrics that ``meta_loss`` returned.

    Parameters
    ----------
    algorithm : MetaAlgorithm
    returned : object
        What its ``meta_loss`` returned.
    first : bool
        Whether this is the first step, whose loss must be finite and whose metrics are checked; a later one may have
        diverged.

    Returns
    -------
    loss : Tensor of shape ()
    metrics : mapping of str to float or Tensor of shape ()

    Raises
    ------
    PluginContractError
        Not a pair of a scalar tensor and metrics, a metric that is no number or has a name of the outer loop's, or a loss
        that is not finite before any step was taken.
    """
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise _wrong_loss(algorithm, "a pair (loss, metrics)", type(returned).__name__)
    loss, metrics = returned
    if not isinstance(loss, Tensor) or loss.ndim:
        received = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise _wrong_loss(algorithm, "a loss that is a scalar tensor", received)
    if first and not torch.isfinite(loss):
        received = f"{float(loss.detach())} from {algorithm!r}"
        fix = "settings, such as too high an inner rate or too low a temperature; in an algorithm of your own, its meta_loss"
        raise _wrong_loss(algorithm, "a finite loss before the first step", received, fix)
    if first:
        _check_metrics(algorithm, metrics)
    return loss, metrics


def _check_metrics(algorithm: MetaAlgorithm, metrics: Any) -> None:
    if not isinstance(metrics, Mapping):
        raise _wrong_loss(algorithm, "metrics that are a dict", type(metrics).__name__)
    for name, value in metrics.items():
        if name in OWN_METRICS or not isinstance(name, str):
            requirement = f"metrics named by strings, other than {', '.join(OWN_METRICS)}"
            raise _wrong_loss(algorithm, requirement, repr(name))
        if not isinstance(value, Real) and not (isinstance(value, Tensor) and value.ndim == 0):
            received = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise _wrong_loss(algorithm, f"a number or a tensor of shape () as the metric {name!r}", received)


def _wrong_loss(
    algorithm: MetaAlgorithm, requirement: str, received: str, fix: str = "meta_loss"
) -> PluginContractError:
    return PluginContractError(
        f"Algorithm {algorithm.name!r} must return {requirement}; got {received}. Fix its {fix}."
    )


def checked_features(algorithm: MetaAlgorithm, features: Any, n_rows: int, n_features: int) -> Tensor:
    """Return the features that an algorithm gave.

    Raises
    ------
    PluginContractError
        Not one row of ``n_features`` floating-point numbers for each row.
    """
    wanted = (n_rows, n_features)
    if isinstance(features, Tensor) and tuple(features.shape) == wanted and features.is_floating_point():
        return features
    is_tensor = isinstance(features, Tensor)
    received = f"shape {tuple(features.shape)}, {features.dtype}" if is_tensor else type(features).__name__
    raise PluginContractError(
        f"Algorithm {algorithm.name!r} must give {n_rows} rows a floating-point tensor of features of shape {wanted}; "
        f"got {received}. Fix its features, or the backbone's module."
    )
