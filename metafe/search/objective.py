"""One trial: fit, judge, and store what came of it."""

from __future__ import annotations

import json
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from optuna.exceptions import OptunaError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial
from sklearn.utils import _safe_indexing

from metafe.class_folds import holds_out_few_classes
from metafe.contracts import Encoder, Plugin, PluginContractError, Seeds, TaskData
from metafe.decisions import Decisions, is_auto
from metafe.extractor import MetaFeatureExtractor
from metafe.fitting import Fitted, Recipe
from metafe.inputs import Target
from metafe.plugins import notify
from metafe.search import attributes as attribute
from metafe.search.baselines import STANDARDISED
from metafe.search.beside import judge_beside, may_stand_beside
from metafe.search.judging import DownstreamJudge, Judge, Judged, ScoringError
from metafe.search.options import effective_parameters
from metafe.search.refit_plan import WHOLE, RefitPlan
from metafe.search.space import Parameters, Space
from metafe.search.stops import StopRules, StorageTroubleError, TrialCutOffError, TrialFailedError
from metafe.search.storage import Direction
from metafe.search.view import rows_shown, two_dimensions
from metafe.training.input_beside import Beside

Watch = Callable[[Mapping[str, float]], bool]
OnPace = Callable[[float], None]

DIRECTIONS: dict[str, Direction] = {
    "score": "maximize",
    "latency": "minimize",
    "n_parameters": "minimize",
    "n_features": "minimize",
}
# A search that must be done by some time has room for so many trials that train on every fold as long as they may.
FULL_TRIALS = 5
# Of fewer classes held out, the gains of networks differ by as much as good networks do from bad ones.
FEWEST_TO_TELL_EARLY = 5


class TrialExtractor(MetaFeatureExtractor):
    """An extractor of a trial, which says how its training goes and is judged on the same tasks as all others."""

    def prepare(
        self, judge: Any, watch: Watch, on_pace: OnPace | None, seconds: float | None, watched: TaskData | None
    ) -> TrialExtractor:
        """Set what makes meta-validation tasks, what hears of each validation and of the pace, how long training may take.

        Where no rows are held out, validations show a score of those that are watched.
        """
        own = {"judge": judge, "on_pace": on_pace, "seconds": seconds, "watched": watched}
        self._search_watch, self._search_recipe = watch, own
        return self

    def fit_rows(self, data: TaskData, target: Target, encoder: Encoder | None) -> TrialExtractor:
        """Fit on the rows in use of checked data, which an encoder may have made."""
        self._fit_data(data, target, Decisions(encoder=encoder))
        del self._search_watch, self._search_recipe
        return self

    def features(self, x: Any, rows: np.ndarray) -> np.ndarray:
        """Return the features of some rows, ``(len(rows), n_features)`` float32."""
        return self.model_.transform(_safe_indexing(x, rows), self._device())

    @property
    def device_used(self) -> Any:
        """Where it computes."""
        return self._device()

    def _recipe(self, decisions: Any, data: TaskData) -> Recipe:
        import dataclasses

        recipe = super()._recipe(decisions, data)
        self._max_steps = recipe.settings.max_steps
        # As few as see rows in each way that is asked for.
        return dataclasses.replace(recipe, **self._search_recipe, refit=False, n_networks="auto")

    best_steps: int | None = None
    """Longest training that does best on what was held out for that; None where nothing was."""

    @property
    def share_of_steps(self) -> float:
        """How much of its longest training it has had; 1 where nothing is trained."""
        steps = self.history_[-1]["step"] if self.history_ else 0
        return steps / self._max_steps if steps else 1.0

    def _validated(self, metrics: Mapping[str, float]) -> bool:
        return self._search_watch(metrics)

    def _judge(self, learned: Fitted, recipe: Recipe, data: TaskData) -> Fitted:
        # The search itself compares with the standardised rows, on all folds.
        self.validation_ = None
        outcome = learned.outcome
        self.was_interrupted = outcome.interrupted
        if outcome.diverged:
            raise PluginContractError(outcome.diverged)
        if learned.validator is not None:
            self.best_steps = outcome.best_length(self._max_steps)
        return learned


