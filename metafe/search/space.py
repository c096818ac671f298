"""What is searched: plugins that accept the data, each with the ranges that it declares."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from metafe.contracts import (
    Backbone,
    Categorical,
    Encoder,
    Float,
    Int,
    InvalidInputError,
    InvalidParameterError,
    MetafeError,
    Plugin,
    PluginLoadWarning,
    Problem,
    TaskData,
)
from metafe.decisions import Decisions
from metafe.search.candidates import BrokenPluginError, Candidates
from metafe.search.choosing import Chooser, GivenParameters, NotInSpaceError, TrialChooser
from metafe.search.options import (
    ARGUMENTS,
    KINDS,
    UNTRAINED,
    USUAL_LEARNING_RATE,
    USUAL_LENGTH,
    Option,
    effective_parameters,
    limited,
    own_learning_rate,
    own_length,
    plain,
    refusal,
)
from metafe.views import has_discriminants

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

    from metafe.extractor import MetaFeatureExtractor

Parameters = dict[str, Any]

# The algorithms' own rates were chosen for typical data; what is best for one data set is seldom further away.
LEARNING_RATE_SPREAD = 3.0
# Where nothing held out ends a training, an eighth of what algorithms advise may do, and a third mostly does.
LENGTH_SPREAD, FIRST_SHARE = 8, 3
INPUTS = ("rows", "discriminants", "both")
# Enough to see whether a task source can label rows.
ROWS_TO_LABEL = 64


@dataclass(frozen=True)
class Space:
    """Backbones, task sources, algorithms for each and training settings, with the ranges that are searched.

    Parameters
    ----------
    backbones : tuple of Option
    backbone_sources : tuple of tuple of Option
        For each backbone, the task sources that suit the rows that it encodes; empty where it trains nothing.
    listed : tuple of Option
        Backbones that train nothing and have a few settings alone: each of these is tried once, and none is drawn.
    optimizer : str, default="auto"
        Of the template: the learning rates that are searched are those for it.
    sources : tuple of Option
    algorithms : tuple of tuple of Option
        For each source, those that can learn from its tasks.
    settings : tuple of str
        Which of ``learning_rate``, ``augment``, ``inputs`` and ``max_steps`` are searched.
    augmentations : tuple of tuple of Option
        For each backbone, those that suit the rows that it encodes, one of which may take the place of ``"auto"``; empty
        where ``augment`` is not searched.
    untrained : dict of str to object
        What else an extractor needs whose backbone trains nothing.
    seeing_discriminants : tuple of Option
        Backbones whose networks may see discriminants in place of rows, or both.
    """

    backbones: tuple[Option, ...]
    backbone_sources: tuple[tuple[Option, ...], ...]
    sources: tuple[Option, ...]
    algorithms: tuple[tuple[Option, ...], ...]
    settings: tuple[str, ...]
    augmentations: tuple[tuple[Option, ...], ...]
    untrained: Parameters
    listed: tuple[Option, ...] = ()
    optimizer: str = "auto"
    seeing_discriminants: tuple[Option, ...] = ()

    @classmethod
    def for_data(
        cls,
        data: TaskData,
        template: MetaFeatureExtractor,
        backbones: Any = None,
        algorithms: Any = None,
        tasks: Any = None,
        encoder: Encoder | None = None,
        searches_length: bool = False,
    ) -> Space:
        """Collect the plugins that accept the data.

        Parameters
        ----------
        data : TaskData
            Rows to train on: the smallest training part of a fold.
        template : MetaFeatureExtractor
            Its parameters that are not ``"auto"`` are not searched.
        backbones, algorithms, tasks : None, name, Plugin, sequence of them, or mapping of name to mapping
            What to search, as `MetaFeatureSearchCV` takes it.
        encoder : Encoder or None, default=None
            What has made arrays of the rows, which may say what augmentations suit them.
        searches_length : bool, default=False
            Whether trials choose how long they train, since nothing is held out that tells.

        Returns
        -------
        Space

        Raises
        ------
        UnknownPluginError
            A name that nothing has registered.
        InvalidParameterError
            An unknown parameter, or nothing left to search.
        InvalidInputError
            A plugin that was named does not accept the data.
        BrokenPluginError
            A plugin that was named raised; of another one a warning says that it is left out.
        """
        narrowed = {"backbone": backbones, "algorithm": algorithms, "tasks": tasks}
        candidates = {p: Candidates.of(p, given, getattr(template, p)) for p, given in narrowed.items()}
        candidates["augment"] = Candidates("augment", _augmentations_of(encoder), named=False)
        while True:
            try:
                return cls._of(candidates, data, template, encoder, searches_length)
            except BrokenPluginError as error:
                broken = candidates[error.parameter]
                if broken.named:
                    raise
                warnings.warn(f"{error} The search goes on without it.", PluginLoadWarning, stacklevel=6)
                candidates[error.parameter] = broken.without(error.name)

    @classmethod
    def _of(
        cls,
        candidates: Mapping[str, Candidates],
        data: TaskData,
        template: MetaFeatureExtractor,
        encoder: Encoder | None,
        searches_length: bool,
    ) -> Space:
        backbones = candidates["backbone"]
        options = backbones.options(lambda backbone: _problem(data))
        found = _accepting(backbones, options if backbones.named else _sharing_settings(options, encoder), data)
        sources: dict[Option, tuple[Option, ...]] = {}
        if any(option.plugin.trains for option in found):
            sources = _sources(data, template, candidates)
        rows = {option: _encoded_row(backbones, option, data) for option in found if option.plugin.trains}
        tasks = candidates["tasks"]
        suited = {
            option: _suited(rows[option], tasks, tuple(sources), data, template, encoder) if option in rows else ()
            for option in found
        }
        found = [option for option in found if suited[option] or not option.plugin.trains]
        if not found:
            raise InvalidParameterError(_nothing_left("backbone", data))
        names = ("learning_rate", "augment", "inputs", *(("max_steps",) if searches_length else ()))
        settings = tuple(name for name in names if getattr(template, name) == "auto")
        listed = tuple(option for option in found if _is_listed(option))
        # Where nothing else is left, those that could be listed are drawn.
        drawn = tuple(option for option in found if option not in listed) or listed
        augmentations = candidates["augment"]
        return cls(
            backbones=drawn,
            backbone_sources=tuple(suited[option] for option in drawn),
            sources=tuple(sources),
            algorithms=tuple(sources.values()),
            settings=settings,
            augmentations=tuple(
                _augmentations(augmentations, rows.get(option), data) if "augment" in settings else ()
                for option in drawn
            ),
            listed=listed if drawn != listed else (),
            optimizer=template.optimizer,
            seeing_discriminants=tuple(o for o in drawn if o in rows and _has_discriminants(o, rows[o], data))
            if "inputs" in settings
            else (),
            untrained=_untrained(data, template),
        )

    @property
    def options(self) -> list[Option]:
        """Every option, each once."""
        algorithms = {option: None for options in self.algorithms for option in options}
        return [*self.backbones, *self.listed, *self.sources, *algorithms]

    def list_settings(self) -> list[Parameters]:
        """Return the parameters of each setting of the listed backbones."""
        return [
            option.parameters(dict(zip(option.ranges, values, strict=True))) | self.untrained
            for option in self.listed
            for values in product(*(option.distribution(name).choices for name in option.ranges))  # type: ignore[attr-defined]
        ]

    def suggest(self, trial: BaseTrial) -> Parameters:
        """Choose the parameters of a `MetaFeatureExtractor`.

        Parameters
        ----------
        trial : optuna.trial.BaseTrial
            Asked for each value.

        Returns
        -------
        dict of str to object
            What `MetaFeatureExtractor.set_params` takes: ``backbone``, ``backbone__width``, ``algorithm`` and so on.
        """
        return self._choose(TrialChooser(trial))

    def fixed(self, parameters: Mapping[str, Any]) -> Parameters | None:
        """Return what a trial has to choose for parameters, for `optuna.Study.enqueue_trial`.

        Parameters
        ----------
        parameters : mapping of str to object
            Of a `MetaFeatureExtractor`. What is left out has its default; what is outside its range becomes the nearest
            value in it.

        Returns
        -------
        dict of str to object or None
            None where a plugin is not in the space.
        """
        given = GivenParameters(parameters)
        try:
            self._choose(given)
        except NotInSpaceError:
            return None
        return given.choices

    def contains(self, parameters: Mapping[str, Any]) -> bool:
        """Tell whether a trial can choose exactly these parameters."""
        try:
            reached = self._choose(GivenParameters(parameters))
        except NotInSpaceError:
            return False
        own = {"optimizer": self.optimizer}
        return effective_parameters(own | reached) == effective_parameters(own | dict(parameters))

    def describe(self) -> Parameters:
        """Return everything that trials may choose, as JSON types."""
        algorithms = {
            source.label: {option.label: option.describe() for option in options}
            for source, options in zip(self.sources, self.algorithms, strict=True)
        }
        return {
            "backbones": {option.label: option.describe() for option in (*self.backbones, *self.listed)},
            "tasks": {option.label: option.describe() for option in self.sources},
            "tasks of backbones": {
                backbone.label: [source.label for source in sources]
                for backbone, sources in zip(self.backbones, self.backbone_sources, strict=True)
            },
            "algorithms": algorithms,
            "augmentations of backbones": {
                backbone.label: {option.label: option.describe() for option in options}
                for backbone, options in zip(self.backbones, self.augmentations, strict=True)
            },
            "settings": list(self.settings),
            "seeing discriminants": [option.label for option in self.seeing_discriminants],
        }

    def to_json(self, parameters: Mapping[str, Any]) -> Parameters:
        """Return parameters as JSON types: an object that no name describes becomes a key by which this space knows it."""
        keys = {repr(plugin): key for key, plugin in self._objects().items()}
        return {k: keys[repr(v)] if isinstance(v, Plugin) else plain(v) for k, v in parameters.items()}

    def from_json(self, stored: Mapping[str, Any]) -> Parameters:
        """Return the parameters that `to_json` was given."""
        objects = self._objects()
        return {k: clone(objects[v]) if isinstance(v, str) and v in objects else v for k, v in stored.items()}

    def _objects(self) -> dict[str, Plugin]:
        return {f"object {option.label}": option.plugin for option in self.options if not option.is_named}

    def _choose(self, chooser: Chooser) -> Parameters:
        backbone = chooser.option("backbone", self.backbones)
        parameters = _choose_values(chooser, backbone)
        if not backbone.plugin.trains:
            return parameters | self.untrained
        sources = self.backbone_sources[self.backbones.index(backbone)]
        source = chooser.option(f"tasks{self._tasks_suffix(sources)}", sources)
        options = self.algorithms[self.sources.index(source)]
        suffix = self._algorithms_suffix(options)
        algorithm = chooser.option(f"algorithm{suffix}", options)
        on_rows = algorithm.plugin.trains_on == "rows"
        # Way and shot are nothing to an algorithm that trains on plain mini-batches.
        parameters |= source.parameters({}) if on_rows else _choose_values(chooser, source)
        parameters |= _choose_values(chooser, algorithm, suffix)
        parameters |= self._choose_settings(chooser, algorithm)
        if backbone in self.seeing_discriminants:
            parameters["inputs"] = chooser.value("inputs", "inputs", Categorical(list(INPUTS)), INPUTS[0])
        if "augment" in self.settings and not source.plugin.needs_augmentation:
            parameters |= self._choose_augmentation(chooser, backbone)
        return parameters

    def _tasks_suffix(self, sources: tuple[Option, ...]) -> str:
        pairs = zip(self.backbones, self.backbone_sources, strict=True)
        return _suffix(sources, [(backbone, suited) for backbone, suited in pairs if suited])

    def _algorithms_suffix(self, options: tuple[Option, ...]) -> str:
        return _suffix(options, list(zip(self.sources, self.algorithms, strict=True)))

    def _choose_settings(self, chooser: Chooser, algorithm: Option) -> Parameters:
        chosen: Parameters = {}
        if "learning_rate" in self.settings:
            usual = own_learning_rate(algorithm.plugin, self.optimizer)
            name = "learning_rate" if usual == USUAL_LEARNING_RATE else f"{algorithm.label}.learning_rate"
            around = Float(usual / LEARNING_RATE_SPREAD, usual * LEARNING_RATE_SPREAD, log=True)
            chosen["learning_rate"] = chooser.value(name, "learning_rate", around, usual)
        if "max_steps" in self.settings:
            longest = own_length(algorithm.plugin)
            name = "max_steps" if longest == USUAL_LENGTH else f"{algorithm.label}.max_steps"
            lengths = Int(max(1, longest // LENGTH_SPREAD), longest, log=True)
            chosen["max_steps"] = chooser.value(name, "max_steps", lengths, longest)
        return chosen

    def out_of_the_box(self, backbone: Option, algorithm: Option, inputs: str) -> Parameters:
        """Return the settings to begin with of a network that is judged by folds alone: how rows are seen, and quick."""
        settings: Parameters = {"inputs": inputs} if backbone in self.seeing_discriminants else {}
        if "max_steps" in self.settings:
            settings["max_steps"] = max(1, own_length(algorithm.plugin) // FIRST_SHARE)
        return settings

    def _choose_augmentation(self, chooser: Chooser, backbone: Option) -> Parameters:
        """Choose what "auto" takes as it is, nothing, or one augmentation with settings of its own."""
        options = self.augmentations[self.backbones.index(backbone)]
        suffix = _suffix(options, list(zip(self.backbones, self.augmentations, strict=True)))
        choices = Categorical(["auto", None, *(option.label for option in options)])
        name = chooser.value(f"augment{suffix}", "augment", choices, "auto")
        chosen = next((option for option in options if option.label == name), None)
        return {"augment": name} if chosen is None else _choose_values(chooser, chosen, suffix)


def _sharing_settings(options: list[Option], encoder: Encoder | None) -> list[Option]:
    """Return the options with the backbone that an encoder brings in the place of its namesake."""
    brought = None if encoder is None else encoder.default_backbone
    if not isinstance(brought, Backbone):
        return options
    return [replace(option, plugin=brought) if option.plugin.name == brought.name else option for option in options]


def _is_listed(option: Option) -> bool:
    """Tell whether a backbone trains nothing and has a few settings, none under a condition."""
    few = all(isinstance(searched, Categorical) for searched in option.ranges.values())
    return few and not option.plugin.trains and len(option.ranges) <= 1


def automatic_tasks(data: TaskData) -> str | None:
    """Return the name of the task source that ``"auto"`` takes; where that makes none of the groups, of the rest."""
    source = Decisions().tasks("auto", data)
    if source is not None and data.groups is not None and source.accepts(data):
        source = Decisions().tasks("auto", replace(data, groups=None))
    return None if source is None else source.name


def _untrained(data: TaskData, template: MetaFeatureExtractor) -> Parameters:
    """Return what else an extractor needs whose backbone trains nothing: every row to fit its encoder on."""
    parameters: Parameters = {"algorithm": UNTRAINED, "validation_fraction": 0.0}
    usual, accepting = Decisions().tasks("auto", data), automatic_tasks(data)
    # A task source is asked for its problem also where nothing is trained on its tasks.
    needs_other = template.tasks == "auto" and usual is not None and usual.name != accepting
    return parameters | {"tasks": accepting} if needs_other else parameters


def _suffix(choices: tuple[Option, ...], by_parent: list[tuple[Option, tuple[Option, ...]]]) -> str:
    """Return what tells a choice from that of other parents: optuna wants the same choices under one name.

    Those that most parents have need none.
    """
    every = [others for _, others in by_parent]
    if choices == max(every, key=every.count):
        return ""
    return f" for {', '.join(parent.label for parent, others in by_parent if others == choices)}"


def _suited(
    row: np.ndarray | None,
    tasks: Candidates,
    sources: tuple[Option, ...],
    data: TaskData,
    template: MetaFeatureExtractor,
    encoder: Encoder | None,
) -> tuple[Option, ...]:
    """Return the task sources that suit rows like an encoded one; as far as that is known before the backbone's fit."""
    if row is not None:
        encoded = data.with_x(np.broadcast_to(row, (len(data.x), *row.shape)))
        sources = tuple(s for s in sources if s.plugin.selects_rows or not _refusal(tasks, s, encoded))
    augmented = _is_augmented(row, template, encoder)
    return tuple(source for source in sources if augmented or not source.plugin.needs_augmentation)


