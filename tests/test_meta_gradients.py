"""The outer gradients of gradient-based algorithms equal double backpropagation that is written plainly."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from metafe.algorithms import ANIL, BOIL, IMAML, MAML, MetaSGD, Reptile
from metafe.backbones import MLP, Conv4
from metafe.contracts import Context, Problem, TaskBatch
from metafe.testing.common import build_seeded

N_TASKS, N_WAY, N_SHOT, N_QUERY = 3, 3, 2, 4
TRAINING = Context(training=True)
BACKBONES = {
    "mlp": (MLP(depth=2, width=6, n_features=5, normalisation="none", activation="tanh"), (4,)),
    "mlp-layer": (MLP(depth=1, width=6, n_features=5), (4,)),
    "mlp-batch": (MLP(depth=1, width=6, n_features=5, normalisation="batch"), (4,)),
    "conv4": (Conv4(depth=2, width=3, normalisation="none"), (2, 6, 6)),
    "conv4-batch": (Conv4(depth=2, width=3), (2, 6, 6)),
}


def make_learner(algorithm, network="mlp", dtype=torch.float64, backbone=None, max_way=N_WAY, n_targets=0):
    config, shape = BACKBONES[network] if backbone is None else backbone
    kind = "regression" if n_targets else "classification"
    problem = Problem(kind, shape, n_classes=0 if n_targets else 9, max_way=max_way, n_targets=n_targets)

    def build():
        module = config.build(shape)
        n_features = module.eval()(torch.zeros(2, *shape)).shape[1]
        return algorithm.build(module, n_features, problem)

    return build_seeded(build).to(dtype).train()


def make_batch(shape, dtype=torch.float64, n_targets=0):
    generator = torch.Generator().manual_seed(1)

    def rows(n):
        return torch.randn(N_TASKS, N_WAY * n, *shape, generator=generator, dtype=torch.float64).to(dtype)

    def labels(n):
        if n_targets:
            return torch.randn(N_TASKS, N_WAY * n, n_targets, generator=generator, dtype=torch.float64).to(dtype)
        return torch.arange(N_WAY).repeat_interleave(n).repeat(N_TASKS, 1)

    n_way = 0 if n_targets else N_WAY
    return TaskBatch(rows(N_SHOT), labels(N_SHOT), rows(N_QUERY), labels(N_QUERY), n_way)


def outer_gradient(algorithm, learner, batch, context=TRAINING):
    """Return the gradient with respect to all parameters of the learner, as one vector."""
    learner.zero_grad()
    algorithm.meta_loss(learner, batch, context)[0].backward()
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in learner.parameters()])


def relative_difference(a, b):
    return float((a - b).norm() / b.norm())


def plain_layers(module, parameters, x, given, seen, prefix):
    """Apply a tree of Sequential with these parameters; batch norm takes the next given statistics, or the rows' own."""
    if isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            x = plain_layers(child, parameters, x, given, seen, f"{prefix}{name}.")
        return x
    own = [parameters.get(f"{prefix}{name}") for name in ("weight", "bias")]
    if isinstance(module, nn.Linear):
        return functional.linear(x, *own)
    if isinstance(module, nn.Conv2d):
        return functional.conv2d(x, *own, padding=1)
    if isinstance(module, nn.LayerNorm):
        return functional.layer_norm(x, module.normalized_shape, *own, eps=module.eps)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        axes = [axis for axis in range(x.ndim) if axis != 1]
        mean, variance = given.pop(0) if given else (x.mean(axes), x.var(axes, unbiased=False))
        seen.append((mean, variance))
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        scaled = (x - mean.view(shape)) / (variance.view(shape) + module.eps).sqrt()
        return scaled * own[0].view(shape) + own[1].view(shape)
    return module(x)


def plain_features(learner, parameters, x, given=()):
    seen = []
    return plain_layers(learner.backbone, parameters, x, list(given), seen, "backbone."), seen


def plain_outputs(learner, parameters, x, given=()):
    features, _ = plain_features(learner, parameters, x, given)
    return functional.linear(features, parameters["head.weight"], parameters["head.bias"])


def plain_loss(outputs, y):
    return functional.mse_loss(outputs, y) if y.is_floating_point() else functional.cross_entropy(outputs, y)


