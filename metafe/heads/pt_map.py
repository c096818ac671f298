"""Power transform and maximum a posteriori by optimal transport."""

from __future__ import annotations

import numpy as np

from metafe.contracts import check_numbers, check_positive, check_sizes
from metafe.heads.transductive import TransductiveClassifier, centred, class_means, squared_distances, to_unit_length

# Added before the power transform, as published.
OFFSET = 1e-6
# How far from its share a class may be, relative; one of 1e-6 assigns the same rows and takes six times as long.
TOLERANCE = 1e-3


class PTMAP(TransductiveClassifier):
    r"""Class centres that move to the query rows which balanced optimal transport assigns to them.

    **Equally many rows of a query set are assumed to belong to each class**: the transport gives every class the same
    share. Where that is not so, some rows are assigned wrongly by construction.

    Parameters
    ----------
    power : float, default=0.5
        Exponent of the power transform.
    regularisation : float, default=10.0
        How sharply rows are assigned; published.
    step : float, default=0.2
        Share of the way that centres go to their new place in an iteration; published.
    n_steps : int, default=20
        Iterations.

    Notes
    -----
    Hu, Gripon and Pateux, "Leveraging the Feature Distribution in Transfer-based Few-Shot Learning", 2021. Rows are
    transformed to :math:`(v + 10^{-6})^{\beta}`, divided by their lengths, centred and divided by their lengths again.
    The power transform needs :math:`v \geq 0`, as after a ReLU: where any value of the support or query set is
    negative, the smallest of all is subtracted from every value first. The published code centres either set by its own mean;
    here both share one, so that a query set of few rows works. Centres :math:`c_k` start at the class means of the support
    set. Each iteration computes the plan :math:`M`, closest to :math:`\exp(-\lambda \lVert z_i - c_k \rVert^2)`, that gives
    each query row the weight 1 and each class the weight :math:`n_{query} / n_{classes}`, and moves :math:`c_k` by
    ``step`` towards the mean of its support rows and of the query rows weighted by :math:`M`. Probabilities are the
    last plan.

    Examples
    --------
    >>> support, query = [[0.0, 1.0], [1.0, 0.0]], [[0.1, 2.0], [0.2, 1.0], [2.0, 0.1], [1.0, 0.3]]
    >>> PTMAP().fit(support, ["a", "b"]).predict(query)
    array(['a', 'a', 'b', 'b'], dtype='<U1')
    """

    def __init__(
        self,
        power: float = 0.5,
        regularisation: float = 10.0,
        step: float = 0.2,
        n_steps: int = 20,
    ) -> None:
        self.power = power
        self.regularisation = regularisation
        self.step = step
        self.n_steps = n_steps

    def _check_parameters(self) -> None:
        check_positive("PTMAP", power=self.power, regularisation=self.regularisation)
        check_numbers("PTMAP", step=self.step)
        check_sizes("PTMAP", minimum=0, n_steps=self.n_steps)

    def _probabilities(self, support: np.ndarray, labels: np.ndarray, query: np.ndarray) -> np.ndarray:
        support, query = self._transform(support, query)
        centres = class_means(support, labels)
        plan, factors = self._assign(query, centres, None)
        for _ in range(self.n_steps):
            weighted = plan.T @ query + labels.T @ support
            means = weighted / (plan.sum(axis=0) + labels.sum(axis=0))[:, None]
            centres = centres + self.step * (means - centres)
            plan, factors = self._assign(query, centres, factors)
        return plan

    def _transform(self, support: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        smallest = min(support.min(), query.min(), 0.0)
        support, query = (to_unit_length((rows - smallest + OFFSET) ** self.power) for rows in (support, query))
        support, query = centred(support, query)
        return to_unit_length(support), to_unit_length(query)

    def _assign(
        self, query: np.ndarray, centres: np.ndarray, factors: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        cost = self.regularisation * squared_distances(query, centres)
        return balanced_plan(cost, factors)


def balanced_plan(
    cost: np.ndarray, factors: np.ndarray | None = None, max_iter: int = 1000, tolerance: float = TOLERANCE
) -> tuple[np.ndarray, np.ndarray]:
    """Scale ``exp(-cost)`` by Sinkhorn's iterations until each class gets the same share of the rows.

    Parameters
    ----------
    cost : ndarray of shape (n_rows, n_classes)
    factors : ndarray of shape (n_classes,) or None, default=None
        Where to start, such as those found for a similar cost.
    max_iter : int, default=1000
    tolerance : float, default=1e-3
        How far from its share a class may be, relative to it.

    Returns
    -------
    plan : ndarray of shape (n_rows, n_classes)
        Rows sum to 1, columns to ``n_rows / n_classes`` within the tolerance.
    factors : ndarray of shape (n_classes,)
        By which the columns were scaled.
    """
    n_rows, n_classes = cost.shape
    # Above zero, so that a class far from all rows can still be given its share.
    kernel = np.maximum(np.exp(cost.min(axis=1, keepdims=True) - cost), np.finfo(float).tiny)
    share = n_rows / n_classes
    factors = np.ones(n_classes) if factors is None else factors
    for _ in range(max_iter):
        weights = kernel.T @ (1.0 / (kernel @ factors))
        if np.abs(factors * weights - share).max() <= tolerance * share:
            break
        factors = share / weights
        factors = factors / factors.max()
    plan = kernel * factors
    return plan / plan.sum(axis=1, keepdims=True), factors
