"""A pretrained text transformer as a network that tasks teach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metafe.contracts import InvalidInputError, Seeds
from metafe_transformers.pooling import Pooling
from metafe_transformers.pretrained import Adapt, PretrainedBackbone

if TYPE_CHECKING:
    from torch import nn


class Transformer(PretrainedBackbone):
    """A pretrained text transformer on rows of token ids, as the encoder ``tokens`` makes them.

    Parameters
    ----------
    model : str or Path, default="auto"
        A name on the Hugging Face hub, or a folder; the same as that of the encoder.
    adapt : {"lora", "full", "frozen"}, default="lora"
        What is trained: small additions to the linear layers, which needs peft; all weights, for which a
        ``learning_rate`` of about 2e-5 is usual; or nothing. A frozen model computes each row once; the encoder
        ``text-encoder``, which does so too, gives the same features and saves no weights.
    rank : int, default=8
        Of the additions.
    alpha : float, default=16.0
        The additions are multiplied by ``alpha / rank``.
    pooling : {"mean", "cls", "last"}, default="mean"
        Which of the tokens' vectors makes that of the text: their mean, the first or the last.

    Attributes
    ----------
    config_ : dict
        The layers of the model, so that loading an extractor does not need the model: all weights are saved with it.

    Notes
    -----
    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021. Ids are not to be augmented: pass
    ``augment=None`` where the encoder does not say so itself.

    Examples
    --------
    >>> Transformer().accepts(np.zeros((5, 8)))
    "transformer needs rows of token ids, whole numbers (n, length); got float64 of shape (5, 8). Use encoder='tokens'."
    """

    name = "transformer"
    standardise = "none"
    part = "text_model"

    def __init__(
        self,
        model: str | Path = "auto",
        adapt: Adapt = "lora",
        rank: int = 8,
        alpha: float = 16.0,
        pooling: Pooling = "mean",
    ) -> None:
        self.model = model
        self.adapt = adapt
        self.rank = rank
        self.alpha = alpha
        self.pooling = pooling

    def accepts(self, X: Any) -> str | None:
        """Say why rows are not token ids."""
        ids = np.asarray(X)
        if ids.ndim == 2 and ids.shape[1] > 1 and ids.dtype.kind in "iu" and (not ids.size or ids.min() >= 0):
            return None
        return (
            f"{self.name} needs rows of token ids, whole numbers (n, length); got {ids.dtype} of shape {ids.shape}. "
            "Use encoder='tokens'."
        )

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> Transformer:
        """Find the model, and fetch it where it must be; a frozen one is loaded, and nothing is learned.

        Raises
        ------
        InvalidParameterError
            A parameter that cannot be, or a model that cannot be loaded.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached.
        """
        super().fit(X, y, seeds)
        if not self.trains:
            self.load(np.shape(X)[1:])
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Return ids as the network takes them, or a frozen one's features of them.

        Parameters
        ----------
        X : array-like of shape (n, length)

        Returns
        -------
        ndarray of shape (n, length), or (n, n_features) float32

        Raises
        ------
        InvalidInputError
            Ids that the network does not know, as those of another model's tokenizer.
        """
        # Some networks read characters, and have no vocabulary.
        n_ids = (self.config_.get("text_config") or self.config_).get("vocab_size")
        largest = np.max(X, initial=0)
        if n_ids is not None and largest >= n_ids:
            raise InvalidInputError(
                f"{self.name} of {str(self.model)!r} must get token ids of its own tokenizer, below {n_ids}; got {largest}. "
                f"Use encoder=Tokens({str(self.model)!r})."
            )
        return super().encode(X)

    def module(self, row_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that maps ids ``(b, length)``, in any type, to ``(b, d)``."""
        from metafe_transformers.network import PooledTransformer

        return PooledTransformer(self.network(), self.config_.get("pad_token_id") or 0, self.pooling)
