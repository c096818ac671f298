"""A pretrained network of sound that tasks teach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metafe.contracts import Seeds
from metafe_transformers.frozen import why_no_model
from metafe_transformers.pooling import Pooling
from metafe_transformers.pretrained import Adapt, PretrainedBackbone
from metafe_transformers.sounds import SHORTEST, has_time_first, inputs_of_silence
from metafe_transformers.weights import load_feature_extractor, model_folder

if TYPE_CHECKING:
    from torch import nn


class SoundTransformer(PretrainedBackbone):
    """A pretrained network on clips as the encoder ``sound-inputs`` makes them, adapted by LoRA.

    Parameters
    ----------
    model : str or Path or None, default=None
        A name on the Hugging Face hub, such as ``"facebook/hubert-base-ls960"``, or a folder that `save_pretrained` wrote,
        with its feature extractor; the same as that of the encoder. It must be given.
    adapt : {"lora", "full", "frozen"}, default="lora"
        What is trained: small additions to the linear layers, which needs peft; all weights, for which a
        ``learning_rate`` of about 2e-5 is usual; or nothing. A frozen model computes each row once; the encoder
        ``sound-encoder``, which does so too, hears clips without padding and saves no weights.
    rank : int, default=8
        Of the additions.
    alpha : float, default=16.0
        The additions are multiplied by ``alpha / rank``.
    pooling : {"mean", "cls", "last"}, default="mean"
        Which of the moments' vectors makes that of the clip: their mean, the first or the last. The first is a class token
        in AST, and otherwise the beginning.

    Attributes
    ----------
    config_ : dict
        The layers of the model, so that loading an extractor does not need the model: all weights are saved with it.
    input_ : dict
        What the model calls what it takes (``"name"``), and whether it takes a mask (``"masked"``) and moments before
        channels (``"time_first"``).

    Notes
    -----
    Padding is masked where the model's feature extractor gives a mask, and is not pooled. Networks whose first layers
    normalise over the whole clip, such as wav2vec 2.0's base, hear how long it is nevertheless; since all rows have one
    length, that does not depend on what comes with a row. Layers and moments that networks leave out at random when they
    are pretrained stay in.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021; Baevski et al., "wav2vec 2.0", 2020.

    Examples
    --------
    >>> SoundTransformer("facebook/hubert-base-ls960").accepts(np.zeros((5, 8)))
    "sound-transformer needs rows (n, 1 + channels, length) with a mask of 0 and 1 in front; got float64 of shape (5, 8). Use encoder='sound-inputs'."
    """

    name = "sound-transformer"
    standardise = "none"
    part = "audio_model"

    def __init__(
        self,
        model: str | Path | None = None,
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
        """Say that there is no model, or why rows are not what the encoder makes."""
        missing = why_no_model(self.name, self.model, "SoundTransformer('facebook/hubert-base-ls960'), for example")
        rows = np.asarray(X)
        fits = rows.ndim == 3 and rows.shape[1] > 1 and rows.dtype.kind == "f" and np.isin(rows[:, 0], (0, 1)).all()
        if missing or fits:
            return missing
        return (
            f"{self.name} needs rows (n, 1 + channels, length) with a mask of 0 and 1 in front; got {rows.dtype} of shape "
            f"{rows.shape}. Use encoder='sound-inputs'."
        )

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> SoundTransformer:
        """Find the model, and fetch it where it must be; a frozen one is loaded, and nothing is learned.

        Raises
        ------
        InvalidParameterError
            A parameter that cannot be, or a model that cannot be loaded.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached; or peft is not installed.
        """
        super().fit(X, y, seeds)
        extractor = load_feature_extractor(self.name, model_folder(self.name, self.model))
        name = extractor.model_input_names[0]
        made = inputs_of_silence(self.name, extractor, SHORTEST)
        mask = made.get("attention_mask")
        self.input_ = {"name": name, "masked": mask is not None, "time_first": has_time_first(made[name], mask)}
        if not self.trains:
            self.load(np.shape(X)[1:])
        return self

    def module(self, row_shape: tuple[int, ...]) -> nn.Module:
        """Return a module that maps rows ``(b, 1 + channels, length)`` to ``(b, d)``."""
        import torch

        from metafe_transformers.network import PooledSound, freeze_unused

        network = self.network()
        # What is hidden at random in pretraining.
        network.config.apply_spec_augment = False
        network.config.layerdrop = network.config.encoder_layerdrop = 0.0
        arguments = (self.input_["name"], self.input_["masked"], self.input_["time_first"], self.pooling)
        module = PooledSound(network, *arguments).eval()
        return freeze_unused(module, torch.ones(1, *row_shape)).train()
