"""Task sources that make their own labels, sine waves, and episodes inside one group."""

from __future__ import annotations

import math
import weakref
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import SpectralEmbedding
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from metafe import MetaFeatureExtractor, load
from metafe.augmentations import FeatureDropout, Noise
from metafe.backbones import MLP, Conv4, Identity
from metafe.contracts import (
    AdaptedSettingWarning,
    FeatureQualityWarning,
    HeadAlgorithm,
    InvalidInputError,
    InvalidParameterError,
    Problem,
    Seeds,
    TaskData,
)
from metafe.decisions import Decisions
from metafe.plugins import resolve
from metafe.tasks import AugmentTasks, ClassTasks, ClusterTasks, ColumnTasks, GroupTasks, Sinusoid, pseudo_classes

SEEDS = Seeds(0)
UNLABELLED = [ColumnTasks(n_way=4), ClusterTasks(n_way=3, n_partitions=2), AugmentTasks()]


def unlabelled(X):
    return TaskData(X, None, None, np.arange(len(X)))


def numbered(rows):
    """Return rows of one column, which is their number."""
    return np.arange(float(rows))[:, None]


@pytest.fixture(scope="module")
def islands():
    """Six far islands of 40 points in 8 columns, and the island of each point."""
    rng = np.random.default_rng(0)
    island = rng.permutation(np.repeat(np.arange(6), 40))
    return 20 * rng.normal(size=(6, 8))[island] + rng.normal(size=(240, 8)), island


@pytest.fixture(scope="module")
def loud(islands):
    """The islands, which drown in 40 loud columns."""
    X, island = islands
    return np.concatenate([X, 1e4 * np.random.default_rng(1).normal(size=(len(X), 40))], axis=1), island


def by_name(plugin):
    return plugin.name


