"""Rows as TabPFN represents them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from metafe.contracts import InvalidInputError
from metafe_tabular.in_context import Embed, InContextBackbone, brief


class TabPFN(InContextBackbone):
    """Row embeddings of TabPFN, a transformer that reads a labelled table as its context; nothing is trained.

    An embedding is what the model makes of a row whose label it would predict, before its output layer, as the library's
    `get_embeddings` gives it for one estimator.

    Parameters
    ----------
    weights : str or None, default=None
        File of weights as published for TabPFN, such as ``"tabpfn-v2-classifier.ckpt"``; nothing is fetched. It must be
        given. Up to version 2.6, those of a classifier are for classes, those of a regressor for continuous targets.
    context_size : int, default=512
        Training rows in the context at most, as many of each class as of the others where they are chosen. Of more
        classes than the model takes, 10 in version 2, the context holds the largest.

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
    Hollmann et al., "Accurate predictions on small data with a tabular foundation model", 2025, by the library `tabpfn`,
    with its own preprocessing of rows. What it fits, it fits on the context, which it reads once, so that rows do not depend
    on each other.

    Examples
    --------
    >>> TabPFN("no/such.ckpt").accepts(np.zeros((5, 3))).split(". ")[0]
    "tabpfn weights must be the path of a file on this machine; got 'no/such.ckpt', which is no file"
    """

    name = "tabpfn"
    library = "tabpfn"
    origin = (
        "Download tabpfn-v2-classifier.ckpt, for example, from https://huggingface.co/Prior-Labs/TabPFN-v2-clf where there "
        "is a network, and pass TabPFN(weights='FILE'); the licences of later versions exclude commercial use."
    )

    def __init__(self, weights: str | None = None, context_size: int = 512) -> None:
        self.weights = weights
        self.context_size = context_size

    def _read_context(self, path: str) -> Embed:
        specs = self._specs(path, self.labels_)
        try:
            return _Reader(specs, self.context_, self.labels_)
        except Exception as error:  # the library raises whatever it likes about rows
            raise InvalidInputError(
                f"tabpfn needs a context that the model can read; it cannot read these {len(self.context_)} rows "
                f"({brief(error)}). Pass other rows."
            ) from error

    def _most_classes(self, labels: np.ndarray) -> int:
        return int(self._specs(str(self._file()), labels).inference_config.MAX_NUMBER_OF_CLASSES)

    def _specs(self, path: str, labels: np.ndarray) -> Any:
        if not len(labels):
            raise InvalidInputError("tabpfn needs labels of the context; got none. Pass y.")
        try:
            return _specs(path, self.weights_, is_regression=labels.dtype.kind == "f")
        except ImportError as error:
            raise self._not_installed(error) from error
        except Exception as error:  # torch and the library raise whatever they like about a file
            raise self._unreadable(error) from error


@lru_cache(maxsize=2)
def _specs(path: str, weights: str, is_regression: bool) -> Any:
    """Load a model and what belongs to it, once for each ``weights``."""
    import torch
    from tabpfn import ModelSpecs
    from tabpfn.model_loading import load_model_criterion_config

    # Weights are drawn before those of the file replace them.
    with torch.random.fork_rng(devices=[]):
        models, criterion, configs, inference_config = load_model_criterion_config(
            path,
            check_bar_distribution_criterion=is_regression,
            estimator_type="regressor" if is_regression else "classifier",
            version="v2",  # only says what would be downloaded
            download_if_not_exists=False,
        )
    return ModelSpecs(models[0], configs[0], inference_config, criterion if is_regression else None)


class _Reader:
    """A model that has read its context.

    Parameters
    ----------
    specs : tabpfn.ModelSpecs
    context : ndarray of shape (n_context, n_columns)
    labels : ndarray of shape (n_context,)
    """

    def __init__(self, specs: Any, context: np.ndarray, labels: np.ndarray) -> None:
        import torch
        from tabpfn import TabPFNClassifier, TabPFNRegressor

        estimator = TabPFNRegressor if labels.dtype.kind == "f" else TabPFNClassifier
        self._estimator = estimator(
            model_path=specs,
            n_estimators=1,
            # In other modes, some statistics are those of the context and the new rows together.
            fit_mode="fit_with_cache",
            device="cpu",
            inference_precision=torch.float32,
            # Its limits for a CPU are about time, and context_size is there for that.
            ignore_pretraining_limits=True,
            random_state=0,
        ).fit(context, labels)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return embeddings ``(n, n_features)`` of rows."""
        return np.asarray(self._estimator.get_embeddings(rows)[0], dtype=np.float32)
