"""The residual network and its drop-out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metafe_vision import ResNet12
from metafe_vision.drop_block import DropBlock
from torch.nn import functional

from metafe.contracts import InvalidParameterError


def test_it_has_as_many_weights_as_the_one_of_the_papers():
    # Four blocks of 64, 160, 320 and 640 channels on colour images, as published with MetaOptNet.
    module = ResNet12().build((3, 84, 84))
    assert sum(p.numel() for p in module.parameters()) == 12_424_320


@pytest.mark.parametrize(("shape", "width"), [((3, 84, 84), 5 * 5), ((1, 28, 28), 1), ((1, 8, 8), 1), ((3, 9, 40), 5)])
def test_pooling_stops_at_a_single_pixel(shape, width):
    x = torch.randn(2, *shape)
    assert ResNet12(width=4).build(shape)(x).shape == (2, 40)
    assert ResNet12(width=4, pooling="flatten").build(shape)(x).shape == (2, 40 * width)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_images_lie_with_their_channels_last(n_channels):
    module = ResNet12(width=4).build((n_channels, 16, 16))
    seen = []
    for block in list(module)[1:5]:
        block.register_forward_hook(lambda layer, x, y: seen.append(y.is_contiguous(memory_format=torch.channels_last)))
    module(torch.randn(2, n_channels, 16, 16))
    assert seen == [True] * 4


def test_nothing_is_dropped_in_evaluation():
    x = torch.randn(4, 1, 16, 16)
    module = ResNet12(width=4, dropout=0.5).build((1, 16, 16))
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_training_keeps_the_scale_of_features():
    torch.manual_seed(0)
    x = torch.randn(64, 3, 32, 32)
    features = ResNet12().build((3, 32, 32))(x[:16])
    assert 0.05 < features.std() < 20


@pytest.mark.parametrize(
    "parameters",
    [{"width": 0}, {"block_size": 0}, {"pooling": "max"}, {"dropout": 1.0}, {"dropout": -0.1}],
    ids=str,
)
def test_a_parameter_that_cannot_be_is_named(parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^resnet12 {name} must be .*; got {value!r}"):
        ResNet12(**parameters).build((1, 16, 16))


# Drop-out of patches.


@pytest.mark.parametrize(("side", "block_size", "rate"), [(10, 3, 0.1), (5, 5, 0.2), (10, 1, 0.3), (3, 7, 0.1)])
def test_about_the_share_asked_for_is_dropped(side, block_size, rate):
    torch.manual_seed(0)
    dropped = (DropBlock(rate, block_size)(torch.ones(64, 64, side, side)) == 0).float().mean().item()
    # Patches overlap, so the share is a little lower.
    assert 0.75 * rate < dropped < 1.1 * rate


def test_what_is_dropped_are_squares():
    torch.manual_seed(0)
    dropped = (DropBlock(0.02, 3)(torch.ones(64, 16, 12, 12)) == 0).float()
    # What is dropped is the union of the squares that are dropped as a whole.
    corners = 1 - functional.max_pool2d(1 - dropped, 3, stride=1)
    squares = functional.max_pool2d(functional.pad(corners, [2] * 4), 3, stride=1)
    np.testing.assert_array_equal(squares.numpy(), dropped.numpy())


def test_the_mean_stays():
    torch.manual_seed(0)
    assert DropBlock(0.3, 3)(torch.ones(8, 8, 9, 9)).mean().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("drop", [DropBlock(0.0, 3), DropBlock(0.9, 3).eval()], ids=["rate 0", "evaluation"])
def test_nothing_to_drop_is_the_identity(drop):
    x = torch.randn(2, 3, 8, 8)
    assert drop(x) is x


def test_everything_dropped_is_finite():
    assert not DropBlock(1e9, 3)(torch.ones(2, 2, 4, 4)).any()
