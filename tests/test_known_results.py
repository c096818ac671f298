"""Errors on sine waves that papers publish, from the recipes of the benchmark in fewer steps."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from metafe.algorithms import R2D2
from metafe.algorithms.gradient_based import GradientAlgorithm
from metafe.contracts import Context

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "sinusoid.py"
# Larger steps than the benchmark's take fewer of them to the same errors.
STEPS = {
    "maml": {"max_steps": 2000, "meta_batch_size": 100},
    "meta-sgd": {"max_steps": 700, "meta_batch_size": 50},
    "reptile": {"max_steps": 500},
    "r2d2 (closed form)": {"max_steps": 300},
    "joint, then 0.01": {"max_steps": 200},
}


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("sinusoid_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    # Where its data classes look up their annotations.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def waves(benchmark):
    waves = benchmark.test_waves()
    return dataclasses.replace(
        waves, **{k: torch.tensor(v).float() for k, v in vars(waves).items() if k.endswith(("_x", "_y"))}
    )


@pytest.fixture(scope="module")
def errors(benchmark, waves):
    """The mean squared error of each entry after each number of inner steps."""
    found = {}
    for entry in benchmark.ENTRIES:
        entry = dataclasses.replace(entry, training=entry.training | STEPS[entry.name])
        extractor = benchmark.train(entry, max_steps=0, random_state=0)
        for n_steps in filter(None, entry.bars):
            if not isinstance(entry.algorithm, R2D2):
                extractor.algorithm_.set_params(adapt_steps=n_steps, **entry.judged_with)
            found[entry.name, n_steps] = error(extractor, waves)
    return found


def error(extractor, waves):
    """Return the query loss on all waves at once."""
    algorithm = extractor.algorithm_
    # Reptile's own loss moves by all rows of a task.
    loss_of = GradientAlgorithm.meta_loss if isinstance(algorithm, GradientAlgorithm) else type(algorithm).meta_loss
    with torch.no_grad():
        return float(loss_of(algorithm, extractor.model_.learner, waves, Context(training=False))[0])


def test_maml_finds_a_wave_from_ten_points(errors):
    assert errors["maml", 1] < 0.45
    assert errors["maml", 10] < 0.15


def test_learned_rates_are_better_after_the_step_they_were_learned_for(errors):
    assert errors["meta-sgd", 1] < 0.9 * errors["maml", 1]


def test_one_network_for_all_waves_is_far_behind(errors):
    for n_steps in (1, 10):
        assert errors["joint, then 0.01", n_steps] > 3 * errors["maml", n_steps]


def test_reptile_and_ridge_regression_in_closed_form_find_it_too(errors):
    assert errors["reptile", 32] < 0.5
    assert errors["r2d2 (closed form)", 1] < 0.15
