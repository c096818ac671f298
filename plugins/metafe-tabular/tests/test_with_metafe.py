"""The distribution as metafe sees it once it is installed."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import warnings

import metafe_tabular
import numpy as np
import pandas as pd
import pytest
from metafe_tabular import TabICL, Table, TabPFN

import metafe
from metafe.contracts import Problem, Seeds, When
from metafe.plugins import resolve
from metafe.testing import DistributionContract

LOAD_AND_TRANSFORM = """
import sys, numpy, pandas, metafe
loaded = metafe.load(sys.argv[1])
numpy.save(sys.argv[3], loaded.transform(pandas.read_pickle(sys.argv[2])))
"""
LOAD_AND_EMBED = """
import sys, numpy, metafe
folder, *names = sys.argv[1:]
rows = numpy.load(f"{folder}/rows.npy")
for name in names:
    numpy.save(f"{folder}/{name}.npy", metafe.load(f"{folder}/{name}").transform(rows))
"""


@pytest.fixture
def table():
    """A hundred rows of five classes: numbers with gaps, categories, dates and text of many words."""
    rng = np.random.default_rng(0)
    y = np.arange(100) % 5
    frame = pd.DataFrame(
        {
            "size": np.where(rng.random(100) < 0.1, np.nan, y + rng.normal(size=100)),
            "colour": rng.choice(np.array(["red", "blue", "green", None], dtype=object), 100),
            "sold": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 900, 100), unit="D"),
            "note": [f"batch {i} of shelf {c}" for i, c in enumerate(y)],
        }
    )
    return frame, y


def extractor(backbone, **parameters):
    settings = {"max_steps": 2, "validation_fraction": 0, "augment": None, "random_state": 0}
    return metafe.MetaFeatureExtractor(backbone, **settings, **parameters)


@pytest.mark.parametrize(
    "backbone",
    [
        metafe_tabular.TabularResNet(embeddings="piecewise-linear", n_bins=4),
        metafe_tabular.FTTransformer(depth=1, width=8),
    ],
    ids=["tabular-resnet", "ft-transformer"],
)
def test_saved_features_are_the_same_in_another_process(tmp_path, table, backbone):
    frame, y = table
    fitted = extractor(backbone, encoder=Table(max_categories=10)).fit(frame, y)
    features = fitted.transform(frame[:20])
    fitted.save(tmp_path / "saved")
    frame[:20].to_pickle(tmp_path / "rows.pickle")
    paths = [str(tmp_path / name) for name in ("saved", "rows.pickle", "features.npy")]
    subprocess.run([sys.executable, "-c", LOAD_AND_TRANSFORM, *paths], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(paths[-1]), features)


def test_saved_embeddings_are_the_same_in_another_process(tmp_path, tabicl_weights, tabpfn_weights, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", "off")
    y = np.arange(100) % 5
    X = np.random.default_rng(0).normal(size=(100, 4)) + y[:, None]
    np.save(tmp_path / "rows.npy", X[:20])
    expected = {}
    for backbone in (TabICL(tabicl_weights, context_size=40), TabPFN(tabpfn_weights, context_size=40)):
        fitted = extractor(backbone, algorithm="untrained").fit(X, y)
        fitted.save(tmp_path / backbone.name)
        expected[backbone.name] = fitted.transform(X[:20])
    subprocess.run([sys.executable, "-c", LOAD_AND_EMBED, str(tmp_path), *expected], check=True, timeout=120)
    for name, features in expected.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), features)


def test_a_fitted_extractor_can_be_pickled(table):
    frame, y = table
    fitted = extractor("tabular-resnet", encoder="table").fit(frame, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(frame[:5]), fitted.transform(frame[:5]))


def test_a_data_frame_finds_its_encoder(table):
    frame, y = table
    fitted = extractor("identity").fit(frame, y)
    assert fitted.n_features_out_ == Table().fit(frame, Seeds(0)).encode(frame).shape[1]


def test_few_labelled_rows_of_a_table_are_enough_to_predict(table):
    frame, y = table
    classifier = metafe.FewShotClassifier(extractor("ft-transformer").fit(frame, y)).fit(frame[:25], y[:25])
    assert (classifier.predict(frame[25:]) == y[25:]).mean() > 0.3, "Chance is a fifth."


def test_a_search_tries_each_backbone_over_its_own_space(table):
    rows, y = table
    template = metafe.MetaFeatureExtractor(tasks="classes", max_steps=1, validation_fraction=0, device="cpu")
    names = ["ft-transformer", "tabular-resnet"]
    search = metafe.MetaFeatureSearchCV(
        template, backbones=names, algorithms=["protonet"], n_trials=10, sampler="random", refit=False, random_state=0
    )
    with warnings.catch_warnings():
        # Of features that are learned in a step.
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        search.fit(rows, y)
    assert not {trial.state.name for trial in search.study_.trials} - {"COMPLETE", "PRUNED"}
    tried = {name for trial in search.study_.trials for name in trial.params}
    for name in names:
        declared = resolve("backbone", name).search_space(Problem("classification", (12,), 5))
        # Others depend on what was drawn.
        unconditional = {
            f"{name}.{parameter}" for parameter, values in declared.items() if not isinstance(values, When)
        }
        assert unconditional
        assert unconditional <= tried


class TestDistribution(DistributionContract):
    distribution = "metafe-tabular"
    package = "metafe_tabular"
    plugins = {
        "encoder": ["table"],
        "backbone": ["ft-transformer", "tabicl", "tabpfn", "tabular-resnet"],
    }
    heavy = ["skrub", "polars", "rtdl_num_embeddings", "rtdl_revisiting_models", "tabicl", "tabpfn"]

    def test_its_readme_prints_what_it_says(self, tmp_path, monkeypatch, save_tabicl):
        # Users bring the published weights, of the same name.
        shutil.copy(save_tabicl(max_classes=10), tmp_path / "tabicl-classifier-v2-20260212.ckpt")
        super().test_its_readme_prints_what_it_says(tmp_path, monkeypatch)
