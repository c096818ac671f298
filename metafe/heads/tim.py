"""Transductive information maximisation."""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, minimize
from scipy.special import log_softmax, softmax

from metafe.contracts import check_choice, check_numbers, check_positive, check_sizes
from metafe.heads.transductive import TransductiveClassifier, centred, class_means, squared_distances, to_unit_length


class TIM(TransductiveClassifier):
    r"""Class weights that fit the support set and are sure, but not one-sided, about the query set.

    About equally many rows of a query set should belong to each class: the third term of the loss asks for it. With many
    more of some classes than of others it can do worse than the nearest mean.

    Parameters
    ----------
    temperature : float, default=15.0
        Factor of the squared distances in the softmax.
    support_weight : float, default=0.1
        Weight of the cross-entropy on the support set.
    conditional_weight : float, default=0.1
        Weight of the entropy of each query row's classes. A larger one trusts the balance of the classes less.
    centre : bool, default=True
        Whether the mean of all rows is subtracted before they are divided by their lengths. Published is not to, for
        features after a ReLU; others have an origin that means nothing.
    reach : float, default=0.1
        How far each coordinate of a class weight may go from the class mean. Without a limit the loss falls for ever, while
        weights go to infinity and probabilities to 0 and 1.
    n_steps : int, default=100
        Most iterations of the optimiser.

    Notes
    -----
    Boudiaf et al., "Transductive Information Maximization for Few-Shot Learning", 2020. With rows :math:`z_i` of unit
    length and class weights :math:`w_k`, :math:`p_{ik} = \mathrm{softmax}_k(-\frac{\tau}{2} \lVert w_k - z_i \rVert^2)`.
    The weights start at the class means of the support set and minimise
    :math:`\lambda\,\mathrm{CE}(\text{support}) + \alpha H(Y \mid X) - H(Y)`: on the query set,
    :math:`H(Y \mid X)` is the mean entropy of :math:`p_i` and :math:`H(Y)` that of the mean of :math:`p_i`. The
    temperature and both weights are those published. L-BFGS within a box takes the place of 1000 steps of Adam at a
    rate of 0.0001, which go no further than the default ``reach``; it needs a tenth of the time.

    Examples
    --------
    >>> support, query = [[0.0, 1.0], [1.0, 0.0]], [[0.1, 2.0], [0.2, 1.0], [2.0, 0.1], [1.0, 0.3]]
    >>> TIM().fit(support, ["a", "b"]).predict(query)
    array(['a', 'a', 'b', 'b'], dtype='<U1')
    """

    def __init__(
        self,
        temperature: float = 15.0,
        support_weight: float = 0.1,
        conditional_weight: float = 0.1,
        centre: bool = True,
        reach: float = 0.1,
        n_steps: int = 100,
    ) -> None:
        self.temperature = temperature
        self.support_weight = support_weight
        self.conditional_weight = conditional_weight
        self.centre = centre
        self.reach = reach
        self.n_steps = n_steps

    def _check_parameters(self) -> None:
        check_positive("TIM", temperature=self.temperature)
        weights = {"support_weight": self.support_weight, "conditional_weight": self.conditional_weight}
        check_numbers("TIM", **weights, reach=self.reach)
        check_choice("TIM", "centre", self.centre, (False, True))
        check_sizes("TIM", n_steps=self.n_steps)

    def _probabilities(self, support: np.ndarray, labels: np.ndarray, query: np.ndarray) -> np.ndarray:
        if self.centre:
            support, query = centred(support, query)
        support, query = to_unit_length(support), to_unit_length(query)
        start = class_means(support, labels)

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self._loss(flat.reshape(start.shape), support, labels, query)
            return value, gradient.ravel()

        box = Bounds(start.ravel() - self.reach, start.ravel() + self.reach)
        options = {"maxiter": self.n_steps}
        found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", bounds=box, options=options)
        return softmax(self._scores(found.x.reshape(start.shape), query), axis=1)

    def _scores(self, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return -0.5 * self.temperature * squared_distances(rows, weights)

    def _loss(
        self, weights: np.ndarray, support: np.ndarray, labels: np.ndarray, query: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient by the weights, ``(n_classes, n_features)``."""
        log_p = log_softmax(self._scores(weights, support), axis=1)
        value = -self.support_weight * (labels * log_p).sum() / len(support)
        by_support_scores = self.support_weight * (np.exp(log_p) - labels) / len(support)
        information, by_query_scores = negative_information(self._scores(weights, query), self.conditional_weight)
        gradient = sum(
            by_scores.T @ rows - weights * by_scores.sum(axis=0)[:, None]
            for by_scores, rows in ((by_support_scores, support), (by_query_scores, query))
        )
        return float(value + information), self.temperature * gradient


def negative_information(scores: np.ndarray, conditional_weight: float) -> tuple[float, np.ndarray]:
    """Return the weighted conditional entropy less the marginal entropy, and its gradient by the scores.

    Parameters
    ----------
    scores : ndarray of shape (n_query, n_classes)
        Before the softmax.
    conditional_weight : float

    Returns
    -------
    value : float
    gradient : ndarray of shape (n_query, n_classes)
    """
    log_p = log_softmax(scores, axis=1)
    p = np.exp(log_p)
    entropy = -(p * log_p).sum(axis=1, keepdims=True)
    marginal = p.mean(axis=0)
    log_marginal = np.log(np.maximum(marginal, np.finfo(float).tiny))
    value = conditional_weight * entropy.mean() + (marginal * log_marginal).sum()
    by_conditional = -conditional_weight * p * (log_p + entropy)
    by_marginal = p * (log_marginal - (p * log_marginal).sum(axis=1, keepdims=True))
    return float(value), (by_conditional + by_marginal) / len(scores)
