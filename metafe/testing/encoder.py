"""What encoders keep."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from metafe.contracts import Encoder, Seeds, kind_of_input
from metafe.testing.common import is_refusal_or_none, is_savable, same_values, untouched_global_generators
from metafe.testing.plugin import PluginContract

ODD_INPUTS: list[Any] = [np.zeros((3, 2)), ["a", "b"], [np.zeros(3), np.zeros(5)], [None, None], ["a.png"], ["a.wav"]]


class EncoderContract(PluginContract):
    """Checks of an encoder: override ``plugin`` and ``rows``.

    Rows are encoded without the cache, so that what is checked is computed.

    Examples
    --------
    >>> import pytest
    >>> class Lengths(Encoder):
    ...     name = "lengths"
    ...     reads = "text"
    ...     def encode(self, X):
    ...         return np.array([[len(text)] for text in X])
    >>> class TestLengths(EncoderContract):
    ...     @pytest.fixture
    ...     def plugin(self):
    ...         return Lengths()
    ...     @pytest.fixture
    ...     def rows(self):
    ...         return ["one", "two", "three", "four"]
    """

    base = Encoder

    @pytest.fixture(autouse=True)
    def _without_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("METAFE_CACHE", "off")

    @pytest.fixture
    def rows(self) -> Any:
        """Override this: return at least four different rows."""
        raise NotImplementedError(f"{type(self).__name__} needs a rows fixture that returns what to encode.")

    @pytest.fixture
    def fitted(self, plugin: Encoder, rows: Any) -> Encoder:
        """Return a clone that is fitted on the rows."""
        return clone(plugin).fit(rows, Seeds(0))

    @pytest.fixture
    def encoded(self, fitted: Encoder, rows: Any) -> np.ndarray:
        """Return the rows encoded."""
        return fitted.encode(rows)

    def test_accepts_the_example_rows(self, plugin: Encoder, rows: Any) -> None:
        assert plugin.accepts(rows) is None

    def test_accepts_gives_a_sentence_or_none(self, plugin: Encoder) -> None:
        for odd in ODD_INPUTS:
            assert is_refusal_or_none(plugin.accepts(odd)), f"accepts({odd!r}) must be a sentence or None."

    def test_says_what_it_reads(self, plugin: Encoder) -> None:
        assert isinstance(plugin.reads, str)
        assert plugin.reads, "reads must say for which kind of input the encoder is."

    def test_rows_are_of_the_kind_it_reads(self, plugin: Encoder, rows: Any) -> None:
        known = {"image files", "images", "sound files", "text", "table", "sound", "series"}
        assert plugin.reads not in known or kind_of_input(rows) == plugin.reads

    def test_fit_returns_itself_and_leaves_parameters(self, plugin: Encoder, rows: Any) -> None:
        encoder = clone(plugin)
        parameters = repr(encoder.get_params())
        assert encoder.fit(rows, Seeds(0)) is encoder
        assert repr(encoder.get_params()) == parameters, "fit must leave the parameters alone."

    def test_gives_one_finite_row_for_each(self, encoded: np.ndarray, rows: Any) -> None:
        assert isinstance(encoded, np.ndarray)
        assert len(encoded) == len(rows)
        assert encoded.ndim > 1
        assert encoded.dtype.kind in "biuf"
        assert np.isfinite(encoded).all()

    def test_encodes_each_row_on_its_own(self, fitted: Encoder, encoded: np.ndarray, rows: Any) -> None:
        for i in range(4):
            np.testing.assert_array_equal(fitted.encode(_safe_indexing(rows, [i]))[0], encoded[i])
        np.testing.assert_array_equal(fitted.encode(_safe_indexing(rows, [3, 0, 2])), encoded[[3, 0, 2]])

    def test_depends_on_rows_and_seeds_alone(self, plugin: Encoder, encoded: np.ndarray, rows: Any) -> None:
        with untouched_global_generators():
            again = clone(plugin).fit(rows, Seeds(0)).encode(rows)
        np.testing.assert_array_equal(again, encoded)

    def test_leaves_its_input(self, plugin: Encoder, rows: Any) -> None:
        before = copy.deepcopy(rows)
        clone(plugin).fit(rows, Seeds(0)).encode(rows)
        assert _same_rows(before, rows), "Rows must not be changed in place."

    def test_state_can_be_saved(self, fitted: Encoder) -> None:
        assert is_savable(fitted.get_state()), "State must hold JSON types, arrays and scikit-learn estimators."

    def test_state_restores_the_encoder(self, plugin: Encoder, fitted: Encoder, encoded: np.ndarray, rows: Any) -> None:
        restored = clone(plugin)
        restored.set_state(copy.deepcopy(fitted.get_state()))
        np.testing.assert_array_equal(restored.encode(rows), encoded)
        assert same_values(restored.get_state(), fitted.get_state())

    def test_gives_the_same_from_the_cache(
        self, fitted: Encoder, encoded: np.ndarray, rows: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("METAFE_CACHE", str(tmp_path))
        np.testing.assert_array_equal(fitted.encode(rows), encoded)
        np.testing.assert_array_equal(fitted.encode(rows), encoded)


def _same_rows(first: Any, second: Any) -> bool:
    if hasattr(first, "equals"):
        return bool(first.equals(second))
    return len(first) == len(second) and all(map(same_values, first, second))
