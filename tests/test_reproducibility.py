"""The same rows and seed give the same bits, whatever else happens on the machine."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import metafe
from metafe.backbones import MLP, Conv4
from metafe.training.feature_model import chunk_size

pytestmark = pytest.mark.filterwarnings("ignore::metafe.MetafeWarning")

BACKBONES = {
    "mlp": MLP(normalisation="batch"),
    "conv4": Conv4(width=4),
    "sklearn": "sklearn",
    "identity": "identity",
}


@pytest.fixture(scope="module", params=BACKBONES)
def fitted(request, small, images):
    """A fitted extractor of each backbone, its 400 rows, and their features."""
    X, y = images
    X = X if request.param == "conv4" else X.reshape(len(X), -1)
    extractor = small(BACKBONES[request.param]).fit(X, y)
    return extractor, X, extractor.transform(X)


class TestRowsAlone:
    """A row's features are the same to the last bit whatever rows come with it."""

    @settings(
        max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_any_selection_in_any_order(self, fitted, data):
        extractor, X, expected = fitted
        rows = np.array(data.draw(st.lists(st.integers(0, len(X) - 1), min_size=1, max_size=60)))
        np.testing.assert_array_equal(extractor.transform(X[rows]), expected[rows])

    @pytest.mark.parametrize("difference", [-1, 0, 1])
    @pytest.mark.parametrize("chunks", [1, 2])
    def test_sizes_around_the_chunk(self, fitted, chunks, difference):
        extractor, X, expected = fitted
        n_rows = chunks * chunk_size(extractor.model_.input_shape) + difference
        rows = np.arange(n_rows) % len(X)
        np.testing.assert_array_equal(extractor.transform(X[rows]), expected[rows])

    def test_one_row_at_a_time(self, fitted):
        extractor, X, expected = fitted
        alone = np.concatenate([extractor.transform(X[i : i + 1]) for i in range(5)])
        np.testing.assert_array_equal(alone, expected[:5])

    def test_among_rows_that_are_far_away(self, fitted):
        extractor, X, expected = fitted
        crowd = np.concatenate([X[:3], 1e6 * np.ones_like(X[:50])])
        np.testing.assert_array_equal(extractor.transform(crowd)[:3], expected[:3])

    def test_adapted_features_too(self, fitted):
        extractor, X, _ = fitted
        adapted = extractor.adapt(X[:20], np.arange(20) % 2)
        expected = adapted.transform(X)
        np.testing.assert_array_equal(adapted.transform(X[[7, 3]]), expected[[7, 3]])


SCRIPT = """
import sys, warnings
import numpy as np
from sklearn.datasets import load_digits
from metafe import MetaFeatureExtractor
from metafe.backbones import MLP, Conv4
warnings.simplefilter("ignore")
X, y = load_digits(return_X_y=True)
X, y = X[:400], np.array(list("abcdefghij"))[y[:400]]
backbone = {"mlp": MLP(dropout=0.3), "conv4": Conv4(width=4, image_shape=(8, 8)), "sklearn": "sklearn", "auto": "auto"}
for name, plugin in backbone.items():
    extractor = MetaFeatureExtractor(plugin, max_steps=4, random_state=3, device="cpu").fit(X, y)
    sys.stdout.buffer.write(extractor.transform(X[:50]).tobytes())
    print(name, extractor.history_ and [h["loss"] for h in extractor.history_[1:]], extractor.decisions_)
"""


def test_another_process_with_another_hash_seed_gives_the_same_bits():
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert all(name in outputs[0] for name in (b"mlp", b"conv4", b"sklearn", b"auto"))
    assert outputs[0] == outputs[1]


def _global_states() -> list[object]:
    return [
        random.getstate(),
        [part.tobytes() if hasattr(part, "tobytes") else part for part in np.random.get_state()],  # noqa: NPY002
        torch.random.get_rng_state().tolist(),
    ]


class TestGlobalGenerators:
    @pytest.mark.parametrize(
        "backbone", [MLP(dropout=0.5), Conv4(width=4, dropout=0.5, image_shape=(8, 8)), "sklearn", "auto"]
    )
    @pytest.mark.parametrize("random_state", [0, None])
    def test_neither_read_nor_written(self, small, digits, backbone, random_state):
        X, y = digits
        before = _global_states()
        extractor = small(backbone, augment="auto", random_state=random_state).fit(X, y)
        extractor.adapt(X[:20], y[:20]).transform(X[:20])
        assert _global_states() == before

    def test_their_state_does_not_matter(self, small, digits):
        X, y = digits
        features = []
        state = np.random.get_state()  # noqa: NPY002
        try:
            for seed in (1, 2):
                np.random.seed(seed)  # noqa: NPY002
                torch.manual_seed(seed)
                random.seed(seed)
                features.append(small(MLP(dropout=0.5), augment="auto").fit(X, y).transform(X))
        finally:
            np.random.set_state(state)  # noqa: NPY002
        np.testing.assert_array_equal(*features)


class TestSeeds:
    def test_another_seed_differs(self, small, blobs):
        X, y = blobs
        one, other = (small(random_state=seed).fit(X, y).transform(X) for seed in (0, 1))
        assert not np.allclose(one, other)

    def test_no_seed_differs_each_time(self, small, blobs):
        X, y = blobs
        one, other = (small(random_state=None).fit(X, y).transform(X) for _ in range(2))
        assert not np.allclose(one, other)

    def test_a_random_state_gives_one_integer_for_each_fit(self, small, blobs):
        X, y = blobs
        state, copied = np.random.RandomState(5), np.random.RandomState(5)
        extractor = small(random_state=state)
        first, second = (extractor.fit(X, y).transform(X) for _ in range(2))
        assert not np.allclose(first, second)
        copied.randint(2**31 - 1, size=2)
        assert state.randint(10**9) == copied.randint(10**9)
        again = small(random_state=np.random.RandomState(5)).fit(X, y).transform(X)
        np.testing.assert_array_equal(first, again)

    def test_fitting_again_gives_the_same(self, small, blobs):
        X, y = blobs
        extractor = small()
        np.testing.assert_array_equal(extractor.fit(X, y).transform(X), extractor.fit(X, y).transform(X))


@pytest.mark.parametrize(
    "backbone", [MLP(dropout=0.4, normalisation="batch"), Conv4(width=4, dropout=0.4, image_shape=(8, 8))]
)
@pytest.mark.parametrize("algorithm", ["protonet", "supervised"])
def test_fits_in_parallel_threads_equal_those_in_turn(small, digits, backbone, algorithm):
    X, y = digits

    def features(seed: int) -> np.ndarray:
        extractor = small(backbone, algorithm, augment="auto", random_state=seed, max_steps=6, validation_fraction=0.0)
        return extractor.fit(X, y).transform(X[:50])

    expected = [features(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for alone, beside in zip(expected, pool.map(features, range(4)), strict=True):
            np.testing.assert_array_equal(alone, beside)


def test_one_fitted_extractor_serves_several_threads(small, digits):
    X, y = digits
    extractor = small(MLP(normalisation="batch")).fit(X, y)
    expected = extractor.transform(X)
    with ThreadPoolExecutor(4) as pool:
        for features in pool.map(extractor.transform, [X] * 8):
            np.testing.assert_array_equal(features, expected)


def test_importing_metafe_seeds_nothing():
    assert metafe.__all__
    script = "import numpy as np, random; a = np.random.get_state()[1].copy(), random.getstate();"
    script += "import metafe; metafe.MetaFeatureExtractor; b = np.random.get_state()[1], random.getstate();"
    script += "assert (a[0] == b[0]).all() and a[1] == b[1]"
    subprocess.run([sys.executable, "-c", script], check=True)
