"""What a user would have done by hand: tried before anything else, so that the search never ends with less."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import TrialState

from metafe.contracts import Backbone, Encoder, TaskData
from metafe.search.attributes import BASELINE, CHOSEN, GIVEN, OUT_OF_THE_BOX, PARAMETERS
from metafe.search.options import Option, effective_parameters
from metafe.search.space import Parameters, Space, automatic_tasks

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

# The name of the one baseline that is a network.
SUPERVISED = "supervised"
STANDARDISED, ONE_SCALE, BOTH_SCALES = "standardised rows", "rows on one scale", "rows on both scales"
PCA, NCA = "PCA", "NCA"
# The backbone that is strong on data of many kinds, and trains nothing.
DISCRIMINANTS = "plda"
# What no label has a part in, so that all classes can judge it.
LABEL_FREE = frozenset({STANDARDISED, ONE_SCALE, BOTH_SCALES, PCA})
# What takes seconds where the others take a fraction of one.
SLOW = frozenset({NCA, SUPERVISED})


def is_label_free(trial: FrozenTrial) -> bool:
    """Tell whether a trial is a baseline that no label has a part in."""
    return trial.user_attrs.get(BASELINE) in LABEL_FREE


def baselines(space: Space, data: TaskData, encoder: Encoder | None = None) -> dict[str, Parameters]:
    """Return the parameters of each baseline that fits the data.

    Parameters
    ----------
    space : Space
        Whose network is trained plainly where it is the one that ``"auto"`` takes.
    data : TaskData
        Rows to train on.
    encoder : Encoder or None, default=None
        What has made arrays of them.

    Returns
    -------
    dict of str to dict
        Name to parameters of a `MetaFeatureExtractor`; empty for rows that are not numbers.
    """
    if not isinstance(data.x, np.ndarray):
        return {}
    found: dict[str, Parameters] = {STANDARDISED: {"backbone": "identity"}}
    if data.x.ndim == 2:
        found[ONE_SCALE] = {"backbone": "identity", "backbone__scaling": "all"}
        # Where it is not clear which is better, which is often, this is nearly as good as the better.
        found[BOTH_SCALES] = {"backbone": "identity", "concat_input": "all"}
    found[PCA] = {"backbone": "sklearn", "backbone__transformer": "pca"}
    if data.kind == "classification":
        found["LDA"] = {"backbone": "sklearn", "backbone__transformer": "lda"}
        found[NCA] = {"backbone": "sklearn", "backbone__transformer": "nca"}
    found = {name: parameters | space.untrained for name, parameters in found.items()}
    return found | _supervised(space, data, encoder)


def default_recipes(space: Space, data: TaskData, encoder: Encoder | None = None) -> list[Parameters]:
    """Return what to begin with: what works out of the box, then each other backbone and task source on plain rows.

    Parameters
    ----------
    space : Space
    data : TaskData
        Rows to train on.
    encoder : Encoder or None, default=None
        What has made arrays of them.

    Returns
    -------
    list of dict
        Parameters of a `MetaFeatureExtractor`; the one that ``"auto"`` takes comes first.
    """
    usual = automatic_tasks(data)
    trained = [(o, list(s)) for o, s in zip(space.backbones, space.backbone_sources, strict=True) if s]
    automatic = _automatic_backbone(data, encoder).name
    trained.sort(key=lambda pair: pair[0].plugin.name != automatic)
    pairs = [(network, _first(usual, sources)[0]) for network, sources in trained]
    pairs += [(network, source) for network, sources in trained[:1] for source in _first(usual, sources)[1:]]
    # The first sees rows both ways; others tell more, and take half the time, if they see plain rows.
    return [_default_recipe(space, *pair, "rows" if i else "both") for i, pair in enumerate(pairs)]


def _default_recipe(space: Space, network: Option, source: Option, inputs: str) -> Parameters:
    algorithm = _usual_algorithm(space, source)
    settings = space.out_of_the_box(network, algorithm, inputs)
    return network.parameters({}) | source.parameters({}) | algorithm.parameters({}) | settings


def enqueue_first(
    study: Study,
    space: Space,
    data: TaskData,
    n_trials: int,
    warm: Sequence[Parameters] = (),
    encoder: Encoder | None = None,
) -> None:
    """Enqueue what is tried before the sampler has its say.

    The baselines, what works out of the box, what did best on similar data, and defaults of other networks, of which what did
    best takes the place of as many. What trains nothing and has few settings comes before the baselines that are slow, since it
    is over before they would be, unless there are too few trials for both. In a study that goes on, what did best on similar data
    and has not been tried in it comes next.

    Parameters
    ----------
    study : optuna.study.Study
    space : Space
    data : TaskData
        Rows to train on.
    n_trials : int
        How many will be tried.
    warm : sequence of dict, default=()
        Parameters that did best in other studies.
    encoder : Encoder or None, default=None
        What has made arrays of the rows.
    """
    if known := study.get_trials(deepcopy=False):
        # Where none has begun, whoever made the study is still enqueueing the same.
        if any(trial.state != TrialState.WAITING for trial in known):
            _enqueue_new(study, space, warm, [_parameters_of(trial, space) for trial in known])
        return
    by_hand = baselines(space, data, encoder)
    tried = [effective_parameters(parameters) for parameters in by_hand.values()]
    listed = _new(space.list_settings(), tried)
    later = SLOW if len(tried) + len(listed) <= n_trials else frozenset()
    _enqueue_baselines(study, space, {name: given for name, given in by_hand.items() if name not in later})
    discriminants = [parameters for parameters in listed if parameters["backbone"] == DISCRIMINANTS]
    tried = _enqueue_new(study, space, discriminants, tried, {OUT_OF_THE_BOX: True})
    tried = _enqueue_new(study, space, listed, tried)
    _enqueue_baselines(study, space, {name: given for name, given in by_hand.items() if name in later})
    recipes = default_recipes(space, data, encoder)
    seen_both_ways = {OUT_OF_THE_BOX: True} if any(recipe.get("inputs") == "both" for recipe in recipes[:1]) else {}
    tried = _enqueue_new(study, space, recipes[:1], tried, seen_both_ways)
    # What did best elsewhere tells more of other networks than their defaults do.
    elsewhere = _new(warm, tried)
    _enqueue_new(study, space, [*elsewhere, *recipes[1 + len(elsewhere) :]], tried)


def _new(settings: Sequence[Parameters], tried: Sequence[Parameters]) -> list[Parameters]:
    return [parameters for parameters in settings if effective_parameters(parameters) not in tried]


def _enqueue_baselines(study: Study, space: Space, named: Mapping[str, Parameters]) -> None:
    for name, parameters in named.items():
        # Choices that come near would tell the sampler something else than what was tried.
        choices = space.fixed(parameters) if space.contains(parameters) else None
        _enqueue(study, choices, {BASELINE: name, GIVEN: json.dumps(space.to_json(parameters))})


def _parameters_of(trial: FrozenTrial, space: Space) -> Parameters:
    """Return what a trial has tried or is to try, spelt out; nothing of a trial that was cut off before it chose."""
    kept = trial.user_attrs.get(GIVEN) or trial.user_attrs.get(PARAMETERS)
    return {} if kept is None else effective_parameters(space.from_json(json.loads(kept)))


def _enqueue_new(
    study: Study,
    space: Space,
    settings: Sequence[Parameters],
    tried: list[Parameters],
    attributes: Mapping[str, Any] | None = None,
) -> list[Parameters]:
    """Enqueue what is not among the tried, each once, and return both: the same parameters give the same trial again."""
    for parameters in settings:
        if (spelt := effective_parameters(parameters)) not in tried:
            tried = [*tried, spelt]
            given = {GIVEN: json.dumps(space.to_json(parameters))} | dict(attributes or {})
            _enqueue(study, space.fixed(parameters), given)
    return tried


def _enqueue(study: Study, choices: Mapping[str, Any] | None, attributes: Mapping[str, Any]) -> None:
    study.enqueue_trial(dict(choices or {}), user_attrs=dict(attributes) | {CHOSEN: choices is not None})


def _supervised(space: Space, data: TaskData, encoder: Encoder | None) -> dict[str, Parameters]:
    source = automatic_tasks(data)
    if data.kind == "unlabelled" or source is None:
        return {}
    usual = _automatic_backbone(data, encoder)
    own = [option for option in space.backbones if option.plugin.name == usual.name]
    network = own[0] if own else Option("backbone", usual.name, usual)
    plainly = {"tasks": source, "algorithm": "supervised", "inputs": "rows"}
    return {SUPERVISED: network.parameters({}) | plainly}


def _automatic_backbone(data: TaskData, encoder: Encoder | None) -> Backbone:
    from metafe.decisions import Decisions

    # What auto would take if there were something to learn from.
    kind = "classification" if data.kind == "unlabelled" else data.kind
    return Decisions(encoder=encoder).backbone("auto", data.x, kind)


def _usual_algorithm(space: Space, source: Option) -> Option:
    options = space.algorithms[space.sources.index(source)]
    by_name = {option.plugin.name: option for option in options}
    usual = [by_name[name] for name in ("protonet", "supervised") if name in by_name]
    return usual[0] if usual else options[0]


def _first(name: str | None, options: list[Option]) -> list[Option]:
    """Return the options with that of a name in front."""
    return sorted(options, key=lambda option: option.plugin.name != name)
