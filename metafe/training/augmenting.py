"""Applying augmentations to a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from metafe.contracts import Augmentation, PluginContractError, TaskBatch


class Augmenter:
    """Views of classes first, then random changes of each row.

    Parameters
    ----------
    augmentations : sequence of Augmentation
        In the order of their application.
    input_shape : tuple of int
        Shape of one encoded row.
    n_classes : int
        Number of classes before views are counted; 0 where there are none, which leaves views out.
    """

    def __init__(self, augmentations: Sequence[Augmentation], input_shape: tuple[int, ...], n_classes: int) -> None:
        self.augmentations = augmentations
        self.views = [(a, a.n_views(input_shape)) for a in augmentations if n_classes and a.n_views(input_shape) > 1]
        self.n_classes = n_classes

    @property
    def n_classes_with_views(self) -> int:
        """Number of classes, views counted."""
        total = self.n_classes
        for _, n_views in self.views:
            total *= n_views
        return total

    def __call__(self, batch: TaskBatch, generator: torch.Generator, check: bool = False) -> TaskBatch:
        """Return the augmented batch.

        Parameters
        ----------
        batch : TaskBatch
            Standardised tensors on the device of ``generator``.
        generator : torch.Generator
            The only source of randomness.
        check : bool, default=False
            Whether to look for values that are not finite, which waits for the device.

        Returns
        -------
        TaskBatch

        Raises
        ------
        PluginContractError
            An augmentation returned rows of another shape, or values that are not finite.
        """
        if not self.augmentations:
            return batch
        n_classes = self.n_classes
        for augmentation, n_views in self.views if batch.query_class is not None else []:
            batch = _view_classes(batch, augmentation, n_views, n_classes, generator)
            n_classes *= n_views
        support_x, query_x = (self._change(x, generator, check) for x in (batch.support_x, batch.query_x))
        return dataclasses.replace(batch, support_x=support_x, query_x=query_x)

    def _change(self, x: Tensor, generator: torch.Generator, check: bool) -> Tensor:
        rows = x.flatten(0, 1)
        for augmentation in self.augmentations if len(rows) else ():
            rows = _checked(augmentation, "__call__", augmentation(rows, generator), rows.shape)
            if check and not torch.isfinite(rows).all():
                raise PluginContractError(
                    f"Augmentation {augmentation.name!r} must return finite values; got NaN or infinity. "
                    "Fix its __call__."
                )
        return rows.reshape(x.shape)


def _view_classes(
    batch: TaskBatch, augmentation: Augmentation, n_views: int, n_classes: int, generator: torch.Generator
) -> TaskBatch:
    """Show each class of each task, or each row of a plain mini-batch, in a random view."""
    n_tasks, n_query = batch.query_y.shape
    device = batch.query_x.device
    if batch.support_x.shape[1] == 0:
        view_of_support = torch.zeros_like(batch.support_y)
        view_of_query = torch.randint(n_views, (n_tasks, n_query), generator=generator, device=device)
    else:
        view_of_class = torch.randint(n_views, (n_tasks, batch.n_way), generator=generator, device=device)
        view_of_support, view_of_query = (view_of_class.gather(1, y) for y in (batch.support_y, batch.query_y))
    return dataclasses.replace(
        batch,
        support_x=_view_rows(batch.support_x, view_of_support, augmentation, n_views),
        query_x=_view_rows(batch.query_x, view_of_query, augmentation, n_views),
        support_class=batch.support_class + n_classes * view_of_support,
        query_class=batch.query_class + n_classes * view_of_query,
    )


def _view_rows(x: Tensor, view: Tensor, augmentation: Augmentation, n_views: int) -> Tensor:
    viewed = x.clone()
    for k in range(1, n_views):
        chosen = view == k
        viewed[chosen] = _checked(augmentation, "view", augmentation.view(x[chosen], k), x[chosen].shape)
    return viewed


def _checked(augmentation: Augmentation, method: str, changed: object, shape: torch.Size) -> Tensor:
    if isinstance(changed, Tensor) and changed.shape == shape:
        return changed
    received = f"a tensor of shape {tuple(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
    raise PluginContractError(
        f"Augmentation {augmentation.name!r} must return a tensor of shape {tuple(shape)}; got {received}. "
        f"Fix its {method}."
    )
