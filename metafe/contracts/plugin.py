"""What the five kinds of plugin share."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.base import BaseEstimator

from metafe.contracts.spaces import SearchSpace
from metafe.contracts.task_batch import Problem


class Plugin(BaseEstimator):
    """A configuration object in the scikit-learn style.

    ``__init__`` only stores hyperparameters under their own names, so ``get_params``, ``set_params``, ``clone``,
    ``repr`` and grid search work without further code. A subclass sets ``name``, by which users refer to it.

    Attributes
    ----------
    kind : str
        ``"backbone"``, ``"algorithm"``, ``"task source"``, ``"augmentation"`` or ``"encoder"``; set by the base of each kind.
    name : str
        Short lower-case name, unique within the kind.
    named_parameter : str or None
        Parameter whose value may follow the name after a colon, for plugins that stand for a family of models:
        ``"timm:resnet18"`` is ``Timm(model="resnet18")`` where this is ``"model"``. None for others.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    named_parameter: ClassVar[str | None] = None

    def search_space(self, problem: Problem) -> SearchSpace:
        """Declare the parameters worth searching for a problem.

        Parameters
        ----------
        problem : Problem
            What the data looks like; ranges may depend on it.

        Returns
        -------
        dict of str to Distribution or When
            Keys are names of constructor parameters. The default is empty: nothing is searched.
        """
        return {}

    def get_state(self) -> dict[str, Any]:
        """Return the fitted attributes: those whose name ends in one underscore.

        Returns
        -------
        dict of str to object
            Values are JSON types, arrays or scikit-learn estimators; what is saved is what this returns.
        """
        return {k: v for k, v in vars(self).items() if k.endswith("_") and not k.startswith("_")}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        for attribute, value in state.items():
            setattr(self, attribute, value)
