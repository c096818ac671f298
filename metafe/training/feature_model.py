"""A fitted model: from raw rows to features, a constant number of rows at a time."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import _safe_indexing
from torch import Tensor

from metafe.contracts import Backbone, Context, Learner, MetaAlgorithm, PluginContractError, State, TaskData
from metafe.training.checking import checked_features
from metafe.training.input_beside import InputBeside, fit_input_beside, rows_to_weigh
from metafe.training.normalisation import Normaliser

# Rows of more values, such as large images, are no features to judge by nearness.
MOST_VALUES_BESIDE = 4096
VALUES_PER_CHUNK = 2**18
MOST_ROWS_PER_CHUNK = 512


def chunk_size(input_shape: tuple[int, ...]) -> int:
    """Return how many rows are computed at a time: a power of two that depends on the shape of a row alone.

    Kernels choose other code paths for batches of other sizes, whose results differ in the last digits. With chunks of
    one size, the last one padded, a row's features are the same whatever came with it.

    Examples
    --------
    >>> chunk_size((64,)), chunk_size((1, 28, 28)), chunk_size((3, 224, 224))
    (512, 256, 1)
    """
    fitting = VALUES_PER_CHUNK // max(1, math.prod(input_shape))
    return max(1, min(MOST_ROWS_PER_CHUNK, 1 << max(0, fitting.bit_length() - 1)))


def features_in_chunks(x: np.ndarray, forward: Callable[[Tensor], Tensor], device: torch.device) -> np.ndarray:
    """Compute features of encoded rows in chunks of constant size.

    Parameters
    ----------
    x : ndarray of shape (n, *input_shape)
        Encoded rows of any numeric type, byte order and layout; memory-mapped ones are read a chunk at a time.
    forward : callable
        Maps raw tensors ``(chunk, *input_shape)`` on the device to features ``(chunk, n_features)``.
    device : torch.device
        Where to compute.

    Returns
    -------
    ndarray of shape (n, n_features) float32
    """
    size = chunk_size(x.shape[1:])
    buffer: Tensor | None = None
    features: np.ndarray | None = None
    for start in range(0, len(x), size):
        rows = _as_tensor(x[start : start + size])
        if buffer is None:
            # Its own memory, since some kernels' last digits depend on the alignment of their input.
            buffer = torch.zeros((size, *rows.shape[1:]), dtype=rows.dtype)
        buffer[: len(rows)] = rows
        computed = forward(buffer.to(device))[: len(rows)].float().cpu().numpy()
        if features is None:
            features = np.empty((len(x), *computed.shape[1:]), dtype=np.float32)
        features[start : start + len(rows)] = computed
    assert features is not None
    return features


def encode_in_chunks(backbone: Backbone, X: Any) -> np.ndarray:
    """Encode raw rows, in chunks of constant size where the encoder computes.

    Parameters
    ----------
    backbone : Backbone
        With a fitted encoder.
    X : array-like of shape (n, ...)

    Returns
    -------
    ndarray of shape (n, *input_shape)

    Raises
    ------
    PluginContractError
        The encoder returned something else than one finite numeric row for each row.
    """
    if type(backbone).encode is Backbone.encode or backbone.encode_is_view:
        return _checked_rows(backbone, backbone.encode(X), len(X))
    size = chunk_size(np.shape(X)[1:]) if isinstance(X, np.ndarray) else 64
    parts = []
    for start in range(0, len(X), size):
        stop = min(start + size, len(X)) if backbone.encode_is_rowwise else start + size
        chunk = np.arange(start, stop).clip(max=len(X) - 1)
        encoded = _checked_rows(backbone, backbone.encode(_safe_indexing(X, chunk)), len(chunk))
        if not np.isfinite(encoded).all():
            raise PluginContractError(
                f"Backbone {backbone.name!r} must encode rows to finite numbers; got NaN or infinity. Fix its encode."
            )
        parts.append(encoded[: min(size, len(X) - start)])
    return np.concatenate(parts)


def takes_plain_rows(backbone: Backbone, input_shape: tuple[int, ...]) -> bool:
    """Tell whether the rows that a network takes are features themselves: neither encoded by the backbone, nor too large."""
    is_plain = type(backbone).encode is Backbone.encode or backbone.encode_is_view
    return is_plain and backbone.standardise != "none" and math.prod(input_shape) <= MOST_VALUES_BESIDE


@dataclass(frozen=True)
class FeatureModel:
    """Everything that turns raw rows into features.

    Parameters
    ----------
    backbone : Backbone
        With a fitted encoder.
    algorithm : MetaAlgorithm
    learners : tuple of Learner
        In evaluation mode; of more than one, all made alike, the features stand side by side and predictions are their mean.
    normalisers : tuple of Normaliser
        Of the rows that each learner takes.
    input_shape : tuple of int
        Shape of one encoded row.
    states : tuple of dict of str to Tensor
        What `adapt` left of each learner; empty when the model is not adapted.
    n_way : int, default=0
        Classes that the model is adapted to.
    beside : InputBeside or None, default=None
        Makes the encoded rows a part of the features.
    """

    backbone: Backbone
    algorithm: MetaAlgorithm
    learners: tuple[Learner, ...]
    normalisers: tuple[Normaliser, ...]
    input_shape: tuple[int, ...]
    states: tuple[State, ...] = ()
    n_way: int = 0
    beside: InputBeside | None = None

    @property
    def learner(self) -> Learner:
        """The first of the learners, which says what all are for."""
        return self.learners[0]

    @property
    def n_features(self) -> int:
        """Width of the features."""
        beside = 0 if self.beside is None else math.prod(self.beside.normaliser.shape_of(self.input_shape))
        return sum(learner.n_features for learner in self.learners) + beside

    def transform(self, X: Any, device: torch.device) -> np.ndarray:
        """Return the features of raw rows, ``(n, n_features)`` float32, each computed as if it were alone."""
        return self.transform_encoded(encode_in_chunks(self.backbone, X), device)

    def transform_encoded(self, x: np.ndarray, device: torch.device) -> np.ndarray:
        """Return the features of encoded rows."""

        def features(learner: Learner, state: State, rows: Tensor) -> Tensor:
            return checked_features(
                self.algorithm, self.algorithm.features(learner, state, rows), len(rows), learner.n_features
            )

        of_each, beside = self._of_each(device, features), self.beside

        def forward(rows: Tensor) -> Tensor:
            learned = torch.cat(of_each(rows), dim=1)
            return learned if beside is None else beside.join(learned, rows)

        return features_in_chunks(x, forward, device)

    @property
    def takes_plain_rows(self) -> bool:
        """Whether the rows that the network takes are features themselves."""
        return takes_plain_rows(self.backbone, self.input_shape)

    def with_input(self, train: TaskData, normaliser: Normaliser, device: torch.device) -> FeatureModel:
        """Return the model with standardised rows beside its features.

        Parameters
        ----------
        train : TaskData
            Encoded training rows.
        normaliser : Normaliser
            Of the rows.
        device : torch.device

        Returns
        -------
        FeatureModel
        """
        learned = dataclasses.replace(self, beside=None)
        features = learned.transform_encoded(train.take(rows_to_weigh(train)), device)
        return dataclasses.replace(learned, beside=fit_input_beside(train, features, normaliser))

    def predict(self, X: Any, device: torch.device) -> np.ndarray:
        """Return the adapted learner's class scores or targets of raw rows, ``(n, n_outputs)``."""
        of_each = self._of_each(device, self.algorithm.predict)
        return features_in_chunks(
            encode_in_chunks(self.backbone, X), lambda rows: torch.stack(of_each(rows)).mean(dim=0), device
        )

    def adapt(self, X: Any, y: np.ndarray, n_way: int, device: torch.device) -> FeatureModel:
        """Return the model adapted to a support set, this one left as it is.

        Parameters
        ----------
        X : array-like of shape (S, ...)
            Raw support rows.
        y : ndarray of shape (S,) int64 or (S, n_targets) float32
            Labels within the task, or targets.
        n_way : int
            Number of classes; 0 for regression.
        device : torch.device

        Returns
        -------
        FeatureModel
        """
        rows = _as_tensor(encode_in_chunks(self.backbone, X)).to(device)
        labels = torch.as_tensor(y).to(device)

        def state_of(learner: Learner, normaliser: Normaliser) -> State:
            support = normaliser(rows)
            state = self.algorithm.adapt(learner.to(device).eval(), support, labels, n_way, Context(training=False))
            return {k: v.detach().cpu() for k, v in state.items()}

        with torch.no_grad():
            return dataclasses.replace(self, states=tuple(map(state_of, self.learners, self.normalisers)), n_way=n_way)

    def on_cpu(self) -> FeatureModel:
        """Return a copy whose weights are on the CPU, for pickling."""
        if all(p.device.type == "cpu" for learner in self.learners for p in learner.parameters()):
            return self
        return dataclasses.replace(self, learners=tuple(copy.deepcopy(learner).cpu() for learner in self.learners))

    def _of_each(self, device: torch.device, function: Callable[..., Tensor]) -> Callable[[Tensor], list[Tensor]]:
        """Return a function from raw tensors to what each learner makes of them in the state that it is adapted to."""
        learners = [learner.to(device).eval() for learner in self.learners]
        states = [{k: v.to(device) for k, v in state.items()} for state in self.states or [{}] * len(learners)]

        def forward(rows: Tensor) -> list[Tensor]:
            # no_grad, not inference_mode: what inference mode makes cannot enter an inner loop later.
            with torch.no_grad():
                return [
                    function(learner, state, normaliser(rows))
                    for learner, state, normaliser in zip(learners, states, self.normalisers, strict=True)
                ]

        return forward


def _as_tensor(rows: np.ndarray) -> Tensor:
    """Copy rows to a tensor, whatever their byte order, strides and permissions."""
    return torch.from_numpy(np.array(rows, dtype=rows.dtype.newbyteorder("="), order="C", copy=True))


def _checked_rows(backbone: Backbone, encoded: Any, n_rows: int) -> np.ndarray:
    is_array = isinstance(encoded, np.ndarray)
    if is_array and encoded.dtype.kind in "biuf" and encoded.ndim >= 2 and len(encoded) == n_rows:
        return encoded
    received = f"shape {encoded.shape}, {encoded.dtype}" if is_array else type(encoded).__name__
    raise PluginContractError(
        f"Backbone {backbone.name!r} must encode {n_rows} rows to a numeric array of shape ({n_rows}, ...); "
        f"got {received}. Fix its encode."
    )
