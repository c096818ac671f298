"""What built-in algorithms of a kind share: how many tasks or rows a step takes, and which problems they learn."""

from __future__ import annotations

from typing import Any

from metafe.contracts import MetaAlgorithm, Problem


class Labelled(MetaAlgorithm):
    """Base of algorithms that learn from labels or targets, by four tasks a step, or 64 rows."""

    def accepts(self, problem: Problem) -> str | None:
        """Say why there is nothing to predict."""
        if problem.kind != "unlabelled":
            return None
        return f"{self.name} needs labels or targets; got none. Pass y to fit, or name tasks that make their own."

    def training_defaults(self) -> dict[str, Any]:
        """Return how many tasks, or rows, a step takes."""
        return {"meta_batch_size": 4 if self.trains_on == "tasks" else 64}


class Classifying(Labelled):
    """Base of those that learn from classes alone."""

    def accepts(self, problem: Problem) -> str | None:
        """Say why a problem has no classes to tell apart."""
        if problem.kind == "classification":
            return None
        instead = "'r2d2', 'matching'" if self.trains_on == "tasks" else "'supervised'"
        return f"{self.name} needs classes; got a {problem.kind} problem. Use algorithm={instead} or 'auto'."
