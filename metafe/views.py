"""How networks see rows: standardised, or by the directions in which classes differ."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import torch

from metafe.backbones import PLDA
from metafe.contracts import Backbone, InvalidParameterError, Seeds, TaskData
from metafe.training.feature_model import takes_plain_rows
from metafe.training.input_beside import Beside
from metafe.training.normalisation import Normaliser, fit_normaliser

View = Literal["rows", "discriminants"]
# Enough values for covariances.
VALUES_TO_FIT = 2**24


def has_discriminants(backbone: Backbone, train: TaskData, input_shape: tuple[int, ...]) -> bool:
    """Tell whether rows have directions in which classes differ: there are classes, and rows are features as they are.

    Parameters
    ----------
    backbone : Backbone
    train : TaskData
        Training rows.
    input_shape : tuple of int
        Of an encoded row.
    """
    return train.kind == "classification" and takes_plain_rows(backbone, input_shape)


def fit_view(view: View, backbone: Backbone, train: TaskData, seeds: Seeds) -> Normaliser:
    """Compute statistics of the training rows that a network sees so.

    Parameters
    ----------
    view : {"rows", "discriminants"}
    backbone : Backbone
        Of the network.
    train : TaskData
        Encoded training rows.
    seeds : Seeds

    Returns
    -------
    Normaliser

    Raises
    ------
    InvalidParameterError
        There are no discriminants of such rows.
    """
    if view == "rows":
        return fit_normaliser(train, backbone.standardise)
    input_shape = train.x.shape[1:]
    if len(input_shape) != 1 or not has_discriminants(backbone, train, input_shape):
        raise InvalidParameterError(
            f"inputs with discriminants need flat rows with classes, and a backbone that standardises them; got {train.kind} data, "
            f"rows of shape {input_shape} and {backbone.name!r}. Set inputs='rows'."
        )
    normaliser, rows = _fit_discriminants(train, seeds)
    assert normaliser.projection is not None
    scale = rows.std(dim=0)
    # What is the same in every row stays so.
    projection = normaliser.projection / torch.where(scale > 0, scale, 1.0)
    return dataclasses.replace(normaliser, projection=projection)


def fit_beside(how: Beside, train: TaskData, seeds: Seeds) -> Normaliser:
    """Compute statistics of the training rows that stand beside features.

    Parameters
    ----------
    how : {"feature", "all", "discriminants"}
        Each column with a scale of its own, all with one, or the features of `PLDA`.
    train : TaskData
        Encoded training rows.
    seeds : Seeds

    Returns
    -------
    Normaliser

    Raises
    ------
    InvalidParameterError
        There are no discriminants without classes.
    """
    if how != "discriminants":
        return fit_normaliser(train, how)
    if train.kind != "classification":
        raise InvalidParameterError(
            f"concat_input='discriminants' needs classes; got {train.kind} data. Choose 'feature' or 'all'."
        )
    return _fit_discriminants(train, seeds)[0]


def _fit_discriminants(train: TaskData, seeds: Seeds) -> tuple[Normaliser, torch.Tensor]:
    """Return what makes discriminants of rows, and those of some training rows."""
    assert train.y is not None
    standardise = fit_normaliser(train, "feature")
    n_rows = min(len(train), max(1, VALUES_TO_FIT // max(1, math.prod(train.x.shape[1:]))))
    chosen = np.sort(seeds.numpy("discriminants").choice(train.rows, n_rows, replace=False))
    rows = standardise(torch.as_tensor(train.take(chosen)))
    plda = PLDA().fit(rows.numpy(), train.y[chosen], seeds.child("discriminants"))
    projection = torch.as_tensor(plda.projection_, dtype=torch.float32)
    return dataclasses.replace(standardise, projection=projection), rows.flatten(1) @ projection