# Three steps do not make good features.
@pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
@pytest.mark.parametrize("source", UNLABELLED, ids=by_name)
class TestWithoutLabels:
    def test_labels_are_not_looked_at(self, source, islands):
        X, island = islands
        labelled = TaskData(X, island, None, np.arange(len(X)))
        for ours, theirs in zip(
            source.draw(unlabelled(X), 3, 0, SEEDS), source.draw(labelled, 3, 0, SEEDS), strict=True
        ):
            np.testing.assert_array_equal(ours.query_x, theirs.query_x)
            np.testing.assert_array_equal(ours.query_y, theirs.query_y)

    def test_validation_is_on_clusters_of_the_rows_by_all_columns(self, source, islands):
        X, island = islands
        judge, judged = source.validation_source(unlabelled(X), SEEDS)
        assert judge.selects_rows
        assert judged.x is X
        for batch in judge.draw_validation(judged.with_x(numbered(len(X))), 20, SEEDS):
            for t in range(len(batch)):
                rows, label = rows_and_labels(batch, t)
                pairs = set(zip(island[rows.astype(int).ravel()], label, strict=True))
                # Six islands in five clusters: one cluster has two of them.
                assert len(pairs) <= batch.n_way + 1
                assert len({number for number, _ in pairs}) == len(pairs)

    def test_validation_draws_from_rows_in_use_alone(self, source, islands):
        X, _ = islands
        held_out = unlabelled(X).restrict(np.arange(100, 180))
        _, judged = source.validation_source(held_out, SEEDS)
        np.testing.assert_array_equal(judged.rows, held_out.rows)
        allowed = {tuple(row) for row in X[100:180]}
        for batch in source.draw_validation(held_out, 5, SEEDS):
            drawn = np.concatenate([batch.support_x, batch.query_x], axis=1).reshape(-1, 8)
            assert {tuple(row) for row in drawn} <= allowed

    def test_no_more_than_4096_rows_are_judged_on(self, source):
        X = np.random.default_rng(0).normal(size=(5000, 2))
        _, judged = source.validation_source(unlabelled(X), SEEDS)
        assert len(np.unique(judged.rows)) == 4096

    def test_rows_that_all_but_coincide_make_fewer_clusters(self, source):
        X = np.repeat(np.r_[np.full(20, -1.0), 1 + 1e-6 * np.arange(20)][:, None], 8, axis=1)
        for batch in [*source.draw(unlabelled(X), 2, 0, SEEDS), *source.draw_validation(unlabelled(X), 2, SEEDS)]:
            assert batch.n_way >= 2

    def test_rows_that_are_all_the_same_still_give_tasks(self, source):
        data = unlabelled(np.ones((40, 8)))
        for batch in [*source.draw(data, 2, 0, SEEDS), *source.draw_validation(data, 2, SEEDS)]:
            assert batch.n_way >= 2

    def test_too_few_rows_are_refused(self, source):
        needed = 2 * source.n_way
        assert f"needs at least {needed} rows; got {needed - 1}" in source.accepts(unlabelled(np.eye(needed - 1)))
        assert source.accepts(unlabelled(np.eye(needed))) is None

    def test_a_range_of_ways_ends_where_there_are_no_more_pairs_of_rows(self, source):
        wide = clone(source).set_params(n_way=(2, 30))
        data = unlabelled(np.random.default_rng(0).normal(size=(20, 8)))
        ways = {batch.n_way for step in range(20) for batch in wide.draw(data, 2, step, SEEDS)}
        assert min(ways) == 2
        assert 5 < max(ways) <= wide.problem(data, (8,)).max_way == 10

    def test_a_split_that_leaves_too_few_keeps_all(self, source):
        data = unlabelled(np.eye(2 * source.n_way))
        train, valid = source.split(data, 0.5, SEEDS)
        assert valid is None
        assert train is data

    @pytest.mark.parametrize(
        "wrong", [{"n_way": 1}, {"n_shot": 0}, {"n_query": (3, 2)}, {"n_shot": True}, {"n_query": (True, 2)}], ids=str
    )
    def test_settings_that_cannot_work(self, source, wrong):
        with pytest.raises(InvalidParameterError, match=f"{next(iter(wrong))} must be a whole number"):
            clone(source).set_params(**wrong).accepts(unlabelled(np.eye(50)))

    def test_learns_features_of_its_own(self, source, small, islands):
        X, _ = islands
        extractor = small("mlp", "protonet", tasks=source, augment="auto").fit(X)
        assert extractor.transform(X).shape == (240, 64)
        assert [h["step"] for h in extractor.history_] == [0, 1, 2, 3]
        assert all(0 <= h["score"] <= 1 for h in extractor.history_)
        assert not hasattr(extractor, "classes_")

    def test_the_same_seed_gives_the_same_features(self, source, small, islands):
        X, _ = islands
        first, second = (small("mlp", "protonet", tasks=source, augment="auto").fit(X).transform(X) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_fit_leaves_the_source_configuration(self, source, small, islands):
        before = dict(vars(source))
        extractor = small("mlp", "protonet", tasks=source, augment="auto").fit(islands[0])
        assert vars(source) == before
        assert vars(clone(extractor.tasks_)).keys() == before.keys()


class TestColumns:
    def test_shuffled_columns_made_the_classes_and_tell_them_no_more(self):
        rng = np.random.default_rng(0)
        X = rng.permuted(np.linspace([0.0, 100.0], [90.0, 190.0], 150), axis=0)
        for step in range(10):
            (batch,) = ColumnTasks(n_way=3, n_query=5).draw(unlabelled(X), 1, step, SEEDS)
            x, y = rows_and_labels(batch)
            made_by = [c for c in (0, 1) if in_intervals(X[find(x[:, 1 - c], X[:, 1 - c]), c], y)]
            assert len(made_by) == 1
            assert not in_intervals(x[:, made_by[0]], y)

    @pytest.mark.parametrize(("ratio", "shuffled"), [((0.0, 0.0), 1), ((0.5, 0.5), 2), ((1.0, 1.0), 3)])
    def test_ratio_is_the_share_of_shuffled_columns_at_least_one_and_not_all(self, ratio, shuffled):
        X = np.random.default_rng(0).normal(size=(300, 4))
        (batch,) = ColumnTasks(n_way=4, n_query=20, ratio=ratio).draw(unlabelled(X), 1, 0, SEEDS)
        x, _ = rows_and_labels(batch)
        rows = np.stack([find(x[:, c], X[:, c]) for c in range(4)])
        # Columns that were not shuffled agree on the row; one alone agrees with none.
        agreeing = [sum((rows[c] == rows[d]).mean() > 0.5 for d in range(4)) for c in range(4)]
        assert max(agreeing) == 4 - shuffled

    def test_each_task_has_other_columns(self):
        X = np.random.default_rng(0).normal(size=(300, 4))
        (batch,) = ColumnTasks(n_way=2, n_query=20, ratio=(0.0, 0.0)).draw(unlabelled(X), 20, 0, SEEDS)
        shuffled = set()
        for t in range(20):
            rows = np.stack([find(batch.query_x[t, :, c], X[:, c]) for c in range(4)])
            agreeing = [sum((rows[c] == rows[d]).mean() > 0.5 for d in range(4)) for c in range(4)]
            shuffled.add(int(np.argmin(agreeing)))
        assert shuffled == {0, 1, 2, 3}

    def test_columns_count_alike_whatever_their_unit(self):
        X = np.random.default_rng(0).normal(size=(300, 4))
        source = ColumnTasks(n_way=3)
        for plain, scaled in zip(
            source.draw(unlabelled(X), 4, 0, SEEDS),
            source.draw(unlabelled(X * [1.0, 1024.0, 2.0**-10, 1.0]), 4, 0, SEEDS),
            strict=True,
        ):
            np.testing.assert_allclose(plain.query_x * [1.0, 1024.0, 2.0**-10, 1.0], scaled.query_x)

    def test_clusters_that_are_too_small_make_smaller_tasks(self):
        X = np.r_[np.zeros((60, 2)), np.ones((3, 2))] + 1e-3 * np.random.default_rng(0).normal(size=(63, 2))
        batches = ColumnTasks(n_way=2, n_query=10).draw(unlabelled(X), 10, 0, SEEDS)
        assert sum(map(len, batches)) == 10
        assert min(batch.query_x.shape[1] for batch in batches) == 4

    def test_more_rows_than_a_task_needs_are_left_out(self):
        X = numbered(1000).repeat(2, axis=1)
        (batch,) = ColumnTasks(n_way=2, n_query=500, n_rows=20).draw(unlabelled(X), 1, 0, SEEDS)
        assert batch.support_x.shape[1] + batch.query_x.shape[1] <= 20

    @pytest.mark.parametrize(
        ("X", "said"),
        [
            (np.zeros((99, 8, 8)), r"columns needs flat rows; got rows of shape \(8, 8\)\. Use tasks='augment'"),
            (np.zeros((99, 1)), "columns needs at least 2 columns"),
        ],
        ids=["images", "one column"],
    )
    def test_rows_that_have_no_columns_to_choose_from(self, X, said):
        with pytest.raises(InvalidInputError, match=said):
            MetaFeatureExtractor("mlp", tasks="columns").fit(X)

    def test_a_range_of_ways_ends_where_a_task_has_no_more_pairs_of_rows(self):
        X = np.random.default_rng(0).normal(size=(200, 8))
        source = ColumnTasks(n_way=(2, 30), n_rows=8)
        assert source.accepts(unlabelled(X)) is None
        assert all(batch.n_way <= 4 for step in range(20) for batch in source.draw(unlabelled(X), 2, step, SEEDS))

    @pytest.mark.parametrize("n_rows", [(20, 30), True, 7], ids=str)
    def test_rows_of_a_task_are_one_number_and_enough_for_its_classes(self, n_rows):
        with pytest.raises(InvalidParameterError, match=r"columns n_rows must be a whole number of at least 8; got"):
            ColumnTasks(n_way=4, n_rows=n_rows).accepts(unlabelled(np.eye(50)))

    @pytest.mark.parametrize("ratio", [(0.5, 0.2), (0.2, 1.5), 0.3, ("a", "b"), (False, True)], ids=str)
    def test_a_ratio_that_is_no_range(self, ratio):
        with pytest.raises(InvalidParameterError, match=r"ratio must be a pair \(low, high\) of numbers from 0 to 1"):
            ColumnTasks(ratio=ratio).accepts(unlabelled(np.eye(50)))

    def test_encoded_rows_must_be_flat_too(self):
        with pytest.raises(InvalidInputError, match=r"columns needs flat rows; got rows of shape \(1, 8, 8\)"):
            MetaFeatureExtractor(resolve("backbone", "conv4").set_params(image_shape=(8, 8)), tasks="columns").fit(
                np.random.default_rng(0).normal(size=(99, 64))
            )

    def test_algorithms_that_train_on_rows_are_refused(self, islands):
        with pytest.raises(InvalidInputError, match="columns gives a row another label in each task"):
            MetaFeatureExtractor("mlp", "supervised", tasks="columns").fit(islands[0])


class TestClusters:
    def test_classes_are_clusters_and_keep_their_label_across_tasks(self, islands):
        X, island = islands
        source = ClusterTasks(n_way=3, n_query=2, n_clusters=6, n_partitions=3)
        island_of: dict[int, set[int]] = {}
        for batch in [batch for step in range(20) for batch in source.draw(unlabelled(X), 4, step, SEEDS)]:
            x, labels = (
                np.concatenate(parts, axis=1)
                for parts in ((batch.support_x, batch.query_x), (batch.support_class, batch.query_class))
            )
            for row, label in zip(x.reshape(-1, 8), labels.ravel(), strict=True):
                island_of.setdefault(int(label), set()).add(int(island[(row == X).all(axis=1)][0]))
        assert set(island_of) == set(range(18))
        assert all(len(members) == 1 for members in island_of.values())

    def test_clusters_are_made_once_and_forgotten_with_the_data(self, islands, monkeypatch):
        made = []
        original = pseudo_classes._k_means
        monkeypatch.setattr(pseudo_classes, "_k_means", lambda *given: made.append(given) or original(*given))
        source, data = ClusterTasks(n_partitions=3), unlabelled(islands[0])
        for step in range(4):
            source.draw(data, 2, step, SEEDS)
        assert len(made) == 3
        source.draw(data, 2, 0, Seeds(1))
        assert len(made) == 6
        gone = weakref.ref(data)
        del data
        assert gone() is None
        assert set(vars(source)) == set(source.get_params())

    def test_partitions_differ(self):
        data = unlabelled(np.random.default_rng(0).normal(size=(200, 8)))
        first, second = ClusterTasks(n_partitions=2)._partitions(data, SEEDS)
        pairs = len(np.unique(np.stack([first.y, second.y]), axis=1).T)
        assert pairs > len(first.classes)

    def test_components_drop_what_varies_little(self, islands):
        X, island = islands
        noisy = np.concatenate([X, 1e-6 * np.random.default_rng(0).normal(size=(240, 300))], axis=1)
        images = unlabelled(noisy.reshape(240, 1, 4, -1))
        (partition,) = ClusterTasks(n_clusters=6, n_partitions=1, n_components=5)._partitions(images, SEEDS)
        assert all(len(np.unique(island[rows])) == 1 for rows in partition.rows_by_class)

    def test_many_rows_are_clustered_by_mini_batches(self):
        X = np.random.default_rng(0).normal(size=(10_001, 2))
        (batch,) = ClusterTasks(n_clusters=8, n_partitions=1).draw(unlabelled(X), 2, 0, SEEDS)
        assert batch.query_x.shape == (2, 25, 2)

    def test_rows_can_be_trained_on_with_the_cluster_as_class(self, small, islands):
        X, island = islands
        labels = ClusterTasks(n_clusters=6).row_labels(unlabelled(X))
        assert all(len(np.unique(island[labels == k])) == 1 for k in np.unique(labels))
        extractor = small("mlp", "supervised", tasks=ClusterTasks(n_clusters=6), validation_fraction=0).fit(X)
        assert extractor.history_[-1]["step"] == 3

    @pytest.mark.parametrize("algorithm", ["supervised", "cosine"])
    def test_trained_on_rows_there_is_one_output_a_cluster_and_not_one_in_each_partition(
        self, small, islands, algorithm
    ):
        source = ClusterTasks(n_clusters=6, n_partitions=10)
        extractor = small("mlp", algorithm, tasks=source, validation_fraction=0).fit(islands[0])
        assert extractor.model_.learner.head.out_features == 6

    def test_more_clusters_than_pairs_of_rows(self):
        assert "n_clusters=30 needs at least 60 rows; got 50" in ClusterTasks(n_clusters=30).accepts(
            unlabelled(np.eye(50))
        )

    def test_fewer_clusters_than_classes_of_a_task(self):
        with pytest.raises(InvalidParameterError, match="n_clusters must be at least n_way=5; got 3"):
            ClusterTasks(n_clusters=3).accepts(unlabelled(np.eye(50)))

    @pytest.mark.parametrize(
        "wrong", [{"n_clusters": (3, 6)}, {"n_partitions": (2, 3)}, {"n_components": True}], ids=str
    )
    def test_what_is_one_number_is_no_range(self, wrong):
        with pytest.raises(InvalidParameterError, match=f"clusters {next(iter(wrong))} must be a whole number"):
            ClusterTasks(n_way=3, **wrong).accepts(unlabelled(np.eye(50)))


class TestClustersOfAnEmbedding:
    SOURCE = ClusterTasks(n_way=2, n_clusters=6, n_partitions=2)

    def embedded_by(self, embedding):
        return clone(self.SOURCE).set_params(embedding=embedding)

    def purity(self, source, X, island):
        """Return the share of tasks in which each class has rows of one island alone."""
        islands_of = {tuple(row): number for row, number in zip(X.reshape(len(X), -1), island, strict=True)}
        pure = []
        for batch in source.draw(unlabelled(X), 40, 0, SEEDS):
            for t in range(len(batch)):
                rows, label = rows_and_labels(batch, t)
                numbers = [islands_of[tuple(row.ravel())] for row in rows]
                pure.append(len(set(zip(numbers, label, strict=True))) == batch.n_way)
        return np.mean(pure)

    @pytest.mark.parametrize("shape", [(48,), (1, 6, 8), (6, 8)], ids=str)
    def test_clusters_are_of_what_the_embedding_shows(self, loud, shape):
        X, island = loud[0].reshape(-1, *shape), loud[1]
        quiet = FunctionTransformer(first_columns)
        assert self.purity(self.embedded_by(None), X, island) < 0.5
        assert self.purity(self.embedded_by(quiet), X, island) == 1

    def test_columns_of_an_embedding_keep_their_proportions(self, loud):
        X, island = loud
        weighted = FunctionTransformer(loud_columns_made_faint)
        assert self.purity(self.embedded_by(weighted), X, island) == 1

    def test_it_is_fitted_on_the_rows_in_use_and_yours_stays_unfitted(self, islands):
        X = islands[0].copy()
        X[:40] = 1e6
        in_use = unlabelled(X).restrict(np.arange(40, 240))
        pca = PCA(n_components=3)
        ours = self.embedded_by(pca).draw(in_use, 3, 0, SEEDS)
        theirs = self.embedded_by(FrozenEstimator(PCA(n_components=3).fit(X[40:]))).draw(in_use, 3, 0, SEEDS)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.query_x, other.query_x)
        assert not hasattr(pca, "components_")

    def test_a_transformer_that_is_random_or_transforms_no_new_rows(self, islands):
        embedding = make_pipeline(StandardScaler(), SpectralEmbedding(n_neighbors=30, affinity="rbf"))
        first, second = (self.embedded_by(embedding).draw(unlabelled(islands[0]), 3, 0, SEEDS) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.query_x, other.query_x)

    def test_a_fitted_extractor_sees_rows_of_the_shape_it_was_fitted_on(self, small, images):
        X, y = images[0], images[1]
        learned = small(Conv4(width=4), "protonet", max_steps=1, validation_fraction=0).fit(X, y)
        source = self.embedded_by(FrozenEstimator(learned))
        small(Conv4(width=4), "protonet", tasks=source, max_steps=1, validation_fraction=0).fit(X)
        ours = source.row_labels(unlabelled(X[:, None]))
        theirs = self.embedded_by(FunctionTransformer(func=lambda rows: learned.transform(rows.reshape(-1, 8, 8))))
        np.testing.assert_array_equal(ours, theirs.row_labels(unlabelled(X)))

    def test_it_is_computed_once_and_again_when_its_settings_change(self, islands):
        data, source = unlabelled(islands[0]), self.embedded_by(Counting())
        Counting.fits.clear()
        for step in range(3):
            source.draw(data, 2, step, SEEDS)
        assert len(Counting.fits) == 1
        source.set_params(embedding__n_components=2).draw(data, 2, 0, SEEDS)
        assert Counting.fits == [3, 2]

    @pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
    def test_an_extractor_with_one_is_saved(self, small, islands, tmp_path):
        extractor = small("mlp", "protonet", tasks=self.embedded_by(PCA(n_components=3))).fit(islands[0])
        extractor.save(tmp_path / "saved")
        loaded = load(tmp_path / "saved")
        assert repr(loaded.tasks_) == repr(extractor.tasks_)
        np.testing.assert_array_equal(loaded.transform(islands[0]), extractor.transform(islands[0]))

    @pytest.mark.parametrize("wrong", ["pca", PCA, LogisticRegression()], ids=str)
    def test_what_transforms_nothing(self, wrong):
        with pytest.raises(
            InvalidParameterError, match="clusters embedding must be None or a scikit-learn transformer"
        ):
            self.embedded_by(wrong).accepts(unlabelled(np.eye(50)))

    def test_an_embedding_that_is_not_finite(self, islands):
        broken = FunctionTransformer(lambda rows: rows[:, :2] * np.nan)
        with pytest.raises(InvalidInputError, match=r"clusters embedding must give 240 rows of finite numbers"):
            self.embedded_by(broken).draw(unlabelled(islands[0]), 2, 0, SEEDS)


