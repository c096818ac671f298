"""Backbones: from rows to feature vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from metafe.contracts.plugin import Plugin
from metafe.contracts.seeds import Seeds

if TYPE_CHECKING:
    from torch import nn


class Backbone(Plugin):
    """Base of all backbones.

    A backbone has two halves. The *encoder* (`fit`, `encode`) turns raw rows into arrays, once and without gradients;
    the *module* (`build`) turns encoded rows into features and is what meta-training trains. Either half may be
    trivial: the defaults encode nothing.

    Attributes
    ----------
    raw_input : bool
        True when the backbone wants ``X`` unvalidated: strings, paths, data frames.
    standardise : {"feature", "channel", "all", "none"}
        How encoded rows are standardised before the module sees them: each column of flat rows on its own (rows of
        more dimensions, such as images, by one scale), each channel of an image, all values by one scale, or not.
    encode_is_view : bool
        True when `encode` only looks at the rows in another way, without computing. Otherwise metafe encodes in chunks
        of constant size, since many kernels compute slightly different numbers in batches of different sizes.
    trains : bool
        False when `build` gives a module without parameters, so that there is nothing for an algorithm to train.
    encode_is_rowwise : bool
        True when `encode` computes one row after the other, so that the size of the batch cannot matter. Chunks are then
        not filled up, which saves what the rows that fill them would cost.

    Examples
    --------
    A backbone of one linear layer:

    >>> from torch import nn
    >>> class Linear(Backbone):
    ...     name = "linear"
    ...     def __init__(self, width=32):
    ...         self.width = width
    ...     def build(self, input_shape):
    ...         return nn.Linear(input_shape[0], self.width)
    >>> Linear().build((4,))
    Linear(in_features=4, out_features=32, bias=True)
    """

    kind = "backbone"
    raw_input: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    encode_is_view: ClassVar[bool] = False
    encode_is_rowwise: ClassVar[bool] = False
    standardise: Literal["feature", "channel", "all", "none"] = "feature"

    def accepts(self, X: Any) -> str | None:
        """Say why ``X`` cannot be used.

        Parameters
        ----------
        X : ndarray of shape (n, ...), or whatever the user passed if ``raw_input``
            The rows.

        Returns
        -------
        str or None
            One sentence (requirement, received, fix), or None when ``X`` can be used.
        """
        return None

    def fit(self, X: Any, y: np.ndarray | None, seeds: Seeds) -> Backbone:
        """Fit the encoder on training rows.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Training rows only; held-out rows are never seen here.
        y : ndarray of shape (n,) or (n, n_targets), or None
            Their class codes or targets.
        seeds : Seeds
            Random streams of this fit.

        Returns
        -------
        Backbone
            The backbone itself, with fitted attributes that end in an underscore.
        """
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Turn raw rows into the array that the module takes, each row on its own.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Raw rows.

        Returns
        -------
        ndarray of shape (n, *input_shape)
            Any numeric type; a view of ``X`` where possible, so that memory-mapped rows stay on disk.
        """
        return np.asarray(X)

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the module that is trained.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one encoded row.

        Returns
        -------
        torch.nn.Module
            Maps float32 ``(b, *input_shape)`` to ``(b, n_features)``, each row on its own once it is in evaluation
            mode. Random initialisation comes from torch's functions as usual; metafe supplies the generator.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a build method.")
