"""Every built-in plugin keeps the contract that metafe asks of anyone's plugin."""

from __future__ import annotations

import pytest
from sklearn.decomposition import PCA

from metafe.algorithms import (
    ANIL,
    BOIL,
    IMAML,
    MAML,
    R2D2,
    Cosine,
    MatchingNetworks,
    MetaSGD,
    ProtoNet,
    RelationNetworks,
    Reptile,
    Supervised,
    Untrained,
)
from metafe.augmentations import Affine, FeatureDropout, Noise, Rotate90
from metafe.backbones import MLP, PLDA, Adapter, Conv4, Identity, SklearnTransformer
from metafe.plugins import registry
from metafe.tasks import AugmentTasks, ClassTasks, ClusterTasks, ColumnTasks, GroupTasks, RowTasks, Sinusoid
from metafe.testing import AugmentationContract, BackboneContract, MetaAlgorithmContract, TaskSourceContract
from metafe.testing.common import example_rows
from metafe.testing.task_source import example_data

BACKBONES = [
    Identity(),
    MLP(),
    MLP(depth=1, width=5, n_features=None, normalisation="none", activation="gelu"),
    MLP(normalisation="batch", dropout=0.5),
    Conv4(width=4),
    Conv4(depth=2, width=4, normalisation="layer", activation="gelu", dropout=0.2, pooling="mean"),
    Adapter(),
    Adapter("all", width=5, rate=1.0, direction_only=False),
    PLDA(),
    PLDA(scaling="all"),
    SklearnTransformer(),
    SklearnTransformer("lda"),
    SklearnTransformer("nca"),
    SklearnTransformer("nystroem"),
    SklearnTransformer(PCA(n_components=2)),
]
ALGORITHMS = [
    ProtoNet(),
    ProtoNet("cosine"),
    ProtoNet(temperature=3.0),
    MatchingNetworks(),
    RelationNetworks(),
    RelationNetworks("cross-entropy", width=3),
    R2D2(),
    Cosine(),
    MAML(),
    MAML(first_order=True, inner_optimizer="adam", inner_rate=0.01, adapts="head"),
    MAML(learned_rates="layer_step", multi_step_loss=True, adapt_steps=8),
    MAML(shared_head=True, vectorise=False, checkpoint_steps=True),
    ANIL(),
    ANIL(first_order=True, inner_optimizer="adam"),
    BOIL(),
    MetaSGD(),
    IMAML(),
    IMAML(n_steps=3, vectorise=False),
    Reptile(),
    Reptile(inner_optimizer="sgd", inner_rate=0.1, momentum=0.9, vectorise=False),
    Supervised(),
    Untrained(),
]
TASK_SOURCES = [
    ClassTasks(),
    ClassTasks(n_way=(2, 4), n_shot=1, n_query=(1, 20), within_groups=0.0),
    GroupTasks(),
    GroupTasks(n_way=2, n_shot=(1, 3), n_query=2),
    RowTasks(),
    RowTasks(n_shot=3, n_query=(2, 4)),
    ColumnTasks(),
    ColumnTasks(n_way=(2, 5), n_shot=(1, 3), n_query=(1, 4), ratio=(0.1, 0.9), n_rows=64),
    ClusterTasks(n_partitions=2),
    ClusterTasks(n_way=(2, 4), n_clusters=6, n_partitions=2, n_components=2),
    ClusterTasks(n_partitions=2, embedding=PCA(n_components=2)),
    AugmentTasks(),
    AugmentTasks(n_way=(2, 6), n_shot=2),
]
GENERATED = [Sinusoid(), Sinusoid(n_shot=3, n_query=4)]
AUGMENTATIONS = [Affine(), Affine(0.0, 0.0, 0.0, 0.0), FeatureDropout(), Noise(), Rotate90()]


def in_one_line(plugin):
    return " ".join(repr(plugin).split())


class TestBackbones(BackboneContract):
    @pytest.fixture(params=BACKBONES, ids=in_one_line)
    def plugin(self, request):
        return request.param


class TestConv4OnOtherLayouts(BackboneContract):
    @pytest.fixture(params=[(8, 8), (9, 13), (3, 8, 8), (12, 10, 3), (2, 15, 9)], ids=str)
    def data(self, request):
        return example_rows(request.param)

    @pytest.fixture
    def plugin(self):
        return Conv4(width=3)


class TestConv4OnFlatRows(BackboneContract):
    @pytest.fixture
    def data(self):
        return example_rows((128,))

    @pytest.fixture(params=[(8, 16), (2, 8, 8), (8, 8, 2)], ids=str)
    def plugin(self, request):
        return Conv4(width=3, image_shape=request.param)


class TestAlgorithms(MetaAlgorithmContract):
    @pytest.fixture(params=ALGORITHMS, ids=in_one_line)
    def plugin(self, request):
        return request.param


class TestTaskSources(TaskSourceContract):
    @pytest.fixture(params=TASK_SOURCES, ids=in_one_line)
    def plugin(self, request):
        return request.param


class TestTasksOfImages(TaskSourceContract):
    @pytest.fixture(params=[ClusterTasks(n_partitions=2), AugmentTasks()], ids=in_one_line)
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def datasets(self):
        return example_data((1, 8, 8))


class TestGeneratedTasks(TaskSourceContract):
    @pytest.fixture(params=GENERATED, ids=in_one_line)
    def plugin(self, request):
        return request.param

    @pytest.fixture
    def datasets(self):
        return example_data((1,))


class TestClassTasksWithinGroups(TaskSourceContract):
    @pytest.fixture(params=[0.5, 1.0])
    def plugin(self, request):
        return ClassTasks(n_way=2, within_groups=request.param)


class TestAugmentations(AugmentationContract):
    @pytest.fixture(params=AUGMENTATIONS, ids=in_one_line)
    def plugin(self, request):
        return request.param


def test_every_built_in_plugin_is_tested_here():
    tested = {type(p) for p in [*BACKBONES, *ALGORITHMS, *TASK_SOURCES, *GENERATED, *AUGMENTATIONS]}
    built_in = {registry().get(info.kind, info.name) for info in registry().listing() if info.distribution == "metafe"}
    assert built_in == tested
