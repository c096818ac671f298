from __future__ import annotations

import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from metafe_tabular import TabICL, TabPFN
from metafe_tabular.in_context import choose_context

import metafe
from metafe.contracts import InvalidInputError, InvalidParameterError, MissingDependencyError, Seeds

N_COLUMNS = 6
# Of TabICL, whose columns did not depend on labels.
FIRST_VERSION = {"col_target_aware": False, "col_feature_group": False, "col_affine": True}


@pytest.fixture
def rows():
    """Rows of nine classes, one column of which is always the same."""
    rng = np.random.default_rng(0)
    y = np.arange(135) % 9
    X = rng.normal(size=(135, N_COLUMNS)) + y[:, None]
    X[:, 3] = 2.0
    return X, y


@pytest.fixture(params=["tabicl", "tabpfn"])
def backbone(request, tabicl_weights, tabpfn_weights):
    return {"tabicl": TabICL(tabicl_weights), "tabpfn": TabPFN(tabpfn_weights)}[request.param]


def tabicl_itself(weights, context, labels, rows):
    """What the library makes of new rows that come together with the context."""
    from tabicl._model.inference_config import MgrConfig
    from tabicl._model.tabicl import TabICL as Network
    from tabicl._sklearn.preprocessing import PreprocessingPipeline

    checkpoint = torch.load(weights, weights_only=True)
    model = Network(**checkpoint["config"]).eval()
    model.load_state_dict(checkpoint["state_dict"])
    varying = context.std(axis=0) > 0
    scaling = PreprocessingPipeline("none").fit(context[:, varying])
    x = scaling.transform(np.concatenate([context, rows])[:, varying])
    settings = MgrConfig(device="cpu", use_amp=False)
    columns = model.col_embedder(
        torch.tensor(x[None], dtype=torch.float32), torch.tensor(labels[None]).float(), mgr_config=settings
    )
    return model.row_interactor(columns, mgr_config=settings)[0, len(context) :].numpy()


@pytest.mark.parametrize(
    ("n_classes", "config"),
    [(5, {}), (9, {}), (9, FIRST_VERSION)],
    ids=["classes", "more classes than the model takes", "first version"],
)
def test_tabicl_represents_rows_as_the_library_does(rows, save_tabicl, n_classes, config):
    X, y = rows
    weights = save_tabicl(**config)
    backbone = TabICL(weights).fit(X[:60], y[:60] % n_classes, Seeds(0))
    expected = tabicl_itself(weights, X[:60], y[:60] % n_classes, X[60:])
    np.testing.assert_allclose(backbone.encode(X[60:]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["tabpfn_v2", "tabpfn_v3"])
def test_tabpfn_represents_rows_as_the_library_does(rows, save_tabpfn, architecture):
    from tabpfn import TabPFNClassifier

    X, y = rows
    weights = save_tabpfn(architecture)
    classifier = TabPFNClassifier(
        model_path=weights,
        n_estimators=1,
        device="cpu",
        fit_mode="fit_with_cache",
        # By itself it takes bfloat16 on machines that have it.
        inference_precision=torch.float32,
        random_state=0,
    )
    expected = classifier.fit(X[:60], y[:60]).get_embeddings(X[60:])[0]
    embeddings = TabPFN(weights).fit(X[:60], y[:60], Seeds(0)).encode(X[60:])
    np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-5)


def test_a_row_has_the_same_bits_in_any_company(rows, backbone, monkeypatch):
    X, y = rows
    monkeypatch.setenv("METAFE_CACHE", "off")
    backbone.fit(X[:60], y[:60], Seeds(0))
    together = backbone.encode(X)
    for row in (0, 31, 32, 134):
        np.testing.assert_array_equal(backbone.encode(X[row : row + 1])[0], together[row])
    # A column that the context has only zeros of must not tell the rows of a batch from those of another.
    odd = X[60:62].copy()
    odd[1, 3] = -1.0
    np.testing.assert_array_equal(backbone.encode(odd)[0], together[60])


