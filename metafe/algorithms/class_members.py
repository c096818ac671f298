"""Which rows of a support set belong to which class."""

from __future__ import annotations

import torch
from torch import Tensor


def class_members(y: Tensor, n_way: int) -> Tensor:
    """Return whether each row belongs to each class.

    Parameters
    ----------
    y : Tensor of shape (..., S) int64
    n_way : int

    Returns
    -------
    Tensor of shape (..., n_way, S) bool
    """
    return y.unsqueeze(-2) == torch.arange(n_way, device=y.device).unsqueeze(-1)


def class_means(features: Tensor, y: Tensor, n_way: int) -> Tensor:
    """Return the mean feature of each class.

    Parameters
    ----------
    features : Tensor of shape (..., S, n_features)
    y : Tensor of shape (..., S) int64
    n_way : int

    Returns
    -------
    Tensor of shape (..., n_way, n_features)
    """
    members = class_members(y, n_way).to(features.dtype)
    return members @ features / members.sum(-1, keepdim=True)
