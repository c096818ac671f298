"""From checked data and resolved plugins to a fitted model."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from torch import nn

from metafe.algorithms import Untrained
from metafe.backbones import Identity
from metafe.contracts import (
    AdaptedSettingWarning,
    Augmentation,
    Backbone,
    InvalidInputError,
    InvalidParameterError,
    Learner,
    MetaAlgorithm,
    PluginContractError,
    Problem,
    Seeds,
    TaskBatch,
    TaskData,
    TaskSource,
)
from metafe.tasks.pseudo_classes import UnlabelledSource
from metafe.training.augmenting import Augmenter
from metafe.training.checkpoint import Checkpoint
from metafe.training.feature_model import FeatureModel, encode_in_chunks
from metafe.training.input_beside import Beside, Scaling
from metafe.training.normalisation import Normaliser, fit_normaliser
from metafe.training.probe import compare, probe_classes, probe_tasks
from metafe.training.randomness import use_generator
from metafe.training.settings import TrainingSettings
from metafe.training.trainer import Outcome, Trainer
from metafe.training.validation import Validator
from metafe.views import View, fit_beside, fit_view

# Enough rows for stable scores of the classes, few enough to be taken from a memory map.
ROWS_TO_JUDGE_SCALING = 4096
_VIEWS: dict[str, list[View]] = {
    "auto": ["rows"],
    "rows": ["rows"],
    "discriminants": ["discriminants"],
    "both": ["rows", "discriminants"],
}


@dataclass(frozen=True)
class Recipe:
    """All that is decided before training.

    Parameters
    ----------
    backbone, algorithm, source
        The plugins; ``source`` is None where there is nothing to make tasks of.
    augment : callable
        From the encoded row's shape and the problem's kind to the augmentations.
    settings : TrainingSettings
    validation_fraction : float
        Share kept out for meta-validation; 0 for none.
    device : torch.device
    precision : {"auto", "float32", "bfloat16"}
    compile : bool or "auto"
    seeds : Seeds
    verbose : int
    checkpoint : Checkpoint or None
    on_validation : callable or None
        Told the metrics of each validation; training stops where it returns True.
    on_pace : callable or None
        Told before the first validation how many seconds it and a step take at the least; may raise.
    seconds : float or None
        Longest training in time.
    watched : TaskData or None
        Where no rows are kept out, those that validations show a score of; nothing is chosen by them.
    judge : TaskSource or None
        What splits the data and makes the meta-validation tasks, judged by the features that `transform` gives, so that
        fits with other sources and algorithms can be compared; None leaves both to ``source``.
    concat_input : {"feature", "all", "discriminants"} or None
        How the rows are standardised that stand beside the features; None for none.
    rows_are_features : bool
        Whether the rows are features as they are, which learned ones have to beat surely. Those of an encoder that names a
        backbone for them, such as series and spectrograms, are not.
    refit : bool or "auto"
        Whether to train once more, on what was held out too.
    n_networks : int or "auto"
        How many are trained, one after the other; ``"auto"`` is one, or two that see rows differently, and may be more where all
        rows are trained on again.
    inputs : {"auto", "rows", "discriminants", "both"}
        How networks see rows; ``"both"`` is every second one by the directions in which classes differ, ``"auto"`` rows, and may be
        both where all rows are trained on again.
    """

    backbone: Backbone
    algorithm: MetaAlgorithm
    source: TaskSource | None
    augment: Callable[[tuple[int, ...], Any], list[Augmentation]]
    settings: TrainingSettings
    validation_fraction: float
    device: torch.device
    precision: str
    compile: bool | Literal["auto"]
    seeds: Seeds
    verbose: int = 0
    checkpoint: Checkpoint | None = None
    on_validation: Callable[[Mapping[str, float]], bool | None] | None = None
    on_pace: Callable[[float], None] | None = None
    seconds: float | None = None
    watched: TaskData | None = None
    judge: TaskSource | None = None
    concat_input: Beside | None = None
    rows_are_features: bool = True
    refit: bool | Literal["auto"] = "auto"
    n_networks: int | Literal["auto"] = 1
    inputs: Literal["auto", "rows", "discriminants", "both"] = "auto"

    @property
    def views(self) -> list[View]:
        """How each network sees rows."""
        fewest = _VIEWS[self.inputs]
        n_networks = len(fewest) if self.n_networks == "auto" else self.n_networks
        return [fewest[number % len(fewest)] for number in range(n_networks)]

    def of_network(self, number: int, seconds: float | None) -> Recipe:
        """Return that of another network than the first: from other initial weights, and by other tasks."""
        seeds = self.seeds.child("network", number)
        return dataclasses.replace(self._of_further(f"network-{number}"), seeds=seeds, seconds=seconds)

    def of_fold(self, number: int) -> Recipe:
        """Return that of another fold than the first."""
        return self._of_further(f"fold-{number}")

    def without_patience(self) -> Recipe:
        """Return that of a training whose length and weights are not chosen by what is held out."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, patience=None))

    def on_all_rows(self, n_steps: int, **changes: Any) -> Recipe:
        """Return that of the training on what was held out too."""
        return dataclasses.replace(
            self._of_further("all-rows"),
            settings=dataclasses.replace(self.settings, max_steps=n_steps),
            **changes,
        )

    def _of_further(self, name: str) -> Recipe:
        """Return that of another training of the same run, which has a checkpoint of its own and reports to nobody."""
        checkpoint = None if self.checkpoint is None else self.checkpoint.inside(name)
        return dataclasses.replace(self, checkpoint=checkpoint, on_validation=None, on_pace=None, watched=None)


