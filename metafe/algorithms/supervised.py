"""Plain supervised training."""

from __future__ import annotations

from torch import Tensor, nn

from metafe.algorithms.defaults import Labelled
from metafe.contracts import Context, Learner, Problem, TaskBatch, accuracy, task_loss
from metafe.contracts.learner import at_least_float32


class Supervised(Labelled):
    """One network for all training rows, whose last layer is dropped afterwards.

    The features are those before the head. It needs no tasks, only rows with labels, and is what meta-learning has to
    beat.

    Notes
    -----
    The "baseline" of Chen et al., "A Closer Look at Few-shot Classification", 2019. The loss is the cross-entropy over all
    training classes, or the mean squared error for continuous targets. `adapt` changes nothing: the features are those of
    the backbone, to which any head may be fitted. Published: classes alone, Adam with 0.001, 16 rows a step, 400 epochs.

    Examples
    --------
    >>> Supervised()
    Supervised()
    """

    name = "supervised"
    trains_on = "rows"
    separable = False
    adapts_features = False
    stands_bfloat16 = True

    def build(self, backbone: nn.Module, n_features: int, problem: Problem) -> Learner:
        """Return the backbone with a linear head, one output a class or target."""
        learner = Learner(backbone, n_features, problem)
        learner.head = nn.Linear(n_features, problem.n_classes or problem.n_targets)
        return learner

    def predict(self, learner: Learner, state: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return the head's scores of all training classes, or its predicted targets."""
        return learner.head(learner.backbone(x))  # type: ignore[operator]

    def meta_loss(
        self, learner: Learner, batch: TaskBatch, context: Context
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Return the loss of the head on a mini-batch of rows."""
        target = (batch.query_y if batch.query_class is None else batch.query_class).flatten(0, 1)
        predicted = at_least_float32(self.predict(learner, {}, batch.query_x.flatten(0, 1)))
        loss = task_loss(predicted, target)
        return loss, {} if target.is_floating_point() else {"accuracy": accuracy(predicted, target)}