class TestAugment:
    def test_support_and_query_of_a_class_are_copies_of_one_row(self):
        (batch,) = AugmentTasks(n_way=4, n_shot=2, n_query=3).draw(unlabelled(numbered(30)), 5, 0, SEEDS)
        for t in range(5):
            x, y = rows_and_labels(batch, t)
            assert [len(np.unique(x[y == k])) for k in range(4)] == [1] * 4
            assert len(np.unique(x)) == 4

    def test_augmentations_make_the_copies_differ(self, small):
        seen = []

        class Watching(Noise):
            def __call__(self, x, generator):
                seen.append(super().__call__(x, generator))
                return seen[-1]

        small("mlp", "protonet", tasks=AugmentTasks(), augment=Watching(), max_steps=1, validation_fraction=0).fit(
            np.random.default_rng(0).normal(size=(50, 6))
        )
        support, query = seen
        assert len(np.unique(np.concatenate([support, query]), axis=0)) == len(support) + len(query)

    @pytest.mark.parametrize("augment", [None, []], ids=str)
    def test_without_augmentations_there_is_nothing_to_learn(self, augment):
        with pytest.raises(InvalidParameterError, match=r"augment needs augmentations.*Pass some with augment="):
            MetaFeatureExtractor("mlp", tasks="augment", augment=augment).fit(np.eye(50))

    def test_a_default_backbone_without_validation_is_the_standardised_rows(self):
        X = np.random.default_rng(0).normal(size=(50, 6))
        extractor = MetaFeatureExtractor(
            tasks="augment", augment=FeatureDropout(), validation_fraction=0, max_steps=1, random_state=0
        ).fit(X)
        np.testing.assert_allclose(extractor.transform(X), StandardScaler().fit_transform(X), atol=1e-5)

    def test_each_row_is_a_class_for_algorithms_that_train_on_rows(self, small):
        extractor = small("mlp", "supervised", tasks="augment", augment="noise", validation_fraction=0).fit(np.eye(60))
        assert extractor.model_.learner.head.out_features == 60