def _is_augmented(row: np.ndarray | None, template: MetaFeatureExtractor, encoder: Encoder | None) -> bool:
    """Tell whether rows are augmented where nothing is drawn; True where that is not known."""
    if not isinstance(template.augment, str) or template.augment != "auto":
        return template.augment is not None and template.augment != []
    if row is None:
        return encoder is None or encoder.default_augment != ()
    return bool(Decisions(encoder=encoder).augmentations("auto", row.shape, "classification"))


def _augmentations_of(encoder: Encoder | None) -> tuple[str, ...] | None:
    """Return the augmentations that an encoder says suit its rows; None where it leaves that to their shape."""
    if encoder is None or encoder.default_augment is None:
        return None
    return (*encoder.default_augment, *encoder.further_augment)


def _has_discriminants(option: Option, row: np.ndarray | None, data: TaskData) -> bool:
    return row is not None and row.ndim == 1 and has_discriminants(option.plugin, data, row.shape)


def _encoded_row(backbones: Candidates, backbone: Option, data: TaskData) -> np.ndarray | None:
    """Return what a backbone makes of the first row; None where it must be fitted for that."""
    if type(backbone.plugin).fit is not Backbone.fit or not isinstance(data.x, np.ndarray):
        return None
    with backbones.asking(backbone.plugin.name):
        return np.asarray(backbone.plugin.encode(data.x[data.rows[:1]])[0])


