"""Training once more on the rows that were held out too: where classes are few, each of them counts."""

from __future__ import annotations

import dataclasses
from typing import Any

from metafe.class_folds import holds_out_few_classes, trains_in_seconds
from metafe.contracts import TaskData
from metafe.fitting import Fitted, Recipe, fit_model
from metafe.views import has_discriminants

# What several networks of few classes have in common is more often true of others than what one of them has found: four are worth
# most of what any number is.
SEVERAL = 4


def refit_on_all(learned: Fitted, recipe: Recipe, data: TaskData) -> Fitted:
    """Train on all rows, where that is asked for: as long as before, or for as many steps as did best where that was chosen.

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
    outcome, n_steps = learned.outcome, learned.best_length(recipe.settings.max_steps)
    was_whole = not (outcome.interrupted or outcome.diverged)
    few = holds_out_few_classes(learned.train, learned.valid, data)
    is_asked_for = few if recipe.refit == "auto" else recipe.refit
    if learned.valid is None or not outcome.best_step or not n_steps or not was_whole or not is_asked_for:
        return learned
    again = fit_model(recipe.on_all_rows(n_steps, **_networks(learned, recipe, data)), data, data, None)
    if again.outcome.interrupted or again.outcome.diverged:
        return learned
    return dataclasses.replace(learned, model=again.model, concat_input=again.concat_input)


def _networks(learned: Fitted, recipe: Recipe, data: TaskData) -> dict[str, Any]:
    """Return how many to train, how they see rows, and what stands beside them; of its own accord several where it takes seconds.

    What differs between classes is seen better from several sides: those that have it in common with the classes of the next
    problem are not known.
    """
    if recipe.n_networks != "auto" or not trains_in_seconds(learned):
        return {"concat_input": learned.concat_input}
    chosen: dict[str, Any] = {"n_networks": SEVERAL, "concat_input": learned.concat_input}
    if recipe.inputs == "auto" and has_discriminants(learned.model.backbone, data, learned.model.input_shape):
        chosen |= {"inputs": "both", "concat_input": learned.concat_input or "discriminants"}
    return chosen
