"""The compiled training step, and what it falls back to."""

from __future__ import annotations

import copy
import dataclasses
import logging

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from torch.overrides import _get_current_function_mode

from metafe import MetaFeatureExtractor
from metafe.algorithms import BOIL, MAML, MetaSGD, ProtoNet
from metafe.algorithms.gradient_based import rate_for
from metafe.backbones import MLP, Conv4
from metafe.contracts import Context, InvalidParameterError, Problem, TaskBatch
from metafe.tasks import ClassTasks
from metafe.training import compiling, trainer
from metafe.training.compiling import CompiledLoss, resolve_compile
from metafe.training.randomness import use_generator

PROBLEM = Problem("classification", (6,), n_classes=9, max_way=3)


@pytest.fixture
def batch() -> TaskBatch:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(4, n, 6)).astype(np.float32) for n in (6, 9)]
    labels = [np.tile(np.repeat(np.arange(3), n), (4, 1)) for n in (2, 3)]
    return TaskBatch(rows[0], labels[0], rows[1], labels[1], n_way=3).to("cpu")


def learner_of(algorithm, **settings):
    torch.manual_seed(0)
    # The smallest network, since compiling takes as long as there are operations.
    backbone = MLP(depth=1, width=8, n_features=None, normalisation="none", **settings).build((6,))
    return algorithm.build(backbone, 8, PROBLEM).train()


def gradient(learner, loss):
    learner.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in learner.parameters()])


def double_backpropagation(algorithm, learner, batch):
    """Return loss and gradient in float64, by descending on one task after the other."""
    learner = copy.deepcopy(learner).double()
    start = {n: p for n, p in learner.named_parameters() if not n.startswith("rates.")}

    def loss_on(x, y, parameters):
        body = {n.removeprefix("backbone."): p for n, p in parameters.items() if n.startswith("backbone.")}
        features = torch.func.functional_call(learner.backbone, body, x.double())
        outputs = functional.linear(features, parameters["head.weight"], parameters["head.bias"])
        return functional.cross_entropy(outputs, y)

    losses = []
    for t in range(len(batch)):
        adapted = start
        names = [n for n in start if algorithm.is_adapted(n)]
        rate = rate_for(algorithm.inner_rate, learner.problem, algorithm.rate_for_classes)
        for _ in range(algorithm.n_steps):
            loss = loss_on(batch.support_x[t], batch.support_y[t], adapted)
            found = torch.autograd.grad(loss, [adapted[n] for n in names], create_graph=True)
            rates = [learner.rates[n.replace(".", "-")] if learner.rates else rate for n in names]
            adapted = adapted | {n: adapted[n] - r * g for n, r, g in zip(names, rates, found, strict=True)}
        losses.append(loss_on(batch.query_x[t], batch.query_y[t], adapted))
    loss = torch.stack(losses).mean()
    return loss.detach(), gradient(learner, loss)


@pytest.mark.parametrize("algorithm", [MAML(n_steps=1), MetaSGD(n_steps=1), BOIL(n_steps=1)], ids=lambda a: a.name)
def test_compiled_steps_equal_double_backpropagation(algorithm, batch):
    learner = learner_of(algorithm)
    compiled = CompiledLoss(algorithm, learner)
    for _ in range(2):
        loss, _ = compiled(batch, Context(training=True, max_steps=1))
        assert list(compiled._compiled.values()) != [None], "it has to compile here, not fall back"
        wanted_loss, wanted = double_backpropagation(algorithm, learner, batch)
        found = gradient(learner, loss).double()
        assert float(loss.detach()) == pytest.approx(float(wanted_loss), rel=1e-5)
        assert float((found - wanted).norm() / wanted.norm()) < 1e-5
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.mul_(1.5)


class Watched(MAML):
    """Notes of each loss whether its rows have values."""

    seen: list[bool]

    def meta_loss(self, learner, batch, context):
        self.seen.append(not isinstance(batch.support_x, FakeTensor))
        return super().meta_loss(learner, batch, context)


def test_a_step_is_recorded_without_values(batch, monkeypatch):
    monkeypatch.setattr(compiling, "compile_graph", lambda graph, *_: graph)
    algorithm = Watched(n_steps=1)
    algorithm.seen = []
    CompiledLoss(algorithm, learner_of(algorithm))(batch, Context(training=True, max_steps=1))
    assert algorithm.seen == [True, False], "one plain step, and one that memory holds nothing of"


def test_frozen_parameters_are_recorded_with_their_values(batch, monkeypatch, caplog):
    monkeypatch.setattr(compiling, "compile_graph", lambda graph, *_: graph)
    algorithm, context = MAML(n_steps=1), Context(training=True, max_steps=1)
    learner = learner_of(algorithm)
    next(learner.backbone.parameters()).requires_grad_(False)
    found, wanted = (
        float(loss(batch, context)[0].detach())
        for loss in (CompiledLoss(algorithm, learner), lambda *given: algorithm.meta_loss(learner, *given))
    )
    assert found == pytest.approx(wanted)
    assert "metafe" not in {record.name for record in caplog.records}, "it has to compile here, not fall back"