class TestSinusoid:
    def test_points_lie_on_waves_of_the_family(self):
        (batch,) = Sinusoid(n_shot=10, n_query=20).draw(unlabelled(np.zeros((9, 1))), 50, 0, SEEDS)
        for t in range(50):
            x, y = rows_and_labels(batch, t)
            waves = np.concatenate([np.sin(x), -np.cos(x)], axis=1)
            (along, across), *_ = np.linalg.lstsq(waves, y[:, 0], rcond=None)
            np.testing.assert_allclose(waves @ [along, across], y[:, 0], atol=1e-5)
            assert 0.1 <= math.hypot(along, across) <= 5.0
            assert 0.0 <= math.atan2(across, along) <= math.pi
            assert -5.0 <= x.min() <= x.max() <= 5.0

    def test_waves_and_points_fill_their_ranges(self):
        (batch,) = Sinusoid().draw(unlabelled(np.zeros((9, 1))), 500, 0, SEEDS)
        assert np.abs(batch.support_x).max() > 4.9
        assert np.abs(batch.query_y).max() > 4.5

    def test_neither_rows_nor_y_are_looked_at(self, small):
        given = [(np.zeros((30, 1)), None), (np.zeros((30, 1)), np.arange(30) % 3), (np.zeros((50, 1)), None)]
        points = np.linspace(-5, 5, 7)[:, None]
        first, *others = (
            small("mlp", Ridge(), tasks="sinusoid", validation_fraction=0).fit(*data).transform(points)
            for data in given
        )
        for other in others:
            np.testing.assert_array_equal(first, other)

    def test_validation_is_on_other_waves(self):
        data = unlabelled(np.zeros((9, 1)))
        (batch,), (judged,) = Sinusoid().draw(data, 3, 0, SEEDS), Sinusoid().draw_validation(data, 3, SEEDS)
        assert not np.isin(judged.query_y, batch.query_y).any()

    def test_validation_stops_and_scores(self, small):
        source = Sinusoid(n_shot=5, n_query=5)
        extractor = small("mlp", Ridge(), tasks=source, max_steps=1).fit(np.zeros((30, 1)))
        assert [h["step"] for h in extractor.history_] == [0, 1]
        assert all(h["score"] < 1 for h in extractor.history_)

    def test_the_problem_is_regression_of_one_target(self):
        data = unlabelled(np.zeros((9, 1)))
        assert Sinusoid().problem(data, (1,)) == Problem("regression", (1,), n_targets=1)

    def test_rows_of_several_columns_are_refused(self):
        assert "sinusoid needs rows of one column; got rows of shape (3,)" in Sinusoid().accepts(unlabelled(np.eye(3)))

    @pytest.mark.parametrize(
        "wrong",
        [{"amplitude": (5.0, 0.1)}, {"phase": 1.0}, {"x_range": (0.0, math.inf)}, {"n_shot": 0}, {"n_query": (2, 4)}],
        ids=str,
    )
    def test_settings_that_cannot_work(self, wrong):
        with pytest.raises(InvalidParameterError, match=f"{next(iter(wrong))} must be a"):
            Sinusoid(**wrong).accepts(unlabelled(np.zeros((9, 1))))

    def test_algorithms_that_train_on_rows_are_refused(self):
        with pytest.raises(InvalidInputError, match="sinusoid gives a point another target in each task"):
            MetaFeatureExtractor("mlp", "supervised", tasks="sinusoid").fit(np.zeros((30, 1)))


