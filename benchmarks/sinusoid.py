"""Regression of sine waves from ten points: mean squared error before and after adaptation.

    python benchmarks/sinusoid.py

The family, network and inner rate of Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", 2017: two hidden layers of 40, ten points, trained with one step of 0.01. Judged on waves that training has not
drawn.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from sklearn.base import clone

from metafe import MetaFeatureExtractor
from metafe.algorithms import MAML, R2D2, MetaSGD, Reptile
from metafe.backbones import MLP
from metafe.contracts import Context, MetaAlgorithm, Seeds, TaskData
from metafe.tasks import Sinusoid

N_TEST = 600
STEPS = (0, 1, 10)


def train(algorithm: MetaAlgorithm, max_steps: int) -> MetaFeatureExtractor:
    """Meta-train on sine waves."""
    backbone = MLP(depth=2, width=40, n_features=None, normalisation="none")
    extractor = MetaFeatureExtractor(
        backbone,
        algorithm,
        Sinusoid(),
        augment=None,
        max_steps=max_steps,
        meta_batch_size=25,
        learning_rate=1e-3,
        weight_decay=0.0,
        validation_fraction=0,
        random_state=0,
    )
    # Zeros leave the input as it is.
    return extractor.fit(np.zeros((20, 1)))


def errors(extractor: MetaFeatureExtractor, n_steps: int) -> np.ndarray:
    """Return the squared error of each test wave after some steps."""
    model, algorithm = extractor.model_, clone(extractor.algorithm_)
    if hasattr(algorithm, "adapt_steps"):
        algorithm.adapt_steps = n_steps
    data = TaskData(np.zeros((20, 1)), None, None, np.arange(20))
    (batch,) = Sinusoid(n_query=100).draw(data, N_TEST, 0, Seeds(1))
    batch = batch.to("cpu")
    support_x, query_x = model.normaliser(batch.support_x), model.normaliser(batch.query_x)
    found = []
    for t in range(N_TEST):
        state = {}
        if n_steps:
            context = Context(training=False)
            state = algorithm.adapt(model.learner, support_x[t], batch.support_y[t], 0, context)
        with torch.no_grad():
            predicted = algorithm.predict(model.learner, state, query_x[t])
        found.append(float((predicted - batch.query_y[t]).square().mean()))
    return np.array(found)


def joint(max_steps: int) -> MetaFeatureExtractor:
    """Train one network for all waves: the inner loop stands still."""
    return train(MAML(n_steps=1, inner_rate=0.0), max_steps)


def main() -> None:
    """Train with each algorithm and print its errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=15000)
    max_steps = parser.parse_args().max_steps
    algorithms: dict[str, MetaAlgorithm] = {
        "maml": MAML(n_steps=1, inner_rate=0.01),
        "meta-sgd": MetaSGD(n_steps=1, inner_rate=0.01),
        "reptile": Reptile(),
        "r2d2": R2D2(),
    }
    print(f"{'mean squared error':<20}" + "".join(f"{f'{n} steps':>18}" for n in STEPS) + f"{'seconds':>10}")
    for name in (*algorithms, "joint, then 0.01"):
        began = time.perf_counter()
        fitted = train(algorithms[name], max_steps) if name in algorithms else joint(max_steps)
        seconds = time.perf_counter() - began
        if name not in algorithms:
            fitted.algorithm_ = MAML(n_steps=1, inner_rate=0.01)
        cells = []
        for n_steps in STEPS if name != "r2d2" else (1,):
            squared = errors(fitted, n_steps)
            cells.append(f"{squared.mean():.3f} ± {1.96 * squared.std() / np.sqrt(N_TEST):.3f}")
        if name == "r2d2":
            cells = ["", cells[0] + " *", ""]
        print(f"{name:<20}" + "".join(f"{cell:>18}" for cell in cells) + f"{seconds:>10.0f}", flush=True)
    print("* solved in closed form")


if __name__ == "__main__":
    main()
