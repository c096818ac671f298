"""What metafe costs beside the same work written by hand, side by side in one run.

    python benchmarks/overhead.py

Training: prototypical-network steps of metafe's trainer against a plain torch loop with the same network, optimiser,
episode shape and data. Transform: `MetaFeatureExtractor.transform` against the bare module under `inference_mode`. The arms
take turns; the median of the paired ratios is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from metafe import MetaFeatureExtractor
from metafe.backbones import MLP, Conv4
from metafe.contracts import Backbone
from metafe.tasks import ClassTasks

N_WAY, N_SHOT, N_QUERY, N_TASKS = 5, 5, 10, 8


def make_rows(shape: tuple[int, ...], n_classes: int = 64, n_each: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return Gaussian classes around random means."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(n_classes, 1, *shape))
    X = (means + rng.normal(size=(n_classes, n_each, *shape))).astype(np.float32)
    return X.reshape(-1, *shape), np.repeat(np.arange(n_classes), n_each)


def train_with_metafe(backbone: Backbone, X: np.ndarray, y: np.ndarray, n_steps: int) -> MetaFeatureExtractor:
    """Train without validation or augmentation, as the loop below does."""
    return MetaFeatureExtractor(
        backbone,
        "protonet",
        ClassTasks(N_WAY, N_SHOT, N_QUERY),
        augment=None,
        max_steps=n_steps,
        meta_batch_size=N_TASKS,
        validation_fraction=0,
        precision="float32",
        random_state=0,
    ).fit(X, y)


def train_by_hand(backbone: Backbone, X: np.ndarray, y: np.ndarray, n_steps: int) -> None:
    """Train the same network the plain way: sample, forward, prototypes, cross-entropy, AdamW."""
    data = torch.from_numpy(X)
    data = (data - data.mean(0)) / data.std(0)
    module = backbone.build(tuple(data.shape[1:])).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=1e-4)
    rows = [np.flatnonzero(y == label) for label in np.unique(y)]
    rng = np.random.default_rng(0)
    n_support = N_WAY * N_SHOT
    target = torch.arange(N_WAY).repeat_interleave(N_QUERY).repeat(N_TASKS, 1)
    for _ in range(n_steps):
        support, query = [], []
        for _ in range(N_TASKS):
            for label in rng.choice(len(rows), N_WAY, replace=False):
                picked = rng.choice(rows[label], N_SHOT + N_QUERY, replace=False)
                support.append(picked[:N_SHOT])
                query.append(picked[N_SHOT:])
        features = module(data[torch.from_numpy(np.concatenate(support + query))])
        prototypes = features[: N_TASKS * n_support].view(N_TASKS, N_WAY, N_SHOT, -1).mean(2)
        queries = features[N_TASKS * n_support :].view(N_TASKS, N_WAY * N_QUERY, -1)
        loss = functional.cross_entropy(-torch.cdist(queries, prototypes).square().flatten(0, 1), target.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(
    label: str, ours: Callable[[], object], by_hand: Callable[[], object], repeats: int, throughput: bool
) -> None:
    """Time both in turns, after a warm-up, and print the ratio."""
    ours(), by_hand()
    pairs = [(seconds(ours), seconds(by_hand)) for _ in range(repeats)]
    ratios = [b / a if throughput else a / b for a, b in pairs]
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    kind = "throughput" if throughput else "time"
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(
        f"{label:<28} metafe {a:7.3f} s   by hand {b:7.3f} s   {kind} ratio {statistics.median(ratios):.2f} ({spread})",
        flush=True,
    )


def compare_transform(label: str, fitted: MetaFeatureExtractor, X: np.ndarray, repeats: int) -> None:
    """Compare `transform` with the bare module on standardised tensors that are there already, in batches of 256."""
    model = fitted.model_
    module = model.learner.backbone.eval()
    rows = model.normaliser(torch.from_numpy(model.backbone.encode(X)))

    def bare() -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([module(batch) for batch in rows.split(256)])

    compare(label, lambda: fitted.transform(X), bare, repeats, throughput=True)


def main() -> None:
    """Compare training and transform of both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    for name, backbone, shape, n_steps in (("mlp", MLP(), (64,), 200), ("conv4", Conv4(), (1, 28, 28), 10)):
        X, y = make_rows(shape)
        compare(
            f"train {name}, {n_steps} steps",
            lambda b=backbone, n=n_steps, X=X, y=y: train_with_metafe(b, X, y, n),
            lambda b=backbone, n=n_steps, X=X, y=y: train_by_hand(b, X, y, n),
            repeats,
            throughput=False,
        )
        more = np.concatenate([X] * (20 if name == "mlp" else 2))
        compare_transform(f"transform {name}, {len(more)} rows", train_with_metafe(backbone, X, y, 1), more, repeats)


if __name__ == "__main__":
    main()
