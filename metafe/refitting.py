"""Training once more on the rows that were held out too: where classes are few, each of them counts."""

from __future__ import annotations

import dataclasses

import numpy as np

from metafe.contracts import TaskData
from metafe.fitting import Fitted, Recipe, fit_model

# From so many classes on, those held out are hardly missed.
MANY_CLASSES = 30
# What several networks of few classes have in common is more often true of others than what one of them has found: four are worth
# most of what any number is.
SEVERAL = 4


def refit_on_all(learned: Fitted, recipe: Recipe, data: TaskData) -> Fitted:
    """Train on all rows for as many steps as did best on those held out, where that is asked for.

    Parameters
    ----------
    learned : Fitted
        What was trained while some rows were held out.
    recipe : Recipe
        Of which ``refit`` asks for it; ``"auto"`` where whole classes were held out, of fewer than 30.
    data : TaskData
        All rows in use.

    Returns
    -------
    Fitted
        With the history and the scores of ``learned``; itself where nothing was held out, nothing was learned, or either
        training has not come to its end.
    """
    outcome = learned.outcome
    was_whole = not (outcome.interrupted or outcome.diverged)
    if learned.valid is None or not outcome.best_step or not was_whole or not _is_asked_for(learned, recipe, data):
        return learned
    whole = dataclasses.replace(
        recipe,
        settings=dataclasses.replace(recipe.settings, max_steps=outcome.best_length(recipe.settings.max_steps)),
        checkpoint=None if recipe.checkpoint is None else recipe.checkpoint.inside("all-rows"),
        n_networks=_n_networks(learned, recipe),
        concat_input=learned.concat_input,
        on_validation=None,
        on_pace=None,
    )
    again = fit_model(whole, data, data, None)
    if again.outcome.interrupted or again.outcome.diverged:
        return learned
    return dataclasses.replace(learned, model=again.model)


def _n_networks(learned: Fitted, recipe: Recipe) -> int:
    """Return how many to train; of their own accord several where it takes seconds, which is for flat rows as they are."""
    if recipe.n_networks != "auto":
        return recipe.n_networks
    model = learned.model
    return SEVERAL if len(model.input_shape) == 1 and model.takes_plain_rows else 1


def _is_asked_for(learned: Fitted, recipe: Recipe, data: TaskData) -> bool:
    if recipe.refit != "auto":
        return recipe.refit
    if data.kind != "classification" or data.y is None or learned.train is None or learned.valid is None:
        return False
    trained_on, held_out = (set(np.unique(data.y[part.rows])) for part in (learned.train, learned.valid))
    return not trained_on & held_out and len(trained_on | held_out) < MANY_CLASSES