def test_the_context_matters(rows, backbone):
    X, y = rows
    first = backbone.fit(X[:60], y[:60], Seeds(0)).encode(X[60:])
    assert not np.array_equal(backbone.fit(X[:60], y[:60][::-1], Seeds(0)).encode(X[60:]), first), "Labels count."
    assert not np.array_equal(backbone.fit(X[:50], y[:50], Seeds(0)).encode(X[60:]), first)


def test_the_context_is_no_larger_than_asked(rows, backbone):
    X, y = rows
    backbone.set_params(context_size=20).fit(X, y, Seeds(0))
    assert backbone.context_.shape == (20, N_COLUMNS)
    assert sorted(np.bincount(backbone.labels_)) == [2] * 7 + [3] * 2
    assert {tuple(row) for row in backbone.context_} <= {tuple(row) for row in X}


def test_tabpfn_leaves_out_classes_that_it_does_not_take(tabpfn_weights):
    y = np.repeat(np.arange(12), [4] * 3 + [3] + [4] * 7 + [3])
    X = np.random.default_rng(0).normal(size=(len(y), 3))
    backbone = TabPFN(tabpfn_weights).fit(X, y, Seeds(0))
    assert np.bincount(backbone.labels_).tolist() == [4] * 10


def test_classes_give_equally_many_rows_of_the_context():
    y = np.repeat([3, 5, 7], [50, 4, 2])
    chosen = choose_context(y, len(y), 12, None, np.random.default_rng(0))
    assert (np.diff(chosen) > 0).all()
    assert np.unique(y[chosen], return_counts=True)[1].tolist() == [6, 4, 2]
    assert choose_context(y, len(y), 100, None, np.random.default_rng(0)).tolist() == list(range(56))
    assert set(y[choose_context(y, len(y), 100, 2, np.random.default_rng(0))]) == {3, 5}


@pytest.mark.parametrize("labels", [np.zeros(0, dtype=np.int64), np.linspace(0, 1, 30, dtype=np.float32)])
def test_without_classes_any_rows_are_the_context(labels):
    first, second = (choose_context(labels, 30, 8, 2, np.random.default_rng(seed)).tolist() for seed in (0, 1))
    assert len(set(first)) == len(set(second)) == 8
    assert first != second


def test_continuous_targets_need_the_weights_of_a_regressor(rows, save_tabicl, save_tabpfn, tabicl_weights):
    X, y = rows
    targets = (y / 4 - 1)[:, None].astype(np.float32)
    regressors = [
        TabICL(save_tabicl(max_classes=0, num_quantiles=3)),
        TabPFN(save_tabpfn(max_num_classes=0, num_buckets=20)),
    ]
    for backbone in regressors:
        embeddings = backbone.fit(X[:60], targets[:60], Seeds(0)).encode(X[60:])
        assert embeddings.shape[0] == 75
        assert np.isfinite(embeddings).all()
        assert backbone.labels_.dtype == np.float32
        with pytest.raises(InvalidInputError, match=f"{backbone.name} .*classif"):
            backbone.fit(X, y, Seeds(0))
    with pytest.raises(InvalidInputError, match=r"got continuous targets\. Pass the weights of a regressor"):
        TabICL(tabicl_weights).fit(X, targets, Seeds(0))
    with pytest.raises(InvalidInputError, match=r"tabicl needs one column .* got targets of shape \(135, 2\)"):
        TabICL(tabicl_weights).fit(X, np.repeat(targets, 2, axis=1), Seeds(0))


def test_without_labels_only_a_model_that_asks_for_none_can_be_used(rows, backbone, save_tabicl):
    X, y = rows
    with pytest.raises(InvalidInputError, match=f"{backbone.name} needs labels of the context.* got none. Pass y"):
        backbone.fit(X, None, Seeds(0))
    weights = save_tabicl(**FIRST_VERSION)
    unlabelled = TabICL(weights).fit(X[:60], None, Seeds(0)).encode(X[60:])
    np.testing.assert_array_equal(TabICL(weights).fit(X[:60], y[:60], Seeds(0)).encode(X[60:]), unlabelled)


