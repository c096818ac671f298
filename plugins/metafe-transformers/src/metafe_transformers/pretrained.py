"""What the backbones of text and images share: a pretrained network that tasks adapt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from metafe.contracts import (
    Backbone,
    Categorical,
    Distribution,
    Int,
    InvalidParameterError,
    MissingDependencyError,
    Problem,
    Seeds,
    When,
    check_choice,
    check_numbers,
    check_sizes,
)
from metafe_transformers.pooling import POOLINGS, Pooling
from metafe_transformers.weights import Part, encoder_of, load_config, load_model, model_folder

Adapt = Literal["lora", "full", "frozen"]


class PretrainedBackbone(Backbone):
    """Base of backbones that are pretrained networks; a subclass writes `build`, around `network`.

    Attributes
    ----------
    config_ : dict
        The layers of the model, so that loading an extractor does not need the model: all weights are saved with it.
    part : {"text_model", "vision_model", "audio_model"}
        Which tower is taken of models that have two.
    """

    part: ClassVar[Part]

    model: str | Path | None
    adapt: Adapt
    rank: int
    alpha: float
    pooling: Pooling

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

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> PretrainedBackbone:
        """Find the model, and fetch it where it must be; nothing is learned.

        Raises
        ------
        InvalidParameterError
            A parameter that cannot be, or a model that cannot be loaded.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached.
        """
        check_choice(self.name, "adapt", self.adapt, ("lora", "full", "frozen"))
        check_choice(self.name, "pooling", self.pooling, POOLINGS)
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

    def network(self) -> Any:
        """Return the network, with weights unless the backbone is a restored one, and with what is trained."""
        if self._restored:
            return self._adapted(self._empty_network())
        return self._adapted(load_model(self.name, model_folder(self.name, self.model), self.part))

    def _empty_network(self) -> Any:
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.for_model(**self.config_)
        return encoder_of(AutoModel.from_config(config, attn_implementation="eager", dtype="float32"), self.part)

    def _adapted(self, network: Any) -> Any:
        if self.adapt != "lora":
            return network.requires_grad_(self.adapt == "full")
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise MissingDependencyError(
                f"{self.name} adapt='lora' needs peft, which is not installed. pip install metafe-transformers[lora], or "
                "pass adapt='full'."
            ) from error
        additions = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules="all-linear")
        try:
            return inject_adapter_in_model(additions, network)
        except ValueError as error:
            raise InvalidParameterError(
                f"{self.name} adapt='lora' needs linear layers, which {type(network).__name__} lacks. Pass adapt='full'."
            ) from error
