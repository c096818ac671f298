from __future__ import annotations

import pytest
import torch
from metafe_audio import SpecAugment, Stretch, TimeShift
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metafe.contracts import Problem


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


AUGMENTATIONS = [SpecAugment(), TimeShift(), Stretch()]


@pytest.fixture
def x():
    """Standardised spectrograms, ``(16, 1, 12, 10)``."""
    return torch.randn(16, 1, 12, 10, generator=generator(1))


def test_spec_augment_hides_bands_and_stretches_and_leaves_the_rest():
    x = torch.ones(200, 1, 40, 30)
    hidden = SpecAugment(frequency=0.25, time=0.5)(x, generator())[:, 0] == 0
    bands, stretches = hidden.all(2).sum(1), hidden.all(1).sum(1)
    assert bands.max() == 10
    assert stretches.max() == 15
    assert 4 < bands.float().mean() < 6
    assert len(bands.unique()) > 8, "Each row has masks of its own."
    assert torch.equal(hidden, hidden.all(2)[:, :, None] | hidden.all(1)[:, None, :])


def test_masks_lie_anywhere_and_may_be_several():
    x = torch.ones(500, 1, 20, 20)
    covered = (SpecAugment(0.2, 0.2)(x, generator()) == 0).float().mean(0)[0]
    assert (covered > 0.02).all()
    once, thrice = ((SpecAugment(0.2, 0.2, n)(x, generator()) == 0).float().mean() for n in (1, 3))
    assert thrice > 2 * once


def test_time_shift_moves_and_repeats_the_border():
    x = torch.arange(20.0).expand(100, 2, 3, 20)
    moved = TimeShift(0.25)(x, generator())
    steps = moved[:, 0, 0, 10] - 10
    assert steps.min() == -5
    assert steps.max() == 5
    expected = (torch.arange(20.0) + steps[:, None]).clamp(0, 19)
    assert torch.equal(moved, expected[:, None, None].expand_as(moved))


@pytest.mark.parametrize("augmentation", [TimeShift(0.0), Stretch(0.0, 0.0), SpecAugment(0.0, 0.0)], ids=str)
def test_an_amount_of_zero_changes_nothing(augmentation):
    x = torch.randn(4, 1, 12, 9, generator=generator())
    torch.testing.assert_close(augmentation(x, generator()), x)


def test_stretch_moves_time_about_the_middle_and_frequencies_from_the_lowest():
    x = torch.zeros(300, 1, 41, 41)
    x[:, :, 20, 20] = 1
    frequencies, times = (Stretch(0.0, 0.2)(x, generator()).amax(3), Stretch(0.2, 0.0)(x, generator()).amax(2))
    assert len(frequencies.argmax(-1).unique()) > 5
    assert times.argmax(-1).unique().tolist() == [20]
    border = torch.zeros(300, 1, 41, 41)
    border[:, :, 0] = 1
    assert (Stretch(0.0, 0.2)(border, generator())[:, :, 0] > 0.9).all()


class Elsewhere(TorchDispatchMode):
    """Notes what is computed with tensors that lie on another device than that of the batch."""

    def __init__(self, device):
        super().__init__()
        self.device, self.found = device, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        self.found |= {str(func) for tensor in tensors if tensor.device.type != self.device}
        return result


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: augmentation.name)
def test_all_is_computed_on_the_device_of_the_batch(augmentation, x):
    augmentation(x, generator())  # what is imported at first makes tensors of its own
    batch = x.to("meta")
    with Elsewhere("meta") as elsewhere:
        changed = augmentation(batch, generator())
    assert changed.device.type == "meta"
    assert elsewhere.found == set()


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: augmentation.name)
@pytest.mark.parametrize("end", ["low", "high"])
def test_the_ends_of_what_a_search_tries_are_augmentations(augmentation, x, end):
    space = augmentation.search_space(Problem("classification", tuple(x.shape[1:]), n_classes=4))
    drawn = type(augmentation)(**{name: getattr(searched, end) for name, searched in space.items()})
    changed = drawn(x, generator())
    assert changed.shape == x.shape
    assert torch.isfinite(changed).all()


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=str)
def test_flat_rows_are_refused(augmentation):
    assert augmentation.accepts((40,)).startswith(f"{augmentation.name} needs spectrograms")
    assert augmentation.accepts((1, 40, 30)) is None