@pytest.mark.parametrize("cls", [TabICL, TabPFN])
def test_weights_must_be_given(rows, cls):
    reason = cls().accepts(rows[0])
    assert reason.startswith(f"{cls.name} weights must be the path of a file on this machine; got None. Download ")
    assert "huggingface.co" in reason
    assert "got 'gone.ckpt', which is no file" in cls("gone.ckpt").accepts(rows[0])
    with pytest.raises(InvalidParameterError, match="got None"):
        cls().fit(*rows, Seeds(0))
    with pytest.raises(InvalidInputError, match=r"got 'gone.ckpt', which is no file\. Download"):
        metafe.MetaFeatureExtractor(cls("gone.ckpt"), "untrained", validation_fraction=0).fit(*rows)


@pytest.mark.parametrize(
    "content", [b"no weights", {"state_dict": {}}, {"config": {"no": 1}, "state_dict": {}}], ids=str
)
@pytest.mark.parametrize("cls", [TabICL, TabPFN])
def test_a_file_that_cannot_be_read_is_named(rows, cls, content, tmp_path):
    path = tmp_path / "weights.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(
        InvalidInputError, match=rf"{cls.name} weights must be a file that .*weights.ckpt' is not \(\w+:"
    ):
        cls(str(path)).fit(*rows, Seeds(0))


def test_other_weights_than_in_fit_are_refused(rows, save_tabicl, tabicl_weights, tmp_path):
    X, y = rows
    path = tmp_path / "weights.ckpt"
    shutil.copy(tabicl_weights, path)
    backbone = TabICL(str(path)).fit(X[:60], y[:60], Seeds(0))
    restored = TabICL(str(path))
    restored.set_state(backbone.get_state())
    shutil.copy(save_tabicl(seed=1), path)
    with pytest.raises(InvalidInputError, match=r"tabicl needs the weights that it was fitted with; .* holds others"):
        restored.encode(X)


def test_known_rows_need_no_weights(rows, backbone, tmp_path):
    X, y = rows
    path = tmp_path / "weights.ckpt"
    shutil.copy(backbone.weights, path)
    backbone.set_params(weights=str(path)).fit(X[:60], y[:60], Seeds(0))
    known = backbone.encode(X[60:80])
    path.unlink()
    restored = type(backbone)(str(path))
    restored.set_state(backbone.get_state())
    np.testing.assert_array_equal(restored.encode(X[60:80]), known)
    with pytest.raises(InvalidInputError, match="weights must be the path of a file on this machine"):
        restored.encode(X[80:])


def test_the_model_is_no_part_of_a_pickle(rows, backbone):
    X, y = rows
    backbone.set_params(context_size=5).fit(X[:60], y[:60], Seeds(0))
    pickled = pickle.dumps(backbone)
    assert len(pickled) < 3000
    np.testing.assert_array_equal(pickle.loads(pickled).encode(X), backbone.encode(X))


def test_a_library_that_is_missing_is_named(rows, backbone, save_tabicl, monkeypatch):
    monkeypatch.setattr("metafe_tabular.in_context.find_spec", lambda name: None)
    assert backbone.accepts(rows[0]) == (
        f"{backbone.name} needs the library {backbone.name}, which cannot be imported: no module named "
        f"'{backbone.name}'. Run: pip install 'metafe-tabular[in-context]'."
    )
    other = TabICL(save_tabicl(seed=2))
    monkeypatch.setitem(sys.modules, "tabicl._model.tabicl", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'metafe-tabular\[in-context\]'"):
        other.fit(*rows, Seeds(0))


def test_rows_that_cannot_be_used_are_refused(rows, backbone):
    assert backbone.accepts(np.zeros((5, 2, 2))).startswith(f"{backbone.name} needs flat rows of numbers; got shape")
    with pytest.raises(InvalidParameterError, match="context_size must be a whole number of at least 2; got 1"):
        backbone.set_params(context_size=1).fit(*rows, Seeds(0))
    with pytest.raises(InvalidInputError, match=f"{backbone.name} needs"):
        backbone.set_params(context_size=50).fit(np.ones((135, 3)), rows[1], Seeds(0))