def _augmentations(augmentations: Candidates, row: np.ndarray | None, data: TaskData) -> tuple[Option, ...]:
    """Return the augmentations that suit rows like an encoded one; none where that is known after the backbone's fit alone."""
    if row is None:
        return ()
    problem = replace(_problem(data), input_shape=row.shape)
    fitting = []
    for option in augmentations.options(lambda augmentation: problem):
        with augmentations.asking(option.plugin.name):
            if not option.plugin.accepts(row.shape):
                fitting.append(option)
    return tuple(fitting)


def _choose_values(chooser: Chooser, option: Option, suffix: str = "") -> Parameters:
    chosen: Parameters = {}
    for name in option.order:
        if option.exists(name, chosen):
            key = f"{option.label}.{name}{suffix}"
            chosen[name] = chooser.value(
                key, f"{option.parameter}__{name}", option.distribution(name), option.defaults[name]
            )
    return option.parameters(chosen)


def _sources(
    data: TaskData, template: MetaFeatureExtractor, candidates: Mapping[str, Candidates]
) -> dict[Option, tuple[Option, ...]]:
    """Return the task sources that accept the data, with the algorithms that can learn from each."""
    tasks = candidates["tasks"]
    learnable: dict[Option, tuple[Option, ...]] = {}
    reasons: list[str] = []
    for source in _accepting(tasks, tasks.options(lambda source: _problem_of_tasks(source, data)), data):
        with tasks.asking(source.plugin.name):
            ending, problem = limited(source, data), source.plugin.problem(data, _shape(data))
        unlabelled = cache(partial(_why_no_labels, tasks, source, data))
        fitting, refused = _algorithms(candidates["algorithm"], problem, unlabelled, template.optimizer)
        reasons += refused
        if fitting:
            learnable[ending] = fitting
    if not learnable and (tasks.named or reasons):
        raise InvalidParameterError(_nothing_left("algorithm", data, reasons))
    return learnable