def test_the_compiler_sees_no_function_mode(batch, monkeypatch):
    modes = []
    monkeypatch.setattr(
        compiling, "compile_graph", lambda graph, *_: modes.append(_get_current_function_mode()) or graph
    )
    algorithm = MAML(n_steps=1)
    with use_generator(torch.Generator()):
        CompiledLoss(algorithm, learner_of(algorithm))(batch, Context(training=True, max_steps=1))
    assert modes == [None]


def test_what_is_compiled_gets_the_strides_that_it_was_compiled_for(batch, monkeypatch):
    strides = []

    def noting(graph, *_):
        def run(parameters, tensors):
            strides.append([t.stride() for t in tensors])
            return graph(parameters, tensors)

        return run

    monkeypatch.setattr(compiling, "compile_graph", noting)
    algorithm, context = MAML(n_steps=1), Context(training=True, max_steps=1)
    compiled = CompiledLoss(algorithm, learner_of(algorithm))
    turned = dataclasses.replace(batch, support_x=batch.support_x.mT.contiguous().mT)
    losses = [float(compiled(given, context)[0].detach()) for given in (batch, turned)]
    assert losses[0] == losses[1]
    assert strides[0] == strides[-1]


def test_without_a_compiler_the_steps_are_plain_and_one_line_says_so(batch, monkeypatch, caplog):
    def no_compiler(*_):
        raise RuntimeError("no C++ compiler found")

    monkeypatch.setattr(compiling, "compile_graph", no_compiler)
    algorithm = MAML(n_steps=1)
    learner = learner_of(algorithm)
    compiled, context = CompiledLoss(algorithm, learner), Context(training=True, max_steps=1)
    with caplog.at_level(logging.WARNING, logger="metafe"):
        losses = [float(compiled(batch, context)[0].detach()) for _ in range(2)]
        # Not tried again for batches of another shape.
        compiled(batch.part(slice(0, 2)), context)
    assert losses == [float(algorithm.meta_loss(learner, batch, context)[0].detach())] * 2
    assert [r.getMessage() for r in caplog.records] == [
        "Compiling maml failed, so it runs plainly: RuntimeError: no C++ compiler found"
    ]


def test_shapes_beyond_the_most_run_plainly_and_one_line_says_so(batch, monkeypatch, caplog):
    compiled_graphs = []
    monkeypatch.setattr(compiling, "compile_graph", lambda graph, *_: compiled_graphs.append(graph) or graph)
    monkeypatch.setattr(compiling, "MOST_SHAPES", 2)
    algorithm = MAML(n_steps=1)
    compiled, context = CompiledLoss(algorithm, learner_of(algorithm)), Context(training=True, max_steps=1)
    with caplog.at_level(logging.WARNING, logger="metafe"):
        for n_tasks in (4, 3, 2, 1, 2, 4):
            compiled(batch.part(slice(0, n_tasks)), context)
    assert len(compiled_graphs) == 2
    assert [r.getMessage() for r in caplog.records] == [
        "maml is compiled for 2 shapes of tasks, and runs plainly for further ones; n_way, n_shot and n_query of the tasks say "
        "how many there are."
    ]


def test_a_compiled_step_that_is_wrong_is_not_used(batch, monkeypatch, caplog):
    monkeypatch.setattr(
        compiling, "compile_graph", lambda graph, *_: lambda *given: tuple(2 * t for t in graph(*given))
    )
    algorithm = MAML(n_steps=1)
    learner = learner_of(algorithm)
    context = Context(training=True, max_steps=1)
    with caplog.at_level(logging.WARNING, logger="metafe"):
        loss, _ = CompiledLoss(algorithm, learner)(batch, context)
    assert float(loss.detach()) == float(algorithm.meta_loss(learner, batch, context)[0].detach())
    assert "is off by 1.0e+00" in caplog.text


def test_a_compiled_step_may_be_as_far_from_exact_as_the_plain_one(batch, monkeypatch, caplog):
    def in_double(graph, *_):
        def run(parameters, tensors):
            moved = [t.double() if t.is_floating_point() else t for t in tensors]
            return tuple(t.float() for t in graph([p.double() for p in parameters], moved))

        return run

    monkeypatch.setattr(compiling, "compile_graph", in_double)
    monkeypatch.setattr(compiling, "TOLERANCE", 0.0)
    algorithm = MAML(n_steps=2)
    learner, context = learner_of(algorithm), Context(training=True, max_steps=1)
    compiled = CompiledLoss(algorithm, learner)
    found = [
        gradient(learner, loss(batch, context)[0])
        for loss in (compiled, lambda *given: algorithm.meta_loss(learner, *given))
    ]
    assert "metafe" not in {record.name for record in caplog.records}, "it has to compile here, not fall back"
    assert not torch.equal(*found)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("algorithm", "max_steps", "wanted"),
    [(MAML(), 100, False), (MAML(), 5000, True), (MAML(multi_step_loss=True), 5000, False), (ProtoNet(), 5000, False)],
)
def test_auto_decides_by_rule(algorithm, max_steps, wanted):
    assert resolve_compile("auto", algorithm, learner_of(algorithm), max_steps) is wanted


