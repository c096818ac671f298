"""What the networks of other libraries share."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from torch import nn

from metafe.contracts import (
    Channels,
    ImageBackbone,
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
    Seeds,
)


class LibraryNetwork(ImageBackbone):
    """Base of backbones that are the networks of a library, without their classifier.

    The library is imported when the backbone is used. Weights are loaded once, by the `build` of a fit: what was saved has
    weights of its own, so it needs neither the library's hub nor the file.

    A subclass has no constructor of its own, and writes `_network`.
    """

    library: ClassVar[str]

    def __init__(
        self,
        model: str | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        trainable: bool = True,
        image_shape: tuple[int, ...] | None = None,
        channels: Channels = "auto",
    ) -> None:
        self.model = model
        self.pretrained = pretrained
        self.weights = weights
        self.trainable = trainable
        self.image_shape = image_shape
        self.channels = channels

    @property
    def trains(self) -> bool:  # type: ignore[override]  # it depends on a parameter here
        """Whether the module has parameters to train."""
        return self.trainable

    def accepts(self, X: Any) -> str | None:
        """Say what is missing, or why rows are not images."""
        if self.model is None:
            return (
                f"{self.name} needs the name of a model; got None. Pass {type(self).__name__}('resnet18'), for example."
            )
        if find_spec(self.library) is None:
            return self._how_to_install(f"no module named {self.library!r}")
        return super().accepts(X)

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> LibraryNetwork:
        """Check that the library knows the model, and that the file of weights is there; nothing is learned.

        Raises
        ------
        InvalidInputError
            No such file of weights.
        InvalidParameterError
            No such model.
        MissingDependencyError
            The library is not installed.
        """
        self._check_model(self._import())
        if self.weights is not None and not Path(self.weights).is_file():
            raise InvalidInputError(
                f"{self.name} weights must be a file; got {self.weights!r}, which is none. Give its path from the current "
                "folder, or in full."
            )
        self.begins_with_ = "random weights" if self.weights is None and not self.pretrained else "given weights"
        self._is_restored = False
        return self

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned; the weights come from the saved extractor."""
        super().set_state(state)
        self._is_restored = True

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the network and load its weights.

        Parameters
        ----------
        input_shape : tuple of int
            ``(C, H, W)``.

        Returns
        -------
        torch.nn.Module
            Maps ``(b, C, H, W)`` to ``(b, n_features)``.

        Raises
        ------
        InvalidInputError
            Weights that cannot be found or do not fit the model.
        MissingDependencyError
            The library is not installed.
        """
        library = self._import()
        self._check_model(library)
        loads = (self.pretrained or self.weights is not None) and not getattr(self, "_is_restored", False)
        try:
            network = self._network(library, input_shape, loads)
        # Hubs, files and models raise whatever they like.
        except Exception as error:
            raise InvalidInputError(self._why_not(input_shape, loads, error)) from error
        return network.requires_grad_(self.trainable)

    def _network(self, library: ModuleType, input_shape: tuple[int, ...], loads: bool) -> nn.Module:
        """Return the network without its classifier, with pretrained weights or those of the file if ``loads``."""
        raise NotImplementedError(f"{type(self).__name__} needs a _network method.")

    def _models(self, library: ModuleType) -> list[str]:
        """Return the names of all models of the library."""
        raise NotImplementedError(f"{type(self).__name__} needs a _models method.")

    def _import(self) -> ModuleType:
        try:
            return importlib.import_module(self.library)
        except ImportError as error:
            raise MissingDependencyError(self._how_to_install(str(error))) from error

    def _how_to_install(self, reason: str) -> str:
        return (
            f"{self.name} needs the library {self.library}, which cannot be imported: {reason}. "
            f"Run: pip install 'metafe-vision[{self.library}]'."
        )

    def _check_model(self, library: ModuleType) -> None:
        import difflib

        # Of timm, a name may go on with which weights are meant: "resnet18.a1_in1k".
        known, name = self._models(library), str(self.model).split(".")[0]
        if name not in known:
            close = ", ".join(difflib.get_close_matches(name, known, n=5)) or "none"
            raise InvalidParameterError(
                f"{self.name} model must be one of the {len(known)} of the library; got {self.model!r}. Close: {close}."
            )

    def _why_not(self, input_shape: tuple[int, ...], loads: bool, error: Exception) -> str:
        model, reason = f"{self.name} model {self.model!r}", f"{type(error).__name__}: {error}"
        if not loads:
            return f"{model} must take images of shape {input_shape}; it does not ({reason}). Use other images."
        if self.weights is not None:
            return f"{model} needs weights that fit it; those in {self.weights!r} do not ({reason}). Pass others."
        return (
            f"{model} has no pretrained weights that can be had here ({reason}). Download a file where there is a network, and "
            f"pass {type(self).__name__}({self.model!r}, weights='FILE')."
        )