def _algorithms(
    algorithms: Candidates, problem: Problem, why_no_labels: Callable[[], str | None], optimizer: str
) -> tuple[tuple[Option, ...], list[str]]:
    """Return the algorithms that can learn from the tasks of a source, and why others cannot."""
    fitting, reasons = [], []
    for option in algorithms.options(lambda algorithm: problem):
        with algorithms.asking(option.plugin.name):
            reason = option.plugin.accepts(problem)
            # Trials ask for it too, where it must not raise.
            own_learning_rate(option.plugin, optimizer)
        if reason := reason or (why_no_labels() if option.plugin.trains_on == "rows" else None):
            reasons.append(reason)
        else:
            fitting.append(option)
    return tuple(fitting), reasons


def _why_no_labels(tasks: Candidates, source: Option, data: TaskData) -> str | None:
    """Say why a task source has no labels of rows; None where it has."""
    with tasks.asking(source.plugin.name):
        try:
            source.plugin.row_labels(data.restrict(data.rows[:ROWS_TO_LABEL]))
        except MetafeError as error:
            return str(error)
    return None


def _accepting(candidates: Candidates, options: list[Option], data: TaskData) -> list[Option]:
    """Return the options that accept the data; all must where the user has named them."""
    refusals = {option: _refusal(candidates, option, data) for option in options}
    if candidates.named and (reasons := [reason for reason in refusals.values() if reason]):
        raise InvalidInputError(" ".join(reasons))
    return [option for option, reason in refusals.items() if not reason]


