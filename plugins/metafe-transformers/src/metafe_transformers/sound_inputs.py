"""Clips as a pretrained network of sound takes them."""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metafe.contracts import (
    Encoder,
    InvalidInputError,
    Seeds,
    UnreadableRowWarning,
    check_choice,
    check_sizes,
    say_unreadable,
)
from metafe_transformers.frozen import (
    Errors,
    Inputs,
    refuse_all_unreadable,
    refuse_unreadable,
    why_no_model,
    why_no_sequence,
)
from metafe_transformers.sound_transformer import SoundTransformer
from metafe_transformers.sounds import check_seconds, inputs_of_silence, inputs_or_reason, packed, why_no_clips
from metafe_transformers.weights import load_feature_extractor, model_folder


class SoundInputs(Encoder):
    """Clips as samples or spectrograms of one length, with a mask: what the backbone ``sound-transformer`` takes.

    Parameters
    ----------
    model : str or Path or None, default=None
        A name on the Hugging Face hub, or a folder, whose feature extractor is used; the same as that of the backbone. It
        must be given.
    seconds : float, default=4.0
        Length of all rows. Of longer clips the middle counts, shorter ones are padded at the end. Models that take one length
        alone, such as Whisper, pad further.
    sample_rate : int, default=16000
        Samples a second that arrays have, which cannot be seen in them; files have their own. Both are resampled to what the
        model wants.
    errors : {"warn", "raise"}, default="warn"
        What to do about files that cannot be read, clips without samples or with some that are not finite, and rows that are
        missing (None, NaN) or no clip among others that are: padding alone and one warning for all, or an error.

    Attributes
    ----------
    extractor_ : dict
        The feature extractor's settings, so that loading an extractor does not need the model.
    row_shape_ : list of int
        ``[1 + channels, length]``: of a row, whose first part says where the clip is.

    Examples
    --------
    >>> SoundInputs().accepts([np.zeros(8000)])
    "sound-inputs needs a model; got None. Pass a folder or a name on the hub: SoundInputs('facebook/hubert-base-ls960'), for example."
    """

    name = "sound-inputs"
    named_parameter = "model"
    reads = "sound files"
    # What is installed reads them as spectrograms unless somebody names a model.
    by_default = False
    # What suits pixels and plain numbers does not suit samples.
    default_augment = ()

    def __init__(
        self,
        model: str | Path | None = None,
        seconds: float = 4.0,
        sample_rate: int = 16_000,
        errors: Errors = "warn",
    ) -> None:
        self.model = model
        self.seconds = seconds
        self.sample_rate = sample_rate
        self.errors = errors

    @property
    def default_backbone(self) -> SoundTransformer:
        """The backbone of the same model."""
        return SoundTransformer(None if self.model is None else str(self.model))

    def accepts(self, X: Any) -> str | None:
        """Say why ``X`` is no sequence of clips, or that there is no model."""
        return (
            why_no_model(self.name, self.model, "SoundInputs('facebook/hubert-base-ls960'), for example")
            or why_no_sequence(self.name, X, "files or arrays of samples")
            or why_no_clips(self.name, X)
        )

    def fit(self, X: Any, seeds: Seeds) -> SoundInputs:
        """Take the model's feature extractor, and measure what it makes of a clip of full length.

        Raises
        ------
        InvalidInputError
            None of the rows can be read.
        InvalidParameterError
            A parameter that cannot be, or a model without a feature extractor of sound.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached.
        """
        check_choice(self.name, "errors", self.errors, ("warn", "raise"))
        check_sizes(self.name, sample_rate=self.sample_rate)
        check_seconds(self.name, self.seconds, none_is_all=False)
        extractor = load_feature_extractor(self.name, model_folder(self.name, self.model))
        self.extractor_ = json.loads(extractor.to_json_string())
        silence = inputs_of_silence(self.name, extractor, self.seconds)
        self.row_shape_ = list(self._row(silence, extractor).shape)
        refuse_all_unreadable(self.name, list(X), partial(self._why_unreadable, extractor), seeds)
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Return what the network takes.

        Parameters
        ----------
        X : sequence of str, PathLike or ndarray of shape (n_samples,), of length n

        Returns
        -------
        ndarray of shape (n, 1 + channels, length) float32
            Zeros for clips that cannot be read.

        Raises
        ------
        InvalidInputError
            Rows of another kind, or one that cannot be read, with ``errors="raise"``.
        """
        if reason := self.accepts(X):
            raise InvalidInputError(reason)
        rows, extractor = list(X), self._extractor()
        encoded = np.zeros((len(rows), *self.row_shape_), dtype=np.float32)
        reasons: dict[int, str] = {}
        for i, row in enumerate(rows):
            made = self._made(extractor, row)
            if isinstance(made, str):
                reasons[i] = made
                continue
            part = self._row(made, extractor)[:, : self.row_shape_[1]]
            encoded[i, :, : part.shape[1]] = part
        if self.errors == "raise":
            refuse_unreadable(self.name, rows, reasons)
        if reasons:
            warnings.warn(say_unreadable(self.name, "rows", "zeros", reasons, rows), UnreadableRowWarning, stacklevel=2)
        return encoded

    def _made(self, extractor: Any, row: Any) -> Inputs | str:
        return inputs_or_reason(extractor, row, self.sample_rate, self.seconds)

    def _why_unreadable(self, extractor: Any, row: Any) -> str | None:
        made = self._made(extractor, row)
        return made if isinstance(made, str) else None

    def _row(self, made: Inputs, extractor: Any) -> np.ndarray:
        return packed(made[extractor.model_input_names[0]], made.get("attention_mask"))

    def _extractor(self) -> Any:
        import transformers

        return getattr(transformers, self.extractor_["feature_extractor_type"]).from_dict(dict(self.extractor_))
