"""What the backbones of text and images share: a pretrained network that tasks adapt."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from metafe.contracts import (
    Backbone,
    Categorical,
    Distribution,
    Int,
    InvalidParameterError,
    MissingDependencyError,
    Problem,
    RowCache,
    Seeds,
    When,
    check_choice,
    check_numbers,
    check_sizes,
    content_key,
)
from metafe_transformers.frozen import device_of
from metafe_transformers.pooling import POOLINGS, Pooling
from metafe_transformers.weights import (
    Part,
    encoder_of,
    fingerprint,
    load_config,
    load_model,
    model_folder,
    versions_of,
)

if TYPE_CHECKING:
    from torch import nn

# An empty network draws its first weights from torch's global generator, which is put back as it was, by one thread at a time.
_GLOBAL_GENERATOR = threading.Lock()
# Rows are kept in the cache after so many.
CHUNK = 64

Adapt = Literal["lora", "full", "frozen"]


class PretrainedBackbone(Backbone):
    """Base of backbones that are pretrained networks; a subclass writes `module`, around `network`.

    A frozen one is an encoder: `encode` gives its features, which are kept on disk, see `metafe.contracts.RowCache`, and
    `build` gives a module that passes them through.

    Attributes
    ----------
    config_ : dict
        The layers of the model, so that loading an extractor does not need the model: all weights are saved with it.
    weights_ : str
        Of a frozen one, as are the following: digest of the model's files.
    row_shape_ : list of int
        Of a row that the network takes.
    network_ : dict of str to ndarray
        The weights.
    part : {"text_model", "vision_model", "audio_model"}
        Which tower is taken of models that have two.
    """

    named_parameter = "model"
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

    @property
    def encode_is_view(self) -> bool:  # type: ignore[override]
        """Whether `encode` computes nothing."""
        return self.trains

    @property
    def encode_is_rowwise(self) -> bool:  # type: ignore[override]
        """Whether it computes, in parts of a constant size."""
        return not self.trains

    def search_space(self, problem: Problem) -> dict[str, Distribution | When]:
        """Declare rank and pooling."""
        return {
            "rank": When(Int(2, 32, log=True), {"adapt": ["lora"]}),
            "adapt": Categorical(["lora"]),
            "pooling": Categorical(["mean", "cls"]),
        }

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> PretrainedBackbone:
        """Find the model, and fetch it where it must be; a frozen one is loaded, and nothing is learned.

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
        folder = model_folder(self.name, self.model)
        self.config_ = json.loads(load_config(self.name, folder).to_json_string(use_diff=False))
        self._restored = False
        return self

    def load(self, row_shape: tuple[int, ...]) -> None:
        """Load a frozen network, which is part of the state from then on.

        Parameters
        ----------
        row_shape : tuple of int
            Of a row that it takes.
        """
        self.weights_ = fingerprint(model_folder(self.name, self.model))
        self.row_shape_ = list(row_shape)
        self._running = self._made_aside()
        self.network_ = {name: value.detach().numpy() for name, value in self._running.state_dict().items()}

    def encode(self, X: Any) -> np.ndarray:
        """Return rows as the network takes them, or a frozen one's features of them.

        Parameters
        ----------
        X : array-like of shape (n, ...)

        Returns
        -------
        ndarray of shape (n, *row_shape), or (n, n_features) float32
        """
        rows = super().encode(X)
        if self.trains:
            return rows

        def compute(which: Sequence[int]) -> np.ndarray:
            return self._run(self.prepared(rows[which]))

        return RowCache(self._configuration()).rows([content_key(row) for row in rows], compute, CHUNK)

    def prepared(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as they go into a frozen network, where metafe does not standardise them."""
        return rows

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the network.

        Parameters
        ----------
        input_shape : tuple of int
            Of a row; ``(n_features,)`` where the network is frozen.

        Returns
        -------
        torch.nn.Module
            Maps rows to features ``(b, n_features)``; where the network is frozen, features to themselves.
        """
        from torch import nn

        return self.module(input_shape) if self.trains else nn.Identity()

    def module(self, row_shape: tuple[int, ...]) -> nn.Module:
        """Return the network and its pooling."""
        raise NotImplementedError(f"{type(self).__name__} needs a module method.")

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a fitted backbone, whose weights will be loaded into what `build` makes."""
        super().set_state(state)
        self._restored = True

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the network that has run, whose weights are part of the state."""
        return {name: value for name, value in super().__getstate__().items() if name != "_running"}

    def network(self) -> Any:
        """Return the network, with weights unless the backbone is a restored one, and with what is trained."""
        if self._restored:
            return self._adapted(self._empty_network())
        return self._adapted(load_model(self.name, model_folder(self.name, self.model), self.part))

    def _run(self, rows: np.ndarray) -> np.ndarray:
        import torch

        device = device_of("auto")
        network = self._running_network().to(device)
        with torch.inference_mode():
            features: np.ndarray = network(torch.tensor(rows).to(device)).cpu().numpy()
        return features

    def _running_network(self) -> nn.Module:
        """Return the frozen network, made once."""
        network: nn.Module | None = vars(self).get("_running")
        if network is None:
            import torch

            self._restored = True
            network = self._made_aside()
            network.load_state_dict({name: torch.tensor(array) for name, array in self.network_.items()})
            self._running = network
        return network

    def _made_aside(self) -> nn.Module:
        """Make the network outside of `build`, for which metafe supplies no generator."""
        import torch

        with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
            return self.module(tuple(self.row_shape_)).eval()

    def _configuration(self) -> dict[str, Any]:
        libraries = ("metafe-transformers", "transformers", "torch")
        return {
            "backbone": self.name,
            "weights": self.weights_,
            "pooling": self.pooling,
            "device": device_of("auto"),
            **versions_of(self.name, libraries, ""),
        }

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
