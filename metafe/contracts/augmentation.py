"""Augmentations: changes to training rows that leave their meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metafe.contracts.plugin import Plugin

if TYPE_CHECKING:
    import torch


class Augmentation(Plugin):
    """Base of all augmentations, applied to standardised rows in training only, on the device.

    Examples
    --------
    >>> class Scale(Augmentation):
    ...     name = "scale"
    ...     def __call__(self, x, generator):
    ...         import torch
    ...         shape = (len(x),) + (1,) * (x.ndim - 1)
    ...         return x * torch.empty(shape, device=x.device).uniform_(0.9, 1.1, generator=generator)
    """

    kind = "augmentation"

    def accepts(self, input_shape: tuple[int, ...]) -> str | None:
        """Say why rows of this shape cannot be augmented: one sentence, or None when they can be."""
        return None

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Change each row at random.

        Parameters
        ----------
        x : Tensor of shape (b, *input_shape)
            Standardised rows.
        generator : torch.Generator
            On the device of ``x``; the only source of randomness.

        Returns
        -------
        Tensor of shape (b, *input_shape)
            The default returns ``x`` itself.
        """
        return x

    def n_views(self, input_shape: tuple[int, ...]) -> int:
        """Return how many new classes each class becomes, itself counted; 1 when views are not used."""
        return 1

    def view(self, x: torch.Tensor, k: int) -> torch.Tensor:
        """Return the ``k``-th view of rows of one class; view 0 is ``x`` itself.

        Parameters
        ----------
        x : Tensor of shape (b, *input_shape)
            Rows.
        k : int
            ``0 <= k < n_views(input_shape)``.

        Returns
        -------
        Tensor of shape (b, *input_shape)
            Rows of what counts as a class of its own, for example a character turned by 90 degrees.
        """
        return x
