"""When augmentations run, and views that count as classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metafe.augmentations import Rotate90
from metafe.backbones import Conv4
from metafe.contracts import (
    Augmentation,
    TaskBatch,
)
from metafe.training.augmenting import Augmenter

pytestmark = pytest.mark.filterwarnings(
    "ignore::metafe.contracts.FeatureQualityWarning", "ignore::metafe.contracts.AdaptedSettingWarning"
)


class Counting(Augmentation):
    name = "test-counting-augmentation"
    calls = 0

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        type(self).calls += 1
        return x + 1


class TestAugmentation:
    @pytest.mark.parametrize("algorithm", ["protonet", "supervised"])
    def test_it_never_runs_in_validation_or_transform(self, small, digits, algorithm):
        X, y = digits
        Counting.calls = 0
        extractor = small("mlp", algorithm, augment=Counting(), max_steps=3, refit=False).fit(X, y)
        assert Counting.calls == (6 if algorithm == "protonet" else 3)
        extractor.adapt(X, y).transform(X)
        assert Counting.calls == (6 if algorithm == "protonet" else 3)

    def test_it_changes_what_is_learned(self, small, digits):
        X, y = digits
        plain, augmented = (small(augment=a, validation_fraction=0.0).fit(X, y).transform(X) for a in (None, "noise"))
        assert not np.allclose(plain, augmented)

    @staticmethod
    def _corners(view: int) -> torch.Tensor:
        image = torch.zeros(1, 8, 8)
        image[0, 0, 0] = 1
        return torch.rot90(image, view, dims=(-2, -1))

    def _views_of(self, x: torch.Tensor) -> torch.Tensor:
        """Which quarter turn each image shows, ``(T, S)``."""
        turns = torch.stack([self._corners(k) for k in range(4)])
        return (x[:, :, None] == turns).flatten(3).all(-1).int().argmax(-1)

    def test_views_are_new_classes_and_one_view_a_class_of_a_task(self):
        n_tasks, n_way = 40, 3
        y = torch.arange(n_way).repeat_interleave(4).expand(n_tasks, -1)
        classes = torch.stack(
            [torch.randperm(7, generator=torch.Generator().manual_seed(t))[:n_way] for t in range(n_tasks)]
        )
        codes = classes.gather(1, y)
        x = self._corners(0).expand(*y.shape, 1, 8, 8)
        augmenter = Augmenter([Rotate90()], (1, 8, 8), n_classes=7)
        assert augmenter.n_classes_with_views == 28
        batch = augmenter(TaskBatch(x, y, x, y, n_way, codes, codes), torch.Generator().manual_seed(0))
        for rows, label, original in (
            (batch.support_x, batch.support_class, codes),
            (batch.query_x, batch.query_class, codes),
        ):
            views = self._views_of(rows)
            assert torch.equal(label, original + 7 * views)
            assert set(views.flatten().tolist()) == {0, 1, 2, 3}
            assert (views.view(n_tasks, n_way, 4) == views.view(n_tasks, n_way, 4)[..., :1]).all()
        assert torch.equal(self._views_of(batch.support_x), self._views_of(batch.query_x))

    def test_views_of_single_rows(self):
        codes = torch.arange(7).repeat(20)[None]
        x = self._corners(0).expand(1, 140, 1, 8, 8)
        empty = TaskBatch(x[:, :0], codes[:, :0], x, codes, 7, codes[:, :0], codes)
        batch = Augmenter([Rotate90()], (1, 8, 8), n_classes=7)(empty, torch.Generator().manual_seed(0))
        views = self._views_of(batch.query_x)
        assert torch.equal(batch.query_class, codes + 7 * views)
        assert len(set(views[0, ::7].tolist())) > 1

    def test_a_supervised_head_has_an_output_for_each_view(self, small, images):
        extractor = small(Conv4(width=4), "supervised", augment="rotate90", validation_fraction=0.0).fit(*images)
        assert extractor.model_.learner.head.out_features == 40