@dataclass(frozen=True)
class Fitted:
    """A fitted model and how it came about.

    Parameters
    ----------
    model : FeatureModel
    outcome : Outcome
    scores : ndarray of shape (n_tasks,) or None
        Of the model on the meta-validation tasks; None where there were none.
    class_scores : ndarray of shape (n_classes,) or None
        The same by class; empty for continuous targets.
    validator : Validator or None
        The tasks, to judge other features on.
    train, valid : TaskData or None
        The split, before encoding.
    concat_input : {"feature", "all", "discriminants"} or None
        How the rows are standardised that stand beside the features; None for none.
    folds : tuple of Outcome
        Of further trainings, for which other classes were held out.
    """

    model: FeatureModel
    outcome: Outcome = field(default_factory=Outcome)
    scores: np.ndarray | None = None
    class_scores: np.ndarray | None = None
    validator: Validator | None = None
    train: TaskData | None = None
    valid: TaskData | None = None
    concat_input: Beside | None = None
    folds: tuple[Outcome, ...] = ()

    def best_length(self, max_steps: int) -> int:
        """Return how long a training on all rows should be by what was held out, in all folds."""
        return round(float(np.median([outcome.best_length(max_steps) for outcome in (self.outcome, *self.folds)])))


def split_data(data: TaskData, recipe: Recipe) -> tuple[TaskData, TaskData | None]:
    """Check that tasks can be drawn, say what is adapted, and keep rows out for meta-validation.

    Raises
    ------
    InvalidInputError
        The task source does not accept the data.
    """
    if recipe.source is None:
        return data, None
    if reason := recipe.source.accepts(data):
        raise InvalidInputError(reason)
    for sentence in recipe.source.adjustments(data):
        warnings.warn(sentence, AdaptedSettingWarning, stacklevel=5)
    if not recipe.validation_fraction:
        return data, None
    splitter = recipe.judge or recipe.source
    return splitter.split(data, recipe.validation_fraction, recipe.seeds.child("split"))


