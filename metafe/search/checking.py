"""What is wrong with the parameters of a search, said before any training."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import get_scorer_names
from sklearn.utils import get_tags

from metafe.contracts import InvalidInputError, InvalidParameterError, TaskData, check_numbers, check_sizes
from metafe.contracts.errors import suggest
from metafe.extractor import MetaFeatureExtractor, seed_from
from metafe.search.estimator import FEW_SHOT, OBJECTIVES
from metafe.search.samplers import make_pruner, make_sampler
from metafe.training.settings import resolve_device

if TYPE_CHECKING:
    from metafe.search.estimator import MetaFeatureSearchCV


def check_parameters(search: MetaFeatureSearchCV) -> None:
    """Check what can be checked without data.

    Parameters
    ----------
    search : MetaFeatureSearchCV

    Raises
    ------
    InvalidParameterError
        The first that cannot work.
    """
    check_sizes("MetaFeatureSearchCV", n_trials=search.n_trials, n_shot=search.n_shot)
    if search.timeout is not None:
        check_numbers("MetaFeatureSearchCV", timeout=search.timeout)
    _check_extractor(search.extractor, search.refit)
    _check_n_jobs(search.n_jobs)
    if not isinstance(search.random_state, np.random.RandomState):
        seed_from(search.random_state)
    _check_type("verbose", search.verbose, Integral, "a whole number", "Write 0, 1 or 2.")
    _check_type("refit", search.refit, bool | np.bool_, "True or False", "What is refitted is the winner by the score.")
    _check_study_name(search.study_name)
    make_sampler(search.sampler, seed=0)
    make_pruner(search.pruner)
    _check_final_estimator(search.final_estimator)
    _check_scoring(search.scoring, search.final_estimator)
    _check_objectives(search.objectives)


def check_with_data(search: MetaFeatureSearchCV, data: TaskData, y: Any) -> None:
    """Check what must suit the data.

    Parameters
    ----------
    search : MetaFeatureSearchCV
        Checked without data.
    data : TaskData
        All rows.
    y : object
        As the user gave it.

    Raises
    ------
    InvalidInputError
        Nothing can be judged on held-out rows.
    InvalidParameterError
        The final estimator cannot be fitted on ``y``.
    """
    if data.kind == "classification" and sum(data.class_sizes >= 2) < 2:
        raise InvalidInputError(
            f"y must have at least two classes of at least two rows each; got {len(data.classes)} for {len(data)} rows, of which the "
            f"largest has {max(data.class_sizes)}. Merge rare classes, pass continuous targets as floats that are not whole, or leave y out."
        )
    final = search.final_estimator
    if final is None:
        return
    if y is None and (search._is_downstream or get_tags(final).target_tags.required):
        raise InvalidParameterError(f"final_estimator={final!r} needs y; got None. Pass y.")
    if is_classifier(final) and data.kind == "regression":
        raise InvalidParameterError(
            f"final_estimator must be able to fit y; got the classifier {final!r} for continuous targets. Pass a regressor."
        )
    if is_regressor(final) and data.kind == "classification" and isinstance(np.asarray(y).flat[0], str):
        raise InvalidParameterError(
            f"final_estimator must be able to fit y; got the regressor {final!r} for labels that are no numbers. Pass a "
            "classifier."
        )


def _check_extractor(extractor: Any, refit: bool) -> None:
    if extractor is None:
        return
    if not isinstance(extractor, MetaFeatureExtractor):
        raise InvalidParameterError(
            f"extractor must be a MetaFeatureExtractor or None; got {extractor!r}. Write MetaFeatureExtractor('mlp'), or "
            "backbones=['mlp']."
        )
    extractor._check_settings()
    if refit:
        # Trials may run on other machines; the winner is fitted on this one.
        resolve_device(extractor.device)


def _check_n_jobs(n_jobs: Any) -> None:
    if n_jobs is not None and (type(n_jobs) is bool or not isinstance(n_jobs, Integral) or n_jobs == 0):
        raise InvalidParameterError(
            f"n_jobs must be a number of workers, or -1 for one for each core; got {n_jobs!r}. Leave it out for one."
        )


def _check_type(name: str, value: Any, types: Any, wanted: str, fix: str) -> None:
    if not isinstance(value, types):
        raise InvalidParameterError(f"{name} must be {wanted}; got {value!r}. {fix}")


def _check_study_name(name: Any) -> None:
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise InvalidParameterError(
            f"study_name must be a string that says something; got {name!r}. Leave it out to derive it."
        )


def _check_final_estimator(final: Any) -> None:
    is_estimator = hasattr(final, "fit") and hasattr(final, "predict") and not isinstance(final, type)
    if final is not None and not is_estimator:
        raise InvalidParameterError(
            f"final_estimator must be an estimator of scikit-learn; got {final!r}. Pass an object with fit and predict, or "
            "None."
        )


def _check_scoring(scoring: Any, final: Any) -> None:
    if isinstance(scoring, str) and scoring == FEW_SHOT:
        return
    if isinstance(scoring, str) and scoring not in (names := get_scorer_names()):
        close = difflib.get_close_matches(scoring, [FEW_SHOT, *names], n=3)
        question = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise InvalidParameterError(
            f"scoring must be 'few_shot' or a scorer of scikit-learn; got {scoring!r}. {question}"
            "sklearn.metrics.get_scorer_names() lists them."
        )
    if not (scoring is None or isinstance(scoring, str) or callable(scoring)):
        raise InvalidParameterError(
            f"scoring must be one metric: 'few_shot', the name of a scorer, a callable or None; got {scoring!r}. Choose one."
        )
    if final is None:
        raise InvalidParameterError(
            f"scoring={scoring!r} needs a final_estimator to score; got None. Pass one, or scoring='few_shot'."
        )


def _check_objectives(objectives: Any) -> None:
    if isinstance(objectives, str):
        raise InvalidParameterError(
            f"objectives must be a sequence of names; got {objectives!r}. Write ({objectives!r},)."
        )
    if not isinstance(objectives, Sequence):
        raise InvalidParameterError(f"objectives must be a sequence of names; got {objectives!r}. Write ('score',).")
    for name in objectives:
        if name not in OBJECTIVES:
            raise InvalidParameterError(f"objectives must be known names; got {name!r}. {suggest(name, OBJECTIVES)}")
    if len(set(objectives)) < len(objectives):
        raise InvalidParameterError(f"objectives must be different; got {objectives!r}. Name each once.")
    if "score" not in objectives:
        raise InvalidParameterError(f"objectives must have 'score' among them; got {objectives!r}. Add it.")
