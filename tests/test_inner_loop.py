"""Inner loops, the networks that they adapt, and what the algorithms leave after adapting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn import functional

from metafe.algorithms import ANIL, BOIL, IMAML, MAML, MetaSGD, Reptile, gradient_based
from metafe.backbones import MLP, Conv4
from metafe.contracts import Context, InvalidParameterError, Problem, TaskBatch
from metafe.inner_loop import InnerLoop, TaskNetwork, stands_vectorising
from metafe.testing.common import build_seeded, snapshot

SHAPE = (2, 6, 6)
CONV = Conv4(depth=2, width=3)
PROBLEM = Problem("classification", SHAPE, n_classes=9, max_way=3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_network(*layers):
    """Return layers in float64 whose scales and shifts are random too."""
    network = build_seeded(lambda: nn.Sequential(*[layer() for layer in layers])).double()
    for i, parameter in enumerate(network.parameters()):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(i), dtype=torch.float64)
    return network


def conv_learner(algorithm, n_features=3):
    backbone = build_seeded(lambda: CONV.build(SHAPE))
    return build_seeded(lambda: algorithm.build(backbone, n_features, PROBLEM)).double()


def task(n_each=3, n_way=3):
    rows = torch.randn(n_way * n_each, *SHAPE, generator=generator(), dtype=torch.float64)
    return rows, torch.arange(n_way).repeat_interleave(n_each)


def quadratic(parameters, shared, step):
    return 0.5 * (shared["curvature"] * parameters["w"].square()).sum()


@pytest.mark.parametrize(
    ("loop", "make"),
    [
        (InnerLoop(7), lambda p: torch.optim.SGD(p, lr=0.1)),
        (InnerLoop(7, momentum=0.8), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
        (InnerLoop(7, "adam"), lambda p: torch.optim.Adam(p, lr=0.1)),
        (InnerLoop(7, "adam", momentum=0.0), lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.0, 0.999))),
    ],
    ids=["sgd", "momentum", "adam", "adam without momentum"],
)
def test_steps_are_those_of_the_optimiser(loop, make):
    start = torch.randn(4, generator=generator(), dtype=torch.float64)
    shared = {"curvature": torch.arange(1.0, 5.0, dtype=torch.float64)}
    adapted = loop.adapt(quadratic, {"w": start}, [{"w": 0.1}], shared)
    moved = nn.Parameter(start.clone())
    optimizer = make([moved])
    for step in range(loop.n_steps):
        optimizer.zero_grad()
        quadratic({"w": moved}, shared, step).backward()
        optimizer.step()
    torch.testing.assert_close(adapted["w"], moved.detach(), rtol=1e-7, atol=1e-9)


def test_adam_has_a_finite_derivative_where_the_gradient_is_zero():
    start = torch.zeros(2, requires_grad=True)
    adapted = InnerLoop(2, "adam").adapt(quadratic, {"w": start}, [{"w": 0.1}], {"curvature": torch.tensor([1.0, 0.0])})
    assert torch.isfinite(torch.autograd.grad(adapted["w"].sum(), start)[0]).all()


def test_each_step_has_its_rate_and_the_last_one_serves_the_rest():
    start = {"w": torch.ones((), dtype=torch.float64)}
    rates = [{"w": torch.tensor(0.5)}, {"w": 0.25}]
    steps = list(InnerLoop(3).trajectory(quadratic, start, rates, {"curvature": torch.tensor(1.0)}))
    assert [float(step["w"]) for step in steps] == [0.5, 0.375, 0.28125]


def test_steps_are_numbered():
    numbers = []

    def loss(parameters, shared, step):
        numbers.append(step)
        return parameters["w"] ** 2

    InnerLoop(3).adapt(loss, {"w": torch.ones(())}, [{"w": 0.1}])
    assert numbers == [0, 1, 2]


def test_nothing_to_adapt_takes_no_step():
    assert InnerLoop(3).adapt(quadratic, {}, [{}]) == {}


@pytest.mark.parametrize("transformable", [True, False])
def test_adapts_without_recording_a_graph(transformable):
    with torch.no_grad():
        loop = InnerLoop(1, transformable=transformable)
        adapted = loop.adapt(lambda p, shared, step: p["w"] ** 2, {"w": torch.ones(())}, [{"w": 0.25}])
    assert float(adapted["w"]) == 0.5
    assert not adapted["w"].requires_grad


def test_the_whole_loop_can_be_vectorised():
    start = torch.randn(5, 3, generator=generator(), dtype=torch.float64)
    shared = {"curvature": torch.arange(1.0, 4.0, dtype=torch.float64)}

    def adapt(w):
        return InnerLoop(3, momentum=0.5).adapt(quadratic, {"w": w}, [{"w": 0.1}], shared)["w"]

    torch.testing.assert_close(torch.func.vmap(adapt)(start), torch.stack([adapt(w) for w in start]))


@pytest.mark.parametrize("first_order", [True, False])
def test_gradients_are_the_same_without_transforms(first_order):
    start = torch.randn(3, generator=generator(), dtype=torch.float64).requires_grad_()
    curvature = torch.arange(1.0, 4.0, dtype=torch.float64).requires_grad_()

    def loss(parameters, shared, step):
        unadapted = shared["start"].square().sum()
        return quadratic(parameters, shared, step) * unadapted

    def outer_gradients(transformable):
        loop = InnerLoop(3, momentum=0.5, first_order=first_order, transformable=transformable)
        state = {"w": start, "unused": start + 1}
        adapted = loop.adapt(loss, state, [{"w": 0.1, "unused": 0.1}], {"curvature": curvature, "start": start})
        outer = sum(value.pow(3).sum() for value in adapted.values())
        return torch.autograd.grad(outer, [start, curvature], allow_unused=first_order, materialize_grads=first_order)

    torch.testing.assert_close(outer_gradients(transformable=False), outer_gradients(transformable=True))


def bytes_kept(n_steps, checkpoint_steps):
    """Return the bytes that the graph of an inner loop keeps for its backward pass."""
    network = random_network(lambda: nn.Linear(4, 8), nn.Tanh, lambda: nn.Linear(8, 1))
    rows = torch.randn(500, 4, generator=generator(), dtype=torch.float64)

    def loss(parameters, shared, step):
        return torch.func.functional_call(network, parameters, (rows,)).square().mean()

    parameters = dict(network.named_parameters())
    loop = InnerLoop(n_steps, checkpoint_steps=checkpoint_steps)
    adapted = loop.adapt(loss, parameters, [dict.fromkeys(parameters, 0.1)])
    found, nodes, kept = set(), [value.grad_fn for value in adapted.values()], {}
    while nodes:
        node = nodes.pop()
        if node is None or node in found:
            continue
        found.add(node)
        nodes += [following for following, _ in node.next_functions]
        values = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
        for value in [*values, *getattr(node, "saved_tensors", ())]:
            if isinstance(value, torch.Tensor):
                kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    return sum(kept.values())


def test_checkpointed_steps_keep_parameters_alone():
    grown = {kept: bytes_kept(8, kept) - bytes_kept(4, kept) for kept in (True, False)}
    n_values = 4 * 8 + 8 + 8 + 1
    assert grown[True] <= 4 * 8 * n_values
    assert grown[False] > 20 * grown[True]


NORMS = {
    "layer": (lambda: nn.LayerNorm(6), (6,)),
    "layer over two axes": (lambda: nn.LayerNorm((4, 5)), (6, 4, 5)),
    "layer without scale": (lambda: nn.LayerNorm(6, elementwise_affine=False), (6,)),
    "layer without shift": (lambda: nn.LayerNorm(6, bias=False), (6,)),
    "group": (lambda: nn.GroupNorm(2, 6), (6, 4, 5)),
    "batch": (lambda: nn.BatchNorm1d(6), (6,)),
    "batch of images": (lambda: nn.BatchNorm2d(6), (6, 4, 5)),
    "batch without scale": (lambda: nn.BatchNorm1d(6, affine=False), (6,)),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("vectorised", [True, False])
def test_normalisation_is_right_to_the_second_derivative(norm, vectorised):
    make, shape = NORMS[norm]
    network = random_network(make, nn.Tanh)
    x = torch.randn(2, 5, *shape, generator=generator(), dtype=torch.float64)
    target = torch.randn(x.shape, generator=generator(1), dtype=torch.float64)

    def derivatives(forward):
        rows = x.clone().requires_grad_()
        output = forward(rows)
        slope = torch.autograd.grad((output * target).sum(), rows, create_graph=True)[0]
        inputs = [rows, *network.parameters()]
        second = torch.autograd.grad(slope.square().sum(), inputs, allow_unused=True)
        return [output.detach(), slope.detach(), *(value for value in second if value is not None)]

    def one_by_one(rows):
        return torch.stack([network(row) for row in rows])

    adapted = TaskNetwork(network, vectorised)
    parameters = {name: p.expand(2, *p.shape) if vectorised else p for name, p in network.named_parameters()}

    def ours(rows):
        return adapted(parameters, rows) if vectorised else torch.stack([adapted(parameters, row) for row in rows])

    for found, expected in zip(derivatives(ours), derivatives(one_by_one), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("vectorised", [True, False])
def test_rows_with_given_statistics_are_independent(vectorised):
    network = random_network(lambda: nn.Conv2d(2, 3, 3), lambda: nn.BatchNorm2d(3), nn.Tanh)
    x = torch.randn(2, 5, *SHAPE, generator=generator(), dtype=torch.float64)
    rows = x if vectorised else x[0]
    adapted = TaskNetwork(network, vectorised)
    statistics = adapted.statistics({}, rows)
    assert list(statistics) == adapted.statistic_names == ["1.running_mean", "1.running_var"]
    whole = adapted(statistics, rows)
    torch.testing.assert_close(whole, adapted({}, rows))
    alone = adapted(statistics, rows[..., :1, :, :, :])
    torch.testing.assert_close(alone, whole[..., :1, :, :, :])


def test_the_module_is_left_alone():
    network = random_network(lambda: nn.Conv2d(2, 3, 3), lambda: nn.BatchNorm2d(3), nn.Tanh).train()
    before, layers = snapshot(network), list(network.modules())
    adapted = TaskNetwork(network)
    x = task()[0]
    adapted({}, x)
    adapted(adapted.statistics({"0.bias": torch.ones(3, dtype=torch.float64)}, x), x)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(a is b for a, b in zip(layers, network.modules(), strict=True))


def test_a_layer_that_is_used_twice_stays_one():
    layer = nn.Linear(3, 3).double()
    network = nn.Sequential(layer, layer)
    weight = torch.full((3, 3), 0.5, dtype=torch.float64)
    found = TaskNetwork(network)({"0.weight": weight}, torch.ones(1, 3, dtype=torch.float64))
    expected = functional.linear(functional.linear(torch.ones(1, 3).double(), weight, layer.bias), weight, layer.bias)
    torch.testing.assert_close(found, expected)


def test_weights_that_are_shared_stay_shared():
    network = nn.Sequential(nn.Linear(3, 3).double(), nn.Linear(3, 3).double())
    network[1].weight = network[0].weight
    weight, x = torch.full((3, 3), 0.5, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    found = TaskNetwork(network)({"0.weight": weight}, x)
    expected = functional.linear(functional.linear(x, weight, network[0].bias), weight, network[1].bias)
    torch.testing.assert_close(found, expected)


def test_recurrent_layers_use_the_given_weights():
    class Last(nn.Module):
        def forward(self, states):
            return states[0][:, -1]

    network = random_network(lambda: nn.GRU(2, 3, batch_first=True), Last)
    changed = build_seeded(lambda: nn.GRU(2, 3, batch_first=True), seed=1).double()
    x = torch.randn(4, 5, 2, generator=generator(), dtype=torch.float64)
    before = network(x)
    given = {f"0.{name}": parameter for name, parameter in changed.named_parameters()}
    torch.testing.assert_close(TaskNetwork(network)(given, x), changed(x)[0][:, -1])
    assert torch.equal(network(x), before)


def test_a_single_row_has_no_variance():
    network = random_network(lambda: nn.BatchNorm1d(4))
    found = TaskNetwork(network)({}, torch.ones(1, 4, dtype=torch.float64))
    torch.testing.assert_close(found[0], network[0].bias)


class OwnLayer(nn.Linear):
    """A layer that is not torch's."""