def test_auto_counts_the_shapes_of_tasks(monkeypatch):
    asked = []
    monkeypatch.setattr(compiling, "STEPS_TO_REPAY_COMPILING", 2)
    monkeypatch.setattr(
        trainer, "CompiledLoss", lambda algorithm, learner: asked.append(algorithm) or plain(algorithm, learner)
    )

    def plain(algorithm, learner):
        return lambda batch, context: algorithm.meta_loss(learner, batch, context)

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 6)), np.repeat(np.arange(6), 15)
    for n_shot, max_steps, compiles in [(1, 2, True), ((1, 3), 5, False), ((1, 3), 6, True)]:
        asked.clear()
        tasks = ClassTasks(n_way=2, n_shot=n_shot, n_query=5)
        settings = {"max_steps": max_steps, "augment": None, "validation_fraction": 0, "random_state": 0}
        MetaFeatureExtractor("mlp", MAML(n_steps=1), tasks, **settings).fit(X, y)
        assert bool(asked) is compiles


def test_drop_out_is_not_compiled(monkeypatch):
    assert not resolve_compile("auto", MAML(), learner_of(MAML(), dropout=0.5), 5000)
    monkeypatch.setattr(compiling, "STEPS_TO_REPAY_COMPILING", 1)
    monkeypatch.setattr(compiling, "compile_graph", lambda *_: pytest.fail("compiled"))
    rng = np.random.default_rng(0)
    MetaFeatureExtractor(MLP(dropout=0.5), MAML(n_steps=1), max_steps=1, random_state=0).fit(
        rng.normal(size=(90, 6)), np.repeat(np.arange(6), 15)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compile": "yes"}, "compile must be 'auto', True or False; got 'yes'"),
        ({"compile": True, "algorithm": "protonet"}, "compile=True needs an algorithm that adapts by gradients"),
        ({"compile": True, "algorithm": "maml", "backbone": Conv4()}, "got MAML.* and Sequential"),
    ],
)
def test_what_cannot_be_compiled_is_an_error(settings, message):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 8, 8))
    extractor = MetaFeatureExtractor(**{"backbone": "mlp", "max_steps": 1, "random_state": 0, **settings})
    with pytest.raises(InvalidParameterError, match=message):
        extractor.fit(X, np.repeat(np.arange(6), 15))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("algorithm", [MAML(n_steps=2), MetaSGD(n_steps=2), BOIL(n_steps=2)], ids=lambda a: a.name)
def test_fit_with_the_recorded_graph_gives_the_features_of_plain_training(algorithm, precision, caplog, monkeypatch):
    # The compiler takes half a minute for each; what it is given can be run as it is.
    monkeypatch.setattr(compiling, "compile_graph", lambda graph, *_: graph)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 6)), np.repeat(np.arange(6), 15)
    plain, compiled = (
        MetaFeatureExtractor(
            MLP(depth=1, width=8, n_features=4),
            algorithm,
            augment=None,
            max_steps=3,
            compile=compiles,
            precision=precision,
            validation_fraction=0,
            random_state=0,
        )
        .fit(X, y)
        .transform(X)
        for compiles in (False, True)
    )
    assert "metafe" not in {record.name for record in caplog.records}, "it has to compile here, not fall back"
    np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-4)


class WithUnusedParameter(MLP):
    name = "unused"

    def build(self, input_shape):
        network = super().build(input_shape)
        network.register_parameter("unused", torch.nn.Parameter(torch.ones(3)))
        return network


@pytest.mark.parametrize("compile", [False, True])
def test_a_parameter_that_no_loss_reaches_stays_where_it_is(compile, caplog, monkeypatch):
    monkeypatch.setattr(compiling, "compile_graph", lambda graph, *_: graph)
    rng = np.random.default_rng(0)
    extractor = MetaFeatureExtractor(
        WithUnusedParameter(depth=1, width=8, n_features=4),
        MAML(n_steps=1),
        augment=None,
        max_steps=3,
        optimizer="adamw",
        weight_decay=0.5,
        learning_rate=0.1,
        compile=compile,
        validation_fraction=0,
        random_state=0,
    ).fit(rng.normal(size=(90, 6)), np.repeat(np.arange(6), 15))
    assert "metafe" not in {record.name for record in caplog.records}, "it has to compile here, not fall back"
    assert extractor.model_.learner.backbone.unused.tolist() == [1.0] * 3
