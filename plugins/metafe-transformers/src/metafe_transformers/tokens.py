"""Texts as token ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from metafe.contracts import Encoder, Seeds, check_choice, check_sizes
from metafe_transformers.frozen import Errors, refuse_all_unreadable
from metafe_transformers.texts import padded, readable_texts, report_unreadable, token_ids, why_no_string, why_not_text
from metafe_transformers.transformer import Transformer
from metafe_transformers.weights import load_config, load_tokenizer, model_folder, most_tokens, part_of_config

# Kernels are fastest on such lengths.
LENGTH_STEP = 8


class Tokens(Encoder):
    """Texts as rows of token ids, padded to one length: what the backbone ``transformer`` takes.

    Parameters
    ----------
    model : str or Path, default="auto"
        A name on the Hugging Face hub, or a folder, whose tokenizer is used; the same as that of the backbone.
    max_length : int or "auto", default="auto"
        Length of all rows; longer texts are cut. ``"auto"`` takes that of the longest text in `fit`, as far as the model
        goes.
    errors : {"warn", "raise"}, default="warn"
        What to do about texts that are missing (None, NaN), and rows that are no text among others that are: padding alone
        and one warning for all, or an error.

    Attributes
    ----------
    tokenizer_ : str
        The tokenizer as JSON, so that loading an extractor does not need the model.
    padding_ : int
        The id that stands for no token.
    max_length_ : int
        Length of a row.

    Examples
    --------
    >>> Tokens().accepts("one string")
    'tokens needs a sequence of strings; got a str. Pass a list or one column of them.'
    """

    name = "tokens"
    named_parameter = "model"
    reads = "text"
    # Embeddings are what text becomes unless somebody asks for tokens.
    by_default = False
    # Ids are no quantities.
    default_augment = ()

    def __init__(
        self, model: str | Path = "auto", max_length: int | Literal["auto"] = "auto", errors: Errors = "warn"
    ) -> None:
        self.model = model
        self.max_length = max_length
        self.errors = errors

    @property
    def default_backbone(self) -> Transformer:
        """The backbone of the same model."""
        return Transformer(str(self.model))

    def accepts(self, X: Any) -> str | None:
        """Say why rows are not texts."""
        return why_not_text(self.name, X)

    def fit(self, X: Any, seeds: Seeds) -> Tokens:
        """Take the model's tokenizer, and settle the length of rows.

        Raises
        ------
        InvalidInputError
            None of the rows can be read.
        InvalidParameterError
            A length that cannot be, or a model without a fast tokenizer.
        MissingDependencyError
            A model that is not on this machine, and the hub cannot be reached.
        """
        check_choice(self.name, "errors", self.errors, ("warn", "raise"))
        if self.max_length != "auto":
            check_sizes(self.name, minimum=2, max_length=self.max_length)
        refuse_all_unreadable(self.name, list(X), why_no_string, seeds)
        folder = model_folder(self.name, self.model)
        tokenizer = load_tokenizer(self.name, folder)
        longest = most_tokens(part_of_config(load_config(self.name, folder), "text_model"), tokenizer)
        self.tokenizer_ = tokenizer.backend_tokenizer.to_str()
        self.padding_ = tokenizer.pad_token_id or 0
        self.max_length_ = longest
        if self.max_length == "auto":
            lengths = map(len, self._ids(readable_texts(self.name, X)[0]))
            self.max_length_ = min(longest, -(-max(lengths) // LENGTH_STEP) * LENGTH_STEP)
        else:
            self.max_length_ = min(longest, self.max_length)
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Return token ids.

        Parameters
        ----------
        X : sequence of str of length n

        Returns
        -------
        ndarray of shape (n, max_length_) int32
            Padded on the right; a missing text is padding alone.
        """
        texts, reasons = readable_texts(self.name, X)
        report_unreadable(self.name, list(X), reasons, self.errors)
        ids = padded(self._ids(texts), self.max_length_, self.padding_)
        ids[list(reasons)] = self.padding_
        return ids

    def _ids(self, texts: list[str]) -> list[list[int]]:
        from tokenizers import Tokenizer

        return token_ids(Tokenizer.from_str(self.tokenizer_), texts, self.max_length_)