def fit_model(recipe: Recipe, data: TaskData, train: TaskData, valid: TaskData | None) -> Fitted:
    """Fit the encoder, build the learners, train and score them.

    Parameters
    ----------
    recipe : Recipe
    data : TaskData
        All raw rows.
    train, valid : TaskData
        As `split_data` returned them.

    Returns
    -------
    Fitted

    Raises
    ------
    InvalidInputError, InvalidParameterError
        A plugin does not accept the data or the problem.
    PluginContractError
        A plugin returned what its contract forbids.
    """
    if reason := recipe.backbone.accepts(data.x):
        raise InvalidInputError(reason)
    if recipe.concat_input is not None and recipe.backbone.standardise == "none":
        raise InvalidParameterError(
            f"concat_input={recipe.concat_input!r} needs a backbone whose rows are standardised; got {recipe.backbone.name!r}, "
            "which takes rows as they are. Leave concat_input at None, or choose another backbone."
        )
    backbone = _fit_encoder(recipe, train)
    x = encode_in_chunks(backbone, data.x)
    encoded = train.with_x(x)
    input_shape = tuple(int(n) for n in x.shape[1:])
    problem = _problem(recipe, encoded, input_shape)
    validator, watcher = (_validator(recipe, rows, x) for rows in (valid, recipe.watched))
    normalisers = {view: fit_view(view, backbone, encoded, recipe.seeds) for view in recipe.views}

    def trained(recipe: Recipe, view: View) -> tuple[Learner, Outcome]:
        normaliser = normalisers[view]
        own = dataclasses.replace(problem, input_shape=normaliser.shape_of(input_shape))
        augmenter = Augmenter(_augmentations(recipe, own), own.input_shape, own.n_classes)
        own = dataclasses.replace(own, n_classes=augmenter.n_classes_with_views)
        learner = _build_learner(recipe, backbone, encoded, normaliser, own)
        return learner, _train(recipe, learner, encoded, validator, watcher, normaliser, augmenter)

    learners, views, outcome = _train_all(recipe, trained)
    of_each = tuple(normalisers[view] for view in views)
    model = FeatureModel(backbone, recipe.algorithm, learners, of_each, input_shape)
    _check_features(recipe, model, encoded)
    if recipe.concat_input is not None:
        model = model.with_input(encoded, fit_beside(recipe.concat_input, encoded, recipe.seeds), recipe.device)
    if validator is None:
        return Fitted(model, outcome, train=train, valid=valid, concat_input=recipe.concat_input)
    batches = _judged_batches(model, validator, x, recipe.device)
    scores = probe_tasks(batches), probe_classes(batches)
    return Fitted(model, outcome, *scores, validator, train, valid, recipe.concat_input)


def put_input_beside(recipe: Recipe, data: TaskData, learned: Fitted, scaling: Scaling) -> Fitted | None:
    """Put standardised rows beside learned features, and score them on the same tasks.

    Parameters
    ----------
    recipe : Recipe
        Of the learned features.
    data : TaskData
        All raw rows.
    learned : Fitted
    scaling : {"feature", "all"}
        How the rows are standardised.

    Returns
    -------
    Fitted or None
        None where there are rows beside them already, where nothing was held out, and where the rows that the network takes
        are no features: made by an encoder of its own, too large, or taken as they are.
    """
    if recipe.concat_input is not None or learned.validator is None or not learned.model.takes_plain_rows:
        return None
    assert learned.train is not None
    x = encode_in_chunks(learned.model.backbone, data.x)
    encoded = learned.train.with_x(x)
    model = learned.model.with_input(encoded, fit_beside(scaling, encoded, recipe.seeds), recipe.device)
    batches = _judged_batches(model, learned.validator, x, recipe.device)
    return dataclasses.replace(
        learned,
        model=model,
        concat_input=scaling,
        scores=probe_tasks(batches),
        class_scores=probe_classes(batches),
    )


def _judged_batches(
    model: FeatureModel, validator: Validator, x: np.ndarray, device: torch.device
) -> Sequence[TaskBatch]:
    """Return the meta-validation tasks with features in place of rows, which stand beside them where tasks select rows."""
    if model.beside is None or not validator.source.selects_rows:
        of_each = [
            validator.feature_batches(model.algorithm, learner, normaliser)
            for learner, normaliser in zip(model.learners, model.normalisers, strict=True)
        ]
        return [_side_by_side(batches) for batches in zip(*of_each, strict=True)]
    return validator.batches_of_used(model.transform_encoded(x[validator.used_rows], device))


def _side_by_side(batches: Sequence[TaskBatch]) -> TaskBatch:
    """Join the features that several learners have for the same tasks."""
    support, query = (
        np.concatenate(features, axis=-1) for features in zip(*((b.support_x, b.query_x) for b in batches), strict=True)
    )
    return dataclasses.replace(batches[0], support_x=support, query_x=query)


def _check_features(recipe: Recipe, model: FeatureModel, train: TaskData) -> None:
    if not np.isfinite(model.transform_encoded(train.take(train.rows[:2]), recipe.device)).all():
        raise PluginContractError(
            f"Algorithm {recipe.algorithm.name!r} with backbone {recipe.backbone.name!r} must end with finite features; "
            "got NaN or infinity. Fix its features, or lower learning_rate."
        )