class TestEpisodesInsideAGroup:
    def stores(self):
        """Return four products sold in three stores, the fourth in the last store alone: row numbers as rows."""
        store = np.repeat(np.arange(3), 40)
        product = np.tile(np.arange(3), 40)
        product[store == 2] = np.tile([2, 3], 20)
        return TaskData(np.arange(120)[:, None], product, store, np.arange(120))

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_share_of_the_tasks_whose_rows_are_all_of_one_group(self, share):
        data = self.stores()
        source = ClassTasks(n_way=2, n_shot=3, n_query=5, within_groups=share)
        groups_of = [
            np.unique(data.groups[rows_and_labels(batch, t)[0]])
            for batch in source.draw(data, 200, 0, SEEDS)
            for t in range(len(batch))
        ]
        inside = np.mean([len(groups) == 1 for groups in groups_of])
        assert inside == pytest.approx(share, abs=0.1 if share == 0.5 else 0.0)
        if share:
            assert {int(groups[0]) for groups in groups_of if len(groups) == 1} == {0, 1, 2}

    def test_labels_across_tasks_are_those_of_the_class_whatever_the_group(self):
        data = self.stores()
        for batch in ClassTasks(n_way=2, within_groups=1.0).draw(data, 50, 0, SEEDS):
            np.testing.assert_array_equal(data.y[batch.query_x[..., 0]], batch.query_class)

    def test_a_group_with_fewer_classes_gives_tasks_with_fewer(self):
        batches = ClassTasks(n_way=3, within_groups=1.0).draw(self.stores(), 50, 0, SEEDS)
        assert {batch.n_way for batch in batches} == {2, 3}

    @pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
    def test_groups_of_one_class_are_mixed_and_that_is_said(self, small):
        X, y = np.random.default_rng(0).normal(size=(80, 3)), np.repeat(np.arange(8), 10)
        with pytest.warns(
            AdaptedSettingWarning, match=r"within_groups=1\.0 needs a group that has 2 classes.*tasks mix"
        ):
            small("mlp", "protonet", tasks=ClassTasks(n_query=5, within_groups=1.0)).fit(X, y, groups=y)

    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("per_group", [[2] * 10, [5], [4, 1, 1, 1, 1], [3, 3, 3]], ids=str)
    def test_a_split_leaves_two_classes_of_a_group_on_both_sides(self, per_group, seed):
        group_of_class = np.repeat(np.arange(len(per_group)), per_group)
        y = np.repeat(np.arange(len(group_of_class)), 10)
        data = TaskData(np.arange(len(y))[:, None], y, group_of_class[y], np.arange(len(y)))
        source = ClassTasks(n_way=2, within_groups=1.0)
        train, valid = source.split(data, 0.2, Seeds(seed))
        assert len(valid.classes) == max(2, round(0.2 * len(group_of_class)))
        assert not set(train.classes) & set(valid.classes)
        assert len(train) + len(valid) == len(data)
        for batch in [*source.draw(train, 5, 0, SEEDS), *source.draw_validation(valid, 5, SEEDS)]:
            assert all(len(np.unique(data.groups[rows_and_labels(batch, t)[0]])) == 1 for t in range(len(batch)))

    def test_classes_of_several_groups_can_be_apart_too(self):
        """Products 0 and 1 are in one store, 1 and 2 in the next, and so on: pairs overlap."""
        pairs = np.stack([np.arange(5), np.arange(5) + 1], axis=1)
        y, store = pairs.repeat(10), np.arange(5).repeat(20)
        data = TaskData(np.arange(100)[:, None], y, store, np.arange(100))
        for seed in range(8):
            train, valid = ClassTasks(n_way=2, within_groups=1.0).split(data, 0.2, Seeds(seed))
            assert train.group_problems
            assert valid.group_problems

    def test_groups_that_are_too_small_for_both_sides_are_mixed_on_one_and_that_is_said(self, small):
        y = np.repeat(np.arange(6), 10)
        group = np.maximum(y - 2, 0)
        data = TaskData(np.arange(60)[:, None], y, group, np.arange(60))
        for seed in range(8):
            with pytest.warns(AdaptedSettingWarning, match=r"tasks of meta-validation mix groups\. Pass larger groups"):
                train, _ = ClassTasks(n_way=2, within_groups=1.0).split(data, 0.2, Seeds(seed))
            assert train.group_problems

    @pytest.mark.parametrize("share", [-0.1, 1.5, math.nan, "half", True])
    def test_a_share_that_is_none(self, share):
        with pytest.raises(InvalidParameterError, match=r"classes within_groups must be a (finite )?number"):
            ClassTasks(within_groups=share).accepts(self.stores())