def plain_steps(learner, x, y, names, n_steps, rate_of, first_order=False):
    """Return the parameters after each step of descent, each with its graph."""
    parameters = {n: p for n, p in learner.named_parameters() if not n.startswith("rates.")}
    steps = []
    for step in range(n_steps):
        loss = plain_loss(plain_outputs(learner, parameters, x), y)
        gradients = torch.autograd.grad(loss, [parameters[n] for n in names], create_graph=True)
        for name, gradient in zip(names, gradients, strict=True):
            moved = gradient.detach() if first_order else gradient
            parameters = parameters | {name: parameters[name] - rate_of(name, step) * moved}
        steps.append(parameters)
    return steps


def plain_maml_gradient(
    learner, batch, names, n_steps, rate_of, *, statistics="support", weights=None, first_order=False
):
    total = 0
    for t in range(N_TASKS):
        x, y = batch.support_x[t], batch.support_y[t]
        steps = plain_steps(learner, x, y, names, n_steps, rate_of, first_order)
        for weight, parameters in zip(weights or [0.0] * (n_steps - 1) + [1.0], steps, strict=True):
            given = plain_features(learner, parameters, x)[1] if statistics == "support" else ()
            outputs = plain_outputs(learner, parameters, batch.query_x[t], given)
            total = total + weight * plain_loss(outputs, batch.query_y[t]) / N_TASKS
    return gradient_of(total, learner)


