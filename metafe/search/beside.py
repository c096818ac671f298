"""Features with the rows beside them: what is left of a gain that a network has by the few classes it was found with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sklearn.utils import _safe_indexing

from metafe.contracts import Seeds
from metafe.search.judging import Judge, Judged
from metafe.search.options import trains
from metafe.training.feature_model import FeatureModel, encode_in_chunks
from metafe.training.input_beside import Beside
from metafe.views import fit_beside

if TYPE_CHECKING:
    from metafe.search.objective import Objective, TrialExtractor


def may_stand_beside(objective: Objective, parameters: Any) -> bool:
    """Tell whether what a trial learns may have the rows beside it: judged by classes, and without the user's own choice."""
    judged_by_class = isinstance(objective.judge, Judge) and objective.data.kind == "classification"
    own_choice = objective.template.concat_input is not None
    return judged_by_class and objective.prunes and not own_choice and trains(parameters)


def judge_beside(objective: Objective, models: Sequence[TrialExtractor]) -> dict[Beside, Judged]:
    """Judge features with the rows beside them, flat ones as discriminants, on the fresh episodes of every fold.

    Parameters
    ----------
    objective : Objective
    models : sequence of TrialExtractor
        Fitted, one for each fold.

    Returns
    -------
    dict of str to Judged
        By how the rows stand there. Empty where the rows that the network takes are no features: made by an encoder of its own,
        too large, or taken as they are.
    """
    if not models[0].model_.takes_plain_rows:
        return {}
    # Discriminants mislead less than columns; of images they are not known to.
    how: Beside = "discriminants" if len(models[0].model_.input_shape) == 1 else "feature"
    return {how: _judge_with(how, objective, models)}


def _judge_with(how: Beside, objective: Objective, models: Sequence[TrialExtractor]) -> Judged:
    assert isinstance(objective.judge, Judge)
    joined = [_with_input(how, objective, extractor, fold) for fold, extractor in enumerate(models)]
    return Judged.joined(
        [
            objective.judge.judge(_transform(objective, extractor, model), fold, fresh=True)
            for fold, (extractor, model) in enumerate(zip(models, joined, strict=True))
        ]
    )


def _with_input(how: Beside, objective: Objective, extractor: TrialExtractor, fold: int) -> FeatureModel:
    model, data = extractor.model_, objective.data
    train = data.restrict(objective.judge.folds.parts[fold][0]).with_x(encode_in_chunks(model.backbone, data.x))
    normaliser = fit_beside(how, train, Seeds(objective.seed))
    return model.with_input(train, normaliser, extractor.device_used)


def _transform(objective: Objective, extractor: TrialExtractor, model: FeatureModel) -> Any:
    return lambda rows: model.transform(_safe_indexing(objective.data.x, rows), extractor.device_used)
