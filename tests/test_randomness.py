"""Random numbers for layers that only know the global generator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional, init

from metafe.training.randomness import use_generator


def _train_twice(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    out = layer.train()(x)
    return out[0] if isinstance(out, tuple) else out


ROWS = torch.linspace(-2, 2, 6 * 8).reshape(6, 8)
IMAGES = torch.linspace(-2, 2, 2 * 4 * 6 * 6).reshape(2, 4, 6, 6)
INITIALISED = {
    "linear": lambda: nn.Linear(8, 3),
    "bilinear": lambda: nn.Bilinear(3, 4, 5),
    "convolution": lambda: nn.Conv2d(4, 3, 3),
    "transposed convolution": lambda: nn.ConvTranspose1d(4, 3, 3),
    "embedding": lambda: nn.Embedding(5, 3),
    "embedding bag": lambda: nn.EmbeddingBag(5, 3),
    "gru": lambda: nn.GRU(4, 3, num_layers=2),
    "lstm": lambda: nn.LSTM(4, 3, bidirectional=True),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16),
}
FILLS = {
    **{
        name: getattr(init, name)
        for name in ("uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_")
    },
    **{name: getattr(init, name) for name in ("kaiming_uniform_", "kaiming_normal_", "orthogonal_")},
    "sparse_": lambda x: init.sparse_(x, 0.5),
    "Tensor.normal_": lambda x: x.normal_(),
    "Tensor.bernoulli_": lambda x: x.bernoulli_(0.5),
    "Tensor.exponential_": lambda x: x.exponential_(),
    "rand": lambda x: torch.rand(6, 8),
    "randn": lambda x: torch.randn((6, 8)),
    "randint": lambda x: torch.randint(100, (6, 8)),
    "randperm": lambda x: torch.randperm(48),
    "rand_like": torch.rand_like,
    "randn_like": torch.randn_like,
    "randint_like": lambda x: torch.randint_like(x, 100),
    "bernoulli": lambda x: torch.bernoulli(torch.full_like(x, 0.5)),
    "multinomial": lambda x: torch.multinomial(torch.ones(48), 20),
    "normal": lambda x: torch.normal(torch.zeros(48), torch.ones(48)),
    "poisson": lambda x: torch.poisson(torch.full((48,), 3.0)),
}
DROPPING = {
    "dropout": (lambda: nn.Dropout(0.5), ROWS),
    "dropout in place": (lambda: nn.Dropout(0.5, inplace=True), ROWS),
    "dropout1d": (lambda: nn.Dropout1d(0.5), IMAGES[0]),
    "dropout2d": (lambda: nn.Dropout2d(0.5), IMAGES),
    "dropout3d": (lambda: nn.Dropout3d(0.5), IMAGES[:, :, None]),
    "alpha dropout": (lambda: nn.AlphaDropout(0.5), ROWS),
    "feature alpha dropout": (lambda: nn.FeatureAlphaDropout(0.5), IMAGES),
    "rrelu": (nn.RReLU, ROWS),
    "fractional pooling": (lambda: nn.FractionalMaxPool2d(2, output_ratio=0.7), IMAGES),
    "gru": (lambda: nn.GRU(8, 8, num_layers=2, dropout=0.5), ROWS),
    "lstm": (lambda: nn.LSTM(8, 8, num_layers=2, dropout=0.5), ROWS),
    "rnn": (lambda: nn.RNN(8, 8, num_layers=2, dropout=0.5), ROWS),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5), ROWS),
}


def _under(seed: int, function: Any) -> Any:
    """Call a function under a generator of that seed; the global generator must not notice."""
    before = torch.random.get_rng_state()
    with use_generator(torch.Generator().manual_seed(seed)):
        result = function()
    assert torch.equal(torch.random.get_rng_state(), before)
    return result


class TestUseGenerator:
    @pytest.mark.parametrize("name", INITIALISED)
    def test_initialisation(self, name):
        parts = [
            torch.cat([p.detach().flatten() for p in _under(seed, INITIALISED[name]).parameters()])
            for seed in (0, 0, 1)
        ]
        assert torch.equal(parts[0], parts[1])
        assert not torch.equal(parts[0], parts[2])

    @pytest.mark.parametrize("name", FILLS)
    def test_fills(self, name):
        first, same, other = (_under(seed, lambda: FILLS[name](torch.zeros(6, 8))) for seed in (0, 0, 1))
        assert torch.equal(first, same)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize("name", DROPPING)
    def test_layers_that_draw_in_training(self, name):
        make, x = DROPPING[name]
        layer = _under(9, make)
        first, same, other = (_under(seed, lambda: _train_twice(layer, x.clone())) for seed in (0, 0, 1))
        assert torch.equal(first, same)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize("dropout", [functional.dropout, functional.dropout1d, functional.dropout2d])
    def test_dropout_keeps_the_mean_and_drops_its_share(self, dropout):
        ones = torch.ones(
            4000, 5, *(() if dropout is functional.dropout else (2,) * (1 if dropout is functional.dropout1d else 2))
        )
        dropped = _under(0, lambda: dropout(ones, 0.3, True))
        assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
        assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
        if dropped.ndim > 2:
            assert (dropped.flatten(2) == dropped.flatten(2)[..., :1]).all()
        assert torch.equal(_under(0, lambda: dropout(ones, 0.3, False)), ones)
        assert not _under(0, lambda: dropout(ones, 1.0, True)).any()

    def test_a_generator_that_is_passed_is_used(self):
        mine = torch.Generator().manual_seed(3)
        drawn = _under(0, lambda: torch.zeros(4).normal_(generator=mine))
        assert torch.equal(drawn, torch.zeros(4).normal_(generator=torch.Generator().manual_seed(3)))