def _refusal(candidates: Candidates, option: Option, data: TaskData) -> str | None:
    with candidates.asking(option.plugin.name):
        return refusal(option, data)


def _problem(data: TaskData) -> Problem:
    """Describe the data itself, whatever tasks are made of it."""
    if data.kind == "regression":
        assert data.y is not None
        return Problem("regression", _shape(data), n_targets=data.y.shape[1])
    n_classes = len(data.classes) if data.kind == "classification" else 0
    return Problem(data.kind, _shape(data), n_classes=n_classes, max_way=n_classes)


def _problem_of_tasks(source: Any, data: TaskData) -> Problem:
    return _problem(data) if refusal(Option("tasks", "", source), data) else source.problem(data, _shape(data))


def _shape(data: TaskData) -> tuple[int, ...]:
    return data.x.shape[1:] if isinstance(data.x, np.ndarray) else ()


def _nothing_left(parameter: str, data: TaskData, reasons: list[str] | None = None) -> str:
    why = " ".join(dict.fromkeys(reasons or []))
    return (
        f"A search needs at least one {KINDS[parameter]} that fits the data; got none for {len(data)} rows of shape "
        f"{_shape(data)}, {data.kind}. {why or 'Name others.'} See {ARGUMENTS[parameter]}=."
    )
