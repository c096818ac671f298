from __future__ import annotations

import numpy as np
import pytest
import torch
from metafe_tabular import FTTransformer, TabularResNet
from torch.func import functional_call

import metafe
from metafe.contracts import Int, InvalidParameterError, Problem, Seeds

EMBEDDINGS = ["none", "piecewise-linear", "periodic"]


def small(cls, embeddings="none"):
    size = {"depth": 1, "width": 8, "n_features": 4, "embeddings": embeddings, "n_bins": 3, "n_frequencies": 2}
    return cls(**size, n_heads=2) if cls is FTTransformer else cls(**size, embedding_width=3)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    y = np.arange(100) % 5
    return y[:, None] + rng.normal(size=(100, 5)), y


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
@pytest.mark.parametrize("cls", [FTTransformer, TabularResNet])
def test_second_derivatives_are_right(rows, cls, embeddings):
    """As adaptation by gradient descent takes them: of the squared norm of the gradient."""
    backbone = small(cls, embeddings).fit(*rows, Seeds(0))
    torch.manual_seed(0)
    module = backbone.build((5,)).double().eval()
    x = torch.randn(7, 5, dtype=torch.float64)
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def slope(p):
        gradients = torch.func.grad(lambda q: functional_call(module, q, (x,)).square().sum())(p)
        return sum(g.square().sum() for g in gradients.values())

    direction = {name: torch.randn_like(p) for name, p in parameters.items()}
    exact = sum((g * direction[n]).sum() for n, g in torch.func.grad(slope)(parameters).items())
    step = 1e-6
    ends = [slope({n: p + sign * step * direction[n] for n, p in parameters.items()}) for sign in (1, -1)]
    torch.testing.assert_close(exact, (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
@pytest.mark.parametrize("cls", [FTTransformer, TabularResNet])
def test_gradient_based_algorithms_train_them(rows, cls, embeddings):
    X, y = rows
    extractor = metafe.MetaFeatureExtractor(
        small(cls, embeddings), "maml", max_steps=2, validation_fraction=0, augment=None, random_state=0
    ).fit(X, y)
    assert np.isfinite(extractor.transform(X)).all()
    adapted = extractor.adapt(X[:12], y[:12])
    assert not np.array_equal(adapted.transform(X), extractor.transform(X))


@pytest.mark.parametrize("cls", [FTTransformer, TabularResNet])
def test_piecewise_linear_embeddings_bend_at_quantiles_of_the_training_rows(cls):
    X = np.stack([np.arange(101.0), np.arange(101) % 2, np.full(101, 7.0)], axis=1)
    edges = cls(embeddings="piecewise-linear", n_bins=4).fit(X, None, Seeds(0)).edges_
    scale = X[:, 0].std()
    np.testing.assert_allclose(edges[0], (np.array([0, 25, 50, 75, 100]) - 50) / scale, rtol=1e-6)
    assert len(edges[1]) == 3
    np.testing.assert_allclose(edges[2], [-1, 0, 1])


@pytest.mark.parametrize("cls", [FTTransformer, TabularResNet])
def test_piecewise_linear_embeddings_must_be_fitted(cls):
    with pytest.raises(InvalidParameterError, match="must be fitted before its network is built"):
        cls(embeddings="piecewise-linear").build((4,))


def test_fitting_with_other_embeddings_forgets_the_bins(rows):
    backbone = TabularResNet(embeddings="piecewise-linear").fit(*rows, Seeds(0))
    assert not backbone.set_params(embeddings="none").fit(*rows, Seeds(0)).get_state()


@pytest.mark.parametrize(
    ("plugin", "named"),
    [
        (FTTransformer(width=30), "ft-transformer width must be a multiple of n_heads; got 30 and 8"),
        (FTTransformer(depth=0), "ft-transformer depth must be"),
        (FTTransformer(attention_dropout=1), "ft-transformer attention_dropout must be .*; got 1"),
        (FTTransformer(embeddings="linear"), "ft-transformer embeddings must be one of"),
        (TabularResNet(dropout=1.0), "tabular-resnet dropout must be below 1; got 1.0"),
        (TabularResNet(hidden_multiplier=-1), "tabular-resnet hidden_multiplier must be"),
        (TabularResNet(frequency_scale=0), "tabular-resnet frequency_scale must be above 0; got 0"),
        (TabularResNet(n_bins=1), "tabular-resnet n_bins must be"),
        (TabularResNet(embedding_width=0), "tabular-resnet embedding_width must be"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_parameter_that_cannot_be_is_named(plugin, named):
    with pytest.raises(InvalidParameterError, match=named):
        plugin.build((4,))


def test_rows_that_cannot_be_used_are_refused():
    assert TabularResNet().accepts(np.zeros((2, 3, 4))).startswith("tabular-resnet needs flat rows of numbers;")
    assert FTTransformer().accepts(np.zeros((2, 513))).endswith("got 513. Use 'tabular-resnet'.")
    assert TabularResNet().accepts(np.zeros((2, 513))) is None


def test_a_search_tries_one_block_on_wide_tables():
    narrow, wide = (FTTransformer().search_space(Problem("unlabelled", (n,))) for n in (64, 65))
    assert (narrow["depth"], wide["depth"]) == (Int(1, 3), Int(1, 1))
    assert narrow.keys() == wide.keys()
