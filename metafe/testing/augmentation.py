"""What augmentations keep."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metafe.contracts import Augmentation
from metafe.testing.common import is_refusal_or_none, untouched_global_generators
from metafe.testing.plugin import PluginContract

ODD_SHAPES: list[tuple[int, ...]] = [(), (1,), (5,), (3, 4), (1, 8, 8), (3, 8, 12), (2, 3, 4, 5)]
TYPICAL_SHAPES: list[tuple[int, ...]] = [(12,), (3, 16, 16), (3, 16, 12), (10, 6)]


class AugmentationContract(PluginContract):
    """Checks of an augmentation: override ``plugin``, and ``rows`` where rows of numbers and images do not fit.

    Examples
    --------
    >>> import pytest
    >>> class Flip(Augmentation):
    ...     name = "flip"
    ...     def __call__(self, x, generator):
    ...         chosen = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    ...         return torch.where(chosen.reshape(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
    >>> class TestFlip(AugmentationContract):
    ...     @pytest.fixture
    ...     def plugin(self):
    ...         return Flip()
    """

    base = Augmentation

    @pytest.fixture
    def rows(self, plugin: Augmentation) -> list[Tensor]:
        """Return batches of standardised rows to change; the default is flat rows and images, where accepted."""
        generator = torch.Generator().manual_seed(0)
        shapes = [shape for shape in TYPICAL_SHAPES if plugin.accepts(shape) is None]
        assert shapes, f"{plugin!r} accepts none of {TYPICAL_SHAPES}; override the rows fixture."
        return [torch.randn(8, *shape, generator=generator) for shape in shapes]

    def test_accepts_gives_a_sentence_or_none(self, plugin: Augmentation) -> None:
        for shape in ODD_SHAPES:
            assert is_refusal_or_none(plugin.accepts(shape)), f"accepts({shape}) must be a sentence or None."

    def test_keeps_shape_and_type(self, plugin: Augmentation, rows: list[Tensor]) -> None:
        for x in rows:
            for typed in (x, x.double()):
                changed = plugin(typed, _generator())
                assert changed.shape == typed.shape
                assert changed.dtype == typed.dtype
                assert torch.isfinite(changed).all()

    def test_takes_a_single_row(self, plugin: Augmentation, rows: list[Tensor]) -> None:
        for x in rows:
            assert plugin(x[:1], _generator()).shape == x[:1].shape

    def test_depends_on_the_generator_alone(self, plugin: Augmentation, rows: list[Tensor]) -> None:
        for x in rows:
            with untouched_global_generators():
                first = plugin(x, _generator())
            assert torch.equal(first, plugin(x, _generator())), "The same generator must give the same rows."

    def test_leaves_its_input(self, plugin: Augmentation, rows: list[Tensor]) -> None:
        for x in rows:
            before = x.clone()
            plugin(x, _generator())
            for k in range(plugin.n_views(tuple(x.shape[1:]))):
                plugin.view(x, k)
            assert torch.equal(x, before), "Rows must not be changed in place."

    def test_number_of_views_is_at_least_one(self, plugin: Augmentation, rows: list[Tensor]) -> None:
        for x in rows:
            n_views = plugin.n_views(tuple(x.shape[1:]))
            assert isinstance(n_views, int)
            assert n_views >= 1, "The rows themselves are a view."

    def test_first_view_is_the_rows(self, plugin: Augmentation, rows: list[Tensor]) -> None:
        for x in rows:
            assert torch.equal(plugin.view(x, 0), x)

    def test_views_keep_shape_and_type(self, plugin: Augmentation, rows: list[Tensor]) -> None:
        for x in rows:
            for k in range(plugin.n_views(tuple(x.shape[1:]))):
                for part in (x, x[:1], x[:0], x.double()):
                    viewed = plugin.view(part, k)
                    assert viewed.shape == part.shape
                    assert viewed.dtype == part.dtype

    def test_views_differ_and_repeat(self, plugin: Augmentation, rows: list[Tensor]) -> None:
        for x in rows:
            views = [plugin.view(x, k) for k in range(plugin.n_views(tuple(x.shape[1:])))]
            for k, viewed in enumerate(views):
                assert torch.equal(viewed, plugin.view(x, k)), "A view must be the same each time."
                assert not any(torch.equal(viewed, other) for other in views[:k]), "Each view is a class of its own."

    def test_views_treat_each_row_alone(self, plugin: Augmentation, rows: list[Tensor]) -> None:
        for x in rows:
            for k in range(plugin.n_views(tuple(x.shape[1:]))):
                one_by_one = torch.cat([plugin.view(row[None], k) for row in x])
                torch.testing.assert_close(plugin.view(x, k), one_by_one)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)
