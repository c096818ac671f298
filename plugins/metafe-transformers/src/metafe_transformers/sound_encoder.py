"""Frozen embeddings of sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metafe.contracts import Seeds, check_sizes
from metafe_transformers.frozen import Errors, FrozenEncoder, Inputs, why_no_model, why_no_sequence
from metafe_transformers.pooling import Pooling
from metafe_transformers.sounds import check_seconds, inputs_or_reason, why_no_clips
from metafe_transformers.weights import load_feature_extractor


class SoundEncoder(FrozenEncoder):
    """Embeddings of clips by a pretrained network, which stays as it is; each clip is computed once, ever.

    Parameters
    ----------
    model : str or Path or None, default=None
        A name on the Hugging Face hub, such as ``"facebook/hubert-base-ls960"``, or a folder that `save_pretrained` wrote,
        with its feature extractor: wav2vec 2.0, HuBERT, the encoder of Whisper, AST and others. It must be given.
    pooling : {"mean", "cls", "last"}, default="mean"
        Which of the moments' vectors makes that of the clip: their mean, the first or the last. The first is a class token
        in AST, and otherwise the beginning.
    seconds : float or None, default=10.0
        Longest part of a clip that counts, from its middle; None takes all of it, as far as the model goes.
    sample_rate : int, default=16000
        Samples a second that arrays have, which cannot be seen in them; files have their own. Both are resampled to what the model wants.
    normalise : bool, default=True
        Whether embeddings are scaled to length one.
    errors : {"warn", "raise"}, default="warn"
        What to do about files that cannot be read, clips without samples or with some that are not finite, and rows that are
        missing (None, NaN) or no clip among others that are: zeros and one warning for all, or an error.
    device : str, default="auto"
        Where to compute. ``"auto"`` takes an accelerator where there is one.

    Attributes
    ----------
    weights_ : str
        Digest of the model's files.

    Notes
    -----
    Rows are files, arrays of samples in a list, or one array ``(n, n_samples)``: real numbers from -1 to 1, or whole ones in
    the range of their type, those without a sign with silence in its middle. Channels of files are averaged. Each clip goes through the network alone and without padding, apart from what the model's own feature
    extractor adds (Whisper: silence to 30 seconds, over which is not averaged; AST: to its fixed length) and silence at
    the end of clips below a tenth of a second. A silent clip is a clip like any other.

    The weights are not saved with an extractor: loading needs the model again, by its name or in its folder, and says
    so when it is another one.

    Baevski et al., "wav2vec 2.0", 2020; Hsu et al., "HuBERT", 2021; Radford et al., "Robust Speech Recognition via
    Large-Scale Weak Supervision", 2022; Gong et al., "AST: Audio Spectrogram Transformer", 2021.

    Examples
    --------
    >>> SoundEncoder("facebook/hubert-base-ls960").accepts([np.zeros((2, 8))])
    'sound-encoder needs files or arrays of samples, (n_samples,); row 0 is float64 of shape (2, 8). Convert rows with numpy.asarray.'
    """

    name = "sound-encoder"
    reads = "sound files"
    # What is installed reads them as spectrograms unless somebody names a model.
    by_default = False
    part = "audio_model"
    libraries = ("librosa", "soundfile", "soxr")
    blank = np.zeros(1600, dtype=np.float32)
    chunk = 16

    def __init__(
        self,
        model: str | Path | None = None,
        pooling: Pooling = "mean",
        seconds: float | None = 10.0,
        sample_rate: int = 16_000,
        normalise: bool = True,
        errors: Errors = "warn",
        device: str = "auto",
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.seconds = seconds
        self.sample_rate = sample_rate
        self.normalise = normalise
        self.errors = errors
        self.device = device

    def accepts(self, X: Any) -> str | None:
        """Say why ``X`` is no sequence of clips, or that there is no model."""
        return (
            why_no_model(self.name, self.model, "SoundEncoder('facebook/hubert-base-ls960'), for example")
            or why_no_sequence(self.name, X, "files or arrays of samples")
            or why_no_clips(self.name, X)
        )

    def fit(self, X: Any, seeds: Seeds) -> SoundEncoder:
        """Find the model, and fetch it where it must be; nothing is learned.

        Raises
        ------
        InvalidInputError
            None of the rows can be read.
        InvalidParameterError
            A parameter that cannot be, or a model that cannot be loaded.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached.
        """
        check_sizes(self.name, sample_rate=self.sample_rate)
        check_seconds(self.name, self.seconds)
        super().fit(X, seeds)
        return self

    def inputs(self, rows: Sequence[Any], folder: Path) -> list[Inputs | str]:
        """Return what the model's feature extractor makes of each clip."""
        extractor = load_feature_extractor(self.name, folder)
        return [inputs_or_reason(extractor, row, self.sample_rate, self.seconds) for row in rows]

    def rows_at_once(self, device: str) -> int:
        """Return 1: clips are of many lengths, and some networks hear padding."""
        return 1