@dataclass
class Run:
    """What a trial has come to so far.

    Parameters
    ----------
    models : list of TrialExtractor
        One for each fold.
    judged : list of Judged
        Likewise.
    fresh : Judged or None
        On fresh episodes of all folds, for a trial that has come to its end.
    beside : dict of str to Judged
        The same with the rows beside the features, by how they stand there, where that may win.
    fit_seconds, whole_fit_seconds, latencies : list of float
        Likewise; the second is without a limit of the time, and latency is in seconds for 1000 rows.
    best_steps : list of int
        Likewise, of trainings that held something out: the length that did best on it.
    """

    models: list[TrialExtractor] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    fresh: Judged | None = None
    beside: dict[Beside, Judged] = field(default_factory=dict)
    fit_seconds: list[float] = field(default_factory=list)
    whole_fit_seconds: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    best_steps: list[int] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Mean over folds."""
        return float(np.mean([judged.mean for judged in self.judged]))

    def measured(self) -> dict[str, float]:
        """Return every objective."""
        model = self.models[0].model_
        n_parameters = sum(p.numel() for p in model.learner.backbone.parameters())
        return {
            "score": self.score,
            "latency": min(self.latencies),
            "n_parameters": float(n_parameters),
            "n_features": float(model.n_features),
        }


@dataclass
class Objective:
    """What a study optimises; a copy may run in any process.

    Parameters
    ----------
    space : Space
    data : TaskData
        All rows, checked.
    target : Target
    template : MetaFeatureExtractor
        Whose parameters are used where a trial chooses none.
    judge : Judge or DownstreamJudge
    objectives : sequence of str
        One is pruned; several are not, since Optuna does not.
    seed : int
        Of every fit, so that trials differ by their parameters alone.
    deadline : float or None
        When the search has to be done with, refit included, as `time.time` tells it.
    interrupted : bool
        Whether the user has asked to stop.
    encoder : Encoder or None
        What has made arrays of the rows.
    fold_seconds : float or None
        Longest training on a fold.
    refits : bool
        Whether a winner is fitted on all rows.
    trains_whole : bool
        Whether trainings on a fold hold nothing out (`trains_whole`).
    """

    space: Space
    data: TaskData
    target: Target
    template: MetaFeatureExtractor
    judge: Judge | DownstreamJudge
    objectives: Sequence[str] = ("score",)
    seed: int = 0
    deadline: float | None = None
    interrupted: bool = False
    encoder: Encoder | None = None
    fold_seconds: float | None = None
    refits: bool = True
    trains_whole: bool = False
    _scores_on_all: dict[str, float] = field(default_factory=dict, init=False)

    def be_done_by(self, deadline: float | None) -> None:
        """Set when the search has to be done with, and with it how long a training may take."""
        self.deadline = deadline
        if deadline is not None:
            self.fold_seconds = max(0.0, deadline - time.time()) / (FULL_TRIALS * len(self.judge.folds))

    def __call__(self, trial: Trial) -> float | tuple[float, ...]:
        """Run one trial.

        Raises
        ------
        TrialPruned
            It is surely no better than another.
        TrialCutOffError
            Time is up, or the user has asked to stop.
        TrialFailedError
            A plugin raised, memory ran out or something was not finite.
        ScoringError
            The final estimator or the scorer fails on what comes first.
        """
        began = time.perf_counter()
        trial.set_user_attr(attribute.WORKER, attribute.this_process())
        parameters = self._parameters(trial)
        trial.set_user_attr(attribute.PARAMETERS, json.dumps(self.space.to_json(parameters)))
        run = Run()
        try:
            self._run(trial, parameters, run)
        except (OptunaError, StorageTroubleError):
            # Pruned, or the storage does not answer, which is not the trial's fault.
            raise
        except TrialCutOffError as error:
            kept = {"plugin": "none", "type": "TrialCutOff", "message": str(error), "traceback": ""}
            trial.set_user_attr(attribute.ERROR, kept)
            raise
        except Exception as error:
            trial.set_user_attr(attribute.ERROR, described_error(error, parameters))
            if isinstance(error, ScoringError) and trial.user_attrs.get(attribute.BASELINE) == STANDARDISED:
                # What fails on the standardised rows would fail on all.
                raise
            raise TrialFailedError(f"Trial {trial.number} failed: {error}") from error
        finally:
            self._store(trial, run, time.perf_counter() - began)
        measured = run.measured()
        values = tuple(measured[name] for name in self.objectives)
        return values if len(values) > 1 else values[0]

    def fit(self, parameters: Parameters, fold: int, watch: Watch, on_pace: OnPace | None = None) -> TrialExtractor:
        """Fit an extractor on the training rows of a fold."""
        train, test = map(self.data.restrict, self.judge.folds.parts[fold])
        if not self.trains_whole:
            return self._fit(parameters, train, watch, on_pace)
        # Others report to nobody; a scorer of the user's may do with fewer rows than an episode has.
        has_watcher = fold == 0 and not self.judge.source.accepts(test)
        return self._fit(parameters | WHOLE, train, watch, on_pace, test if has_watcher else None)

    def score_on_all(self, parameters: Parameters) -> float:
        """Return the score over all classes of what no label has a part in, fitted on all rows; judged once."""
        assert isinstance(self.judge, Judge)
        key = repr(sorted(effective_parameters(parameters).items()))
        if key not in self._scores_on_all:
            model = self._fit(parameters, self.data, lambda metrics: False)
            self._scores_on_all[key] = self.judge.judge_on_all(partial(model.features, self.data.x)).mean
        return self._scores_on_all[key]

    def _fit(
        self,
        parameters: Parameters,
        data: TaskData,
        watch: Watch,
        on_pace: OnPace | None = None,
        watched: TaskData | None = None,
    ) -> TrialExtractor:
        extractor = TrialExtractor(**self.template.get_params(deep=False))
        extractor.set_params(**parameters, random_state=self.seed, verbose=0, checkpoint=None)
        with warnings.catch_warnings():
            # A trial that is not good says so by its score.
            warnings.simplefilter("ignore")
            extractor.prepare(self.judge.source, watch, on_pace, self.fold_seconds, watched)
            return extractor.fit_rows(data, self.target, self.encoder)

    def parameters_of(self, trial: FrozenTrial) -> Parameters:
        """Return the extractor's parameters of a finished trial."""
        return self.space.from_json(json.loads(trial.user_attrs[attribute.PARAMETERS]))

    def refit_seconds(self, trials: Sequence[FrozenTrial]) -> float:
        """Return how long it takes to judge the baselines on all rows, and would take to fit a likely winner on all rows."""
        return RefitPlan(self).seconds(trials)

    @property
    def whole_time(self) -> float:
        """The time for everything, in seconds."""
        return np.inf if self.fold_seconds is None else FULL_TRIALS * len(self.judge.folds) * self.fold_seconds

    @property
    def prunes(self) -> bool:
        """Whether trials may be pruned."""
        return len(self.objectives) == 1

    @cached_property
    def can_tell_early(self) -> bool:
        """Whether a training holds out so many classes that they tell what is good while it goes on."""
        if self.trains_whole:
            return False
        if self.data.kind != "classification":
            return True
        n_classes = min(len(self.data.restrict(train).classes) for train, _ in self.judge.folds.parts)
        return n_classes * self.template.validation_fraction >= FEWEST_TO_TELL_EARLY

    def _parameters(self, trial: Trial) -> Parameters:
        given = trial.user_attrs.get(attribute.GIVEN)
        if given is None:
            return self.space.suggest(trial)
        if trial.user_attrs[attribute.CHOSEN]:
            # The sampler learns from the choices that come nearest to what was given.
            self.space.suggest(trial)
        return self.space.from_json(json.loads(given))

    def _run(self, trial: Trial, parameters: Parameters, run: Run) -> None:
        stops = StopRules(self, trial)
        for fold in range(len(self.judge.folds)):
            began = time.perf_counter()
            watch = stops.watch_first if fold == 0 else stops.watch_others
            model = self.fit(parameters, fold, watch, stops.check_pace if stops.limits_pace and fold == 0 else None)
            run.fit_seconds.append(time.perf_counter() - began)
            run.whole_fit_seconds.append(run.fit_seconds[-1] / model.share_of_steps)
            self.interrupted |= model.was_interrupted
            run.models.append(model)
            run.best_steps += [] if model.best_steps is None else [model.best_steps]
            run.judged.append(self._judge(model, fold, run))
            # What the user has cut short is not judged by how far it got.
            if not self.interrupted:
                stops.after_fold(run.judged)
            if self.interrupted or stops.time_is_up:
                stops.end_early()
                break
        run.fresh = self._judge_afresh(run)
        if stops.may_win(run.score) and may_stand_beside(self, parameters):
            run.beside = judge_beside(self, run.models)

    def _judge(self, model: TrialExtractor, fold: int, run: Run) -> Judged:
        seconds_per_row: list[float] = []

        def transform(rows: np.ndarray) -> np.ndarray:
            began = time.perf_counter()
            features = model.features(self.data.x, rows)
            seconds_per_row.append((time.perf_counter() - began) / len(rows))
            return features

        judged = self.judge.judge(transform, fold)
        run.latencies.append(1000 * min(seconds_per_row))
        if not np.isfinite(judged.mean):
            raise PluginContractError(
                f"The features of a trial must be finite; got NaN or infinity on rows that {model.backbone_.name!r} with "
                f"{model.algorithm_.name!r} has not seen. Lower learning_rate."
            )
        return judged

    def _judge_afresh(self, run: Run) -> Judged:
        if isinstance(self.judge, DownstreamJudge):
            return Judged.joined(run.judged)
        return Judged.joined(
            [
                self.judge.judge(partial(model.features, self.data.x), fold, fresh=True)
                for fold, model in enumerate(run.models)
            ]
        )

    def _store(self, trial: Trial, run: Run, seconds: float) -> None:
        trial.set_user_attr(attribute.SECONDS, seconds)
        if not run.judged:
            return
        joined, measured = Judged.joined(run.judged), run.measured()
        for name, value in {
            attribute.FIT_SECONDS: run.fit_seconds,
            attribute.WHOLE_FIT_SECONDS: run.whole_fit_seconds,
            attribute.BEST_STEPS: run.best_steps,
            attribute.FOLD_SCORES: [judged.mean for judged in run.judged],
            attribute.EPISODE_SCORES: attribute.packed(joined.scores),
            attribute.CLASS_SCORES: attribute.packed(joined.class_scores),
            **self._for_finals(run),
            **{name: measured[name] for name in ("n_features", "n_parameters", "latency")},
        }.items():
            trial.set_user_attr(name, value)

    def _for_finals(self, run: Run) -> dict[str, Any]:
        if run.fresh is None:
            return {}
        beside = {
            how: {name: attribute.packed(scores) for name, scores in vars(judged).items()}
            for how, judged in run.beside.items()
        }
        return {
            attribute.BESIDE: beside,
            attribute.FRESH_SCORES: attribute.packed(run.fresh.scores),
            attribute.FRESH_CLASS_SCORES: attribute.packed(run.fresh.class_scores),
            attribute.VIEW: attribute.packed(two_dimensions(run.models[0].features(self.data.x, rows_shown(self)))),
        }


