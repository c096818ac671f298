"""What a search does: prepare, run trials, judge the best again, fit the winner on all rows."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sklearn.base import clone

from metafe.contracts import (
    AdaptedSettingWarning,
    FeatureQualityWarning,
    InvalidInputError,
    Seeds,
    TaskData,
    TrainingInterruptedWarning,
    UnreadableRowWarning,
)
from metafe.encoding import choose_encoder, fit_and_encode
from metafe.extractor import MetaFeatureExtractor, seed_from
from metafe.inputs import check_groups, check_rows, check_target
from metafe.search import attributes as attribute
from metafe.search.baselines import enqueue_first
from metafe.search.candidates import takes_raw_input
from metafe.search.checking import check_with_data
from metafe.search.describing import described
from metafe.search.estimator import FEW_SHOT
from metafe.search.finalists import judge_finalists
from metafe.search.folds import Folds
from metafe.search.judging import DownstreamJudge, Judge
from metafe.search.meta_features import meta_features
from metafe.search.objective import DIRECTIONS, Objective, trains_whole
from metafe.search.options import trains
from metafe.search.progress import show_search
from metafe.search.reclaiming import lasting, requeue_cut_short
from metafe.search.refit_plan import RefitPlan
from metafe.search.results import check_any_complete, cv_results
from metafe.search.samplers import make_pruner, make_sampler
from metafe.search.space import Space
from metafe.search.storage import SEED, fingerprint_of, open_study, quiet
from metafe.search.view import make_view
from metafe.search.warm_start import META_FEATURES, warm_settings
from metafe.search.workers import run
from metafe.training.progress import show_decisions

if TYPE_CHECKING:
    from metafe.fitting import Recipe
    from metafe.search.estimator import MetaFeatureSearchCV

# Seconds of the refit of a search that is late already.
SHORTEST_REFIT = 1.0


def search(estimator: MetaFeatureSearchCV, X: Any, y: Any, groups: Any, deadline: float | None = None) -> None:
    """Search with an estimator's parameters, and set its fitted attributes.

    Parameters
    ----------
    estimator : MetaFeatureSearchCV
    X, y, groups : object
        As its `fit` takes them.
    deadline : float or None, default=None
        When to be done, as `time.time` tells it.
    """
    with quiet(estimator.verbose):
        study, objective = prepare(estimator, X, y, groups)
        objective.be_done_by(deadline)
        show_decisions(_decisions(estimator), estimator.verbose)
        # With nothing held out, only what is not learned can be trusted: the first of the baselines.
        n_trials = estimator.n_trials if objective.judge.folds.hold_out else 1
        with show_search(study, n_trials, deadline, estimator.verbose):
            run(study, objective, n_trials, estimator.n_jobs)
        conclude(estimator, study, objective)
        show_decisions({"winner": estimator.verdict_}, estimator.verbose)
        if estimator.refit:
            refit(estimator, objective, X, y, groups)


def prepare(estimator: MetaFeatureSearchCV, X: Any, y: Any, groups: Any) -> tuple[Study, Objective]:
    """Check the data, resolve everything and open the study; what cannot work is an error before any training."""
    template = MetaFeatureExtractor() if estimator.extractor is None else estimator.extractor
    raw = takes_raw_input(estimator.backbones, template.backbone)
    encoder = None if raw else choose_encoder(template.encoder, X)
    rows = check_rows(estimator, X, raw=raw, reset=True) if encoder is None else fit_and_encode(estimator, encoder, X)
    target = check_target(rows, y)
    _, group_codes = check_groups(rows, groups)
    data = TaskData(rows, target.y, group_codes, np.arange(len(rows)))
    check_with_data(estimator, data, y)
    judge = _judge(estimator, data, y)
    folds = judge.folds
    estimator.n_splits_, estimator.splits_ = len(folds), folds.said
    smallest = min((data.restrict(train) for train, _ in folds.parts), key=_size)
    narrowed = estimator.backbones, estimator.algorithms, estimator.tasks
    whole = trains_whole(data, judge, template)
    space = Space.for_data(smallest, template, *narrowed, encoder=encoder, searches_length=whole)
    features = meta_features(data)
    # Whoever comes second waits for the first trials only for a while, so that nothing slow stands between here and there.
    warm = [] if estimator.warm_start_from is None else warm_settings(estimator.warm_start_from, features, space)
    study = open_study(
        estimator.storage,
        estimator.study_name,
        _fingerprint(estimator, data, folds, space, template),
        [DIRECTIONS[name] for name in estimator.objectives],
        pruner=make_pruner(estimator.pruner),
    )
    study.set_user_attr(META_FEATURES, features)
    seed = _seed(estimator, study)
    study.sampler = make_sampler(estimator.sampler, _sampler_seed(estimator, study))
    judge.seeds = Seeds(seed)
    requeue_cut_short(study, len(folds))
    # Optuna's own pictures and its dashboard show them.
    study.set_metric_names(list(estimator.objectives))
    enqueue_first(study, space, smallest, estimator.n_trials, warm, encoder)
    template = clone(template)
    objective = Objective(
        *(space, data, target, template, judge, tuple(estimator.objectives), seed),
        encoder=encoder,
        refits=bool(estimator.refit),
        trains_whole=whole,
    )
    return study, objective


def conclude(estimator: MetaFeatureSearchCV, study: Study, objective: Objective) -> None:
    """Judge the finalists and set what was found."""
    trials = _counting(study)
    if objective.interrupted and not any(t.state == TrialState.COMPLETE for t in trials):
        raise KeyboardInterrupt
    check_any_complete(trials)
    finished = [t for t in trials if t.state.is_finished() and attribute.PARAMETERS in t.user_attrs]
    finals = judge_finalists(finished, objective)
    estimator.study_ = study
    estimator.finalists_, estimator.verdict_ = finals.finalists, finals.verdict
    estimator._view = make_view(objective, finished, finals)
    estimator.cv_results_ = cv_results(finished, objective)
    estimator.best_index_ = [t.number for t in finished].index(finals.winner.trial)
    estimator.best_params_ = objective.parameters_of(finished[estimator.best_index_])
    if trains(estimator.best_params_):
        estimator.best_params_ |= RefitPlan(objective).settings(finished[estimator.best_index_])
    if finals.winner.concat_input is not None:
        estimator.best_params_ |= {"concat_input": finals.winner.concat_input}
    estimator.best_score_ = float(estimator.cv_results_["mean_test_score"][estimator.best_index_])
    if objective.interrupted:
        _warn_interrupted(finished)


def refit(estimator: MetaFeatureSearchCV, objective: Objective, X: Any, y: Any, groups: Any) -> None:
    """Fit the winner, and the final estimator on its features, on all rows."""
    chosen = Refit(**objective.template.get_params(deep=False))
    chosen.set_params(**estimator.best_params_, random_state=objective.seed)
    with warnings.catch_warnings():
        # The winner has been judged as it is, on more than one split.
        warnings.simplefilter("ignore", FeatureQualityWarning)
        warnings.simplefilter("ignore", AdaptedSettingWarning)
        # They were named when the search began.
        warnings.simplefilter("ignore", UnreadableRowWarning)
        chosen.until(objective.deadline).fit(X, y, groups=groups)
    estimator.best_estimator_ = MetaFeatureExtractor(**chosen.get_params(deep=False))
    fitted = {name: value for name, value in vars(chosen).items() if name != "_deadline"}
    estimator.best_estimator_.__dict__.update(fitted)
    if estimator.final_estimator is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreadableRowWarning)
            features = estimator.best_estimator_.transform(X)
        estimator.final_estimator_ = clone(estimator.final_estimator).fit(features, y)


class Refit(MetaFeatureExtractor):
    """An extractor whose training is as long as there is time, with the schedule of its learning rate."""

    def until(self, deadline: float | None) -> Refit:
        """Set the deadline, as `time.time` tells it."""
        self._deadline = deadline
        return self

    def _recipe(self, decisions: Any, data: TaskData) -> Recipe:
        recipe = super()._recipe(decisions, data)
        if self._deadline is None:
            return recipe
        return dataclasses.replace(recipe, seconds=max(SHORTEST_REFIT, self._deadline - time.time()), refit=False)


def _counting(study: Study) -> list[FrozenTrial]:
    """Return the trials that count; those that are to be tried again too where there was no time to complete any."""
    trials = study.get_trials(deepcopy=False)
    counting = lasting(trials)
    return counting if any(t.state == TrialState.COMPLETE for t in counting) else trials


def _decisions(estimator: MetaFeatureSearchCV) -> dict[str, str]:
    """Return what is worth saying before the first trial."""
    said = {"cv": estimator.splits_}
    if len(estimator.objectives) > 1:
        said["pruner"] = "none, since Optuna does not prune with several objectives"
    return said


def _judge(estimator: MetaFeatureSearchCV, data: TaskData, y: Any) -> Judge | DownstreamJudge:
    """Return what judges features on the folds, or on all rows where ``cv="auto"`` cannot hold out enough of them."""
    if estimator._is_downstream:
        scorer = estimator._scorer(estimator.final_estimator)
        folds = Folds.make(estimator.cv, data, by_row=True)
        return DownstreamJudge(data, np.asarray(y), folds, estimator.final_estimator, scorer)
    try:
        return Judge(data, Folds.make(estimator.cv, data), estimator.n_shot)
    except InvalidInputError as error:
        if not (isinstance(estimator.cv, str) and estimator.cv == "auto" and isinstance(data.x, np.ndarray)):
            raise
        judge = Judge(data, Folds.of_all(data), estimator.n_shot)
        reason = str(error)
    warnings.warn(f"{reason} The standardised rows are kept.", AdaptedSettingWarning, stacklevel=6)
    return judge


def _fingerprint(
    estimator: MetaFeatureSearchCV, data: TaskData, folds: Folds, space: Space, template: MetaFeatureExtractor
) -> dict[str, str]:
    from metafe import __version__

    irrelevant = ("random_state", "verbose", "checkpoint", "device")
    kept = sorted((k, described(v)) for k, v in template.get_params(deep=False).items() if k not in irrelevant)
    return fingerprint_of(
        data,
        space=(space.describe(), kept),
        cv=folds.parts,
        scoring=_described_scoring(estimator),
        objectives=list(estimator.objectives),
        version=__version__.split(".")[0],
    )


def _described_scoring(estimator: MetaFeatureSearchCV) -> tuple[str, ...]:
    """Return what features are judged by, as it is said in every process."""
    if not estimator._is_downstream:
        return (FEW_SHOT, str(estimator.n_shot))
    return described(estimator.scoring), described(estimator.final_estimator)


def _seed(estimator: MetaFeatureSearchCV, study: Study) -> int:
    """Return the seed of fits and episodes, which is the study's once it has one, whoever continues it."""
    if SEED not in study.user_attrs:
        # Processes that begin at the same time without a seed of their own must agree on one.
        own = None if estimator.random_state is None else seed_from(estimator.random_state)
        study.set_user_attr(SEED, Seeds(0).integer(study.study_name) % 2**31 if own is None else own)
    return int(study.user_attrs[SEED])


def _sampler_seed(estimator: MetaFeatureSearchCV, study: Study) -> int:
    """Return a seed that a continued study does not repeat its first draws with."""
    n_before = len(study.get_trials(deepcopy=False))
    return Seeds(seed_from(estimator.random_state)).integer("sampler", n_before) % 2**32


def _warn_interrupted(finished: Sequence[FrozenTrial]) -> None:
    warnings.warn(
        f"The search was interrupted after {len(finished)} trials; the best so far is kept. Fit again with storage= to go on.",
        TrainingInterruptedWarning,
        stacklevel=6,
    )


def _size(data: TaskData) -> tuple[int, int]:
    """Return by what training parts of folds are compared: their classes, then their rows."""
    return len(data.classes) if data.kind == "classification" else 0, len(data)
