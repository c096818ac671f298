"""Judging the features of any transformer on small problems with classes it has never seen."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import r2_score
from sklearn.utils import _safe_indexing

from metafe.contracts import (
    AdaptedSettingWarning,
    InvalidInputError,
    InvalidParameterError,
    ProblemKind,
    Seeds,
    TaskData,
)
from metafe.heads.choosing import JUDGING_NAMES, check_head, make_classifier, make_regressor
from metafe.heads.own import brings_head


@dataclass(frozen=True)
class FewShotScore:
    """What `few_shot_score` found.

    Parameters
    ----------
    mean : float
        Mean score over the episodes: accuracy, or R² for continuous targets.
    interval : float
        Half the width of the 95 % interval of the mean over episodes.
    scores : ndarray of shape (n_episodes,)
        Score of each episode, in the order of drawing.
    n_classes : int
        Number of classes that the episodes were drawn from; 0 for continuous targets.

    Examples
    --------
    >>> print(FewShotScore(0.5, 0.01, np.array([0.49, 0.51]), 5))
    0.500 ± 0.010 (2 episodes, 5 classes)
    """

    mean: float
    interval: float
    scores: np.ndarray
    n_classes: int

    def __str__(self) -> str:
        classes = f", {self.n_classes} classes" if self.n_classes else ""
        return f"{self.mean:.3f} ± {self.interval:.3f} ({len(self.scores)} episodes{classes})"


def few_shot_score(
    transformer: Any,
    X: Any,
    y: Any,
    *,
    groups: Any = None,
    n_way: int = 5,
    n_shot: int = 1,
    n_query: int = 15,
    n_episodes: int = 600,
    head: Any = "centroid",
    adapt: bool = False,
    random_state: Any = None,
) -> FewShotScore:
    """Judge the features of a fitted transformer by how well a simple head learns small problems on them.

    Parameters
    ----------
    transformer : transformer or None
        Fitted, of metafe or not; ``None`` judges the rows themselves.
    X : array-like of shape (n_rows, ...)
        Rows of classes, or groups, that the transformer has not been fitted on.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        Classes, or continuous targets.
    groups : array-like of shape (n_rows,), default=None
        Each episode stays inside one group, with ``n_way`` of its classes, or all where it has fewer.
    n_way : int, default=5
        Classes in an episode.
    n_shot : int, default=1
        Support rows of each class, or of the episode for continuous targets.
    n_query : int, default=15
        Query rows of each class, or of the episode for continuous targets.
    n_episodes : int, default=600
    head : {"centroid", "auto", "own", "tim", "pt-map", "ridge"} or estimator, default="centroid"
        ``"centroid"`` takes the nearest class mean; for continuous targets ridge regression of strength 1, which suits
        features of about unit scale. ``"ridge"``, for targets alone, chooses the strength by leaving out one support row
        at a time, as `FewShotRegressor` does; it needs two of them. ``"tim"`` and ``"pt-map"`` are for classes alone.
        ``"own"`` takes the head that the transformer's algorithm adapts; ``"auto"`` that for targets, if there is one, and
        else ``"centroid"``. Any scikit-learn classifier or regressor is cloned and fitted in each episode.
    adapt : bool, default=False
        Whether ``transformer.adapt`` is called on the support rows of each episode; ``"own"`` always does.
    random_state : int, RandomState or None, default=None
        The same integer gives the same episodes for every transformer.

    Returns
    -------
    FewShotScore

    Raises
    ------
    InvalidInputError
        Too few classes or rows to draw episodes from.
    InvalidParameterError
        An unknown head, one that the transformer or the targets do not allow, or ``adapt`` with a transformer that cannot.

    Notes
    -----
    The interval treats episodes as independent draws; it does not tell how other novel classes would fare. An episode
    whose adaptation diverges scores minus infinity, and so does the mean.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> score = few_shot_score(None, X, y, n_way=5, n_shot=5, n_episodes=50, random_state=0)
    >>> score.n_classes, len(score.scores)
    (10, 50)
    """
    from metafe.inputs import check_groups, check_target

    _check_arguments(transformer, head, adapt)
    target = check_target(X, y)
    head = _resolved(head, transformer, target.kind, n_shot)
    _, group_codes = check_groups(X, groups)
    if target.y is None:
        raise InvalidInputError("few_shot_score needs y to judge by; got none. Pass the classes or targets.")
    # Targets in their own units, which adapt knows how to bring to those it has learned from.
    labels = target.y if target.mean is None else target.y * target.scale + target.mean
    data = TaskData(np.arange(len(labels)), labels, group_codes, np.arange(len(labels)))
    episodes = _draw(data, n_way, n_shot, n_query, n_episodes, _seed(random_state))
    if isinstance(head, str) and head == "own":
        scores = np.array([_own_score(transformer, X, episode) for episode in episodes])
    elif adapt:
        scores = _adapted_scores(transformer, X, data, episodes, head)
    else:
        features = np.asarray(X if transformer is None else transformer.transform(X))
        scores = _scores(data.with_x(features.reshape(len(features), -1)), episodes, head)
    from metafe.training.probe import mean_interval

    mean, interval = mean_interval(scores)
    n_classes = 0 if target.classes is None else len({c for e in episodes for c in e.classes.tolist()})
    return FewShotScore(mean, interval, scores, n_classes)


def _draw(data: TaskData, n_way: int, n_shot: int, n_query: int, n_episodes: int, seed: int) -> list[Any]:
    from metafe.tasks import ClassTasks, GroupTasks, RowTasks

    if data.groups is not None:
        source = GroupTasks(None if data.kind == "regression" else n_way, n_shot, n_query)
        ways = [len(pairs) for pairs, _ in data.group_problems] if data.kind == "classification" else []
        if ways and max(ways) < n_way:
            source = GroupTasks(None, n_shot, n_query)
    elif data.kind == "classification":
        source = ClassTasks(n_way, n_shot, n_query)
    else:
        source = RowTasks(n_shot, n_query)
    if reason := source.accepts(data):
        raise InvalidInputError(reason)
    for sentence in source.adjustments(data):
        warnings.warn(sentence, AdaptedSettingWarning, stacklevel=3)
    return source.validation_episodes(data, n_episodes, Seeds(seed, ("few-shot score",)))


def _scores(data: TaskData, episodes: list[Any], head: Any) -> np.ndarray:
    """Score a head on features, many episodes at a time where it is the default one."""
    from metafe.training.probe import probe_tasks

    if isinstance(head, str):
        return np.concatenate([probe_tasks([episode.to_batch(data)]) for episode in episodes])
    return np.array([_score_head(head, data.x[e.support], e.support_y, data.x[e.query], e.query_y) for e in episodes])


def _adapted_scores(transformer: Any, X: Any, data: TaskData, episodes: list[Any], head: Any) -> np.ndarray:
    from metafe.training.probe import WORST

    scores = []
    for episode in episodes:
        support, query = _safe_indexing(X, episode.support), _safe_indexing(X, episode.query)
        adapted = transformer.adapt(support, episode.support_y)
        n_support = len(episode.support)
        features = np.concatenate([np.asarray(adapted.transform(rows)) for rows in (support, query)])
        own = data.with_x(features)
        renumbered = type(episode)(
            np.arange(n_support),
            np.arange(n_support, len(features)),
            episode.support_y,
            episode.query_y,
            episode.classes,
        )
        scores.append(_scores(own, [renumbered], head)[0] if np.isfinite(features).all() else WORST)
    return np.array(scores)


def _own_score(transformer: Any, X: Any, episode: Any) -> float:
    from metafe.training.probe import WORST

    adapted = transformer.adapt(_safe_indexing(X, episode.support), episode.support_y)
    predicted = adapted.predict_adapted(_safe_indexing(X, episode.query))
    if not np.isfinite(predicted).all():
        return WORST
    if episode.classes is not None:
        return float((predicted.argmax(axis=1) == episode.query_y).mean())
    return float(r2_score(episode.query_y, predicted))


def _score_head(
    head: BaseEstimator, support: np.ndarray, support_y: np.ndarray, query: np.ndarray, query_y: np.ndarray
) -> float:
    single = support_y.ndim == 2 and support_y.shape[1] == 1
    targets = (y.ravel() if single else y for y in (support_y, query_y))
    fitted_on, judged_on = targets
    return float(clone(head).fit(support, fitted_on).score(query, judged_on))


def _check_arguments(transformer: Any, head: Any, adapt: bool) -> None:
    check_head(head, JUDGING_NAMES, "an estimator")
    if adapt and not hasattr(transformer, "adapt"):
        raise InvalidParameterError(
            f"adapt=True needs a transformer with an adapt method; got {transformer!r}. Pass adapt=False."
        )


def _resolved(head: Any, transformer: Any, kind: ProblemKind, n_shot: int) -> Any:
    """Return ``"centroid"``, ``"own"`` or an estimator."""
    if not isinstance(head, str) or head == "centroid":
        return head
    own = brings_head(transformer, kind)
    if head == "auto":
        return "own" if own and kind == "regression" else "centroid"
    if head == "own" and not own:
        raise InvalidParameterError(
            f"head='own' needs a transformer that has learned to adapt a head for {kind}; got {transformer!r}. "
            "Choose another head."
        )
    if head == "own":
        return head
    return _named_regressor(head, kind, n_shot) if head == "ridge" else _named_classifier(head, kind)


def _named_classifier(head: str, kind: ProblemKind) -> Any:
    if kind == "regression":
        raise InvalidParameterError(
            f"head={head!r} needs classes; got continuous targets. Use 'centroid', 'ridge', 'own' or 'auto'."
        )
    return make_classifier(head)


def _named_regressor(head: str, kind: ProblemKind, n_shot: int) -> Any:
    if kind != "regression":
        raise InvalidParameterError(f"head={head!r} needs continuous targets; got classes. Use 'centroid' or 'own'.")
    if n_shot < 2:
        raise InvalidParameterError(
            f"head={head!r} needs an n_shot of at least 2, since it leaves out one support row at a time; got {n_shot!r}. "
            "Raise n_shot, or use 'centroid'."
        )
    return make_regressor(head)


def _seed(random_state: Any) -> int:
    from metafe.extractor import seed_from

    return seed_from(random_state)
