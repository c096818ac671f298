"""Rows as TabICL represents them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from metafe.contracts import InvalidInputError
from metafe_tabular.in_context import Embed, InContextBackbone


class TabICL(InContextBackbone):
    """Row embeddings of TabICL, a transformer that reads a labelled table as its context; nothing is trained.

    The columns are embedded by what the context says of them, and a transformer makes one vector of the columns of a row:
    the representation on which the model's in-context classifier would work, 512 numbers in the published weights.

    Parameters
    ----------
    weights : str or None, default=None
        File of weights as published for TabICL, such as ``"tabicl-classifier-v2-20260212.ckpt"``; nothing is fetched.
        It must be given. Those of a classifier are for classes, those of a regressor for continuous targets.
    context_size : int, default=512
        Training rows in the context at most, as many of each class as of the others where they are chosen.

    Attributes
    ----------
    weights_ : str
        Digest of the file of weights.
    context_ : ndarray of shape (n_context, n_columns) float64
        The training rows that are the context.
    labels_ : ndarray of shape (n_context,) int64 or float32, or (0,)
        Their class codes or targets; empty where there are none.

    Notes
    -----
    Qu et al., "TabICL: A Tabular Foundation Model for In-Context Learning on Large Data", 2025, by the library `tabicl`.
    Rows are scaled as the library does without a further normalisation. Where the context has more classes than the model
    takes at once, it reads them in the mixed-radix digits of the library, and the column embeddings are averaged. Weights
    whose columns do not depend on labels, those of the first version, need none.

    Examples
    --------
    >>> TabICL("no/such.ckpt").accepts(np.zeros((5, 3))).split(". ")[0]
    "tabicl weights must be the path of a file on this machine; got 'no/such.ckpt', which is no file"
    """

    name = "tabicl"
    library = "tabicl"
    origin = (
        "Download tabicl-classifier-v2-20260212.ckpt, for example, from https://huggingface.co/jingang/TabICL where there "
        "is a network, and pass TabICL(weights='FILE')."
    )

    def __init__(self, weights: str | None = None, context_size: int = 512) -> None:
        self.weights = weights
        self.context_size = context_size

    def _read_context(self, path: str) -> Embed:
        try:
            model = _model(path, self.weights_)
        except ImportError as error:
            raise self._not_installed(error) from error
        except Exception as error:  # torch and the library raise whatever they like about a file
            raise self._unreadable(error) from error
        return _Reader(model, self.context_, self._labels_for(model))

    def _labels_for(self, model: Any) -> np.ndarray:
        if not model.col_embedder.target_aware:
            return np.zeros(len(self.context_), dtype=np.int64)
        if not len(self.labels_):
            raise InvalidInputError(
                f"tabicl needs labels of the context for the weights {self.weights!r}; got none. Pass y, or the weights of "
                "TabICL's first version."
            )
        wanted = "continuous targets" if model.max_classes == 0 else "classes"
        received = "continuous targets" if self.labels_.dtype.kind == "f" else "classes"
        if wanted != received:
            raise InvalidInputError(
                f"tabicl needs {wanted} for the weights {self.weights!r}; got {received}. Pass the weights of a "
                f"{'classifier' if received == 'classes' else 'regressor'}."
            )
        return self.labels_


@lru_cache(maxsize=2)
def _model(path: str, weights: str) -> Any:
    """Load a model, once for each ``weights``."""
    import torch
    from tabicl._model.tabicl import TabICL as Network

    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    # Weights are drawn before those of the file replace them.
    with torch.random.fork_rng(devices=[]):
        model = Network(**checkpoint["config"])
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval().requires_grad_(False)


class _Reader:
    """A model that has read its context.

    Parameters
    ----------
    model : tabicl's TabICL
    context : ndarray of shape (n_context, n_columns)
    labels : ndarray of shape (n_context,)
    """

    def __init__(self, model: Any, context: np.ndarray, labels: np.ndarray) -> None:
        from tabicl._model.inference_config import MgrConfig
        from tabicl._sklearn.preprocessing import PreprocessingPipeline

        self._varies = context.min(axis=0) < context.max(axis=0)
        if not self._varies.any():
            raise InvalidInputError(
                f"tabicl needs a column that differs between the rows of the context; got {len(context)} rows that are all "
                "the same. Pass other rows, or a larger context_size."
            )
        self._model = model
        # Without these, the library looks for an accelerator and computes in half precision.
        self._settings = MgrConfig(device="cpu", use_amp=False, use_fa3=False, offload=False)
        self._scaling = PreprocessingPipeline(normalization_method="none").fit(context[:, self._varies])
        self._readings = [self._read(context, digit) for digit in _digits(model.col_embedder, labels)]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return embeddings ``(n, n_features)`` of rows."""
        import torch

        x = self._scaled(rows)
        columns = [
            self._model.col_embedder.forward_with_cache(
                x, reading, use_cache=True, store_cache=False, mgr_config=self._settings
            )
            for reading in self._readings
        ]
        embeddings = self._model.row_interactor(torch.stack(columns).mean(0), mgr_config=self._settings)
        return np.asarray(embeddings[0])

    def _read(self, context: np.ndarray, labels: np.ndarray) -> Any:
        import torch
        from tabicl._model.kv_cache import KVCache

        reading, y = KVCache(), torch.from_numpy(labels.astype(np.float32))[None]
        self._model.col_embedder.forward_with_cache(self._scaled(context), reading, y, mgr_config=self._settings)
        return reading

    def _scaled(self, rows: np.ndarray) -> Any:
        import torch

        scaled = self._scaling.transform(rows[:, self._varies])
        return torch.from_numpy(scaled.astype(np.float32))[None]


def _digits(embedder: Any, labels: np.ndarray) -> list[np.ndarray]:
    """Return the labels in as many digits as they need, each below the number of classes that the model takes."""
    import torch

    if labels.dtype.kind == "f" or not embedder.target_aware:
        return [labels]
    bases = embedder._compute_mixed_radix_bases(int(labels.max()) + 1)
    codes = torch.from_numpy(labels)
    return [np.asarray(embedder._extract_mixed_radix_digit(codes, k, bases)) for k in range(len(bases))]