@pytest.mark.parametrize(
    ("module", "stands"),
    [
        (MLP(normalisation="layer").build((4,)), True),
        (MLP(normalisation="batch", activation="gelu").build((4,)), True),
        (MLP(dropout=0.5).build((4,)).eval(), True),
        (MLP(dropout=0.5).build((4,)), False),
        (CONV.build(SHAPE), False),
        (nn.InstanceNorm2d(3), False),
        (nn.GRU(3, 3), False),
        (nn.MultiheadAttention(4, 2), False),
        (OwnLayer(2, 2), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_what_is_vectorised_is_decided_by_rule(module, stands):
    assert stands_vectorising(module) is stands


@pytest.mark.parametrize(
    ("module", "stands"),
    [
        (CONV.build(SHAPE), True),
        (MLP(normalisation="layer").build((4,)), True),
        (MLP(dropout=0.5).build((4,)), False),
        (nn.GRU(3, 3), False),
        (OwnLayer(2, 2), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_an_accelerator_vectorises_convolutions_too(module, stands):
    # Tensors on the meta device are not on a CPU, and every machine has it.
    assert stands_vectorising(module.to("meta")) is stands


@pytest.mark.parametrize("make", [MAML, BOIL, MetaSGD], ids=lambda make: make.__name__)
def test_steps_that_are_computed_again_need_a_network_without_drop_out(make):
    problem = Problem("classification", (4,), n_classes=9, max_way=3)
    backbone = MLP(dropout=0.5, n_features=4).build((4,))
    with pytest.raises(InvalidParameterError, match="checkpoint_steps=True needs a network without drop-out"):
        make(checkpoint_steps=True).build(backbone, 4, problem)
    make(checkpoint_steps=False).build(backbone, 4, problem)


def test_auto_vectorises_a_perceptron_and_loops_over_a_convolution():
    for config, shape, vectorise in ((MLP(depth=1, width=4), (5,), True), (CONV, SHAPE, False)):
        x = torch.randn(2, 6, *shape, generator=generator())
        y = torch.arange(3).repeat(2, 2)
        batch, losses = TaskBatch(x, y, x, y, 3), []
        for setting in ("auto", vectorise):
            algorithm = MAML(vectorise=setting)
            problem = Problem("classification", shape, n_classes=9, max_way=3)
            backbone = build_seeded(lambda config=config, shape=shape: config.build(shape))
            n_features = backbone(x[0]).shape[1]
            learner = build_seeded(lambda a=algorithm, b=backbone, n=n_features, p=problem: a.build(b, n, p))
            losses.append(algorithm.meta_loss(learner, batch, Context(training=True))[0])
        assert torch.equal(*losses)


ADAPTING = [MAML(), MAML(adapts="head"), BOIL(), MetaSGD(), IMAML(), Reptile(inner_rate=0.05)]


@pytest.mark.parametrize("algorithm", ADAPTING, ids=lambda a: " ".join(repr(a).split()))
def test_adapting_lowers_the_loss_and_keeps_rows_independent(algorithm):
    learner = conv_learner(algorithm).eval()
    x, y = task()
    state = algorithm.adapt(learner, x, y, 3, Context(training=False))
    start = {
        "head-weight": learner.head.weight,
        "head-bias": learner.head.bias,
        **{k: v for k, v in state.items() if "running" in k},
    }
    before, after = (functional.cross_entropy(algorithm.predict(learner, s, x), y) for s in (start, state))
    assert after < before
    features = algorithm.features(learner, state, x)
    torch.testing.assert_close(algorithm.features(learner, state, x[:1]), features[:1])
    assert not torch.equal(features, algorithm.features(learner, {}, x))


def test_state_holds_what_has_changed_and_the_head_of_the_task():
    statistics = {f"backbone-{i}-1-running_{kind}" for i in (1, 2) for kind in ("mean", "var")}
    head = {"head-weight", "head-bias"}
    for adapts in ("all", "head", "body"):
        algorithm = MAML(adapts=adapts)
        learner = conv_learner(algorithm)
        body = {f"backbone-{name.replace('.', '-')}" for name, _ in learner.backbone.named_parameters()}
        state = algorithm.adapt(learner, *task(n_way=2), 2, Context(training=False))
        assert state.keys() == statistics | head | (set() if adapts == "head" else body)
        assert state["head-weight"].shape == (2, 3)


@pytest.mark.parametrize("algorithm", [MAML(), BOIL(), IMAML(), Reptile()], ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("vectorise", [True, False])
def test_features_of_many_tasks_are_those_of_each(algorithm, vectorise, monkeypatch):
    monkeypatch.setattr(gradient_based, "_VALUES_AT_ONCE", 1000)
    algorithm = clone(algorithm).set_params(vectorise=vectorise)
    learner, context = conv_learner(algorithm).eval(), Context(training=False)
    x = torch.randn(5, 6, *SHAPE, generator=generator(), dtype=torch.float64)
    y = torch.stack([torch.arange(3).repeat(2)[torch.randperm(6, generator=generator(i))] for i in range(5)])
    found = list(algorithm.features_of_tasks(learner, TaskBatch(x, y, x.flip(1), y, 3), context))
    assert len(found) == 5
    for t, (support, query) in enumerate(found):
        state = algorithm.adapt(learner, x[t], y[t], 3, context)
        torch.testing.assert_close(support, algorithm.features(learner, state, x[t]))
        torch.testing.assert_close(query, support.flip(0))


def test_unadapted_features_use_fixed_statistics():
    algorithm = MAML()
    learner, (x, _) = conv_learner(algorithm).eval(), task()
    learner.backbone[1][1].running_mean += 1.0
    assert torch.equal(algorithm.features(learner, {}, x), learner.backbone(x))


def test_more_classes_than_the_head_has_start_from_its_mean_row():
    for algorithm in (MAML(inner_rate=0.0), ANIL(inner_rate=0.0)):
        learner, (x, y) = conv_learner(algorithm).eval(), task(n_way=5)
        predicted = algorithm.predict(learner, algorithm.adapt(learner, x, y, 5, Context(training=False)), x)
        torch.testing.assert_close(predicted[:, 3:], predicted[:, :3].mean(1, keepdim=True).expand(-1, 2))


@pytest.mark.parametrize("make", [MAML, ANIL, MetaSGD])
def test_with_a_shared_head_the_order_of_classes_does_not_matter(make):
    algorithm = make(shared_head=True, n_steps=3)
    learner, (x, y) = conv_learner(algorithm).eval(), task()
    order = torch.tensor([2, 0, 1])
    predicted = [
        algorithm.predict(learner, algorithm.adapt(learner, x, labels, 3, Context(training=False)), x)
        for labels in (y, order[y])
    ]
    torch.testing.assert_close(predicted[1][:, order], predicted[0])
    assert predicted[0].std() > 0


@pytest.mark.parametrize("make", [MAML, ANIL, BOIL, MetaSGD, IMAML, Reptile], ids=lambda make: make.__name__)
def test_steps_outside_training_have_a_number_of_their_own(make):
    x, y = task()
    states = [
        algorithm.adapt(conv_learner(algorithm).eval(), x, y, 3, Context(training=training))
        for algorithm, training in ((make(n_steps=2, adapt_steps=4), False), (make(n_steps=4, adapt_steps=2), True))
    ]
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name])


def test_learned_rates_are_not_decayed():
    learner = conv_learner(MetaSGD())
    groups = MetaSGD().parameter_groups(learner)
    assert [group.get("weight_decay") for group in groups] == [None, 0.0]
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in learner.rates.values()}


def test_frozen_parameters_do_not_adapt():
    algorithm = MAML()
    learner, (x, y) = conv_learner(algorithm), task()
    learner.backbone[0].requires_grad_(False)
    state = algorithm.adapt(learner, x, y, 3, Context(training=False))
    assert "backbone-0-0-weight" not in state
    assert "backbone-1-0-weight" in state


def test_one_learner_serves_several_threads():
    algorithm = MAML(n_steps=2)
    learner = conv_learner(algorithm)
    x = torch.randn(8, 6, *SHAPE, generator=generator(), dtype=torch.float64)
    y = torch.arange(3).repeat(2)

    def predict(rows):
        state = algorithm.adapt(learner, rows, y, 3, Context(training=False))
        return algorithm.predict(learner, state, rows)

    expected = [predict(rows) for rows in x]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predict, x))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (MAML(n_steps=0), "maml n_steps must be a whole number of at least 1; got 0"),
        (MAML(adapts="haed"), "maml adapts must be one of .*; got 'haed'"),
        (MAML(learned_rates=True), "maml learned_rates must be one of .*; got True"),
        (MAML(vectorise="yes"), "maml vectorise must be one of .*; got 'yes'"),
        (MAML(batch_statistics="fixed"), "maml batch_statistics must be one of .*; got 'fixed'"),
        (Reptile(batch_statistics="support"), "reptile batch_statistics must be one of .*; got 'support'"),
        (MetaSGD(inner_rate=float("nan")), "meta-sgd inner_rate must be a finite number of at least 0; got nan"),
        (MAML(inner_rate="fast"), "maml inner_rate must be a finite number of at least 0; got 'fast'"),
        (MAML(momentum=1.0), "maml momentum must be below 1"),
        (Reptile(momentum=1.5), "reptile momentum must be below 1"),
        (MAML(first_order="no"), "maml first_order must be one of .*; got 'no'"),
        (MAML(adapts="body", shared_head=True), "maml adapts='body' needs a head whose rows differ"),
        (ANIL(shared_head="x"), "anil shared_head must be one of .*; got 'x'"),
        (BOIL(adapt_steps=0), "boil adapt_steps must be a whole number of at least 1; got 0"),
        (ANIL(inner_optimizer="adamw"), "anil inner_optimizer must be one of .*; got 'adamw'"),
        (IMAML(regularisation=0), "imaml regularisation must be a finite number"),
        (Reptile(inner_batch_size=2.5), "reptile inner_batch_size must be a whole number of at least 1; got 2.5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_are_named(algorithm, message):
    with pytest.raises(InvalidParameterError, match=message):
        conv_learner(algorithm)


def test_unlabelled_problems_are_refused():
    for algorithm in (MAML(), ANIL(), IMAML(), Reptile()):
        assert "Pass y" in algorithm.accepts(Problem("unlabelled", SHAPE))
