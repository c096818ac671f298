"""The estimator: a scikit-learn transformer that learns features from many tasks."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from metafe.contracts import (
    Augmentation,
    Backbone,
    Encoder,
    InvalidInputError,
    InvalidParameterError,
    MetaAlgorithm,
    Plugin,
    ProblemKind,
    Seeds,
    TaskData,
    TaskSource,
    check_choice,
    check_sizes,
)
from metafe.contracts.errors import UnknownPluginError

if TYPE_CHECKING:
    from metafe.fitting import Fitted, Recipe
    from metafe.inputs import Target
    from metafe.training.feature_model import FeatureModel

_KIND_OF_PARAMETER = {
    "backbone": "backbone",
    "algorithm": "algorithm",
    "tasks": "task source",
    "augment": "augmentation",
    "encoder": "encoder",
}
_LABELS = {"classification": "classes", "regression": "continuous targets"}
_TRAINING_PARAMETERS = (
    "max_steps",
    "meta_batch_size",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "schedule",
    "patience",
)


class MetaFeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn, from many old problems, features on which a few labels of a new one are enough.

    Parameters
    ----------
    backbone : str or Backbone, default="auto"
        The network, or descriptor, from rows to features. ``"auto"`` takes ``conv4`` for images and ``mlp`` for other
        rows, and keeps the standardised rows unless the network is better on meta-validation tasks, over tasks and over classes;
        where few classes were held out, flat rows are learned from again while others are, and of fewer than four none can be.
        Where an encoder has made rows that are no features themselves, such as series and spectrograms, and the network is better on
        the few classes that were held out, but not surely so on others, the rows stand beside its features as with ``concat_input``.
        Names of families of networks take a model after a colon, such as ``"timm:resnet18"`` with metafe-vision.
    algorithm : str or MetaAlgorithm, default="auto"
        How tasks teach the network. ``"auto"`` takes ``protonet`` for classes, ``supervised`` for continuous targets.
    tasks : str or TaskSource, default="auto"
        Where tasks come from. ``"auto"`` takes ``groups`` if groups are given, ``classes`` for classes, ``rows`` for
        continuous targets. Without ``y`` it takes ``augment`` for images and ``columns`` for flat rows of at least 8
        columns, from 200 rows on; other rows are standardised.
    augment : str, Augmentation, list of them, or None, default="auto"
        Changes to training rows, never made in `transform`. ``"auto"`` takes ``rotate90`` and ``affine`` for images,
        ``noise`` and ``feature-dropout`` for flat rows.
    encoder : str, Encoder or None, default="auto"
        What makes arrays of files, text, tables, sound or series, before everything else. ``"auto"`` takes what is installed
        for the kind of ``X``, and none for arrays; None leaves ``X`` as it is.
    concat_input : {"feature", "all", "discriminants"} or None, default=None
        Puts the rows themselves, flattened, beside the features, standardised each column on its own or all on one scale, or
        as the discriminants of `PLDA`, and so weighed that they vary as much. What is learned from few classes may mislead on
        others; half of such features can do so less. Backbones that take rows as they are have none to put there.
    inputs : {"auto", "rows", "discriminants", "both"}, default="auto"
        What networks take of flat rows with classes: the standardised columns; their discriminants by `PLDA`, standardised,
        so that what varies within classes is small beside what differs between them; or, of several networks, every second
        one the one and the other. ``"auto"`` takes the columns where ``n_networks`` is 1. Where ``"auto"`` trains four, it takes
        both, and puts discriminants beside the features, if ``concat_input`` puts nothing there.
    max_steps : int or "auto", default="auto"
        Longest training. ``"auto"`` here and below takes what the algorithm advises, 1000 if it does not say.
    meta_batch_size : int or "auto", default="auto"
        Tasks in a step, or rows for algorithms that train on rows.
    optimizer : {"auto", "adam", "adamw", "sgd", "momentum"}, default="auto"
        Of the outer loop.
    learning_rate, weight_decay : float or "auto", default="auto"
        Of the optimiser. A rate that the algorithm advises for one optimiser is not taken with another that is named here.
    schedule : {"auto", "constant", "cosine", "linear"}, default="auto"
        How the learning rate falls over ``max_steps``.
    validation_fraction : float, default=0.25
        Share of the classes (or groups; rows where there are fewer than four) kept out of training to stop early and
        to compare with the standardised rows. 0 trains on everything for ``max_steps``.
    patience : int, None or "auto", default="auto"
        Validations without a better score, of about twenty in all, after which training stops; the best weights are kept. None
        trains for ``max_steps`` and keeps the last weights. ``"auto"`` is None where whole classes are held out, of fewer than
        30, since what is best on so few is seldom so on others; else it takes what the algorithm advises, 8 if it does not say.
    refit : bool or "auto", default="auto"
        Whether to train once more, on what was held out too, as long as before, or with ``patience`` for as many steps as did
        best, which takes up to twice the time. ``"auto"`` does so where whole classes were held out, of fewer than 30: each of
        them counts.
    n_networks : int or "auto", default="auto"
        How many to train, one after the other, from other initial weights and by other tasks. Their features stand side by
        side and the predictions of their heads are averaged, as in Dvornik, Schmid and Mairal, "Diversity with Cooperation:
        Ensemble Methods for Few-Shot Classification", 2019. ``"auto"`` trains one of a backbone that is named; it trains four
        where ``backbone`` is ``"auto"`` too and flat rows of few classes are trained on again (see ``refit``).
    device : str or torch.device, default="auto"
        Where to compute. ``"auto"`` takes an accelerator where there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        In which the network trains. ``"auto"`` is bfloat16 where the machine has instructions for it and the algorithm
        gains by it: not gradient-based ones on networks of linear layers, nor `Reptile`. Heads and the inner steps of gradient-based algorithms are computed in float32, and so are features.
        On NVIDIA's GPUs convolutions in float32 round their inputs to ten bits unless
        ``torch.backends.cudnn.allow_tf32`` is False, which is torch's setting and left alone.
    compile : {"auto"} or bool, default="auto"
        Whether to compile the training step with the compiler of `torch.compile`. ``"auto"`` does so for runs of 5000 steps and more for
        each shape that tasks have, of algorithms that gain by it: tasks of one number of shots are compiled sooner than
        those of several. It takes from half a minute to minutes for each, gives the same result to
        float32 rounding, and falls back to the plain step with one log line where it does not work.
    checkpoint : str, Path or None, default=None
        Folder in which training writes its state at each validation, and from which an interrupted one goes on.
    random_state : int, RandomState or None, default=None
        One integer is drawn from it for each `fit`, from which every random stream derives. Global generators are
        neither read nor written.
    verbose : int, default=0
        1 shows progress and says what ``"auto"`` decided.

    Attributes
    ----------
    backbone_, algorithm_, tasks_
        The plugins in use.
    encoder_ : Encoder or None
        What made arrays of the rows, fitted.
    model_ : FeatureModel
        The fitted model.
    decisions_ : dict of str to str
        What ``"auto"`` decided, and why.
    history_ : list of dict
        ``step``, ``loss``, ``score`` and ``seconds`` of each validation, with what the algorithm reports, such as the
        ``accuracy`` on query rows: the loss and this as means over the steps since the last one. Compiled steps report
        their loss alone.
    validation_ : dict or None
        Mean score on the meta-validation tasks of the features (``"score"``) and of the standardised rows
        (``"baseline"``), with the paired ``"gain"`` and its 95 % interval, ``"low"`` to ``"high"``; None where there was
        nothing to validate on. With held-out classes, ``"class_low"`` to ``"class_high"`` is the interval of the gain with
        the ``"n_classes"`` that were held out, and not tasks, as what is drawn: ``backbone="auto"`` asks for both above zero.
    classes_ : ndarray of shape (n_classes,)
        Labels seen in `fit`, for a target with classes.
    target_mean_, target_scale_ : ndarray of shape (n_targets,)
        By which continuous targets were standardised in `fit`.
    input_shape_ : tuple of int
        Shape of one row, encoded where there is an encoder.
    n_features_in_ : int
        Size of the second dimension of ``X``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where ``X`` has them.
    n_features_out_ : int
        Width of the features.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metafe import MetaFeatureExtractor
    >>> X, y = load_digits(return_X_y=True)
    >>> extractor = MetaFeatureExtractor("mlp", "protonet", max_steps=20, random_state=0)
    >>> extractor.fit(X[y < 8], y[y < 8]).transform(X[y >= 8]).shape
    (354, 64)
    """

    def __init__(
        self,
        backbone: str | Backbone = "auto",
        algorithm: str | MetaAlgorithm = "auto",
        tasks: str | TaskSource = "auto",
        *,
        augment: str | Augmentation | Sequence[str | Augmentation] | None = "auto",
        encoder: str | Encoder | None = "auto",
        concat_input: Literal["feature", "all", "discriminants"] | None = None,
        inputs: Literal["auto", "rows", "discriminants", "both"] = "auto",
        max_steps: int | str = "auto",
        meta_batch_size: int | str = "auto",
        optimizer: str = "auto",
        learning_rate: float | str = "auto",
        weight_decay: float | str = "auto",
        schedule: str = "auto",
        validation_fraction: float = 0.25,
        patience: int | str | None = "auto",
        refit: bool | str = "auto",
        n_networks: int | str = "auto",
        device: Any = "auto",
        precision: str = "auto",
        compile: bool | str = "auto",
        checkpoint: str | Path | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.algorithm = algorithm
        self.tasks = tasks
        self.augment = augment
        self.encoder = encoder
        self.concat_input = concat_input
        self.inputs = inputs
        self.max_steps = max_steps
        self.meta_batch_size = meta_batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.refit = refit
        self.n_networks = n_networks
        self.device = device
        self.precision = precision
        self.compile = compile
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> MetaFeatureExtractor:
        """Learn features.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows of numbers, or images ``(n, H, W)``, ``(n, C, H, W)`` or ``(n, H, W, C)``; or what an encoder that is
            installed reads: paths of files, strings, a data frame, a list of arrays.
        y : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Classes, or continuous targets: floats that are not whole, or of many values with fewer than five rows each.
            Without ``y``, tasks are made from the rows and judged on clusters of those kept out; where there is nothing to
            make tasks of, the features are the standardised rows, or what a named backbone gives untrained.
        groups : array-like of shape (n_rows,), default=None
            Each group is a task of its own, with labels local to it.

        Returns
        -------
        MetaFeatureExtractor
            The estimator itself. A fit that fails leaves it as it was.

        Raises
        ------
        InvalidInputError
            Data that cannot be learned from.
        InvalidParameterError
            A parameter that cannot work, alone or with the data.
        UnknownPluginError
            A plugin name that nothing has registered.
        PluginContractError
            A plugin that returned what its contract forbids.
        """
        with unchanged_by_errors(self):
            self._fit(X, y, groups)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return features, each row treated as if it were alone.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows like those given to `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out_) float32

        Raises
        ------
        NotFittedError
            `fit` has not been called.
        InvalidInputError
            Rows of another shape.
        """
        check_is_fitted(self)
        return self.model_.transform(self._check_rows(X), self._device())

    def adapt(self, X_support: Any, y_support: Any) -> MetaFeatureExtractor:
        """Return a fitted copy that has adapted to a few labelled rows of a new problem.

        Parameters
        ----------
        X_support : array-like of shape (n_rows, ...)
            Rows like those given to `fit`.
        y_support : array-like of shape (n_rows,) or (n_rows, n_targets)
            Their classes, which `fit` need not have seen, or targets.

        Returns
        -------
        MetaFeatureExtractor
            Its `transform` gives the adapted features; for algorithms that adapt a head alone they are the same.
            Its `predict_adapted` gives what the algorithm's own head says.

        Raises
        ------
        InvalidInputError
            Labels that do not fit the rows, or of another kind than those that the tasks of `fit` had.
        """
        from metafe.inputs import check_target

        check_is_fitted(self)
        rows = self._check_rows(X_support)
        learned = self.model_.learner.problem.kind
        # In the units that the learner knows: those of a few rows would hide how a task differs from others.
        target = check_target(rows, y_support, self._target_scale() if learned == "regression" else None)
        if target.y is None:
            raise InvalidInputError("adapt needs the label of each support row; got none. Pass y_support.")
        if learned not in (target.kind, "unlabelled"):
            raise InvalidInputError(
                f"adapt needs {_LABELS[learned]}, as the tasks of fit had; got {_LABELS[target.kind]}. "
                f"Pass {_LABELS[learned]}, or fit on {_LABELS[target.kind]}."
            )
        n_way = 0 if target.classes is None else len(target.classes)
        adapted = copy.copy(self)
        adapted.model_ = self.model_.adapt(rows, target.y, n_way, self._device())
        adapted.adapted_classes_ = target.classes
        return adapted

    def predict_adapted(self, X: Any) -> np.ndarray:
        """Return what the algorithm's own head says about rows of the problem that it has adapted to.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows like those given to `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_way) or (n_rows, n_targets)
            Class scores before the softmax, in the order of ``adapted_classes_``; or targets, in their own units.

        Raises
        ------
        InvalidParameterError
            The extractor is not adapted, or its algorithm has no head that adapts.
        """
        check_is_fitted(self)
        kind: ProblemKind = "classification" if self.model_.n_way else "regression"
        if not hasattr(self, "adapted_classes_") or not self.adapts_head(kind):
            raise InvalidParameterError(
                f"predict_adapted needs an extractor that adapt returned, whose algorithm has learned to adapt a head for "
                f"{kind}; got {self.model_.algorithm.name!r}. Call adapt first, or train with another algorithm."
            )
        predicted = self.model_.predict(self._check_rows(X), self._device())
        if self.model_.n_way:
            return predicted
        mean, scale = self._target_scale()
        return predicted * scale + mean

    def adapts_head(self, kind: ProblemKind) -> bool:
        """Tell whether the algorithm has learned to adapt a head of its own to problems of a kind.

        Parameters
        ----------
        kind : {"classification", "regression"}
            Of the new problem.

        Returns
        -------
        bool
            False for what was trained on rows, whose head knows the old classes alone, and for rows that were kept.
        """
        check_is_fitted(self)
        algorithm, learned = self.model_.algorithm, self.model_.learner.problem.kind
        predicts = type(algorithm).predict is not MetaAlgorithm.predict
        return predicts and algorithm.trains_on == "tasks" and learned == kind

    def save(self, folder: str | Path) -> None:
        """Write the fitted extractor to a folder, without pickle; `metafe.load` reads it.

        Parameters
        ----------
        folder : str or Path
            Made when it does not exist; a saved extractor in it is replaced.

        Raises
        ------
        NotFittedError
            `fit` has not been called.
        SavedFormatError
            The folder holds something else, or a parameter cannot be saved.
        """
        from metafe.persistence import save

        check_is_fitted(self)
        save(self, folder)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those of plugins named by a string included.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include ``backbone__width`` and the like.

        Returns
        -------
        dict of str to object
        """
        parameters: dict[str, Any] = super().get_params(deep=deep)
        if deep:
            for name, plugin in self._named_plugins():
                parameters.update({f"{name}__{k}": v for k, v in plugin.get_params().items()})
        return parameters

    def set_params(self, **params: Any) -> MetaFeatureExtractor:
        """Set parameters, of this estimator first and then of its plugins.

        Parameters
        ----------
        **params : dict
            ``backbone__width=64`` replaces the name of a backbone by an object with that width.

        Returns
        -------
        MetaFeatureExtractor

        Raises
        ------
        InvalidParameterError
            A parameter of a plugin that is ``"auto"``.
        """
        super().set_params(**{k: v for k, v in params.items() if "__" not in k})
        nested = {k: v for k, v in params.items() if "__" in k}
        for name in {k.split("__")[0] for k in nested} & set(_KIND_OF_PARAMETER):
            self._replace_name_by_object(name, next(k for k in nested if k.startswith(f"{name}__")))
        super().set_params(**nested)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether `fit` has been called."""
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what can be fitted."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.three_d_array = True
        tags.target_tags.required = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Pickle weights on the CPU."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = state["model_"].on_cpu()
        return state

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def _fit(self, X: Any, y: Any, groups: Any) -> None:
        from metafe.decisions import Decisions
        from metafe.encoding import fit_and_encode
        from metafe.inputs import check_groups, check_rows, check_target

        decisions = Decisions()
        raw = self.backbone != "auto" and decisions.backbone(self.backbone, None, "unlabelled").raw_input
        encoder = None if raw else decisions.choose_encoder(self.encoder, X)
        rows = check_rows(self, X, raw=raw, reset=True) if encoder is None else fit_and_encode(self, encoder, X)
        target = check_target(rows, y)
        _, group_codes = check_groups(rows, groups)
        self.input_shape_ = () if raw else rows.shape[1:]
        self._fit_data(TaskData(rows, target.y, group_codes, np.arange(len(rows))), target, decisions)

    def _fit_data(self, data: TaskData, target: Target, decisions: Any) -> None:
        """Fit on the rows in use of checked data."""
        from metafe.class_folds import holds_out_few_classes
        from metafe.decisions import is_auto
        from metafe.fitting import fit_model, split_data
        from metafe.plugins import notify
        from metafe.refitting import refit_on_all
        from metafe.training.progress import show_decisions

        recipe = self._recipe(decisions, data)
        train, valid = split_data(data, recipe)
        if is_auto(self.patience) and holds_out_few_classes(train, valid, data):
            recipe = recipe.without_patience()
        notify("metafe_fit_started", extractor=self, settings=vars(recipe.settings))
        if recipe.source is not None and recipe.validation_fraction and valid is None:
            decisions.said["validation"] = "none, since too little would be left of one side"
        learned = fit_model(recipe, data, train, valid)
        kept = self._judge(learned, recipe, data)
        if kept.model.beside is not None and recipe.concat_input is None:
            decisions.put_rows_beside()
        elif kept.model is not learned.model:
            decisions.keep_rows(kept.model.backbone, self.validation_)
        elif kept.folds and self.validation_ is not None:
            decisions.judge_on_more_classes(int(self.validation_["n_classes"]))
        final = refit_on_all(kept, recipe, data)
        if final is not kept and self.refit == "auto":
            seen = [normaliser.projection is not None for normaliser in final.model.normalisers]
            n_steps = kept.best_length(recipe.settings.max_steps)
            decisions.train_on_all(n_steps, len(seen), sum(seen), final.concat_input)
        self._keep(final, recipe, target, decisions.encoder)
        self.decisions_ = decisions.said
        show_decisions(self.decisions_, self.verbose)
        notify("metafe_fit_finished", extractor=self)

    def _recipe(self, decisions: Any, data: TaskData) -> Recipe:
        """Resolve every parameter; what cannot work is an error before anything is computed."""
        from metafe.decisions import is_auto
        from metafe.fitting import Recipe
        from metafe.training.checkpoint import Checkpoint
        from metafe.training.compiling import check_compile
        from metafe.training.settings import check_precision, resolve_device

        if self.checkpoint is not None and self.random_state is None:
            raise InvalidParameterError(
                "checkpoint needs a random_state, without which no run can go on where another stopped; got None. "
                "Set random_state to an integer."
            )
        self._check_settings()
        source = decisions.tasks(self.tasks, data, self.backbone)
        reason = source.accepts(data) if source else None
        if reason:
            raise InvalidInputError(reason)
        kind = source.problem(data, ()).kind if source else data.kind
        algorithm = decisions.algorithm(self.algorithm, kind)
        device = resolve_device(self.device)
        seed = seed_from(self.random_state)
        return Recipe(
            backbone=decisions.backbone(self.backbone, data.x, kind),
            algorithm=algorithm,
            source=source,
            augment=lambda shape, kind: decisions.augmentations(self.augment, shape, kind),
            settings=self._settings(algorithm),
            validation_fraction=self.validation_fraction,
            device=device,
            precision=check_precision(self.precision),
            compile=check_compile(self.compile),
            seeds=Seeds(seed),
            verbose=self.verbose,
            checkpoint=Checkpoint(self.checkpoint, self._fingerprint(seed, data))
            if self.checkpoint is not None
            else None,
            on_validation=self._on_validation,
            concat_input=self.concat_input,
            inputs=self.inputs,
            rows_are_features=decisions.encoder is None or decisions.encoder.default_backbone is None,
            refit=self.refit,  # type: ignore[arg-type]
            # Whoever names a network knows how wide its features are.
            n_networks=1
            if is_auto(self.n_networks) and self.backbone != "auto" and self.inputs != "both"
            else self.n_networks,  # type: ignore[arg-type]
        )

    def _check_settings(self) -> None:
        """Check the parameters that depend neither on the data, the plugins that are taken nor the machine."""
        from metafe.decisions import is_auto, resolve_augmentations
        from metafe.plugins import resolve
        from metafe.training.compiling import check_compile
        from metafe.training.settings import check_precision

        if not isinstance(self.validation_fraction, int | float) or not 0 <= self.validation_fraction < 1:
            raise InvalidParameterError(
                f"validation_fraction must be at least 0 and below 1; got {self.validation_fraction!r}."
            )
        check_choice(
            "MetaFeatureExtractor", "concat_input", self.concat_input, (None, "feature", "all", "discriminants")
        )
        check_choice("MetaFeatureExtractor", "inputs", self.inputs, ("auto", "rows", "discriminants", "both"))
        check_choice("MetaFeatureExtractor", "refit", self.refit, ("auto", True, False))
        if not is_auto(self.n_networks):
            check_sizes("MetaFeatureExtractor", n_networks=self.n_networks)
        if self.inputs == "both" and self.n_networks == 1:
            raise InvalidParameterError(
                "inputs='both' needs n_networks of at least 2; got 1. Set n_networks, or inputs='rows'."
            )
        self._settings(resolve("algorithm", "untrained"))
        check_compile(self.compile)
        check_precision(self.precision)
        resolve_augmentations(self.augment)

    def _on_validation(self, metrics: Mapping[str, float]) -> bool | None:
        from metafe.plugins import notify

        notify("metafe_step_finished", extractor=self, step=int(metrics["step"]), metrics=metrics)
        return self._validated(metrics)

    def _validated(self, metrics: Mapping[str, float]) -> bool | None:
        """Hear the metrics of a validation; training stops, and keeps the best weights, where True is returned."""
        return None

    def _keep(self, fitted: Fitted, recipe: Recipe, target: Target, encoder: Encoder | None) -> None:
        """Set the fitted attributes."""
        for stale in ("classes_", "adapted_classes_", "target_mean_", "target_scale_"):
            self.__dict__.pop(stale, None)
        if target.classes is not None:
            self.classes_ = target.classes
        if target.mean is not None and target.scale is not None:
            self.target_mean_, self.target_scale_ = target.mean, target.scale
        self.encoder_ = encoder
        self.model_: FeatureModel = fitted.model
        self.backbone_ = fitted.model.backbone
        self.algorithm_ = recipe.algorithm
        self.tasks_ = recipe.source
        self.history_ = fitted.outcome.history
        self.n_features_out_ = fitted.model.n_features

    def _judge(self, learned: Fitted, recipe: Recipe, data: TaskData) -> Fitted:
        """Compare with the standardised rows; return what to keep."""
        from metafe.keeping import keep_better

        kept, self.validation_ = keep_better(learned, recipe, data, automatic=self.backbone == "auto")
        return kept

    def _settings(self, algorithm: MetaAlgorithm) -> Any:
        from metafe.decisions import advised_settings, is_auto
        from metafe.training.settings import TrainingSettings

        named = {k: v for k in _TRAINING_PARAMETERS if not is_auto(v := getattr(self, k))}
        return TrainingSettings(**advised_settings(algorithm, named) | named)

    def _fingerprint(self, seed: int, data: TaskData) -> str:
        """Identify a run: its parameters, seed and data."""
        import joblib

        from metafe.training.checkpoint import hash_rows

        left_out = ("verbose", "checkpoint", "device", "random_state")
        parameters = sorted((k, repr(v)) for k, v in self.get_params(deep=False).items() if k not in left_out)
        return str(joblib.hash((parameters, seed, hash_rows(data.x), data.y, data.groups)))

    def _check_rows(self, X: Any) -> Any:
        from metafe.encoding import encode
        from metafe.inputs import check_rows

        raw = self.backbone_.raw_input
        rows = check_rows(self, X, raw=raw, reset=False) if self.encoder_ is None else encode(self.encoder_, X)
        if not raw and rows.shape[1:] != self.input_shape_:
            raise InvalidInputError(
                f"X must have rows of shape {self.input_shape_}, as in fit; got {rows.shape[1:]}. Resize or reshape them."
            )
        return rows

    def _target_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and scale of the targets in `fit`; tasks that bring their own targets leave them as they are."""
        n_targets = self.model_.learner.problem.n_targets
        own = np.zeros(n_targets), np.ones(n_targets)
        return (self.target_mean_, self.target_scale_) if hasattr(self, "target_mean_") else own

    def _device(self) -> Any:
        from metafe.training.settings import resolve_device

        return resolve_device(self.device)

    def _named_plugins(self) -> list[tuple[str, Plugin]]:
        """Return the plugins that a string stands for, leaving out ``"auto"`` and unknown names."""
        from metafe.plugins import resolve

        found = []
        for name, kind in _KIND_OF_PARAMETER.items():
            spec = getattr(self, name)
            if isinstance(spec, str) and spec != "auto":
                try:
                    found.append((name, resolve(kind, spec)))
                except UnknownPluginError:
                    continue
        return found

    def _replace_name_by_object(self, name: str, asked_for: str) -> None:
        from metafe.plugins import resolve

        spec = getattr(self, name)
        if not isinstance(spec, str):
            return
        if spec == "auto":
            raise InvalidParameterError(f"{asked_for} needs a named {name}; got {name}='auto'. Set {name}= too.")
        setattr(self, name, resolve(_KIND_OF_PARAMETER[name], spec))


@contextmanager
def unchanged_by_errors(estimator: BaseEstimator) -> Iterator[None]:
    """Leave an estimator as it was where the code inside raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def seed_from(random_state: Any) -> int:
    """Return one integer from a seed, a generator or, for None, the operating system; never from the global generator."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    try:
        generator = check_random_state(random_state)
    except ValueError as error:
        raise InvalidParameterError(
            f"random_state must be a whole number from 0 to 2**32 - 1, a RandomState of numpy or None; got {random_state!r}."
        ) from error
    return int(generator.randint(2**31 - 1))