class TestGroups:
    def tables(self, n_groups, labels, n_rows=12):
        """Return small tables with these labels in turn, one for each group."""
        y = np.tile(np.resize(labels, n_rows), n_groups)
        return TaskData(np.arange(len(y))[:, None], y, np.arange(n_groups).repeat(n_rows), np.arange(len(y)))

    @pytest.mark.parametrize("seed", range(8))
    def test_few_groups_keep_rows_of_every_class_of_each_out(self, seed):
        data = self.tables(3, [0, 1, 2])
        train, valid = GroupTasks().split(data, 0.2, Seeds(seed))
        for side, n_rows in ((train, 2), (valid, 2)):
            assert [len(problem[0]) for problem in side.group_problems] == [3, 3, 3]
            assert all(len(rows) == n_rows for _, parts in side.group_problems for rows in parts)
            assert sum(map(len, GroupTasks().draw_validation(side, 5, SEEDS))) == 5

    def test_few_groups_that_are_too_small_to_keep_rows_out_are_whole(self):
        data = self.tables(2, [0, 1, 2], n_rows=9)
        train, valid = GroupTasks().split(data, 0.2, SEEDS)
        assert train is data
        assert valid is None

    def some_too_small(self, kind):
        """Return twelve groups, of which the last eight make no task, and the source."""
        size = np.where(np.arange(12) < 4, 12, 2)
        group = np.arange(12).repeat(size)
        y = np.arange(len(group)) % 2 if kind == "classification" else np.zeros((len(group), 1), np.float32)
        return TaskData(np.arange(len(group))[:, None], y, group, np.arange(len(group)))

    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("kind", ["classification", "regression"])
    def test_groups_that_make_a_task_are_kept_out(self, kind, seed):
        data = self.some_too_small(kind)
        train, valid = GroupTasks().split(data, 0.2, Seeds(seed))
        assert len(np.unique(data.groups[valid.rows])) == 2
        assert data.groups[valid.rows].max() < 4
        assert len(train) + len(valid) == len(data)

    @pytest.mark.parametrize(
        ("kind", "needed"), [("classification", "2 classes with at least 2 rows"), ("regression", "3 rows")]
    )
    def test_groups_that_make_no_task_are_said(self, kind, needed):
        (said,) = GroupTasks().adjustments(self.some_too_small(kind))
        assert said == f"groups needs {needed} in a group; 8 of 12 have fewer, so no task is made of them."
        assert GroupTasks().adjustments(self.tables(3, [0, 1])) == []


