"""Encoders: from files, text, tables, sound and series to arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metafe.contracts.plugin import Plugin
from metafe.contracts.seeds import Seeds

if TYPE_CHECKING:
    from metafe.contracts.backbone import Backbone


class Encoder(Plugin):
    """Base of all encoders, which make arrays of what is none, so that every backbone can take it.

    An encoder runs before everything else: once, without gradients and without labels. `MetaFeatureExtractor` keeps the
    fitted one and applies it in `transform`. A search, too, encodes all rows once, before its first trial, so that the
    parameters of an encoder are not searched.

    Attributes
    ----------
    reads : str
        The kind of input that it is for: ``"image files"``, ``"images"``, ``"sound files"``, ``"text"``, ``"table"``,
        ``"sound"`` or ``"series"``, as `metafe.contracts.kind_of_input` tells them; an encoder for anything else has a word of its own
        and is used where it is named.
    by_default : bool
        False for one of several encoders of a kind, which is used only where it is named.
    takes_for_granted : str
        What it cannot see in the rows and supposes with its defaults, such as a sample rate; said in ``decisions_`` where
        ``encoder="auto"`` has taken it.
    default_backbone : str, Backbone or None
        What ``backbone="auto"`` takes for its arrays, a name or, as a property, one that shares settings with the encoder;
        None leaves that to their shape.
    default_augment : tuple of str or None
        What ``augment="auto"`` takes for its arrays; None leaves that to their shape.
    further_augment : tuple of str
        What suits its arrays too and is not taken by ``"auto"``: a search tries each of these beside ``default_augment``.

    Examples
    --------
    An encoder that counts letters:

    >>> class LetterCounts(Encoder):
    ...     name = "letter-counts"
    ...     reads = "text"
    ...     def encode(self, X):
    ...         letters = "abcdefghijklmnopqrstuvwxyz"
    ...         return np.array([[text.lower().count(letter) for letter in letters] for text in X])
    >>> LetterCounts().encode(["Abba", ""]).shape
    (2, 26)
    """

    kind = "encoder"
    reads: ClassVar[str] = ""
    by_default: ClassVar[bool] = True
    takes_for_granted: ClassVar[str] = ""
    default_augment: ClassVar[tuple[str, ...] | None] = None
    further_augment: ClassVar[tuple[str, ...]] = ()

    # A property, so that subclasses may have a property too; a plain class attribute does as well.
    @property
    def default_backbone(self) -> str | Backbone | None:  # noqa: D102 - described with the attributes
        return None

    def accepts(self, X: Any) -> str | None:
        """Say why ``X`` cannot be encoded.

        Parameters
        ----------
        X : sequence of length n
            What the user passed.

        Returns
        -------
        str or None
            One sentence (requirement, received, fix), or None when ``X`` can be encoded.
        """
        return None

    def fit(self, X: Any, seeds: Seeds) -> Encoder:
        """Learn what encoding needs, such as the categories of a table; the default learns nothing.

        Parameters
        ----------
        X : sequence of length n
            What the user passed.
        seeds : Seeds
            Random streams of this fit.

        Returns
        -------
        Encoder
            The encoder itself, with fitted attributes that end in an underscore.
        """
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Make one array of all rows, each encoded on its own.

        Parameters
        ----------
        X : sequence of length n
            What the user passed.

        Returns
        -------
        ndarray of shape (n, *row_shape)
            Finite numbers of any type. A row that cannot be read is blank (zeros, unless the encoder documents something
            else) and named in an `UnreadableRowWarning`.
        """
        raise NotImplementedError(f"{type(self).__name__} needs an encode method.")
