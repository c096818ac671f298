"""Any backbone works with any algorithm on any task source, or the fit says in one sentence why it cannot."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.decomposition import PCA

from metafe import MetaFeatureExtractor, MetafeError, MetafeWarning, algorithms
from metafe.backbones import MLP, Conv4, Identity, SklearnTransformer
from metafe.tasks import AugmentTasks, ClassTasks, ClusterTasks, ColumnTasks, GroupTasks, RowTasks, Sinusoid

BACKBONES = [
    Identity(),
    SklearnTransformer(PCA(3)),
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
ALGORITHMS = sorted(getattr(algorithms, name).name for name in algorithms.__all__)
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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_it_fits_or_says_why_not(source, algorithm):
    X, y, groups = data_for(source)
    # Sine waves have a single column.
    for backbone in BACKBONES if X.shape[1] > 1 else (Identity(), MLP(depth=1, width=8, n_features=4)):
        extractor = MetaFeatureExtractor(
            backbone, algorithm, source, max_steps=2, meta_batch_size=2, validation_fraction=0, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MetafeWarning)
            if is_refused(source, backbone, algorithm):
                with pytest.raises(MetafeError, match=r"needs|must|gives"):
                    extractor.fit(X, y, groups=groups)
                continue
            features = extractor.fit(X, y, groups=groups).transform(X)
        assert features.shape == (len(X), extractor.n_features_out_)
        assert np.isfinite(features).all()
