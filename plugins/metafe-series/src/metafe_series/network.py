"""What the backbones for series share."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from metafe.contracts import Backbone, InvalidParameterError


class SeriesBackbone(Backbone):
    """Base of backbones that take series ``(n, n_channels, length)`` of one length."""

    standardise: Literal["feature", "channel", "all", "none"] = "channel"
    encode_is_view = True

    def accepts(self, X: Any) -> str | None:
        """Say why rows are no series."""
        if np.ndim(X) != 3:
            return (
                f"{self.name} needs series of shape (n, n_channels, length); got {np.shape(X)}. Pass a list of arrays, or "
                "X[:, None, :] for one channel."
            )
        if getattr(X, "dtype", None) == np.uint8:
            return f"{self.name} needs series; got bytes, as images have them. Pass X.astype('float32')."
        return None


def check_dropout(owner: str, dropout: float) -> None:
    """Check that a drop-out rate lies in ``[0, 1)``.

    Raises
    ------
    InvalidParameterError
        Naming the owner and what was received.
    """
    if not 0 <= dropout < 1:
        raise InvalidParameterError(f"{owner} dropout must be at least 0 and below 1; got {dropout!r}.")