def trains_whole(data: TaskData, judge: Judge | DownstreamJudge, template: MetaFeatureExtractor) -> bool:
    """Tell whether trainings on a fold hold nothing out: few classes are all needed, and those of the folds tell what is good."""
    if not is_auto(template.patience) or not template.validation_fraction:
        return False
    in_fold = data.restrict(judge.folds.parts[0][0])
    train, valid = judge.source.split(in_fold, template.validation_fraction, Seeds(0))
    return holds_out_few_classes(train, valid, in_fold)


def described_error(error: Exception, parameters: Parameters) -> dict[str, str]:
    """Return what is kept of an error: whose code raised it, or all plugins of the trial, and the traceback."""
    return {
        "plugin": _culprit(error, parameters),
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _culprit(error: Exception, parameters: Parameters) -> str:
    if isinstance(error, ScoringError):
        return "final_estimator and scoring"
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    owners = [frame.f_locals.get("self") for frame in reversed(frames)]
    culprit = next((owner for owner in owners if isinstance(owner, Plugin)), None)
    if culprit is not None:
        return f"{culprit.kind} {culprit.name}"
    return ", ".join(f"{kind} {parameters[kind]}" for kind in ("backbone", "algorithm", "tasks") if kind in parameters)


def finish_trial(study: Study, trial: FrozenTrial) -> None:
    """Tell every plugin that listens that a trial has ended; a callback of `optuna.Study.optimize`."""
    notify("metafe_trial_finished", trial=trial)
