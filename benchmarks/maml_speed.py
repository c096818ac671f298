"""Tasks per second of one outer step, beside the libraries and the loop that people use today.

    pip install -r benchmarks/peers.txt
    python benchmarks/maml_speed.py [--device cuda]

Every arm gets the same network, weights and tasks, and runs in processes of its own, which take turns. Beside the speed
stand the peak memory of the process (on an accelerator, of its tensors), and how far the outer gradient is from that of
the same computation in float64; a unit that is almost at a threshold may switch between the two, in all arms alike.
Peers are `higher` and `torchopt`, and a plain loop over `torch.autograd.grad` (learn2learn does not install on Python
3.11; it runs at the plain loop's speed). Those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from metafe.algorithms import ANIL, MAML, ProtoNet
from metafe.backbones import MLP, Conv4
from metafe.contracts import Backbone, Context, Learner, MetaAlgorithm, Problem, TaskBatch
from metafe.contracts.learner import groups_of_tasks
from metafe.training.batch_norm import use_batch_statistics
from metafe.training.compiling import CompiledLoss
from metafe.training.memory import reuse_freed_memory
from metafe.training.settings import resolve_precision

N_WAY, N_QUERY, N_TASKS, RATE = 5, 15, 32, 0.01
PLAIN = "plain loop"


@dataclass(frozen=True)
class Workload:
    """A network and an algorithm at a size.

    Parameters
    ----------
    shape : tuple of int
        Of one row.
    n_shot, n_steps : int
        ``n_steps=0`` is a prototypical network.
    head_only : bool
        Whether the inner loop adapts the head alone.
    """

    shape: tuple[int, ...]
    n_shot: int
    n_steps: int
    head_only: bool = False

    def backbone(self) -> Backbone:
        """Return metafe's network."""
        if len(self.shape) == 1:
            return MLP(depth=2, width=128, n_features=None, normalisation="none")
        return Conv4(width=64)

    def algorithm(self) -> MetaAlgorithm:
        """Return metafe's algorithm."""
        if self.n_steps == 0:
            return ProtoNet()
        if self.head_only:
            return ANIL(n_steps=self.n_steps, inner_rate=RATE)
        return MAML(n_steps=self.n_steps, inner_rate=RATE, batch_statistics="task")

    def textbook_body(self) -> nn.Module:
        """Return the same network as it is usually written: convolution, normalisation, ReLU, pooling."""
        if len(self.shape) == 1:
            return nn.Sequential(nn.Linear(*self.shape, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        blocks: list[nn.Module] = []
        for n_in in (1, 64, 64, 64):
            convolution = nn.Conv2d(n_in, 64, 3, padding=1, bias=False)
            blocks += [convolution, nn.BatchNorm2d(64, track_running_stats=False), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*blocks, nn.Flatten())

    def batch(self, device: torch.device) -> TaskBatch:
        """Return the tasks, on a device: Gaussian classes around random means."""
        generator = torch.Generator().manual_seed(0)

        def rows(n_each: int) -> Tensor:
            noise = torch.randn(N_TASKS, N_WAY, n_each, *self.shape, generator=generator)
            return (means.unsqueeze(2) + noise).flatten(1, 2)

        means = torch.randn(N_TASKS, N_WAY, *self.shape, generator=generator)
        labels = [torch.arange(N_WAY).repeat_interleave(n).repeat(N_TASKS, 1) for n in (self.n_shot, N_QUERY)]
        return TaskBatch(rows(self.n_shot), labels[0], rows(N_QUERY), labels[1], n_way=N_WAY).to(device)


WORKLOADS = {
    "maml-mlp": Workload((64,), n_shot=5, n_steps=5),
    "maml-conv4": Workload((1, 28, 28), n_shot=1, n_steps=1),
    "anil-conv4": Workload((1, 28, 28), n_shot=1, n_steps=5, head_only=True),
    "protonet-conv4": Workload((1, 28, 28), n_shot=1, n_steps=0),
}
Step = Callable[[], None]


class Network(nn.Module):
    """A body with a linear head."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores."""
        return self.head(self.body(x))


def make_network(work: Workload, device: torch.device) -> Network:
    """Return the textbook network on a device, with the same weights at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = work.textbook_body()
        n_features = body(torch.zeros(2, *work.shape)).shape[1]
        return Network(body, nn.Linear(n_features, N_WAY)).to(device).train()


def plain_step(work: Workload, network: Network, batch: TaskBatch) -> Step:
    """Loop over tasks, with `torch.autograd.grad` inside."""

    def step() -> None:
        for t in range(N_TASKS):
            (task_loss_of(work, network, batch, t) / N_TASKS).backward()

    return step


def task_loss_of(work: Workload, network: Network, batch: TaskBatch, t: int) -> Tensor:
    """Return the query loss of one task."""
    return adapted_loss(work, network, batch, t) if work.n_steps else prototype_loss(network.body, batch, t)


def prototype_loss(body: nn.Module, batch: TaskBatch, t: int) -> Tensor:
    """Return the loss of one task of a prototypical network."""
    support, query = body(batch.support_x[t]), body(batch.query_x[t])
    prototypes = torch.stack([support[batch.support_y[t] == k].mean(0) for k in range(N_WAY)])
    return functional.cross_entropy(-torch.cdist(query, prototypes).square(), batch.query_y[t])


def adapted_loss(work: Workload, network: Network, batch: TaskBatch, t: int) -> Tensor:
    """Return the query loss of one task after second-order inner steps."""
    names = [n for n, _ in network.named_parameters() if n.startswith("head") or not work.head_only]
    parameters = dict(network.named_parameters())
    for _ in range(work.n_steps):
        loss = functional.cross_entropy(functional_call(network, parameters, (batch.support_x[t],)), batch.support_y[t])
        gradients = torch.autograd.grad(loss, [parameters[n] for n in names], create_graph=True)
        parameters |= {n: parameters[n] - RATE * g for n, g in zip(names, gradients, strict=True)}
    return functional.cross_entropy(functional_call(network, parameters, (batch.query_x[t],)), batch.query_y[t])


def reference_gradient(work: Workload, device: torch.device) -> Tensor:
    """Return the outer gradient in float64, by the plain loop.

    Methods that adapt a head or none run the body once over the rows of a group of tasks, so that batch normalisation sees
    them all; then so does this.
    """
    network, batch = make_network(work, device).double(), work.batch(device)
    in_double = replace(batch, support_x=batch.support_x.double(), query_x=batch.query_x.double())
    runs_body_once = work.head_only or work.n_steps == 0
    for group in groups_of_tasks(in_double) if runs_body_once else [in_double]:
        loss = torch.stack(
            losses_of_features(work, network, group) if runs_body_once else losses_of(work, network, group)
        ).sum()
        (loss / N_TASKS).backward()
    return flat_gradient(network)


def losses_of(work: Workload, network: Network, batch: TaskBatch) -> list[Tensor]:
    """Return the query loss of each task."""
    return [task_loss_of(work, network, batch, t) for t in range(len(batch))]


def losses_of_features(work: Workload, network: Network, batch: TaskBatch) -> list[Tensor]:
    """Return the query loss of each task by features that the body gives for all rows at once."""
    n_support = batch.support_x.shape[:2].numel()
    features = network.body(torch.cat([batch.support_x.flatten(0, 1), batch.query_x.flatten(0, 1)]))
    support, query = (features[:n_support], features[n_support:])
    shaped = replace(
        batch,
        support_x=support.unflatten(0, batch.support_x.shape[:2]),
        query_x=query.unflatten(0, batch.query_x.shape[:2]),
    )
    return losses_of(work, Network(nn.Identity(), network.head), shaped)


def flat_gradient(network: nn.Module) -> Tensor:
    """Return the gradient of all parameters in one float64 vector; zero where there is none."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
    return torch.cat([part.double().flatten() for part in parts]).cpu()


def higher_step(work: Workload, network: Network, batch: TaskBatch) -> Step:
    """Use `higher.innerloop_ctx`."""
    import higher

    adapted = network.head if work.head_only else network
    optimizer = torch.optim.SGD(adapted.parameters(), lr=RATE)

    def step() -> None:
        for t in range(N_TASKS):
            with higher.innerloop_ctx(adapted, optimizer, copy_initial_weights=False) as (fast, inner):
                body = network.body if work.head_only else nn.Identity()
                support = body(batch.support_x[t])
                for _ in range(work.n_steps):
                    inner.step(functional.cross_entropy(fast(support), batch.support_y[t]))
                loss = functional.cross_entropy(fast(body(batch.query_x[t])), batch.query_y[t])
                (loss / N_TASKS).backward()

    return step


def torchopt_step(work: Workload, network: Network, batch: TaskBatch) -> Step:
    """Use `torchopt.MetaSGD`."""
    import torchopt

    adapted = network.head if work.head_only else network
    optimizer = torchopt.MetaSGD(adapted, lr=RATE)
    initial_network, initial_optimizer = torchopt.extract_state_dict(adapted), torchopt.extract_state_dict(optimizer)

    def step() -> None:
        body = network.body if work.head_only else nn.Identity()
        for t in range(N_TASKS):
            support = body(batch.support_x[t])
            for _ in range(work.n_steps):
                optimizer.step(functional.cross_entropy(adapted(support), batch.support_y[t]))
            loss = functional.cross_entropy(adapted(body(batch.query_x[t])), batch.query_y[t])
            (loss / N_TASKS).backward()
            torchopt.recover_state_dict(adapted, initial_network)
            torchopt.recover_state_dict(optimizer, initial_optimizer)

    return step


def metafe_step(work: Workload, network: Network, batch: TaskBatch, dtype: torch.dtype = torch.float32) -> Step:
    """Use one of metafe's algorithms on the same weights."""
    algorithm = work.algorithm()
    learner = metafe_learner(work, network, algorithm)
    context = Context(training=True, max_steps=1)

    def step() -> None:
        with torch.autocast(batch.query_x.device.type, dtype, enabled=dtype != torch.float32):
            loss, _ = algorithm.meta_loss(learner, batch, context)
        loss.backward()

    return step


def metafe_learner(work: Workload, network: Network, algorithm: MetaAlgorithm) -> Learner:
    """Return metafe's learner with the weights of the textbook network, whose gradients it writes into."""
    head = network.head
    problem = Problem("classification", work.shape, n_classes=N_WAY, max_way=N_WAY)
    learner = algorithm.build(work.backbone().build(work.shape), head.in_features, problem).to(head.weight.device)
    use_batch_statistics(learner)
    ours = dict(learner.named_parameters())
    theirs = [p for n, p in network.named_parameters() if n.startswith("body") or work.n_steps]
    assert [p.shape for p in ours.values()] == [p.shape for p in theirs]
    with torch.no_grad():
        for mine, given in zip(ours.values(), theirs, strict=True):
            mine.copy_(given)
            given.grad = mine.grad = torch.zeros_like(mine)
    return learner.train()


def metafe_compiled_step(work: Workload, network: Network, batch: TaskBatch) -> Step:
    """Use metafe with ``compile=True``; compiling itself takes half a minute or more, before the first step."""
    algorithm = work.algorithm()
    compiled = CompiledLoss(algorithm, metafe_learner(work, network, algorithm))
    context = Context(training=True, max_steps=1)
    return lambda: compiled(batch, context)[0].backward()


def metafe_bfloat16_step(work: Workload, network: Network, batch: TaskBatch) -> Step:
    """Use metafe in the precision that `precision="auto"` takes on a machine with bfloat16 instructions."""
    return metafe_step(work, network, batch, torch.bfloat16)


ARMS: dict[str, Callable[[Workload, Network, TaskBatch], Step]] = {
    PLAIN: plain_step,
    "higher": higher_step,
    "torchopt": torchopt_step,
    "metafe": metafe_step,
    "metafe, compiled": metafe_compiled_step,
    "metafe, bfloat16": metafe_bfloat16_step,
}


def arms_for(name: str, device: torch.device) -> list[str]:
    """Return the arms that can run a workload on a device."""
    work = WORKLOADS[name]
    arms = [PLAIN] + [peer for peer in ("higher", "torchopt") if work.n_steps and find_spec(peer)] + ["metafe"]
    if work.algorithm().stands_compiling(metafe_learner(work, make_network(work, device), work.algorithm())):
        arms.append("metafe, compiled")
    bfloat16 = resolve_precision("auto", device, work.algorithm().stands_bfloat16) == torch.bfloat16
    return arms + (["metafe, bfloat16"] if bfloat16 else [])


def measure(name: str, arm: str, seconds: float, device: torch.device) -> dict[str, float | list[float]]:
    """Run steps for about some seconds; return tasks per second, peak memory and the gradient of one step."""
    work = WORKLOADS[name]
    network, batch = make_network(work, device), work.batch(device)
    step = ARMS[arm](work, network, batch)
    step()
    gradient = flat_gradient(network)
    with reuse_freed_memory(device) if arm.startswith("metafe") else nullcontext():
        step()
        durations = []
        while sum(durations) < seconds:
            wait_for(device)
            began = time.perf_counter()
            step()
            wait_for(device)
            durations.append(time.perf_counter() - began)
    return {
        "tasks_per_second": N_TASKS / statistics.median(durations),
        "megabytes": peak_megabytes(device),
        "gradient": gradient.tolist(),
    }


def wait_for(device: torch.device) -> None:
    """Wait until an accelerator has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def peak_megabytes(device: torch.device) -> float:
    """Return the peak memory of tensors on an accelerator, or of this process.

    `resource.getrusage` would count that of the process it was forked from.
    """
    if device.type != "cpu":
        return torch.get_device_module(device).max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_own_process(name: str, arm: str, seconds: float, device: torch.device) -> dict[str, float | list[float]]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--workload", name, "--arm", arm, "--device", str(device)]
    command += ["--seconds", str(seconds)]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        subprocess.run([*command, "--result", str(result)], check=True)
        return json.loads(result.read_text())


def compare(name: str, repeats: int, seconds: float, device: torch.device) -> None:
    """Let the arms of a workload take turns, and print the medians."""
    reference, arms = reference_gradient(WORKLOADS[name], device), arms_for(name, device)
    rounds = [{arm: in_own_process(name, arm, seconds, device) for arm in arms} for _ in range(repeats)]
    peers = [arm for arm in arms if not arm.startswith("metafe")]
    print(f"\n{name:<20}{'tasks/s':>10}{'of the fastest peer':>28}{'peak MB':>10}{'gradient off by':>17}")
    for arm in arms:
        speeds = [r[arm]["tasks_per_second"] for r in rounds]
        ratios = [r[arm]["tasks_per_second"] / max(r[peer]["tasks_per_second"] for peer in peers) for r in rounds]
        gradient = torch.tensor(rounds[0][arm]["gradient"], dtype=torch.float64)
        difference = float((gradient - reference).norm() / reference.norm())
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        megabytes = statistics.median(r[arm]["megabytes"] for r in rounds)
        print(
            f"{arm:<20}{statistics.median(speeds):>10.1f}{spread:>28}{megabytes:>10.0f}{difference:>17.1e}", flush=True
        )


def main() -> None:
    """Compare all arms, or measure one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, help="only this one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of steps in each process")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        measured = measure(options.workload, options.arm, options.seconds, options.device)
        options.result.write_text(json.dumps(measured))
        return
    for name in [options.workload] if options.workload else WORKLOADS:
        compare(name, options.repeats, options.seconds, options.device)


if __name__ == "__main__":
    main()
