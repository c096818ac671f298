"""Regression of sine waves from ten points: mean squared error before and after adaptation, and what it should be.

    python benchmarks/sinusoid.py

The family, network and inner rate of Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", 2017: two hidden layers of 40, ten points, trained with one step of 0.01, 25 waves a step. Adam's rate falls from
0.01 to zero in 15,000 steps, where the paper keeps 0.001 for 70,000. Reptile has the network and the inner rate of Nichol,
Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018: two hidden layers of 64 with tanh, five steps of 0.02,
each on ten of fifty points; its outer steps are 3,000 of ten waves from a rate of 1, where the paper makes 30,000 of one
wave from 0.1. Judged on 600 waves that training has not drawn. A few minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import sem

from metafe import MetaFeatureExtractor
from metafe.algorithms import MAML, R2D2, MetaSGD, Reptile
from metafe.backbones import MLP
from metafe.contracts import MetaAlgorithm, Seeds, TaskBatch, TaskData
from metafe.tasks import Sinusoid

ROWS = np.zeros((20, 1))  # Zeros leave the network's input as it is.
N_TEST = 600
FAR_ABOVE = 3  # How many times MAML's error.


@dataclass(frozen=True)
class Entry:
    """An algorithm, how it is trained, the steps after which it is judged, and the most that its error may be then."""

    name: str
    algorithm: MetaAlgorithm
    bars: dict[int, float | str | None]
    backbone: MLP = field(default_factory=lambda: MLP(2, 40, n_features=None, normalisation="none"))
    tasks: Sinusoid = field(default_factory=Sinusoid)
    training: dict[str, Any] = field(default_factory=dict)
    judged_with: dict[str, Any] = field(default_factory=dict)


ENTRIES = (
    Entry("maml", MAML(n_steps=1, inner_rate=0.01), {0: None, 1: 0.45, 10: 0.15}),
    Entry("meta-sgd", MetaSGD(n_steps=1, inner_rate=0.01), {0: None, 1: "below maml", 10: None}),
    Entry(
        "reptile",
        Reptile(n_steps=5, inner_rate=0.02, inner_optimizer="sgd", adapt_steps=32),
        {0: None, 1: None, 8: 0.5, 32: 0.5},
        MLP(2, 64, n_features=None, normalisation="none", activation="tanh"),
        Sinusoid(n_query=40),
        {"max_steps": 3000, "meta_batch_size": 10, "optimizer": "sgd", "learning_rate": 1.0, "schedule": "linear"},
    ),
    Entry("r2d2 (closed form)", R2D2(), {1: "below maml"}, training={"max_steps": 3000}),
    # The inner loop stands still in training: one network for all waves.
    Entry(
        "joint, then 0.01",
        MAML(n_steps=1, inner_rate=0.0),
        {0: None, 1: "far above maml", 10: "far above maml"},
        training={"max_steps": 3000},
        judged_with={"inner_rate": 0.01},
    ),
)


def train(entry: Entry, max_steps: int, random_state: int) -> MetaFeatureExtractor:
    """Meta-train on sine waves."""
    settings = {
        "max_steps": max_steps,
        "meta_batch_size": 25,
        "optimizer": "adam",
        "learning_rate": 0.01,
    } | entry.training
    extractor = MetaFeatureExtractor(
        entry.backbone,
        entry.algorithm,
        entry.tasks,
        augment=None,
        weight_decay=0.0,
        validation_fraction=0,
        random_state=random_state,
        **settings,
    )
    return extractor.fit(ROWS)


def test_waves() -> TaskBatch:
    """Return the waves that all are judged on."""
    (waves,) = Sinusoid(n_query=100).draw(TaskData(ROWS, None, None, np.arange(len(ROWS))), N_TEST, 0, Seeds(1))
    return waves


def errors(extractor: MetaFeatureExtractor, waves: TaskBatch) -> np.ndarray:
    """Return the mean squared error on each wave after adapting to it; infinite where the steps diverged."""
    found = np.empty(len(waves))
    for i in range(len(waves)):
        predicted = extractor.adapt(waves.support_x[i], waves.support_y[i]).predict_adapted(waves.query_x[i])
        found[i] = np.square(predicted - waves.query_y[i]).mean()
    return np.where(np.isfinite(found), found, np.inf)


def shown(squared: np.ndarray) -> str:
    """Return the mean with its 95 % interval."""
    n_diverged = int(np.isinf(squared).sum())
    return f"diverged on {n_diverged} waves" if n_diverged else f"{squared.mean():.3f} ± {1.96 * sem(squared):.3f}"


def verdict(bar: float | str | None, mean: float, maml: float) -> str:
    """Return the bar and whether the error is on the right side of it."""
    if bar is None:
        return ""
    if bar == "far above maml":
        return f"{bar}: {'yes' if mean > FAR_ABOVE * maml else 'NO'}"
    below = maml if bar == "below maml" else float(bar)
    return f"{bar if isinstance(bar, str) else f'below {bar:.2f}'}: {'yes' if mean < below else 'NO'}"


def main() -> None:
    """Train with each algorithm and print its errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=15000, help="outer steps of maml and meta-sgd")
    parser.add_argument("--random-state", type=int, default=0)
    options = parser.parse_args()
    waves, maml = test_waves(), {}
    print(f"{'algorithm':<20}{'steps':>6}{'mean squared error':>22}  bar")
    for entry in ENTRIES:
        began = time.perf_counter()
        extractor = train(entry, options.max_steps, options.random_state)
        seconds = time.perf_counter() - began
        for n_steps, bar in entry.bars.items():
            if "adapt_steps" in entry.algorithm.get_params():
                extractor.algorithm_.set_params(adapt_steps=n_steps, **entry.judged_with)
            squared = errors(extractor, waves)
            if entry.name == "maml":
                maml[n_steps] = squared.mean()
            said = verdict(bar, squared.mean(), maml.get(n_steps, np.nan))
            print(f"{entry.name:<20}{n_steps:>6}{shown(squared):>22}  {said}".rstrip(), flush=True)
        print(f"{f'trained in {seconds:.0f} s':>48}", flush=True)


if __name__ == "__main__":
    main()
