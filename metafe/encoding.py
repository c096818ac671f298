"""From what is no array to rows of numbers, by an encoder."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import _num_samples, validate_data

from metafe.contracts import (
    Encoder,
    InvalidInputError,
    MissingDependencyError,
    PluginContractError,
    Seeds,
    kind_of_input,
)
from metafe.contracts.input_kinds import has_words
from metafe.inputs import FEWEST_ROWS, check_column_names, check_number_of_rows
from metafe.plugins import registry, resolve

# Where an encoder for each kind of input comes from, if nothing that is installed has one.
PACKAGES = {
    "image files": "metafe-vision",
    "images": "metafe-vision",
    "sound files": "metafe-audio",
    "sound": "metafe-audio",
    "text": "metafe-transformers",
    "table": "metafe-tabular",
    "series": "metafe-series",
}
BYTES_AT_ONCE = 2**22
# The same for every random_state, so that what is cached on disk serves all of them.
ENCODER_SEEDS = Seeds(0).child("encoder")


def choose_encoder(spec: str | Encoder | None, X: Any) -> Encoder | None:
    """Return the encoder that reads ``X``.

    Parameters
    ----------
    spec : "auto", str, Encoder or None
        ``"auto"`` takes what is installed for the kind of input, and none for arrays.
    X : object
        What the user passed as rows.

    Returns
    -------
    Encoder or None
        Not fitted; None for rows that are numbers already.

    Raises
    ------
    MissingDependencyError
        Nothing that is installed reads this kind of input.
    InvalidInputError
        The encoder does not accept it.
    """
    encoder = _automatic(kind_of_input(X), X) if isinstance(spec, str) and spec == "auto" else spec
    if encoder is None:
        return None
    encoder = clone(resolve("encoder", encoder))
    if reason := encoder.accepts(X):
        raise InvalidInputError(reason)
    return encoder


def fit_and_encode(estimator: BaseEstimator, encoder: Encoder, X: Any) -> np.ndarray:
    """Fit an encoder on all rows, which are without labels, and return them encoded.

    Parameters
    ----------
    estimator : BaseEstimator
        Its ``n_features_in_`` and ``feature_names_in_`` are set where ``X`` has columns.
    encoder : Encoder
    X : sequence of length n

    Returns
    -------
    ndarray of shape (n, *row_shape)
    """
    check_number_of_rows(X, FEWEST_ROWS)
    check_column_names(X)
    validate_data(estimator, X, reset=True, skip_check_array=True)
    if encoder.fit(X, ENCODER_SEEDS) is not encoder:
        raise PluginContractError(f"Encoder {encoder.name!r} must return itself from fit. Fix its fit.")
    return _encoded(encoder, X)


def encode(encoder: Encoder, X: Any) -> np.ndarray:
    """Return rows encoded, each on its own.

    Parameters
    ----------
    encoder : Encoder
        Fitted.
    X : sequence of length n

    Returns
    -------
    ndarray of shape (n, *row_shape)

    Raises
    ------
    InvalidInputError
        No rows, or what the encoder does not accept: rows of another kind, other columns than in fit.
    PluginContractError
        The encoder returned something else than one finite row of numbers for each.
    """
    check_number_of_rows(X)
    if reason := encoder.accepts(X):
        raise InvalidInputError(reason)
    return _encoded(encoder, X)


def _encoded(encoder: Encoder, X: Any) -> np.ndarray:
    encoded = encoder.encode(X)
    is_right = (
        isinstance(encoded, np.ndarray)
        and len(encoded) == _num_samples(X)
        and encoded.ndim > 1
        and encoded.dtype.kind in "biuf"
    )
    if not is_right or not _is_finite(encoded):
        received = f"{encoded.dtype} of shape {encoded.shape}" if isinstance(encoded, np.ndarray) else repr(encoded)
        raise PluginContractError(
            f"Encoder {encoder.name!r} must return a finite row of numbers for each of {_num_samples(X)} rows; got "
            f"{received[:200]}. Fix its encode."
        )
    return encoded


def _is_finite(rows: np.ndarray) -> bool:
    """Tell whether all numbers are finite, a few megabytes at a time, since the rows may lie on disk."""
    if rows.dtype.kind != "f":
        return True
    at_once = max(1, BYTES_AT_ONCE // max(1, rows[:1].nbytes))
    return all(np.isfinite(rows[start : start + at_once]).all() for start in range(0, len(rows), at_once))


def has_encoder(kind: str) -> bool:
    """Tell whether something that is installed reads a kind of input."""
    return bool(_encoders_for(kind))


def _encoders_for(kind: str) -> list[Encoder]:
    known = [registry().get("encoder", name) for name in registry().names("encoder")]
    return [cls() for cls in known if issubclass(cls, Encoder) and cls.reads == kind and cls.by_default]


def _automatic(kind: str, X: Any) -> Encoder | None:
    """Return the encoder for a kind of input: of several, the first by name that accepts it."""
    if kind == "array":
        return None
    if kind == "files" and not has_encoder(kind):
        raise InvalidInputError(
            "X must be numbers, or paths most of which end as files of images or sounds do, such as .png or .wav; got "
            f"{os.fspath(next(iter(X)))!r}. Rename the files, name an encoder that reads them, or turn X into numbers."
        )
    fitting = _encoders_for(kind)
    if not fitting and kind == "table" and not has_words(X):
        # What is wrong with numbers that have gaps is said where numbers are checked.
        return None
    if not fitting:
        raise MissingDependencyError(
            f"X must be numbers, or there must be an encoder that reads it; got {kind}. Run: pip install "
            f"{PACKAGES[kind]}, register an encoder of your own, or turn X into numbers."
        )
    return next((encoder for encoder in fitting if encoder.accepts(X) is None), fitting[0])