def _fit_encoder(recipe: Recipe, train: TaskData) -> Backbone:
    backbone = clone(recipe.backbone)
    if type(backbone).fit is Backbone.fit:
        return backbone
    whole = len(train) == len(train.x)
    rows = train.x if whole else _safe_indexing(train.x, train.rows)
    labels = None if train.y is None else train.y[train.rows]
    fitted: Any = backbone.fit(rows, labels, recipe.seeds.child("encoder"))
    if not isinstance(fitted, Backbone):
        raise PluginContractError(
            f"Backbone {backbone.name!r} must return itself from fit; got {type(fitted).__name__}. Fix its fit."
        )
    return fitted


def _problem(recipe: Recipe, train: TaskData, input_shape: tuple[int, ...]) -> Problem:
    if recipe.source and not recipe.source.selects_rows and (reason := recipe.source.accepts(train)):
        # Before, it was asked about rows that were not yet encoded.
        raise InvalidInputError(reason)
    problem = recipe.source.problem(train, input_shape) if recipe.source else Problem("unlabelled", input_shape)
    if recipe.source and recipe.algorithm.trains_on == "rows" and problem.kind == "classification":
        # Across tasks a row may be of many classes, one of each partition into clusters; on its own it is of one of fewer.
        problem = dataclasses.replace(problem, n_classes=int(recipe.source.row_labels(train).max()) + 1)
    if reason := recipe.algorithm.accepts(problem):
        raise InvalidParameterError(reason)
    return problem


def _augmentations(recipe: Recipe, problem: Problem) -> list[Augmentation]:
    augmentations = recipe.augment(problem.input_shape, problem.kind)
    if recipe.source is not None and recipe.source.needs_augmentation and not augmentations:
        raise InvalidParameterError(
            f"{recipe.source.name} needs augmentations, which alone make the copies of a row differ; got none for rows of "
            f"shape {problem.input_shape}. Pass some with augment=, such as augment='noise'."
        )
    return augmentations


def _build_learner(
    recipe: Recipe, backbone: Backbone, train: TaskData, normaliser: Normaliser, problem: Problem
) -> Learner:
    with use_generator(recipe.seeds.torch("initialisation")):
        module = backbone.build(problem.input_shape)
        if not isinstance(module, nn.Module):
            raise PluginContractError(
                f"Backbone {backbone.name!r} must build a torch.nn.Module; got {type(module).__name__}. Fix its build."
            )
        n_features = _measure_width(backbone, module, train, normaliser)
        learner = recipe.algorithm.build(module, n_features, problem)
    if not isinstance(learner, Learner):
        raise PluginContractError(
            f"Algorithm {recipe.algorithm.name!r} must build a Learner; got {type(learner).__name__}. Fix its build."
        )
    return learner


def _measure_width(backbone: Backbone, module: nn.Module, train: TaskData, normaliser: Normaliser) -> int:
    """Run two rows through the module, check what comes out and return its width."""
    rows = normaliser(torch.as_tensor(train.take(train.rows[:2])))
    with torch.no_grad():
        features = module.eval()(rows)
    is_matrix = isinstance(features, torch.Tensor) and features.ndim == 2 and len(features) == len(rows)
    if not is_matrix or not features.is_floating_point():
        received = (
            f"shape {tuple(features.shape)}, {features.dtype}"
            if isinstance(features, torch.Tensor)
            else type(features).__name__
        )
        raise PluginContractError(
            f"Backbone {backbone.name!r} must map {len(rows)} rows to a floating-point tensor of shape ({len(rows)}, n_features); "
            f"got {received}. Fix its build."
        )
    if not torch.isfinite(features).all():
        raise PluginContractError(
            f"Backbone {backbone.name!r} must give finite features; got NaN or infinity. Fix its build."
        )
    return int(features.shape[1])


def _validator(recipe: Recipe, valid: TaskData | None, x: np.ndarray) -> Validator | None:
    if recipe.source is None or valid is None:
        return None
    return Validator(
        recipe.judge or recipe.source,
        valid.with_x(x),
        recipe.settings.n_validation_tasks,
        recipe.seeds.child("validation"),
        recipe.device,
        adapts=recipe.judge is None,
    )


