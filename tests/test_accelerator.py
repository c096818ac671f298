"""What an accelerator computes is what a CPU computes; left out where there is none."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from metafe import FewShotClassifier, MetaFeatureExtractor, few_shot_score, load
from metafe.algorithms import (
    ANIL,
    BOIL,
    IMAML,
    MAML,
    R2D2,
    Cosine,
    MatchingNetworks,
    MetaSGD,
    ProtoNet,
    RelationNetworks,
    Reptile,
)
from metafe.augmentations import Affine, FeatureDropout, Noise, Rotate90
from metafe.backbones import MLP, Conv4
from metafe.contracts import Context, MetaAlgorithm, Problem, TaskBatch
from metafe.testing.common import build_seeded

pytestmark = [
    pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator"),
    pytest.mark.filterwarnings(
        "ignore::metafe.contracts.FeatureQualityWarning", "ignore::metafe.contracts.AdaptedSettingWarning"
    ),
]
ALGORITHMS = [
    MAML(n_steps=2, batch_statistics="task"),
    MAML(n_steps=2, batch_statistics="task", vectorise=False),
    BOIL(),
    MetaSGD(n_steps=1),
    IMAML(n_steps=3),
    Reptile(n_steps=2),
    ANIL(n_steps=2),
    ProtoNet(),
    MatchingNetworks(),
    RelationNetworks(width=4),
    R2D2(),
    Cosine(),
]
BACKBONES = {"mlp": (MLP(depth=1, width=8, n_features=5), (6,)), "conv4": (Conv4(depth=2, width=4), (1, 8, 8))}


@pytest.fixture
def accelerator() -> torch.device:
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    return torch.device(f"{kind.type}:0")


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), 20)
    return rng.normal(size=(8, 8, 8))[y] + rng.normal(size=(160, 8, 8)), y


def gradient(algorithm: MetaAlgorithm, network: str, device: torch.device) -> torch.Tensor:
    config, shape = BACKBONES[network]
    module = build_seeded(lambda: config.build(shape))
    n_features = module.eval()(torch.zeros(2, *shape)).shape[1]
    problem = Problem("classification", shape, n_classes=6, max_way=3)
    learner = build_seeded(lambda: algorithm.build(module, n_features, problem)).double().to(device).train()
    rng = np.random.default_rng(1)
    rows = [torch.tensor(rng.normal(size=(4, 3 * n, *shape))) for n in (2, 3)]
    labels = [torch.arange(3).repeat_interleave(n).repeat(4, 1) for n in (2, 3)]
    batch = TaskBatch(rows[0], labels[0], rows[1], labels[1], 3, *labels)
    context = Context(training=True, max_steps=1, generator=torch.Generator().manual_seed(2))
    algorithm.meta_loss(learner, batch.to(device), context)[0].backward()
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in learner.parameters()]
    ).cpu()


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: " ".join(repr(a).split()))
@pytest.mark.parametrize("network", BACKBONES)
def test_outer_gradients_are_those_of_a_cpu(algorithm, network, accelerator):
    if algorithm.trains_on == "rows":
        pytest.skip("learns from rows, not from tasks")
    there, here = (gradient(algorithm, network, device) for device in (accelerator, torch.device("cpu")))
    assert float((there - here).norm() / here.norm()) < 1e-9


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: " ".join(repr(a).split()))
def test_fits_and_gives_the_features_of_a_cpu(algorithm, images, accelerator, tmp_path):
    X, y = images
    settings = {"max_steps": 6, "augment": None, "random_state": 0, "precision": "float32"}
    fitted = MetaFeatureExtractor(Conv4(depth=2, width=4), algorithm, device=accelerator, **settings).fit(X, y)
    features = fitted.transform(X)
    assert next(fitted.model_.learner.parameters()).device.type in (accelerator.type, "cpu")
    fitted.save(tmp_path / "model")
    on_cpu = load(tmp_path / "model").set_params(device="cpu")
    # Convolutions on an accelerator may round their inputs to ten bits.
    np.testing.assert_allclose(on_cpu.transform(X), features, atol=2e-2 * np.abs(features).max())
    np.testing.assert_allclose(copy.deepcopy(fitted).transform(X[:3]), features[:3], atol=2e-2 * np.abs(features).max())


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
@pytest.mark.parametrize("algorithm", ["protonet", "maml"])
def test_learns_with_augmentations_on_the_device(precision, algorithm, images, accelerator):
    X, y = images
    extractor = MetaFeatureExtractor(
        Conv4(depth=2, width=8),
        algorithm,
        augment=[Rotate90(), Affine(), Noise()],
        max_steps=60,
        device=accelerator,
        precision=precision,
        random_state=0,
    ).fit(X, y)
    scores = few_shot_score(extractor, X, y, n_way=5, n_shot=1, n_episodes=50, random_state=0)
    assert scores.mean > 0.4
    flat = MetaFeatureExtractor("mlp", algorithm, augment=[FeatureDropout()], max_steps=3, device=accelerator)
    assert np.isfinite(flat.fit(X.reshape(len(X), -1), y).transform(X.reshape(len(X), -1))).all()


def test_a_seed_gives_the_same_weights_twice(images, accelerator):
    X, y = images
    first, second = (
        MetaFeatureExtractor("mlp", "maml", max_steps=10, device=accelerator, random_state=0).fit(X, y).transform(X)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_the_head_of_an_adapted_network_judges_there_too(images, accelerator):
    X, y = images
    extractor = MetaFeatureExtractor(Conv4(depth=2, width=8), "maml", max_steps=60, device=accelerator, random_state=0)
    classifier = FewShotClassifier(extractor.fit(X, y), head="own").fit(X[::4], y[::4])
    assert classifier.score(X, y) > 0.3
