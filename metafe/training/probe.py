"""Judging features by the simplest heads: nearest centroid for classes, ridge for targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from metafe.contracts import TaskBatch

# What a task counts whose features are not finite: worse than any that are.
WORST = -np.inf
# Standard deviation of a gain between classes as it usually is, and how many classes that knowledge counts as.
USUAL_SPREAD, USUAL_CLASSES = 0.1, 2


def probe_tasks(batches: Sequence[TaskBatch]) -> np.ndarray:
    """Score the features of each task.

    Parameters
    ----------
    batches : sequence of TaskBatch
        With features in place of rows, as NumPy arrays.

    Returns
    -------
    ndarray of shape (n_tasks,)
        Accuracy of the nearest centroid, or R² of ridge regression; minus infinity where features are not finite.
    """
    return np.concatenate([_score_classes(b) if b.n_way else _score_targets(b) for b in batches])


def probe_classes(batches: Sequence[TaskBatch]) -> np.ndarray:
    """Score the features by class: how often query rows of each class are told right, over all tasks.

    Parameters
    ----------
    batches : sequence of TaskBatch
        With features in place of rows, as NumPy arrays, and labels across tasks.

    Returns
    -------
    ndarray of shape (n_classes_drawn,)
        In the order of the labels; empty for continuous targets.
    """
    known = [b for b in batches if b.n_way and b.query_class is not None]
    if not known:
        return np.empty(0)
    correct = [np.where(_finite(b)[:, None], centroid_predictions(b) == b.query_y, False).ravel() for b in known]
    labels = np.concatenate([np.asarray(b.query_class).ravel() for b in known])
    drawn, codes = np.unique(labels, return_inverse=True)
    return np.bincount(codes, weights=np.concatenate(correct), minlength=len(drawn)) / np.bincount(codes)


def centroid_predictions(batch: TaskBatch) -> np.ndarray:
    """Return the nearest class mean of each query row, ``(T, Q)`` labels."""
    rows = (batch.support_x, batch.query_x)
    support, query = (np.asarray(x, dtype=np.float64).reshape(*x.shape[:2], -1) for x in rows)
    membership = (np.asarray(batch.support_y)[:, None, :] == np.arange(batch.n_way)[:, None]).astype(np.float64)
    centroids = membership @ support / membership.sum(-1, keepdims=True)
    # The squared norm of the query is the same for all centroids and cannot change which is nearest.
    distances = (centroids**2).sum(-1)[:, None, :] - 2 * query @ np.swapaxes(centroids, 1, 2)
    return distances.argmin(-1)


def _score_classes(batch: TaskBatch) -> np.ndarray:
    correct = (centroid_predictions(batch) == batch.query_y).mean(-1)
    return np.where(_finite(batch), correct, WORST)


def _score_targets(batch: TaskBatch) -> np.ndarray:
    scores, finite = np.full(len(batch), WORST), _finite(batch)
    if batch.query_y.shape[1] > 1 and finite.any():
        support, query = (x[finite].reshape(finite.sum(), x.shape[1], -1) for x in (batch.support_x, batch.query_x))
        predicted = ridge_predictions(support, batch.support_y[finite], query)
        scores[finite] = _r2_scores(np.asarray(batch.query_y, dtype=np.float64)[finite], predicted)
    return scores


def ridge_predictions(support: np.ndarray, targets: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Predict the targets of query rows by ridge regression of strength 1 on support rows, for many tasks at once.

    Parameters
    ----------
    support : ndarray of shape (T, S, n_features)
    targets : ndarray of shape (T, S, n_targets)
    query : ndarray of shape (T, Q, n_features)

    Returns
    -------
    ndarray of shape (T, Q, n_targets) float64
    """
    support, targets, query = (np.asarray(a, dtype=np.float64) for a in (support, targets, query))
    centre, mean = support.mean(axis=1, keepdims=True), targets.mean(axis=1, keepdims=True)
    support, query = support - centre, query - centre
    transposed = np.swapaxes(support, 1, 2)
    # A weight for each of the few support rows in place of one for each feature.
    kernel = support @ transposed + np.eye(support.shape[1])
    try:
        weights = np.linalg.solve(kernel, targets - mean)
    except np.linalg.LinAlgError:
        # The ridge is lost in the rounding of features as large as an inner loop makes them that diverges.
        weights = np.linalg.pinv(kernel, hermitian=True) @ (targets - mean)
    return query @ (transposed @ weights) + mean


def _r2_scores(targets: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return R² of each task, ``(T,)``, the mean over its targets; as scikit-learn does, 0 or 1 where a target is constant."""
    residual = ((targets - predicted) ** 2).sum(axis=1)
    total = ((targets - targets.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    constant = np.where(residual == 0, 1.0, 0.0)
    return np.where(total > 0, 1 - residual / np.where(total > 0, total, 1.0), constant).mean(axis=1)


def _finite(batch: TaskBatch) -> np.ndarray:
    pairs = zip(batch.support_x, batch.query_x, strict=True)
    return np.array([np.isfinite(support).all() and np.isfinite(query).all() for support, query in pairs])


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of two sets of features on the same tasks.

    Parameters
    ----------
    score, baseline : float
        Mean score of either.
    gain, low, high : float
        Mean difference, with its 95 % interval.
    """

    score: float
    baseline: float
    gain: float
    low: float
    high: float


def differences(scores: np.ndarray, baselines: np.ndarray) -> np.ndarray:
    """Return scores less baselines, of tasks or classes; two that both failed score minus infinity, and differ by nothing."""
    return np.subtract(scores, baselines, out=np.zeros(len(scores)), where=scores != baselines)


def compare(scores: np.ndarray, baselines: np.ndarray) -> Comparison:
    """Compare scores of the same tasks, pair by pair.

    Parameters
    ----------
    scores, baselines : ndarray of shape (n,)
        In the same order.

    Returns
    -------
    Comparison
        With the interval of Student's t distribution.
    """
    mean, half = mean_interval(differences(scores, baselines))
    return Comparison(float(scores.mean()), float(baselines.mean()), mean, mean - half, mean + half)


def interval_over_classes(gains: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the mean gain of a few classes and half the width of its interval for classes like them.

    Parameters
    ----------
    gains : ndarray of shape (n_classes,)
        Of at least one class.
    confidence : float
        Of the interval, such as 0.95.

    Returns
    -------
    mean, half : float

    Notes
    -----
    How far gains of classes lie apart is not to be seen from two of them, which may happen to be alike. So their spread is
    moderated: as if there had been two more, that differ as classes usually do. The t distribution with as many more degrees
    of freedom is that of Smyth, "Linear models and empirical Bayes methods for assessing differential expression in microarray
    experiments", 2004.
    """
    mean, degrees = float(gains.mean()), len(gains) - 1 + USUAL_CLASSES
    if not np.isfinite(mean):
        return mean, float("inf")
    variance = (USUAL_CLASSES * USUAL_SPREAD**2 + float(((gains - mean) ** 2).sum())) / degrees
    return mean, float(stats.t.ppf((1 + confidence) / 2, degrees)) * float(np.sqrt(variance / len(gains)))


def mean_less_errors(values: np.ndarray, n_errors: float) -> float:
    """Return the mean less some standard errors, or the mean alone of a single value."""
    margin = n_errors * float(stats.sem(values)) if len(values) > 1 else 0.0
    return float(values.mean()) - margin


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval, which is infinite for fewer than two values."""
    mean = float(values.mean())
    if len(values) < 2 or not np.isfinite(values).all():
        return mean, float("inf")
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