class TestRows:
    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (np.arange(50) % 7, r"floats that are not whole, such as y \+ 0\.5, or use tasks='classes' if"),
            (None, r"rows needs a continuous y; got none\. Pass y"),
        ],
        ids=["whole", "none"],
    )
    def test_without_continuous_targets_the_fix_is_said(self, small, y, message):
        with pytest.raises(InvalidInputError, match=message):
            small(tasks="rows").fit(np.eye(50), y)

    def test_the_fix_works(self, small):
        small(algorithm="supervised", tasks="rows", validation_fraction=0).fit(np.eye(50), np.arange(50) % 7 + 0.5)


class TestAutoWithoutLabels:
    @pytest.mark.parametrize(
        ("shape", "tasks", "backbone"),
        [
            ((240, 8), "columns", "mlp"),
            ((240, 8, 8), "augment", "conv4"),
            ((240, 7), "none", "identity"),
            ((199, 8), "none", "identity"),
            ((240, 4, 4), "none", "identity"),
        ],
        ids=str,
    )
    def test_what_auto_decides(self, shape, tasks, backbone):
        data = unlabelled(np.random.default_rng(0).normal(size=shape))
        decisions = Decisions()
        source = decisions.tasks("auto", data)
        assert decisions.said["tasks"].startswith(f"{tasks}, since there is no y")
        kind = source.problem(data, shape[1:]).kind if source else data.kind
        assert decisions.backbone("auto", data.x, kind).name == backbone

    @pytest.mark.parametrize(
        ("validation", "why"),
        [
            (None, "nothing was held out"),
            ({"low": -0.01, "high": 0.02}, "over held-out tasks, the 95 % interval of its gain is -0.010 to +0.020"),
            (
                {"low": 0.01, "high": 0.02, "class_low": -0.2, "class_high": 0.3},
                "over held-out classes, the 95 % interval of its gain is -0.200 to +0.300",
            ),
        ],
        ids=["none", "tasks", "classes"],
    )
    def test_what_decided_for_the_rows_is_said(self, validation, why):
        decisions = Decisions({"backbone": "mlp, since rows are no images of 8×8 or more"})
        decisions.keep_rows(Identity(), validation)
        assert decisions.said["backbone"].startswith("Identity(), since ")
        assert decisions.said["backbone"].endswith(why)

    def test_the_interval_over_classes_is_kept(self, islands):
        validation = MetaFeatureExtractor(max_steps=2, random_state=0).fit(*islands).validation_
        assert validation["class_low"] <= validation["gain"] + 1e-6
        assert validation["class_low"] <= validation["class_high"]

    @pytest.mark.parametrize("shape", [(240, 8), (240, 8, 8)], ids=str)
    def test_a_network_that_is_not_surely_better_is_not_kept(self, shape):
        X = np.random.default_rng(0).normal(size=shape)
        extractor = MetaFeatureExtractor(max_steps=2, random_state=0).fit(X)
        assert extractor.backbone_.name == "identity"
        assert "not surely better" in extractor.decisions_["backbone"]
        assert min(extractor.validation_["low"], 0) == extractor.validation_["low"]
        flat = StandardScaler().fit_transform(X.reshape(240, -1))
        if X.ndim == 2:
            np.testing.assert_allclose(extractor.transform(X), flat, atol=1e-5)

    @pytest.mark.parametrize("source", UNLABELLED, ids=by_name)
    def test_rows_are_judged_on_the_same_pseudo_classes_as_the_network(self, source):
        X, _ = make_blobs(400, 8, centers=5, cluster_std=4.0, random_state=0)
        extractor = MetaFeatureExtractor("identity", "protonet", tasks=source, random_state=0).fit(X)
        assert extractor.validation_["score"] > 0.7
        assert abs(extractor.validation_["gain"]) < 0.02

    def test_a_named_backbone_that_loses_to_the_rows_says_so(self, islands):
        crushed = MLP(depth=1, width=1, n_features=1)
        with pytest.warns(FeatureQualityWarning, match="Features should beat the standardised rows"):
            MetaFeatureExtractor(crushed, "protonet", max_steps=0, random_state=0).fit(islands[0])


