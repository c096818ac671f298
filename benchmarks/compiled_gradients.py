"""Outer gradients of the compiled training step, and of the plain one, against double backpropagation in float64.

    PYTHONPATH=. python benchmarks/compiled_gradients.py [--device cuda] [--only 'maml/*' '*/conv4/1' ...]

Three cases are compiled in the tests; here are all of them: every algorithm that adapts by gradients, on a multilayer
perceptron and on convolutions without and with batch normalisation, with one inner step and five, all tasks at once.
Networks, tasks and the plainly written references, which are computed on the CPU, are those of the tests. A line has the
relative difference of each gradient, the seconds that compiling took, and whether training compiles the algorithm where all
tasks are computed at once, as it does with convolutions on an accelerator alone. Compiling takes from some seconds to
minutes for each; "plainly" is where it fell back.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial

import torch
from torch import Tensor

from metafe.algorithms import ANIL, BOIL, IMAML, MAML, MetaSGD, Reptile
from metafe.contracts import Context, Learner, MetaAlgorithm, TaskBatch
from metafe.training.compiling import CompiledLoss
from tests import plain_gradients as plain

RATE, WEIGHT = 0.3, 3.0
NETWORKS, N_STEPS = ("mlp", "conv4", "conv4-batch"), (1, 5)
# Of a training of 100 steps: half of the multi-step loss is still that of the earlier inner steps.
CONTEXT = {"training": True, "step": 5, "max_steps": 100}
N_ROWS = plain.N_WAY * (plain.N_SHOT + plain.N_QUERY)

# Of a learner, a batch and a number of steps: the outer gradient.
Reference = Callable[[Learner, TaskBatch, int], Tensor]


def maml_reference(learner: Learner, batch: TaskBatch, n_steps: int, adapts: str = "all", **settings) -> Tensor:
    """Return MAML's gradient, at learned rates where there are some."""
    rate = settings.pop("rate", RATE)
    rate_of = plain.spread_rates(learner) if learner.rates else lambda name, step: rate
    return plain.plain_maml_gradient(learner, batch, plain.names_of(learner, adapts), n_steps, rate_of, **settings)


def multi_step_reference(learner: Learner, batch: TaskBatch, n_steps: int) -> Tensor:
    """Return MAML++'s gradient halfway to the loss of the last step alone."""
    weights = [0.5 / n_steps] * (n_steps - 1)
    return maml_reference(learner, batch, n_steps, weights=[*weights, 1 - sum(weights)])


def reptile_reference(learner: Learner, batch: TaskBatch, n_steps: int) -> Tensor:
    """Return Reptile's gradient, where every step has all rows."""
    return plain.plain_reptile_gradient(learner, batch, [torch.arange(N_ROWS)] * n_steps, RATE)


@dataclass(frozen=True)
class Case:
    """An algorithm of a number of steps, and what its gradient is."""

    make: Callable[..., MetaAlgorithm]
    reference: Reference
    settings: dict[str, object] = field(default_factory=dict)

    def algorithm(self, n_steps: int) -> MetaAlgorithm:
        """Return the algorithm, all tasks at once where that is a choice."""
        chosen = {} if self.make is ANIL else {"vectorise": True}
        return self.make(**({"n_steps": n_steps, "inner_rate": RATE} | chosen | self.settings))


CASES = {
    "maml": Case(MAML, maml_reference),
    "first-order": Case(MAML, partial(maml_reference, first_order=True), {"first_order": True}),
    "layer-step": Case(MAML, maml_reference, {"learned_rates": "layer_step"}),
    "maml++": Case(MAML, multi_step_reference, {"learned_rates": "layer_step", "multi_step_loss": True}),
    "momentum": Case(MAML, partial(maml_reference, direction_of=plain.heavy_ball), {"momentum": 0.9}),
    "adam": Case(
        MAML,
        partial(maml_reference, rate=0.05, direction_of=plain.adam),
        {"inner_optimizer": "adam", "inner_rate": 0.05},
    ),
    "meta-sgd": Case(MetaSGD, maml_reference),
    "boil": Case(BOIL, partial(maml_reference, adapts="body")),
    "anil": Case(ANIL, partial(plain.plain_anil_gradient, rate=RATE)),
    "imaml": Case(
        IMAML,
        partial(plain.plain_imaml_gradient, rate=0.1, weight=WEIGHT),
        {"inner_rate": 0.1, "regularisation": WEIGHT, "cg_steps": 12},
    ),
    "reptile": Case(Reptile, reptile_reference, {"inner_optimizer": "sgd", "inner_batch_size": N_ROWS}),
}


def learner_and_batch(
    algorithm: MetaAlgorithm, network: str, dtype: torch.dtype, device: str
) -> tuple[Learner, TaskBatch]:
    """Return the same weights and tasks in any precision; smooth tiny networks where the Hessian is written out."""
    backbone = (plain.TINY if isinstance(algorithm, IMAML) else plain.BACKBONES)[network]
    learner = plain.make_learner(algorithm, backbone=backbone, dtype=dtype)
    return learner.to(device), plain.make_batch(backbone[1], dtype).to(device)


def gradient(learner: Learner, batch: TaskBatch, meta_loss: Callable[..., tuple[Tensor, object]]) -> Tensor:
    """Return the outer gradient in float64, on the CPU."""

    class Given:
        @staticmethod
        def meta_loss(learner: Learner, batch: TaskBatch, context: Context) -> tuple[Tensor, object]:
            return meta_loss(batch, context)

    return plain.outer_gradient(Given, learner, batch, Context(**CONTEXT)).double().cpu()


def measure(case: Case, network: str, n_steps: int, device: str) -> str:
    """Return how far the plain and the compiled gradient are off, and how long compiling took."""
    algorithm = case.algorithm(n_steps)
    exact = case.reference(*learner_and_batch(algorithm, network, torch.float64, "cpu"), n_steps)
    learner, batch = learner_and_batch(algorithm, network, torch.float32, device)
    plain.spread_rates(learner)
    eager = gradient(learner, batch, partial(algorithm.meta_loss, learner))
    compiled = CompiledLoss(algorithm, learner)
    began = time.perf_counter()
    found = gradient(learner, batch, compiled)
    seconds = time.perf_counter() - began
    fell_back = any(joint is None for joint in compiled._compiled.values())
    shown = f"{'plainly':>10}" if fell_back else f"{plain.relative_difference(found, exact):>10.1e}"
    in_training = "yes" if algorithm.stands_compiling(learner) else "no"
    return f"{plain.relative_difference(eager, exact):>10.1e}{shown}{seconds:>10.0f}{in_training:>12}"


def main() -> None:
    """Measure the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="patterns of algorithm/network/steps")
    options = parser.parse_args()
    # Why something runs plainly is logged.
    logging.basicConfig(format="%(message)s")
    torch.backends.cudnn.allow_tf32 = False
    torch._inductor.config.force_disable_caches = True
    print(f"{'':<24}{'plain':>10}{'compiled':>10}{'seconds':>10}{'in training':>12}", flush=True)
    for name, network, n_steps in itertools.product(CASES, NETWORKS, N_STEPS):
        label = f"{name}/{network}/{n_steps}"
        if any(fnmatch(label, pattern) for pattern in options.only):
            torch._dynamo.reset()
            print(f"{label:<24}{measure(CASES[name], network, n_steps, options.device)}", flush=True)


if __name__ == "__main__":
    main()
