"""What the networks of other libraries share."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from metafe.contracts import (
    Channels,
    ImageBackbone,
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
    RowCache,
    Seeds,
    content_key,
)
from metafe_vision.embedding import ChannelScale, accelerator, arrays_of, digest, embed, load_arrays

# Libraries draw first weights from torch's global generator, which is put back as it was, by one thread at a time.
_GLOBAL_GENERATOR = threading.Lock()
# Images are kept in the cache after so many.
CHUNK = 64
# Of the photographs that nearly all networks were pretrained on, from 0 to 1.
IMAGENET_MEANS, IMAGENET_SCALES = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LibraryNetwork(ImageBackbone):
    """Base of backbones that are the networks of a library, without their classifier.

    The library is imported when the backbone is used. Weights are loaded once, in a fit: what was saved has weights of its
    own, so it needs neither the library's hub nor the file.

    A network with given weights that are not trained is an encoder: `encode` gives its features, which are kept on disk, see
    `metafe.contracts.RowCache`, and `build` gives a module that passes them through.

    A subclass has no constructor of its own, and writes `_network`.

    Attributes
    ----------
    begins_with_ : str
        Whether weights were given.
    input_shape_ : list of int
        Of an encoder, as are the following: ``[C, H, W]``.
    channel_means_, channel_scales_ : list of float
        By which images are standardised: those of pretraining where it can be told what is white, so that features depend on
        no other image, and otherwise those of the training rows.
    network_ : dict of str to ndarray
        The weights.
    weights_ : str
        Their digest.
    """

    library: ClassVar[str]
    named_parameter = "model"

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

    @property
    def is_encoder(self) -> bool:
        """Whether features are computed once, since they cannot change."""
        return not self.trainable and (self.pretrained or self.weights is not None)

    @property
    def encode_is_view(self) -> bool:  # type: ignore[override]
        """Whether `encode` computes nothing."""
        return not self.is_encoder

    @property
    def encode_is_rowwise(self) -> bool:  # type: ignore[override]
        """Whether it computes, in parts of a constant size."""
        return self.is_encoder

    @property
    def standardise(self) -> Literal["channel", "none"]:  # type: ignore[override]
        """How encoded rows are standardised: images by channel, and features not."""
        return "none" if self.is_encoder else "channel"

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
        """Check that the library knows the model, and that the file of weights is there; an encoder loads them.

        Raises
        ------
        InvalidInputError
            No such file of weights; of an encoder, weights that cannot be found or do not fit the model.
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
        if self.is_encoder:
            self._fit_encoder(self.images(X))
        return self

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned; the weights come from the saved extractor."""
        super().set_state(state)
        self._is_restored = True

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the network that has run, whose weights are part of the state."""
        return {name: value for name, value in super().__getstate__().items() if name != "_running"}

    def encode(self, X: Any) -> np.ndarray:
        """Return the rows as images, or an encoder's features of them.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, C, H, W), (n, H, W, C) or, with ``image_shape``, (n, n_pixels)

        Returns
        -------
        ndarray of shape (n, C, H, W), or (n, n_features) float32
        """
        images = self.images(X)
        if not self.is_encoder:
            return images
        scale = ChannelScale(self.channel_means_, self.channel_scales_)

        def compute(which: Sequence[int]) -> np.ndarray:
            try:
                return embed(self._running_network(), scale(images[which]))
            except (AssertionError, RuntimeError, ValueError) as error:
                raise InvalidInputError(self._why_not(images.shape[1:], False, error)) from error

        return RowCache(self._configuration()).rows([content_key(image) for image in images], compute, CHUNK)

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the network and load its weights.

        Parameters
        ----------
        input_shape : tuple of int
            ``(C, H, W)``; of an encoder, ``(n_features,)``.

        Returns
        -------
        torch.nn.Module
            Maps ``(b, C, H, W)`` to ``(b, n_features)``; of an encoder, features to themselves.

        Raises
        ------
        InvalidInputError
            Weights that cannot be found or do not fit the model.
        MissingDependencyError
            The library is not installed.
        """
        if self.is_encoder:
            return nn.Identity()
        loads = (self.pretrained or self.weights is not None) and not getattr(self, "_is_restored", False)
        network = self._made(input_shape, loads)
        try:
            with torch.no_grad():
                network.eval()(torch.zeros(1, *input_shape))
        # Networks that take images of some sizes alone raise whatever their layers stumble over.
        except Exception as error:
            raise InvalidInputError(self._why_not(input_shape, False, error)) from error
        return network.train()

    def _fit_encoder(self, images: np.ndarray) -> None:
        means, scales = self._statistics(self._import())
        scale = ChannelScale.usual(images, means, scales) or ChannelScale.of(images)
        self.channel_means_, self.channel_scales_ = scale.means, scale.scales
        self.input_shape_ = list(images.shape[1:])
        self._running = self._made_aside(loads=True)
        self.network_ = arrays_of(self._running)
        self.weights_ = digest(self.network_)

    def _running_network(self) -> nn.Module:
        """Return the network of an encoder, made once."""
        network: nn.Module | None = vars(self).get("_running")
        if network is None:
            network = self._made_aside(loads=False)
            load_arrays(network, self.network_)
            self._running = network
        return network

    def _made_aside(self, loads: bool) -> nn.Module:
        """Make the network outside of `build`, for which metafe supplies no generator; what is drawn is written over."""
        with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
            return self._made(tuple(self.input_shape_), loads).eval()

    def _made(self, input_shape: tuple[int, ...], loads: bool) -> nn.Module:
        library = self._import()
        self._check_model(library)
        try:
            network = self._network(library, input_shape, loads)
        # Hubs, files and models raise whatever they like.
        except Exception as error:
            raise InvalidInputError(self._why_not(input_shape, loads, error)) from error
        return network.requires_grad_(self.trainable)

    def _configuration(self) -> dict[str, Any]:
        versions = {name: _version(name) for name in ("metafe-vision", self.library, "torch")}
        scale = {"means": self.channel_means_, "scales": self.channel_scales_}
        return {
            "backbone": self.name,
            "model": self.model,
            "weights": self.weights_,
            "device": accelerator(),
            **scale,
            **versions,
        }

    def _network(self, library: ModuleType, input_shape: tuple[int, ...], loads: bool) -> nn.Module:
        """Return the network without its classifier, with pretrained weights or those of the file if ``loads``."""
        raise NotImplementedError(f"{type(self).__name__} needs a _network method.")

    def _models(self, library: ModuleType) -> list[str]:
        """Return the names of all models of the library."""
        raise NotImplementedError(f"{type(self).__name__} needs a _models method.")

    def _statistics(self, library: ModuleType) -> tuple[Sequence[float], Sequence[float]]:
        """Return means and spreads of the channels that the model was pretrained with, from 0 to 1."""
        return IMAGENET_MEANS, IMAGENET_SCALES

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


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
