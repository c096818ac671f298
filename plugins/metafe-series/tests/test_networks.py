from __future__ import annotations

import numpy as np
import pytest
import torch
from metafe_series import DilatedConv, InceptionTime
from torch.func import functional_call

import metafe
from metafe.contracts import InvalidParameterError

NETWORKS = [InceptionTime(3, 2, 5), DilatedConv(2, 3, 2, 4), DilatedConv(2, 3, 2, 4, pooling="max")]
IDS = ["inception-time", "dilated-conv", "dilated-conv, max"]


def built(backbone, shape=(2, 12), seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return backbone.build(shape).double().eval()


@pytest.mark.parametrize("backbone", NETWORKS, ids=IDS)
def test_second_derivatives_are_right(backbone):
    """As adaptation by gradient descent takes them: of the squared norm of the gradient."""
    module = built(backbone)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 2, 12, dtype=torch.float64, generator=generator)
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def slope(p):
        gradients = torch.func.grad(lambda q: functional_call(module, q, (x,)).square().sum())(p)
        return sum(g.square().sum() for g in gradients.values())

    direction = {n: torch.randn(p.shape, dtype=p.dtype, generator=generator) for n, p in parameters.items()}
    exact = sum((g * direction[n]).sum() for n, g in torch.func.grad(slope)(parameters).items())
    step = 1e-6
    ends = [slope({n: p + sign * step * direction[n] for n, p in parameters.items()}) for sign in (1, -1)]
    torch.testing.assert_close(exact, (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backbone", NETWORKS, ids=IDS)
def test_gradient_based_algorithms_train_them(waves, backbone):
    rows, y = waves
    extractor = metafe.MetaFeatureExtractor(
        backbone, "maml", encoder="series", max_steps=2, validation_fraction=0, augment=None, random_state=0
    ).fit(rows, y)
    features = extractor.transform(rows)
    assert np.isfinite(features).all()
    assert not np.array_equal(extractor.adapt(rows[:15], y[:15]).transform(rows), features)


def test_dilated_convolutions_see_no_later_values():
    body = built(DilatedConv(4, 6))[:-3]
    x = torch.randn(1, 2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    later = x.clone()
    later[..., 7:] += 1
    with torch.no_grad():
        difference = (body(later) - body(x)).abs().amax((0, 1))
    assert not difference[:7].any()
    assert difference[7:].all()


@pytest.mark.parametrize(("depth", "length", "dilations"), [(4, 100, [1, 2, 4, 8]), (6, 5, [1, 2, 4]), (3, 1, [1])])
def test_dilations_double_and_stay_within_the_series(depth, length, dilations):
    module = built(DilatedConv(depth, 4), (1, length))
    found = [m.dilation[0] for m in module.modules() if isinstance(m, torch.nn.Conv1d) and m.kernel_size == (3,)]
    assert found == [d for d in dilations for _ in range(2)]


@pytest.mark.parametrize(
    ("longest", "length", "kernels"),
    [(39, 100, [39, 19, 9]), (40, 100, [39, 19, 9]), (39, 12, [11, 5, 3]), (39, 1, [1, 1, 1])],
)
def test_kernels_are_odd_and_no_longer_than_the_series(longest, length, kernels):
    module = built(InceptionTime(1, 4, longest), (1, length))
    assert [conv.kernel_size[0] for conv in module[0].inceptions[0].branches] == kernels
    assert module(torch.zeros(2, 1, length, dtype=torch.float64)).shape == (2, 16)


@pytest.mark.parametrize(
    ("backbone", "named"),
    [
        (InceptionTime(depth=0), "inception-time depth must be"),
        (InceptionTime(longest_kernel=2.5), "inception-time longest_kernel must be .*; got 2.5"),
        (InceptionTime(dropout=1), "inception-time dropout must be at least 0 and below 1; got 1"),
        (DilatedConv(kernel=0), "dilated-conv kernel must be"),
        (DilatedConv(pooling="last"), "dilated-conv pooling must be one of"),
        (DilatedConv(dropout=-0.1), "dilated-conv dropout must be .*; got -0.1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_parameter_that_cannot_be_is_named(backbone, named):
    with pytest.raises(InvalidParameterError, match=named):
        backbone.build((1, 20))


@pytest.mark.parametrize("backbone", NETWORKS, ids=IDS)
def test_rows_that_are_no_series_are_refused(backbone):
    assert "needs series of shape (n, n_channels, length); got (4, 20)." in backbone.accepts(np.zeros((4, 20)))
    assert "got bytes, as images have them." in backbone.accepts(np.zeros((4, 28, 28), dtype=np.uint8))
