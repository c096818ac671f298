"""Plugins that each break one part of their contract, under the contract tests; run by test_contract_tests.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from metafe.contracts import (
    Augmentation,
    Backbone,
    Categorical,
    HeadAlgorithm,
    InvalidInputError,
    Learner,
    Problem,
    TaskBatch,
    TaskSource,
)
from metafe.tasks import ClassTasks
from metafe.testing import AugmentationContract, BackboneContract, MetaAlgorithmContract, TaskSourceContract


class Linear(Backbone):
    name = "linear"

    def __init__(self, width=4):
        self.width = width

    def build(self, input_shape):
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), self.width))


class BadName(Linear):
    name = "Not a name"


class ConvertsItsParameter(Linear):
    def __init__(self, width=4):
        self.width = width if isinstance(width, int) else 4


class SearchesWhatIsNoParameter(Linear):
    def search_space(self, problem):
        return {"depth": Categorical([1, 2])}


class CentresOnTheBatch(Linear):
    def encode(self, X):
        return X - X.mean(axis=0)


class LearnsWhileEncoding(Linear):
    def fit(self, X, y, seeds):
        self.seen_ = 0
        return self

    def encode(self, X):
        self.seen_ += len(X)
        return X


class StoresATensor(Linear):
    def fit(self, X, y, seeds):
        self.mean_ = torch.as_tensor(X).mean(0)
        return self


class ForgetsItsState(Linear):
    def fit(self, X, y, seeds):
        self._mean = X.mean(0)
        return self

    def encode(self, X):
        return X - getattr(self, "_mean", 0)


class UsesTheGlobalGenerator(Linear):
    def fit(self, X, y, seeds):
        self.mean_ = np.random.rand()  # noqa: NPY002 - the fault to find
        return self


class SharesItsModule(Backbone):
    name = "shares"

    def __init__(self, module=None):
        self.module = module

    def build(self, input_shape):
        return self.module


class BatchNormWithoutStatistics(Linear):
    def build(self, input_shape):
        norm = nn.BatchNorm1d(self.width, track_running_stats=False)
        return nn.Sequential(super().build(input_shape), norm)


class FeaturesAreImages(Linear):
    def build(self, input_shape):
        return nn.Sequential(super().build(input_shape), nn.Unflatten(1, (1, self.width)))


class HasAnUnusedParameter(Linear):
    def build(self, input_shape):
        module = super().build(input_shape)
        module.unused = nn.Parameter(torch.zeros(1))
        return module


class RefusesWithoutASentence(Linear):
    def accepts(self, X):
        return None if X.ndim == 2 and X.shape[1] > 5 else "no"


class Centroid(HeadAlgorithm):
    name = "centroid"

    def accepts(self, problem):
        return None if problem.kind == "classification" else "centroid needs classes. Pass y."

    def fit_head(self, learner, features, y, n_way):
        members = nn.functional.one_hot(y, n_way).to(features.dtype).mT
        return {"centroids": members @ features / members.sum(-1, keepdim=True)}

    def apply_head(self, learner, state, features):
        return -torch.cdist(features, state["centroids"])


class ChangesTheLearner(Centroid):
    def adapt(self, learner, support_x, support_y, n_way, context):
        with torch.no_grad():
            next(learner.parameters()).add_(1)
        return super().adapt(learner, support_x, support_y, n_way, context)


class NamesItsStateWithDots(Centroid):
    def fit_head(self, learner, features, y, n_way):
        return {"head.centroids": super().fit_head(learner, features, y, n_way)["centroids"]}

    def apply_head(self, learner, state, features):
        return super().apply_head(learner, {"centroids": state["head.centroids"]}, features)


class TakesTheFirstOfEachClass(Centroid):
    def fit_head(self, learner, features, y, n_way):
        return {"centroids": features[..., :n_way, :]}


class DetachesItsLoss(Centroid):
    def meta_loss(self, learner, batch, context):
        loss, metrics = super().meta_loss(learner, batch, context)
        return loss.detach() + 0 * next(learner.parameters()).sum(), metrics


class SaysItIsSeparable(Centroid):
    separable = True

    def meta_loss(self, learner, batch, context):
        loss, metrics = super().meta_loss(learner, batch, context)
        return loss * len(batch), metrics


class SharesTheBackbone(Centroid):
    def build(self, backbone, n_features, problem):
        learner = Learner(backbone, n_features, problem)
        learner.backbone = backbone
        return learner


class ComputesInFloat32(Centroid):
    def features(self, learner, state, x):
        return learner.backbone(x).float()


class Pairs(TaskSource):
    name = "pairs"

    def problem(self, data, input_shape):
        return Problem("classification", input_shape, n_classes=2, max_way=2)

    def row_labels(self, data):
        raise InvalidInputError("pairs labels no rows. Use an algorithm that trains on tasks.")

    def task(self, data, rng):
        rows = data.take(rng.choice(data.rows, size=(1, 2), replace=False))
        labels = np.array([[0, 1]])
        return TaskBatch(rows, labels, rows + rng.normal(scale=0.1, size=rows.shape), labels, n_way=2)


class CountsItsDraws(Pairs):
    def __init__(self):
        self.count = 0

    def task(self, data, rng):
        self.count += 1
        return super().task(data, np.random.default_rng(self.count))


class LabelsFromOne(Pairs):
    def task(self, data, rng):
        task = super().task(data, rng)
        return TaskBatch(task.support_x, task.support_y + 1, task.query_x, task.query_y + 1, n_way=2)


class DrawsOneTooFew(Pairs):
    def draw(self, data, n, step, seeds):
        return super().draw(data, n - 1, step, seeds)


class QueryIsSupport(ClassTasks):
    def episode(self, data, shape, rng):
        episode = super().episode(data, shape, rng)
        return type(episode)(episode.support, episode.support, episode.support_y, episode.support_y, episode.classes)


class SplitsWithOverlap(ClassTasks):
    def split(self, data, fraction, seeds):
        return data, data


class LooksAtTheRows(ClassTasks):
    def episodes(self, data, n, rng):
        return super().episodes(data, n, np.random.default_rng(int(np.abs(data.x).sum())))


class Flip(Augmentation):
    name = "flip"

    def __call__(self, x, generator):
        return x.flip(-1) if torch.rand((), generator=generator) < 0.5 else x


class FlipsInPlace(Flip):
    def __call__(self, x, generator):
        return x.copy_(x.flip(-1))


class DrawsFromTheGlobalGenerator(Flip):
    def __call__(self, x, generator):
        return x + torch.randn_like(x)


class ChangesTheType(Flip):
    def __call__(self, x, generator):
        return x.double()


class ViewsAreTheSame(Flip):
    def n_views(self, input_shape):
        return 2


class FirstViewIsChanged(Flip):
    def n_views(self, input_shape):
        return 2

    def view(self, x, k):
        return x.flip(-1) if k == 0 else x


# What each must fail, among others or alone.
BROKEN = {
    BackboneContract: {
        BadName: "test_name_can_be_typed",
        ConvertsItsParameter: "test_constructor_only_stores",
        SearchesWhatIsNoParameter: "test_search_space_is_declared_over_parameters",
        CentresOnTheBatch: "test_encode_treats_each_row_alone",
        LearnsWhileEncoding: "test_encode_leaves_the_state",
        StoresATensor: "test_state_is_savable",
        ForgetsItsState: "test_state_restores_the_encoder",
        UsesTheGlobalGenerator: "test_fit_depends_on_rows_and_seeds_alone",
        SharesItsModule: "test_build_shares_no_weights",
        BatchNormWithoutStatistics: "test_module_treats_each_row_alone",
        FeaturesAreImages: "test_features_are_a_finite_float32_matrix",
        HasAnUnusedParameter: "test_gradient_reaches_every_parameter_in_float64",
        RefusesWithoutASentence: "test_accepts_gives_a_sentence_or_none",
    },
    MetaAlgorithmContract: {
        ChangesTheLearner: "test_adapt_is_pure",
        NamesItsStateWithDots: "test_state_is_tensors_by_plain_names",
        TakesTheFirstOfEachClass: "test_prediction_does_not_depend_on_the_order_of_support",
        DetachesItsLoss: "test_loss_has_a_gradient_for_every_group",
        SaysItIsSeparable: "test_separable_loss_is_the_mean_over_tasks",
        SharesTheBackbone: "test_build_copies_the_backbone",
        ComputesInFloat32: "test_features_have_the_width_of_the_learner",
    },
    TaskSourceContract: {
        CountsItsDraws: "test_draw_depends_on_its_arguments_alone",
        LabelsFromOne: "test_labels_run_from_zero",
        DrawsOneTooFew: "test_draws_batches_of_as_many_tasks",
        QueryIsSupport: "test_selected_rows_are_in_use_and_disjoint",
        SplitsWithOverlap: "test_split_is_disjoint_and_covers_all_rows",
        LooksAtTheRows: "test_selection_does_not_depend_on_values",
    },
    AugmentationContract: {
        FlipsInPlace: "test_leaves_its_input",
        DrawsFromTheGlobalGenerator: "test_depends_on_the_generator_alone",
        ChangesTheType: "test_keeps_shape_and_type",
        ViewsAreTheSame: "test_views_differ_and_repeat",
        FirstViewIsChanged: "test_first_view_is_the_rows",
    },
}
SOUND = {
    BackboneContract: Linear,
    MetaAlgorithmContract: Centroid,
    TaskSourceContract: Pairs,
    AugmentationContract: Flip,
}


def _contract_test(contract: type, cls: type) -> type:
    plugin = cls(nn.Linear(12, 4)) if cls is SharesItsModule else cls()
    return type(f"Test{cls.__name__}", (contract,), {"plugin": pytest.fixture(lambda self: plugin)})


for _contract, _expected in BROKEN.items():
    for _cls in (*_expected, SOUND[_contract]):
        globals()[f"Test{_cls.__name__}"] = _contract_test(_contract, _cls)
