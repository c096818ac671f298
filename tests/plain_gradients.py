"""Outer gradients by double backpropagation that is written plainly, a task after the other, on networks of a few weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

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


def spread_rates(learner):
    """Make learned rates differ, and return the rate of a parameter in a step; rates of elements are those of any step."""
    rates = {name: learner.rates[name.replace(".", "-")] for name in names_of(learner) if learner.rates}
    for i, rate in enumerate(rates.values()):
        rate.data += 0.01 * i + 0.05 * torch.linspace(-1, 1, rate.numel()).to(rate).reshape(rate.shape)
    of_elements = all(rate.shape == learner.get_parameter(name).shape for name, rate in rates.items())
    return lambda name, step: rates[name] if of_elements else rates[name][step]


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


def plain_steps(
    learner, x, y, names, n_steps, rate_of, first_order=False, direction_of=lambda gradients: gradients[-1]
):
    """Return the parameters after each step of descent, each with its graph.

    A step goes along what ``direction_of`` makes of all gradients so far.
    """
    parameters = {n: p for n, p in learner.named_parameters() if not n.startswith("rates.")}
    steps, seen = [], {name: [] for name in names}
    for step in range(n_steps):
        loss = plain_loss(plain_outputs(learner, parameters, x), y)
        gradients = torch.autograd.grad(loss, [parameters[n] for n in names], create_graph=True)
        for name, gradient in zip(names, gradients, strict=True):
            seen[name].append(gradient.detach() if first_order else gradient)
            parameters = parameters | {name: parameters[name] - rate_of(name, step) * direction_of(seen[name])}
        steps.append(parameters)
    return steps


def heavy_ball(gradients, momentum=0.9):
    """Return the direction of descent with momentum."""
    return sum(momentum ** (len(gradients) - 1 - step) * gradient for step, gradient in enumerate(gradients))


def adam(gradients, momentum=0.9, decay=0.999, epsilon=1e-8):
    """Return the direction of Adam, whose root has a derivative where there is no gradient."""
    n = len(gradients)
    mean = (1 - momentum) / (1 - momentum**n) * heavy_ball(gradients, momentum)
    square = (1 - decay) / (1 - decay**n) * heavy_ball([g**2 for g in gradients], decay)
    return mean / (square + epsilon**2).sqrt()


def plain_maml_gradient(learner, batch, names, n_steps, rate_of, *, statistics="support", weights=None, **descent):
    total = 0
    for t in range(N_TASKS):
        x, y = batch.support_x[t], batch.support_y[t]
        steps = plain_steps(learner, x, y, names, n_steps, rate_of, **descent)
        for weight, parameters in zip(weights or [0.0] * (n_steps - 1) + [1.0], steps, strict=True):
            given = plain_features(learner, parameters, x)[1] if statistics == "support" else ()
            outputs = plain_outputs(learner, parameters, batch.query_x[t], given)
            total = total + weight * plain_loss(outputs, batch.query_y[t]) / N_TASKS
    return gradient_of(total, learner)


def plain_anil_gradient(learner, batch, n_steps, rate, first_order=False):
    """Return the gradient where the body runs once over all rows."""
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
            head = [h - rate * (g.detach() if first_order else g) for h, g in zip(head, gradients, strict=True)]
        total = total + functional.cross_entropy(functional.linear(query[t], *head), batch.query_y[t]) / N_TASKS
    return gradient_of(total, learner)


def plain_imaml_gradient(learner, batch, n_steps, rate, weight):
    """Return the implicit gradient by an explicit solve of its linear system."""
    start = as_vector(learner.parameters()).detach()
    total = 0
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
            solution = solution - rate * slope
        hessian = torch.autograd.functional.hessian(support_loss, solution)
        matrix = torch.eye(len(start), dtype=start.dtype) + hessian / weight
        slope = torch.autograd.functional.jacobian(query_loss, solution)
        total = total + torch.linalg.solve(matrix, slope) / N_TASKS
    return total


def plain_reptile_gradient(learner, batch, rows_of_steps, rate, statistics="step"):
    """Return the mean way back from where the steps on these rows lead."""
    x, y = torch.cat([batch.support_x, batch.query_x], 1), torch.cat([batch.support_y, batch.query_y], 1)
    start, ends = as_vector(learner.parameters()).detach(), []
    for t in range(N_TASKS):
        parameters = dict(learner.named_parameters())
        for rows in rows_of_steps:
            given = plain_features(learner, parameters, x[t])[1] if statistics == "task" else ()
            loss = plain_loss(plain_outputs(learner, parameters, x[t, rows], given), y[t, rows])
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            parameters = {n: p - rate * g for (n, p), g in zip(parameters.items(), gradients, strict=True)}
        ends.append(as_vector(parameters.values()).detach())
    return start - torch.stack(ends).mean(0)


def as_vector(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def gradient_of(loss, learner):
    found = torch.autograd.grad(loss, list(learner.parameters()), allow_unused=True)
    pairs = zip(found, learner.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def names_of(learner, adapts="all"):
    names = [n for n, _ in learner.named_parameters() if not n.startswith("rates.")]
    return [n for n in names if adapts == "all" or n.startswith("head.") == (adapts == "head")]


def as_parameters(vector, learner):
    parts = vector.split([p.numel() for p in learner.parameters()])
    pairs = zip(learner.named_parameters(), parts, strict=True)
    return {name: part.view_as(parameter) for (name, parameter), part in pairs}


TINY = {
    "mlp": (MLP(depth=1, width=3, n_features=2, normalisation="none", activation="tanh"), (3,)),
    "conv4": (Conv4(depth=1, width=2, normalisation="none", activation="tanh", pooling="mean"), (1, 4, 4)),
    "conv4-batch": (Conv4(depth=1, width=2, activation="tanh", pooling="mean"), (1, 4, 4)),
}
