"""Each augmentation does what it says, within what it says."""

from __future__ import annotations

import pytest
import torch
from metafe_vision import ColourJitter, HorizontalFlip, RandomCrop
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metafe.contracts import Problem


def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def x():
    """Standardised colour images, ``(64, 3, 12, 10)``."""
    return torch.randn(64, 3, 12, 10, generator=torch.Generator().manual_seed(1))


AUGMENTATIONS = [ColourJitter(), HorizontalFlip(), RandomCrop()]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: augmentation.name)
def test_rows_that_are_no_images_are_refused(augmentation):
    for shape in ((5,), (8, 8), (2, 3, 4, 5)):
        assert augmentation.accepts(shape) == f"{augmentation.name} needs images (C, H, W); got rows of shape {shape}."


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: augmentation.name)
def test_each_row_changes_in_its_own_way(augmentation, x):
    same = x[:1].expand(64, -1, -1, -1)
    changed = augmentation(same, generator())
    n_distinct = len({row.numpy().tobytes() for row in changed})
    assert n_distinct == 2 if isinstance(augmentation, HorizontalFlip) else n_distinct > 40


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: augmentation.name)
@pytest.mark.parametrize("n_channels", [1, 2, 5])
def test_any_number_of_channels_is_taken(augmentation, n_channels):
    x = torch.randn(4, n_channels, 9, 8)
    changed = augmentation(x, generator())
    assert changed.shape == x.shape
    assert not torch.equal(changed, x)


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


# Mirrors.


def test_a_share_is_mirrored(x):
    changed = HorizontalFlip(p=0.25)(x, generator())
    mirrored = (changed == x.flip(-1)).all(dim=(1, 2, 3))
    kept = (changed == x).all(dim=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 6 < mirrored.sum() < 28


# Crops.


def test_a_crop_that_keeps_all_is_the_image(x):
    torch.testing.assert_close(RandomCrop(1.0, 1.0, 0.0)(x, generator()), x, atol=1e-5, rtol=0)


def test_a_padded_crop_is_shifted_by_whole_pixels(x):
    changed = RandomCrop(1.0, 1.0, padding=0.2)(x, generator())
    # Copies of the border, then every shift of up to a fifth of 12 and of 10 pixels.
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    shifts = [(down, across) for down in range(5) for across in range(5)]
    shifted = torch.stack([padded[..., i : i + 12, j : j + 10] for i, j in shifts])
    differences = (shifted - changed).abs().amax(dim=(2, 3, 4))
    assert (differences.min(dim=0).values < 1e-4).all()
    assert len(set(differences.argmin(dim=0).tolist())) > 15


def test_a_resized_crop_lies_inside_and_is_enlarged():
    # A ramp from left to right becomes a flatter ramp.
    ramp = torch.arange(32.0).expand(500, 1, 32, 32)
    changed = RandomCrop(smallest=0.25, stretch=1.0)(ramp, generator())
    assert changed.min() >= 0
    assert changed.max() <= 31
    slopes = (changed[:, 0, 16, 20] - changed[:, 0, 16, 12]) / 8
    assert 0.45 < slopes.min() < 0.6
    assert 0.95 < slopes.max() <= 1.01
    # Half a pixel outside of the first whole one is a copy of it.
    assert (changed[:, 0, 16, 0].frac() < 1).all()


def test_sides_are_stretched_within_bounds():
    across = torch.arange(64.0).expand(300, 1, 64, 64)
    both = torch.cat([across, across.mT], dim=1)
    changed = RandomCrop(smallest=0.4, stretch=1.5)(both, generator())
    slope_x = (changed[:, 0, 32, 40] - changed[:, 0, 32, 24]) / 16
    slope_y = (changed[:, 1, 40, 32] - changed[:, 1, 24, 32]) / 16
    ratio = slope_x / slope_y
    assert 1 / 1.6 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.6


# Colours.


def test_no_jitter_changes_nothing(x):
    torch.testing.assert_close(ColourJitter(0, 0, 0, 0)(x, generator()), x, atol=1e-5, rtol=0)


def test_values_stay_within_the_range_of_the_image(x):
    changed = ColourJitter(1.0, 1.0, 1.0, 0.5)(x, generator())
    assert (changed.amin((1, 2, 3)) >= x.amin((1, 2, 3)) - 1e-5).all()
    assert (changed.amax((1, 2, 3)) <= x.amax((1, 2, 3)) + 1e-5).all()


def test_an_image_of_one_value_stays_finite():
    assert torch.isfinite(ColourJitter()(torch.full((4, 3, 8, 8), 7.0), generator())).all()


def test_saturation_and_hue_leave_grey_alone():
    grey = torch.randn(8, 1, 6, 6).expand(-1, 3, -1, -1)
    changed = ColourJitter(0, 0, saturation=0.9, hue=0.5)(grey, generator())
    torch.testing.assert_close(changed, grey, atol=1e-4, rtol=0)


def test_brightness_moves_all_pixels_alike():
    # Far from the ends of the range nothing is cut off.
    x = torch.linspace(0.4, 0.6, 64).reshape(1, 1, 8, 8).repeat(16, 1, 1, 1)
    x[:, 0, 0, 0], x[:, 0, 7, 7] = 0, 1
    moved = (ColourJitter(0.3, 0, 0, 0)(x, generator()) - x)[:, 0, 1:7]
    assert moved.std(dim=(1, 2)).max() < 1e-6
    assert -0.3 <= moved.min() < -0.15
    assert 0.15 < moved.max() <= 0.3


def test_colours_are_searched_where_there_are_any():
    assert ColourJitter().search_space(Problem("unlabelled", (3, 8, 8))).keys() >= {"saturation", "hue"}
    assert not ColourJitter().search_space(Problem("unlabelled", (1, 8, 8))).keys() & {"saturation", "hue"}