def _train_all(
    recipe: Recipe, trained: Callable[[Recipe, View], tuple[Learner, Outcome]]
) -> tuple[tuple[Learner, ...], tuple[View, ...], Outcome]:
    """Train one network after the other, in equal shares of the time that there is.

    Return them, how each sees rows, and the outcome of the first.

    The first is kept however it ended; one of the others that the user has cut short, or that diverged, is not.
    """
    n_networks = len(recipe.views)
    began, share = time.perf_counter(), None if recipe.seconds is None else recipe.seconds / n_networks
    first, outcome = trained(dataclasses.replace(recipe, seconds=share), recipe.views[0])
    learners, views = [first], recipe.views[:1]
    for number in range(1, n_networks if any(p.requires_grad for p in first.parameters()) else 1):
        if recipe.seconds is not None:
            share = (recipe.seconds - (time.perf_counter() - began)) / (n_networks - number)
        if outcome.interrupted or outcome.diverged or (share is not None and share <= 0):
            break
        learner, ended = trained(recipe.of_network(number, share), recipe.views[number])
        outcome.interrupted |= ended.interrupted
        if not (ended.interrupted or ended.diverged):
            learners.append(learner)
            views.append(recipe.views[number])
    return tuple(learners), tuple(views), outcome


def _train(
    recipe: Recipe,
    learner: Learner,
    train: TaskData,
    validator: Validator | None,
    watcher: Validator | None,
    normaliser: Normaliser,
    augmenter: Augmenter,
) -> Outcome:
    if recipe.source is None:
        learner.eval()
        return Outcome()
    trainer = Trainer(
        recipe.algorithm,
        learner,
        recipe.source,
        train,
        validator,
        settings=recipe.settings,
        normaliser=normaliser,
        augmenter=augmenter,
        seeds=recipe.seeds.child("training"),
        device=recipe.device,
        precision=recipe.precision,
        compile=recipe.compile,
        checkpoint=recipe.checkpoint,
        verbose=recipe.verbose,
        seconds=recipe.seconds,
        watcher=watcher if recipe.watched is not None else None,
        on_validation=recipe.on_validation,
        on_pace=recipe.on_pace,
    )
    return trainer.run()


def fit_identity(
    recipe: Recipe, data: TaskData, learned: Fitted, scaling: Literal["feature", "all"] = "feature"
) -> Fitted | None:
    """Standardise by all rows, since nothing is learned that could leak, and score on the tasks of ``learned``.

    Parameters
    ----------
    recipe : Recipe
        Of the learned features.
    data : TaskData
        All raw rows.
    learned : Fitted
        What to compare with.
    scaling : {"feature", "all"}, default="feature"
        Whether columns have scales of their own.

    Returns
    -------
    Fitted or None
        None for rows that are not numbers, and for tasks that depend on the values in them.
    """
    source, valid = recipe.source, learned.valid
    if learned.validator is not None:
        source, valid = learned.validator.source, learned.validator.data
    elif isinstance(source, UnlabelledSource):
        source = None
    if not isinstance(data.x, np.ndarray) or (source is not None and not source.selects_rows):
        return None
    plain = dataclasses.replace(
        recipe,
        backbone=Identity(scaling),
        algorithm=Untrained(),
        source=source,
        augment=lambda shape, kind: [],
        checkpoint=None,
        on_validation=None,
        on_pace=None,
        verbose=0,
        concat_input=None,
    )
    return fit_model(plain, data, data, valid)


def better_scaling(recipe: Recipe, data: TaskData) -> Literal["feature", "all"]:
    """Tell whether flat rows make better features with one scale for all columns.

    Nothing is learned but the scale, so that all classes can judge it, and each of them counts once.

    Returns
    -------
    str
        ``"all"`` where the paired 95 % lower bound of its gain over classes is above zero.
    """
    if recipe.source is None or data.kind != "classification" or np.ndim(data.x) != 2 or not recipe.source.selects_rows:
        return "feature"
    n_rows = min(len(data), ROWS_TO_JUDGE_SCALING)
    sample = data.restrict(np.sort(recipe.seeds.numpy("scaling").choice(data.rows, n_rows, replace=False)))
    if recipe.source.accepts(sample):
        return "feature"
    validator = Validator(
        recipe.source, sample, recipe.settings.n_validation_tasks, recipe.seeds.child("scaling"), recipe.device
    )
    rows = torch.as_tensor(sample.take(sample.rows))
    one_scale, own_scales = (
        probe_classes(validator.batches_of(fit_normaliser(sample, how)(rows).numpy())) for how in ("all", "feature")
    )
    return "all" if compare(one_scale, own_scales).low > 0 else "feature"
