from __future__ import annotations

import pytest
import torch
from metafe_series import Jitter, Scaling, WindowWarping


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_jitter_adds_noise_of_its_scale():
    changed = Jitter(scale=0.2)(torch.ones(50, 3, 40), generator())
    assert changed.mean() == pytest.approx(1, abs=0.01)
    assert changed.std() == pytest.approx(0.2, rel=0.05)


def test_scaling_multiplies_each_channel_by_one_number():
    x = torch.randn(200, 3, 40, generator=generator(1))
    factor = Scaling(scale=0.2)(x, generator()) / x
    torch.testing.assert_close(factor, factor[..., :1].expand_as(factor))
    assert factor[..., 0].mean() == pytest.approx(1, abs=0.03)
    assert factor[..., 0].std() == pytest.approx(0.2, rel=0.1)


def times(x):
    """Where each value of warped series comes from, if the series were its own clock."""
    return x[:, 0]


def test_warping_keeps_ends_and_order():
    clock = torch.arange(101.0).expand(64, 1, 101)
    warped = times(WindowWarping(0.3)(clock, generator()))
    torch.testing.assert_close(warped[:, 0], torch.zeros(64))
    torch.testing.assert_close(warped[:, -1], torch.full((64,), 100.0))
    assert (warped.diff() > 0).all()


def test_the_window_is_played_at_half_or_twice_the_speed_of_the_rest():
    clock = torch.arange(101.0).expand(64, 1, 101)
    steps = times(WindowWarping(0.3)(clock, generator())).diff()
    ratio = steps.amax(1) / steps.amin(1)
    torch.testing.assert_close(ratio, torch.full((64,), 2.0), rtol=1e-3, atol=1e-3)
    # Stretched, the window of 30 of 100 becomes 60 of 130; squeezed, 15 of 85.
    slow = (steps < 0.99 * steps.amax(1, keepdim=True)).sum(1)
    assert set((slow > 50).tolist()) == {False, True}, "Some are stretched and some are squeezed."


def test_all_channels_are_warped_alike_and_rows_differ():
    clock = torch.arange(50.0).expand(8, 2, 50)
    warped = WindowWarping(0.4)(clock, generator())
    torch.testing.assert_close(warped[:, 0], warped[:, 1])
    assert len({tuple(row.tolist()) for row in warped[:, 0]}) == 8


def test_without_a_window_nothing_changes():
    x = torch.randn(4, 2, 30, generator=generator())
    torch.testing.assert_close(WindowWarping(0.0)(x, generator()), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cls", [Jitter, Scaling, WindowWarping])
def test_rows_that_are_no_series_are_refused(cls):
    assert cls().accepts((1, 20)) is None
    assert "needs series of shape (n_channels, length); got rows of shape (20,)." in cls().accepts((20,))
