"""What did best in other studies, to be tried early in this one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from optuna import get_all_study_summaries, load_study
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from metafe.contracts import InvalidParameterError
from metafe.search.attributes import PARAMETERS, is_baseline
from metafe.search.meta_features import distance
from metafe.search.space import Parameters, Space
from metafe.search.standings import score_of
from metafe.search.storage import file_of, make_storage, reaching, without_password

# The attribute of a study under which its data is described.
META_FEATURES = "meta_features"
BEST_OF_EACH = 3
MOST_SETTINGS = 10


def warm_settings(warm_start_from: Any, features: Mapping[str, float], space: Space) -> list[Parameters]:
    """Return the best settings of other studies, those of the most similar data first.

    Parameters
    ----------
    warm_start_from : Study, fitted MetaFeatureSearchCV, storage, or iterable of them
        A storage, or its URL or path, stands for every study of metafe in it.
    features : mapping of str to float
        Describes the data of this study, as `meta_features` does.
    space : Space
        What this study searches; settings outside it are left out, and values outside a range become the nearest in it.

    Returns
    -------
    list of dict
        Parameters of a `MetaFeatureExtractor`, each once: three from each study, then more from the better half of what each
        has finished, ten in all at most. What this search does not draw, also since it lists it, takes no place among them.

    Raises
    ------
    InvalidParameterError
        Something else to start from, or a study that is not of metafe.
    SearchError
        A storage cannot be reached.
    """
    others = sorted(_studies(warm_start_from), key=lambda study: distance(features, _features_of(study)))
    tried = [_best_first(study) for study in others]
    few_of_each = (islice(_best_in(space, trials), BEST_OF_EACH) for trials in tried)
    more_of_each = (_best_in(space, _better_half(trials)) for trials in tried)
    found: dict[str, Parameters] = {}
    for choices, parameters in chain.from_iterable(chain(few_of_each, more_of_each)):
        found.setdefault(choices, parameters)
        if len(found) == MOST_SETTINGS:
            break
    return list(found.values())


def _best_in(space: Space, trials: Sequence[FrozenTrial]) -> Iterator[tuple[str, Parameters]]:
    """Yield the settings of trials that a space has too, and what tells them apart."""
    for trial in trials:
        parameters = space.from_json(json.loads(trial.user_attrs[PARAMETERS]))
        if (choices := space.fixed(parameters)) is not None:
            yield json.dumps(choices, sort_keys=True), parameters


def _best_first(study: Study) -> list[FrozenTrial]:
    """Return the trials that are no baselines, by their score; those that were pruned last."""
    tried = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    learned = [trial for trial in tried if trial.values and not is_baseline(trial.user_attrs)]
    return sorted(learned, key=lambda trial: (trial.state == TrialState.PRUNED, -score_of(study, trial)))


def _better_half(best_first: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the better half of those that are complete."""
    complete = [trial for trial in best_first if trial.state == TrialState.COMPLETE]
    return complete[: len(complete) // 2]


def _studies(given: Any) -> list[Study]:
    if _is_storage(given):
        return _studies_in(given)
    if isinstance(given, Study):
        return [given]
    if hasattr(given, "study_"):
        return [given.study_]
    if isinstance(given, Iterable):
        return [study for one in given for study in _studies(one)]
    raise InvalidParameterError(
        f"warm_start_from must be a study, a fitted MetaFeatureSearchCV, a storage, or several of them; got {given!r}."
    )


def _is_storage(given: Any) -> bool:
    return isinstance(given, str | Path | BaseStorage)


def _studies_in(address: Any) -> list[Study]:
    """Return the studies of metafe in a storage."""
    file = None if isinstance(address, BaseStorage) else file_of(address)
    if file is not None and not file.is_file():
        # To open it would make it.
        raise InvalidParameterError(
            f"warm_start_from needs a storage with studies of metafe; got {str(address)!r}, of which there is no file. Check the path."
        )
    with reaching(address):
        storage = make_storage(address)
        summaries = get_all_study_summaries(storage)
        ours = [summary.study_name for summary in summaries if META_FEATURES in summary.user_attrs]
        found = [load_study(study_name=name, storage=storage) for name in ours]
    if not found:
        raise InvalidParameterError(
            f"warm_start_from needs a storage with studies of metafe; got one without any: {without_password(str(address))!r}."
        )
    return found


def _features_of(study: Study) -> dict[str, float]:
    features: dict[str, float] | None = study.user_attrs.get(META_FEATURES)
    if features is None:
        raise InvalidParameterError(
            f"warm_start_from needs studies of metafe, which describe their data; got {study.study_name!r}, which does not."
        )
    return features
