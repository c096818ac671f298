"""Any backbone works with any algorithm on any task source, or the fit says in one sentence why it cannot."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.decomposition import PCA

from metafe import MetaFeatureExtractor, MetafeError, MetafeWarning
from metafe.backbones import MLP, PLDA, Adapter, Conv4, Identity, SklearnTransformer
from metafe.plugins import registry
from metafe.tasks import AugmentTasks, ClassTasks, ClusterTasks, ColumnTasks, GroupTasks, RowTasks, Sinusoid

BACKBONES = [
    Identity(),
    SklearnTransformer(PCA(3)),
    PLDA(),
    Adapter(width=4),
    MLP(depth=1, width=8, n_features=4, normalisation="batch"),
    Conv4(depth=2, width=4, image_shape=(8, 8)),
]
SOURCES = [
    ClassTasks(n_way=3, n_shot=2, n_query=2),
    GroupTasks(n_way=2, n_shot=2, n_query=2),
    RowTasks(n_shot=4, n_query=4),
    ClusterTasks(n_way=2, n_shot=1, n_query=2, n_clusters=4, n_partitions=1),
    ColumnTasks(n_way=2, n_shot=1, n_query=2),
    AugmentTasks(n_way=3, n_query=2),
    Sinusoid(n_shot=3, n_query=3),
]
ALGORITHMS = [
    "anil",
    "boil",
    "cosine",
    "imaml",
    "maml",
    "matching",
    "meta-sgd",
    "protonet",
    "r2d2",
    "relation",
    "reptile",
    "supervised",
    "untrained",
]
CLASSES_ONLY = {"protonet", "relation", "cosine"}
LASTING_LABELS = {"supervised", "cosine"}


def data_for(source):
    """Return rows, labels or targets, and groups."""
    rng = np.random.default_rng(0)
    if isinstance(source, Sinusoid):
        return np.zeros((30, 1)), None, None
    X, y, groups = rng.normal(size=(72, 64)), np.tile(np.arange(6), 12), np.repeat(np.arange(6), 12)
    if isinstance(source, RowTasks):
        return X, rng.normal(size=72), None
    unlabelled = isinstance(source, ClusterTasks | ColumnTasks | AugmentTasks)
    return X, None if unlabelled else y, groups if isinstance(source, GroupTasks) else None


def is_refused(source, backbone, algorithm):
    """Say what cannot be: what needs classes or flat rows, or labels that last, and gets none."""
    if isinstance(source, Sinusoid):
        return algorithm in CLASSES_ONLY | LASTING_LABELS
    if isinstance(source, RowTasks):
        return algorithm in CLASSES_ONLY
    if isinstance(source, ColumnTasks) and isinstance(backbone, Conv4):
        return True
    return isinstance(source, ColumnTasks) and algorithm in LASTING_LABELS


def fit(source, backbone, algorithm, **parameters):
    """Return a fitted extractor and its rows, or None where the fit says that it cannot be."""
    X, y, groups = data_for(source)
    settings = {"max_steps": 2, "meta_batch_size": 2, "validation_fraction": 0, "random_state": 0, "device": "cpu"}
    extractor = MetaFeatureExtractor(backbone, algorithm, source, **(settings | parameters))
    if not is_refused(source, backbone, algorithm):
        return extractor.fit(X, y, groups=groups), X
    with pytest.raises(MetafeError, match=r"needs|must|gives"):
        extractor.fit(X, y, groups=groups)
    return None


def backbones_for(source):
    """Return the backbones that take the rows of a source: sine waves have a single column."""
    narrow = (Identity, PLDA, MLP, Adapter)
    return [b for b in BACKBONES if isinstance(b, narrow) or not isinstance(source, Sinusoid)]


def check_features(extractor, X):
    features = extractor.transform(X)
    assert features.shape == (len(X), extractor.n_features_out_)
    assert np.isfinite(features).all()


def check_adapts(extractor, X):
    """Adapt to six rows, by labels or by targets, and look at features and predictions."""
    kind = extractor.model_.learner.problem.kind
    y = np.linspace(-1, 1, 6) if kind == "regression" else np.arange(6) % 3
    adapted = extractor.adapt(X[:6], y)
    check_features(adapted, X)
    if extractor.adapts_head(kind):
        predicted = adapted.predict_adapted(X)
        assert predicted.shape == (len(X), 1 if kind == "regression" else 3)
        assert np.isfinite(predicted).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_it_fits_and_adapts_or_says_why_not(source, algorithm):
    for backbone in backbones_for(source):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MetafeWarning)
            fitted = fit(source, backbone, algorithm)
        if fitted:
            check_features(*fitted)
            check_adapts(*fitted)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_it_is_validated(source, algorithm):
    """With one backbone alone: which one it is matters little to the tasks of a validation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetafeWarning)
        fitted = fit(source, MLP(depth=1, width=8, n_features=4), algorithm, max_steps=1, validation_fraction=0.4)
    if fitted:
        extractor, X = fitted
        check_features(extractor, X)
        assert all(np.isfinite(line["score"]) for line in extractor.history_)
        # Sine waves are not made of the rows, which can be no baseline.
        if not isinstance(source, Sinusoid):
            # Of few classes the last weights are kept, whatever they score.
            scores = [line["score"] for line in extractor.history_]
            kept = scores[-1] if source.name == "classes" else max(scores)
            assert extractor.validation_["score"] == kept


def test_every_built_in_plugin_is_in_the_grid():
    listed = {("algorithm", name) for name in ALGORITHMS}
    listed |= {(plugin.kind, plugin.name) for plugin in (*BACKBONES, *SOURCES)}
    kinds = {kind for kind, _ in listed}
    built_in = {(p.kind, p.name) for p in registry().listing() if p.distribution == "metafe" and p.kind in kinds}
    assert listed == built_in
