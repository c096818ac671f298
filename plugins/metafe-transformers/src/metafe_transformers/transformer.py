"""A pretrained text transformer as a network that tasks teach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from metafe.contracts import (
    Backbone,
    Categorical,
    Distribution,
    Int,
    MissingDependencyError,
    Problem,
    Seeds,
    When,
    check_choice,
    check_numbers,
    check_sizes,
)
from metafe_transformers.pooling import Pooling
from metafe_transformers.weights import load_config, load_model, model_folder, without_pooler

if TYPE_CHECKING:
    from torch import nn

Adapt = Literal["lora", "full", "frozen"]


class Transformer(Backbone):
    """A pretrained text transformer on rows of token ids, as the encoder ``tokens`` makes them.

    Parameters
    ----------
    model : str or Path, default="auto"
        A name on the Hugging Face hub, or a folder; the same as that of the encoder.
    adapt : {"lora", "full", "frozen"}, default="lora"
        What is trained: small additions to the linear layers, which needs peft; all weights, for which a
        ``learning_rate`` of about 2e-5 is usual; or nothing. For a frozen model the encoder ``text-encoder`` gives the
        same features much faster.
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

    @property
    def trains(self) -> bool:  # type: ignore[override]
        """Whether there is anything to train."""
        return self.adapt != "frozen"

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare rank and pooling."""
        return {
            "rank": When(Int(2, 32, log=True), {"adapt": ["lora"]}),
            "adapt": Categorical(["lora"]),
            "pooling": Categorical(["mean", "cls"]),
        }

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
        """Find the model, and fetch it where it must be; nothing is learned.

        Raises
        ------
        InvalidParameterError
            A parameter that cannot be, or a model that cannot be loaded.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached; or peft is not installed.
        """
        check_choice(self.name, "adapt", self.adapt, ("lora", "full", "frozen"))
        check_choice(self.name, "pooling", self.pooling, ("mean", "cls", "last"))
        check_sizes(self.name, rank=self.rank)
        check_numbers(self.name, alpha=self.alpha)
        config = load_config(self.name, model_folder(self.name, self.model))
        self.config_ = json.loads(config.to_json_string(use_diff=False))
        self._restored = False
        return self

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a fitted backbone, whose weights will be loaded into what `build` makes."""
        super().set_state(state)
        self._restored = True

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the network.

        Parameters
        ----------
        input_shape : tuple of int
            ``(length,)``.

        Returns
        -------
        torch.nn.Module
            Maps ids ``(b, length)``, in any type, to ``(b, d)``.
        """
        from metafe_transformers.network import PooledTransformer

        model = self._empty_model() if self._restored else load_model(self.name, model_folder(self.name, self.model))
        return PooledTransformer(self._adapted(model), self.config_.get("pad_token_id") or 0, self.pooling)

    def _empty_model(self) -> Any:
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.for_model(**self.config_)
        return without_pooler(AutoModel.from_config(config, attn_implementation="eager", dtype="float32"))

    def _adapted(self, model: Any) -> Any:
        if self.adapt != "lora":
            return model.requires_grad_(self.adapt == "full")
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise MissingDependencyError(
                f"{self.name} adapt='lora' needs peft, which is not installed. pip install metafe-transformers[lora], or "
                "pass adapt='full'."
            ) from error
        additions = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules="all-linear")
        return inject_adapter_in_model(additions, model)