def test_what_is_remembered_belongs_to_the_data_alone():
    data = unlabelled(np.eye(3))
    assert data.remember("key", lambda: 1) == 1
    assert data.remember("key", lambda: 2) == 1
    assert data.remember("other", lambda: 2) == 2
    assert data.restrict(np.arange(2)).remember("key", lambda: 3) == 3


def first_columns(rows):
    return rows[:, :8]


def loud_columns_made_faint(rows):
    return rows / np.r_[np.ones(8), np.full(40, 1e6)]


class Counting(PCA):
    """Principal components that note how many of them were fitted."""

    fits: ClassVar[list[int]] = []

    def __init__(self, n_components=3):
        super().__init__(n_components=n_components)

    def fit(self, X, y=None):
        self.fits.append(self.n_components)
        return super().fit(X, y)


class Ridge(HeadAlgorithm):
    """Ridge regression on the features, in closed form."""

    name = "ridge-for-tests"

    def fit_head(self, learner, features, y, n_way):
        gram = features @ features.mT + 0.1 * torch.eye(features.shape[-2])
        return {"weights": features.mT @ torch.linalg.solve(gram, y)}

    def apply_head(self, learner, state, features):
        return features @ state["weights"]


def rows_and_labels(batch, t=0):
    """Return all rows of a task, support first, and their labels or targets."""
    pairs = ((batch.support_x, batch.query_x), (batch.support_y, batch.query_y))
    return tuple(np.concatenate([part[t] for part in pair]) for pair in pairs)


def find(values, column):
    """Return the row of each value in a column without repetitions."""
    order = np.argsort(column)
    return order[np.searchsorted(column[order], values)]


def in_intervals(values, labels):
    """Tell whether each label has an interval of values to itself."""
    return np.count_nonzero(np.diff(labels[np.argsort(values)])) == len(np.unique(labels)) - 1
