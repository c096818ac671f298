"""The outer gradients of gradient-based algorithms equal double backpropagation that is written plainly."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from metafe.algorithms import ANIL, BOIL, IMAML, MAML, MetaSGD, Reptile, gradient_based
from metafe.contracts import Context
from tests.plain_gradients import (
    BACKBONES,
    N_QUERY,
    N_SHOT,
    N_TASKS,
    N_WAY,
    TINY,
    TRAINING,
    adam,
    as_vector,
    gradient_of,
    heavy_ball,
    make_batch,
    make_learner,
    names_of,
    outer_gradient,
    plain_anil_gradient,
    plain_imaml_gradient,
    plain_loss,
    plain_maml_gradient,
    plain_outputs,
    plain_reptile_gradient,
    relative_difference,
    spread_rates,
)


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


@pytest.mark.parametrize(
    ("settings", "rate", "direction_of"),
    [({"momentum": 0.9}, 0.3, heavy_ball), ({"inner_optimizer": "adam"}, 0.05, adam)],
    ids=["momentum", "adam"],
)
@pytest.mark.parametrize("network", ["mlp", "mlp-layer", "conv4"])
def test_maml_with_other_inner_optimizers(network, batch, n_steps, vectorise, settings, rate, direction_of):
    algorithm = MAML(n_steps, rate, vectorise=vectorise, **settings)
    learner = make_learner(algorithm, network)
    expected = plain_maml_gradient(
        learner, batch, names_of(learner), n_steps, lambda name, step: rate, direction_of=direction_of
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
    rate_of = spread_rates(learner)
    weights = [earlier / n_steps] * (n_steps - 1)
    weights.append(1 - sum(weights))
    expected = plain_maml_gradient(
        learner,
        batch,
        names_of(learner),
        n_steps,
        rate_of,
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
    rate_of = spread_rates(learner)
    expected = plain_maml_gradient(
        learner,
        batch,
        names_of(learner),
        n_steps,
        rate_of,
        first_order=first_order,
    )
    assert relative_difference(outer_gradient(algorithm, learner, batch), expected) < 1e-9


@pytest.mark.parametrize("first_order", [False, True], ids=["second-order", "first-order"])
def test_anil(network, batch, n_steps, first_order):
    algorithm = ANIL(n_steps, 0.3, first_order)
    learner = make_learner(algorithm, network)
    expected = plain_anil_gradient(learner, batch, n_steps, 0.3, first_order)
    assert relative_difference(outer_gradient(algorithm, learner, batch), expected) < 1e-9


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


@pytest.mark.parametrize("tiny", TINY)
def test_imaml_solves_its_linear_system(tiny, n_steps, vectorise):
    algorithm = IMAML(n_steps, 0.1, regularisation=3.0, cg_steps=60, vectorise=vectorise)
    learner, batch = make_learner(algorithm, backbone=TINY[tiny]), make_batch(TINY[tiny][1])
    expected = plain_imaml_gradient(learner, batch, n_steps, 0.1, 3.0)
    assert relative_difference(outer_gradient(algorithm, learner, batch), expected) < 1e-9


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
    generator = torch.Generator().manual_seed(2)
    order = torch.cat([torch.randperm(N_WAY * (N_SHOT + N_QUERY), generator=generator) for _ in range(2)])
    rows_of_steps = order.split(6)[:n_steps]
    expected = plain_reptile_gradient(learner, batch, rows_of_steps, 0.3, statistics)
    start = as_vector(learner.parameters()).detach()
    context = Context(training=True, generator=torch.Generator().manual_seed(2))
    outer_gradient(algorithm, learner, batch, context)
    torch.optim.SGD(learner.parameters(), lr=0.7).step()
    moved = as_vector(learner.parameters()).detach() - start
    assert relative_difference(moved, -0.7 * expected) < 1e-9


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
    in_double = partial(gradient_in, torch.float64, name, network, n_steps, vectorise=False)
    for vectorise in (True, False):
        found = gradient_in(torch.float32, name, network, n_steps, vectorise)
        # Where a unit is so near its kink that rounding decides, which differs between processors, weights that differ by
        # rounding have that gradient.
        nearby = (in_double(rounded_by=rounding) for rounding in range(17))
        assert any(relative_difference(found, gradient) < tolerance for gradient in nearby)


def gradient_in(dtype, name, network, n_steps, vectorise, rounded_by=0):
    """Return the outer gradient as float64; with weights that differ by as much as rounding, where a seed for that is given."""
    make, settings = ALL[name]
    # ANIL descends on all heads at once, whatever the network.
    algorithm = make(n_steps=n_steps, **settings, **({} if make is ANIL else {"vectorise": vectorise}))
    learner, batch = make_learner(algorithm, network, dtype), make_batch(BACKBONES[network][1], dtype)
    if rounded_by:
        generator = torch.Generator().manual_seed(rounded_by)
        with torch.no_grad():
            for weights in learner.parameters():
                weights *= 1 + 1e-6 * torch.randn(weights.shape, generator=generator, dtype=dtype)
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


@pytest.mark.parametrize("make", [MAML, BOIL, MetaSGD, IMAML, Reptile], ids=lambda make: make.__name__)
@pytest.mark.parametrize("limit", [1, 700], ids=["each task", "two groups"])
def test_groups_of_vectorised_tasks_give_the_gradient_of_all_at_once(make, limit, monkeypatch):
    batch, found = make_batch(BACKBONES["mlp"][1]), []
    algorithm = make(vectorise=True)
    for at_once in (10**9, limit):
        monkeypatch.setattr(gradient_based, "_VALUES_TRAINED_AT_ONCE", at_once)
        learner = make_learner(algorithm, "mlp")
        loss, metrics = algorithm.meta_loss(learner, batch, TRAINING)
        found.append((gradient_of(loss, learner), loss.detach(), metrics["accuracy"]))
    for whole, in_groups in zip(*found, strict=True):
        assert relative_difference(in_groups, whole) < 1e-12


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