def as_vector(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def gradient_of(loss, learner):
    found = torch.autograd.grad(loss, list(learner.parameters()), allow_unused=True)
    pairs = zip(found, learner.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def names_of(learner, adapts="all"):
    names = [n for n, _ in learner.named_parameters() if not n.startswith("rates.")]
    return [n for n in names if adapts == "all" or n.startswith("head.") == (adapts == "head")]


@pytest.fixture(params=BACKBONES)
def network(request):
    return request.param


@pytest.fixture(params=[1, 5])
def n_steps(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["vectorised", "looped"])
def vectorise(request):
    return request.param


@pytest.fixture
def batch(network):
    return make_batch(BACKBONES[network][1])


@pytest.mark.parametrize("first_order", [False, True], ids=["second-order", "first-order"])
@pytest.mark.parametrize("adapts", ["all", "head", "body"])
def test_maml(network, batch, n_steps, vectorise, adapts, first_order):
    algorithm = MAML(n_steps, 0.3, first_order, adapts, vectorise=vectorise)
    learner = make_learner(algorithm, network)
    expected = plain_maml_gradient(
        learner, batch, names_of(learner, adapts), n_steps, lambda name, step: 0.3, first_order=first_order
    )
    assert relative_difference(outer_gradient(algorithm, learner, batch), expected) < 1e-9


def test_maml_with_statistics_of_the_query_rows(batch, network, n_steps, vectorise):
    algorithm = MAML(n_steps, 0.3, batch_statistics="task", vectorise=vectorise)
    learner = make_learner(algorithm, network)
    expected = plain_maml_gradient(
        learner, batch, names_of(learner), n_steps, lambda name, step: 0.3, statistics="task"
    )
    assert relative_difference(outer_gradient(algorithm, learner, batch), expected) < 1e-9


@pytest.mark.parametrize(("step", "earlier"), [(0, 1.0), (5, 0.5), (20, 0.0)])
def test_maml_plus_plus(network, batch, n_steps, vectorise, step, earlier):
    algorithm = MAML(n_steps, 0.3, learned_rates="layer_step", multi_step_loss=True, vectorise=vectorise)
    learner = make_learner(algorithm, network)
    rates = learner.rates
    for i, rate in enumerate(rates.values()):
        rate.data += 0.01 * i + 0.02 * torch.arange(n_steps)
    weights = [earlier / n_steps] * (n_steps - 1)
    weights.append(1 - sum(weights))
    expected = plain_maml_gradient(
        learner,
        batch,
        names_of(learner),
        n_steps,
        lambda name, step: rates[name.replace(".", "-")][step],
        weights=weights,
    )
    found = outer_gradient(algorithm, learner, batch, Context(training=True, step=step, max_steps=100))
    assert relative_difference(found, expected) < 1e-9


def test_boil(network, batch, n_steps, vectorise):
    algorithm = BOIL(n_steps, 0.3, vectorise=vectorise)
    learner = make_learner(algorithm, network)
    expected = plain_maml_gradient(learner, batch, names_of(learner, "body"), n_steps, lambda name, step: 0.3)
    assert relative_difference(outer_gradient(algorithm, learner, batch), expected) < 1e-9


@pytest.mark.parametrize("first_order", [False, True], ids=["second-order", "first-order"])
def test_meta_sgd(network, batch, n_steps, vectorise, first_order):
    algorithm = MetaSGD(n_steps, 0.3, first_order, vectorise=vectorise)
    learner = make_learner(algorithm, network)
    rates = learner.rates
    for rate in rates.values():
        rate.data += 0.05 * torch.linspace(-1, 1, rate.numel()).reshape(rate.shape)
    expected = plain_maml_gradient(
        learner,
        batch,
        names_of(learner),
        n_steps,
        lambda name, step: rates[name.replace(".", "-")],
        first_order=first_order,
    )
    assert relative_difference(outer_gradient(algorithm, learner, batch), expected) < 1e-9


@pytest.mark.parametrize("first_order", [False, True], ids=["second-order", "first-order"])
def test_anil(network, batch, n_steps, first_order):
    algorithm = ANIL(n_steps, 0.3, first_order)
    learner = make_learner(algorithm, network)
    parameters = dict(learner.named_parameters())
    n_support = N_TASKS * N_WAY * N_SHOT
    rows = torch.cat([batch.support_x.flatten(0, 1), batch.query_x.flatten(0, 1)])
    features, _ = plain_features(learner, parameters, rows)
    support, query = (part.unflatten(0, (N_TASKS, -1)) for part in (features[:n_support], features[n_support:]))
    total = 0
    for t in range(N_TASKS):
        head = [parameters["head.weight"], parameters["head.bias"]]
        for _ in range(n_steps):
            loss = functional.cross_entropy(functional.linear(support[t], *head), batch.support_y[t])
            gradients = torch.autograd.grad(loss, head, create_graph=True)
            head = [h - 0.3 * (g.detach() if first_order else g) for h, g in zip(head, gradients, strict=True)]
        total = total + functional.cross_entropy(functional.linear(query[t], *head), batch.query_y[t]) / N_TASKS
    assert relative_difference(outer_gradient(algorithm, learner, batch), gradient_of(total, learner)) < 1e-9


@pytest.mark.parametrize("network", ["mlp", "conv4"])
def test_anil_is_maml_of_the_head_where_nothing_normalises_over_tasks(network, batch, n_steps):
    algorithms = ANIL(n_steps, 0.3), MAML(n_steps, 0.3, adapts="head")
    learner = make_learner(algorithms[0], network)
    found = [outer_gradient(algorithm, learner, batch) for algorithm in algorithms]
    assert relative_difference(*found) < 1e-12


def test_maml_for_regression(n_steps, vectorise):
    algorithm = MAML(n_steps, 0.1, vectorise=vectorise)
    learner = make_learner(algorithm, max_way=0, n_targets=2)
    batch = make_batch((4,), n_targets=2)
    expected = plain_maml_gradient(learner, batch, names_of(learner), n_steps, lambda name, step: 0.1)
    assert relative_difference(outer_gradient(algorithm, learner, batch), expected) < 1e-9


@pytest.mark.parametrize("max_way", [5, 2])
def test_maml_uses_the_first_rows_of_the_head_and_their_mean_beyond(max_way, vectorise):
    algorithm = MAML(2, 0.3, vectorise=vectorise)
    learner, batch = make_learner(algorithm, max_way=max_way), make_batch((4,))
    whole = [learner.head.weight, learner.head.bias]
    rows = [torch.cat([h, h.mean(0, keepdim=True)])[:N_WAY] if max_way < N_WAY else h[:N_WAY] for h in whole]
    total = 0
    for t in range(N_TASKS):
        parameters = dict(learner.named_parameters()) | dict(zip(["head.weight", "head.bias"], rows, strict=True))
        for _ in range(2):
            loss = plain_loss(plain_outputs(learner, parameters, batch.support_x[t]), batch.support_y[t])
            gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
            parameters = {n: p - 0.3 * g for (n, p), g in zip(parameters.items(), gradients, strict=True)}
        total = total + plain_loss(plain_outputs(learner, parameters, batch.query_x[t]), batch.query_y[t]) / N_TASKS
    assert relative_difference(outer_gradient(algorithm, learner, batch), gradient_of(total, learner)) < 1e-9


TINY = {
    "mlp": (MLP(depth=1, width=3, n_features=2, normalisation="none", activation="tanh"), (3,)),
    "conv4": (Conv4(depth=1, width=2, normalisation="none", activation="tanh", pooling="mean"), (1, 4, 4)),
    "conv4-batch": (Conv4(depth=1, width=2, activation="tanh", pooling="mean"), (1, 4, 4)),
}


@pytest.mark.parametrize("tiny", TINY)
def test_imaml_solves_its_linear_system(tiny, n_steps, vectorise):
    weight = 3.0
    algorithm = IMAML(n_steps, 0.1, weight, cg_steps=60, vectorise=vectorise)
    learner, batch = make_learner(algorithm, backbone=TINY[tiny]), make_batch(TINY[tiny][1])
    start = as_vector(learner.parameters()).detach()
    expected = 0
    for t in range(N_TASKS):
        x, y = batch.support_x[t], batch.support_y[t]

        def support_loss(vector, x=x, y=y):
            return plain_loss(plain_outputs(learner, as_parameters(vector, learner), x), y)

        def query_loss(vector, t=t, x=x):
            parameters = as_parameters(vector, learner)
            given = plain_features(learner, parameters, x)[1]
            return plain_loss(plain_outputs(learner, parameters, batch.query_x[t], given), batch.query_y[t])

        solution = start
        for _ in range(n_steps):
            slope = torch.autograd.functional.jacobian(support_loss, solution) + weight * (solution - start)
            solution = solution - 0.1 * slope
        hessian = torch.autograd.functional.hessian(support_loss, solution)
        matrix = torch.eye(len(start), dtype=start.dtype) + hessian / weight
        slope = torch.autograd.functional.jacobian(query_loss, solution)
        expected = expected + torch.linalg.solve(matrix, slope) / N_TASKS
    assert relative_difference(outer_gradient(algorithm, learner, batch), expected) < 1e-9


def as_parameters(vector, learner):
    parts = vector.split([p.numel() for p in learner.parameters()])
    pairs = zip(learner.named_parameters(), parts, strict=True)
    return {name: part.view_as(parameter) for (name, parameter), part in pairs}


def test_fewer_steps_of_conjugate_gradients_come_near_the_solution():
    found = []
    for cg_steps in (1, 5, 60):
        algorithm = IMAML(5, 0.1, cg_steps=cg_steps)
        found.append(outer_gradient(algorithm, make_learner(algorithm), make_batch((4,))))
    assert relative_difference(found[1], found[2]) < 0.1 * relative_difference(found[0], found[2])


@pytest.mark.parametrize("statistics", ["step", "task"])
def test_reptile_moves_by_its_update_rule(network, batch, n_steps, vectorise, statistics):
    algorithm = Reptile(
        n_steps, 0.3, inner_batch_size=6, inner_optimizer="sgd", batch_statistics=statistics, vectorise=vectorise
    )
    learner = make_learner(algorithm, network)
    start = as_vector(learner.parameters()).detach()
    x, y = torch.cat([batch.support_x, batch.query_x], 1), torch.cat([batch.support_y, batch.query_y], 1)
    generator = torch.Generator().manual_seed(2)
    order = torch.cat([torch.randperm(x.shape[1], generator=generator) for _ in range(2)])
    ends = []
    for t in range(N_TASKS):
        parameters = dict(learner.named_parameters())
        for step in range(n_steps):
            rows = order[6 * step : 6 * step + 6]
            given = plain_features(learner, parameters, x[t])[1] if statistics == "task" else ()
            loss = plain_loss(plain_outputs(learner, parameters, x[t, rows], given), y[t, rows])
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            parameters = {n: p - 0.3 * g for (n, p), g in zip(parameters.items(), gradients, strict=True)}
        ends.append(as_vector(parameters.values()).detach())
    context = Context(training=True, generator=torch.Generator().manual_seed(2))
    outer_gradient(algorithm, learner, batch, context)
    torch.optim.SGD(learner.parameters(), lr=0.7).step()
    moved = as_vector(learner.parameters()).detach() - start
    assert relative_difference(moved, 0.7 * (torch.stack(ends).mean(0) - start)) < 1e-9


ALL = {
    "maml": (MAML, {}),
    "maml-first-order": (MAML, {"first_order": True}),
    "maml++": (MAML, {"learned_rates": "layer_step", "multi_step_loss": True}),
    "maml-momentum": (MAML, {"momentum": 0.9}),
    "maml-head": (MAML, {"adapts": "head"}),
    "anil": (ANIL, {}),
    "anil-first-order": (ANIL, {"first_order": True}),
    "boil": (BOIL, {}),
    "meta-sgd": (MetaSGD, {}),
    "imaml": (IMAML, {}),
    # Adam goes as far where a gradient is nothing but rounding, as that of a bias before batch normalisation is.
    "reptile": (Reptile, {"inner_optimizer": "sgd", "inner_rate": 0.1}),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("network", "tolerance"),
    # Batch normalisation divides by the spread of few rows, which amplifies rounding.
    [("mlp", 1e-5), ("mlp-layer", 1e-5), ("mlp-batch", 1e-3), ("conv4", 1e-3), ("conv4-batch", 1e-2)],
)
def test_vectorised_and_looped_agree_in_float32(name, network, n_steps, tolerance):
    # That of float64 equals double backpropagation, as the tests above have it.
    in_double = gradient_in(torch.float64, name, network, n_steps, vectorise=False)
    found = [gradient_in(torch.float32, name, network, n_steps, vectorise) for vectorise in (True, False)]
    assert relative_difference(*found) < tolerance
    for gradient in found:
        assert relative_difference(gradient, in_double) < tolerance


def gradient_in(dtype, name, network, n_steps, vectorise):
    make, settings = ALL[name]
    # ANIL descends on all heads at once, whatever the network.
    algorithm = make(n_steps=n_steps, **settings, **({} if make is ANIL else {"vectorise": vectorise}))
    learner, batch = make_learner(algorithm, network, dtype), make_batch(BACKBONES[network][1], dtype)
    return outer_gradient(algorithm, learner, batch, Context(training=True, step=3, max_steps=100)).double()


@pytest.mark.parametrize("make", [MAML, BOIL, MetaSGD, IMAML, Reptile], ids=lambda make: make.__name__)
def test_inner_steps_stay_in_float32_where_the_network_runs_in_bfloat16(make, network, vectorise):
    algorithm, found = make(vectorise=vectorise), []
    learner, batch = make_learner(algorithm, network, torch.float32), make_batch(BACKBONES[network][1], torch.float32)
    task = batch.support_x[0], batch.support_y[0], N_WAY, TRAINING
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            state = algorithm.adapt(learner, *task)
            gradient = outer_gradient(algorithm, learner, batch, Context(training=True, step=3))
        found.append((as_vector(v for k, v in state.items() if "running" not in k), gradient))
    assert torch.equal(found[0][0], found[1][0])
    assert relative_difference(found[0][1], found[1][1]) < 0.3


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"momentum": 0.9},
        {"inner_optimizer": "adam", "inner_rate": 0.01},
        {"learned_rates": "layer_step", "multi_step_loss": True},
        {"adapts": "body", "first_order": True},
    ],
    ids=str,
)
def test_checkpointed_steps_give_the_same_gradient(settings, network, batch, vectorise):
    gradients = []
    for checkpoint_steps in (True, False):
        algorithm = MAML(vectorise=vectorise, checkpoint_steps=checkpoint_steps, **settings)
        gradients.append(outer_gradient(algorithm, make_learner(algorithm, network), batch))
    assert relative_difference(*gradients) < 1e-12


def test_momentum_and_adam_are_differentiated_through(vectorise):
    for settings in ({"momentum": 0.9}, {"inner_optimizer": "adam", "inner_rate": 0.05}):
        algorithm = MAML(n_steps=3, vectorise=vectorise, **settings)
        learner, batch = make_learner(algorithm), make_batch((4,))
        gradient = outer_gradient(algorithm, learner, batch)
        with torch.no_grad():
            vector = as_vector(learner.parameters())
            direction = torch.randn(len(vector), generator=torch.Generator().manual_seed(3), dtype=vector.dtype)
            values = []
            for sign in (1, -1):
                nn.utils.vector_to_parameters(vector + sign * 1e-6 * direction, learner.parameters())
                values.append(algorithm.meta_loss(learner, batch, TRAINING)[0])
        assert float((values[0] - values[1]) / 2e-6) == pytest.approx(float(gradient @ direction), rel=1e-6)
