"""Mini-batches of rows, for algorithms that train on rows."""

from __future__ import annotations

import numpy as np

from metafe.contracts import Seeds, TaskBatch, TaskData


def draw_rows(data: TaskData, labels: np.ndarray, n: int, step: int, seeds: Seeds) -> TaskBatch:
    """Draw the mini-batch of a step: rows are shuffled once an epoch, and each is seen once in it.

    Parameters
    ----------
    data : TaskData
        Encoded training rows.
    labels : ndarray of shape (m,) int64 or (m, n_targets) float32
        Label across tasks, or target, of each row in use.
    n : int
        Rows in a batch.
    step : int
        Training step; the result depends on the arguments alone.
    seeds : Seeds
        Random streams.

    Returns
    -------
    TaskBatch
        One task without support, of ``min(n, m)`` query rows.
    """
    size = min(n, len(data))
    batches_per_epoch = len(data) // size
    epoch, position = divmod(step, batches_per_epoch)
    order = seeds.numpy("rows", epoch).permutation(len(data))
    chosen = order[position * size : (position + 1) * size]
    x, y = data.take(data.rows[chosen])[None], labels[chosen][None]
    is_class = labels.ndim == 1
    return TaskBatch(
        support_x=x[:, :0],
        support_y=y[:, :0],
        query_x=x,
        query_y=y,
        n_way=int(labels.max()) + 1 if is_class else 0,
        support_class=y[:, :0] if is_class else None,
        query_class=y if is_class else None,
    )
