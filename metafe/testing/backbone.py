"""What backbones keep."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from torch import Tensor, nn

from metafe.contracts import Backbone, Seeds
from metafe.testing.common import (
    build_seeded,
    example_rows,
    is_refusal_or_none,
    is_savable,
    same_tensors,
    same_values,
    snapshot,
    untouched_global_generators,
)
from metafe.testing.plugin import PluginContract

ODD_SHAPES: list[tuple[int, ...]] = [(3,), (3, 1), (3, 5), (3, 2, 2), (3, 1, 8), (2, 3, 4, 5), (2, 1, 1, 1, 1)]
TYPICAL_SHAPES: list[tuple[int, ...]] = [(12,), (16, 16), (3, 16, 16), (20, 6)]
CHUNK = 8


class BackboneContract(PluginContract):
    """Checks of a backbone: override ``plugin``, and ``data`` where neither rows of numbers nor images fit.

    The encoder is fitted on the first thirty example rows and must encode the others; the module is built for what it
    encodes.

    Examples
    --------
    >>> import pytest
    >>> class Linear(Backbone):
    ...     name = "linear"
    ...     def __init__(self, width=8):
    ...         self.width = width
    ...     def build(self, input_shape):
    ...         return nn.Linear(input_shape[0], self.width)
    >>> class TestLinear(BackboneContract):
    ...     @pytest.fixture
    ...     def plugin(self):
    ...         return Linear()
    """

    base = Backbone

    @pytest.fixture
    def data(self, plugin: Backbone) -> tuple[Any, np.ndarray]:
        """Return at least twenty rows and their class codes; the default is numbers or images, what is accepted."""
        for shape in TYPICAL_SHAPES:
            X, y = example_rows(shape)
            if not plugin.raw_input and plugin.accepts(X) is None:
                return X, y
        raise AssertionError(
            f"{plugin!r} accepts rows of none of the shapes {TYPICAL_SHAPES}; override the data fixture."
        )

    @pytest.fixture
    def raw(self, data: tuple[Any, np.ndarray]) -> Any:
        """Return the rows of ``data`` as they come."""
        return data[0]

    @pytest.fixture
    def fitted(self, plugin: Backbone, data: tuple[Any, np.ndarray]) -> Backbone:
        """Return a clone whose encoder is fitted on three quarters of the rows."""
        return _fit(plugin, data)

    @pytest.fixture
    def encoded(self, fitted: Backbone, raw: Any) -> np.ndarray:
        """Return all rows encoded."""
        return fitted.encode(raw)

    @pytest.fixture
    def module(self, fitted: Backbone, encoded: np.ndarray) -> nn.Module:
        """Return a module in evaluation mode."""
        return _build(fitted, encoded).eval()

    @pytest.fixture
    def rows(self, fitted: Backbone, encoded: np.ndarray) -> Tensor:
        """Return encoded rows as the module sees them: float32, standardised where the backbone asks for it."""
        return _standardised(fitted, encoded)

    def test_accepts_the_example_rows(self, plugin: Backbone, raw: Any) -> None:
        assert plugin.accepts(raw) is None

    def test_accepts_gives_a_sentence_or_none(self, plugin: Backbone) -> None:
        for shape in ODD_SHAPES:
            assert is_refusal_or_none(plugin.accepts(np.zeros(shape))), f"accepts of shape {shape}: a sentence or None."

    def test_says_how_to_standardise(self, plugin: Backbone, encoded: np.ndarray) -> None:
        assert plugin.standardise in ("feature", "channel", "all", "none")
        if plugin.standardise == "channel":
            assert encoded.ndim > 2, "Only rows with channels can be standardised by channel."

    def test_fit_returns_itself(self, plugin: Backbone, data: tuple[Any, np.ndarray]) -> None:
        backbone = clone(plugin)
        parameters = repr(backbone.get_params())
        assert backbone.fit(*_training_part(data), Seeds(0)) is backbone
        assert repr(backbone.get_params()) == parameters, "fit must leave the parameters alone."

    def test_fit_depends_on_rows_and_seeds_alone(self, plugin: Backbone, data: tuple[Any, np.ndarray]) -> None:
        with untouched_global_generators():
            first = _fit(plugin, data).encode(data[0])
        np.testing.assert_array_equal(first, _fit(plugin, data).encode(data[0]))

    def test_fit_leaves_its_input(self, plugin: Backbone, data: tuple[Any, np.ndarray]) -> None:
        before = copy.deepcopy(data)
        _fit(plugin, data).encode(data[0])
        assert _same(before[0], data[0]), "Rows must not be changed in place."
        assert np.array_equal(before[1], data[1])

    def test_fit_again_forgets(self, plugin: Backbone, data: tuple[Any, np.ndarray]) -> None:
        backbone = _fit(plugin, (_safe_indexing(data[0], np.arange(len(data[1]))[::-1]), data[1]))
        backbone.fit(*_training_part(data), Seeds(0))
        np.testing.assert_array_equal(backbone.encode(data[0]), _fit(plugin, data).encode(data[0]))

    def test_encode_gives_one_finite_row_for_each(self, encoded: np.ndarray, raw: Any) -> None:
        assert isinstance(encoded, np.ndarray)
        assert encoded.dtype.kind in "biuf", f"Encoded rows must be numbers; got {encoded.dtype}."
        assert encoded.ndim >= 2
        assert len(encoded) == len(raw)
        assert np.isfinite(encoded).all()

    def test_encode_treats_each_row_alone(self, fitted: Backbone, encoded: np.ndarray, raw: Any) -> None:
        for row in (0, 7, len(raw) - 1):
            alone = fitted.encode(_safe_indexing(raw, np.full(CHUNK, row)))
            np.testing.assert_allclose(alone[0], encoded[row], rtol=1e-4, atol=_tolerance(encoded))
            if fitted.encode_is_rowwise:
                np.testing.assert_array_equal(
                    alone[0], encoded[row], "encode_is_rowwise promises equal rows in any batch."
                )
            others = np.arange(row, row + CHUNK) % len(raw)
            in_company = fitted.encode(_safe_indexing(raw, others))
            np.testing.assert_array_equal(alone[0], in_company[0], "Chunks of one size must give equal rows.")

    def test_encode_follows_the_order_of_rows(self, fitted: Backbone, encoded: np.ndarray, raw: Any) -> None:
        order = np.random.default_rng(1).permutation(len(raw))
        permuted = fitted.encode(_safe_indexing(raw, order))
        np.testing.assert_allclose(permuted, encoded[order], rtol=1e-4, atol=_tolerance(encoded))

    def test_encode_leaves_the_state(self, fitted: Backbone, raw: Any) -> None:
        before = copy.deepcopy(fitted.get_state())
        with untouched_global_generators():
            fitted.encode(_safe_indexing(raw, np.arange(5)))
        assert same_values(before, fitted.get_state()), "encode must learn nothing."

    def test_encode_that_is_a_view_shares_memory(self, plugin: Backbone, encoded: np.ndarray, raw: Any) -> None:
        if plugin.encode_is_view:
            assert np.shares_memory(encoded, raw), "encode_is_view promises that nothing is computed or copied."

    def test_state_is_savable(self, fitted: Backbone) -> None:
        for name, value in fitted.get_state().items():
            assert is_savable(value), f"{name} must be JSON types, arrays or scikit-learn estimators; got {value!r}."

    def test_state_restores_the_encoder(
        self, plugin: Backbone, fitted: Backbone, encoded: np.ndarray, raw: Any
    ) -> None:
        restored = clone(plugin)
        restored.set_state(copy.deepcopy(fitted.get_state()))
        np.testing.assert_array_equal(restored.encode(raw), encoded)

    def test_build_gives_a_module(self, module: nn.Module) -> None:
        assert isinstance(module, nn.Module)

    def test_says_whether_it_trains(self, plugin: Backbone, module: nn.Module) -> None:
        trainable = any(p.requires_grad for p in module.parameters())
        assert plugin.trains == trainable, "trains must say whether the module has parameters to train."

    def test_features_are_a_finite_float32_matrix(self, module: nn.Module, rows: Tensor) -> None:
        features = _features(module, rows)
        assert features.ndim == 2, f"Features must be (b, n_features); got {tuple(features.shape)}."
        assert len(features) == len(rows)
        assert features.dtype == torch.float32
        assert torch.isfinite(features).all()

    def test_width_does_not_depend_on_the_batch(self, module: nn.Module, rows: Tensor) -> None:
        widths = {_features(module, rows[:n]).shape[1] for n in (1, 2, 7)}
        assert len(widths) == 1, f"Features must have one width; got {widths}."

    def test_module_treats_each_row_alone(self, module: nn.Module, rows: Tensor) -> None:
        together = _features(module, rows)
        one_by_one = torch.cat([_features(module, row[None]) for row in rows[:CHUNK]])
        torch.testing.assert_close(together[:CHUNK], one_by_one, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(_features(module, rows.flip(0)).flip(0), together, rtol=1e-4, atol=1e-5)

    def test_module_is_deterministic_in_evaluation(self, module: nn.Module, rows: Tensor) -> None:
        before, given = snapshot(module), rows.clone()
        with untouched_global_generators():
            first = _features(module, rows)
        assert torch.equal(first, _features(module, rows))
        assert torch.equal(rows, given), "Rows must not be changed in place."
        assert same_tensors(before, snapshot(module)), "Evaluation must change neither weights nor statistics."

    def test_build_depends_on_the_generator_alone(self, fitted: Backbone, encoded: np.ndarray) -> None:
        first, second = _build(fitted, encoded), _build(fitted, encoded)
        assert same_tensors(snapshot(first), snapshot(second)), "Initialisation must come from torch's functions."

    def test_build_shares_no_weights(self, fitted: Backbone, encoded: np.ndarray) -> None:
        first, second = _build(fitted, encoded), _build(fitted, encoded)
        passed = [value for value in fitted.get_params().values() if isinstance(value, nn.Module)]
        others = {p.data_ptr() for module in [second, *passed] for p in module.parameters()}
        shared = others & {p.data_ptr() for p in first.parameters()}
        assert not shared, "Each build must have weights of its own; copy a module that was passed as a parameter."

    def test_module_can_be_copied(self, module: nn.Module, rows: Tensor) -> None:
        assert torch.equal(_features(copy.deepcopy(module), rows), _features(module, rows))

    def test_state_dict_restores_the_module(
        self, fitted: Backbone, encoded: np.ndarray, module: nn.Module, rows: Tensor
    ) -> None:
        other = build_seeded(lambda: fitted.build(encoded.shape[1:]), seed=1).eval()
        other.load_state_dict(module.state_dict())
        assert torch.equal(_features(other, rows), _features(module, rows))

    def test_module_trains(self, module: nn.Module, rows: Tensor) -> None:
        module.train()
        features = build_seeded(lambda: module(rows[:CHUNK]))
        assert features.shape == (CHUNK, _features(module.eval(), rows[:1]).shape[1])
        assert torch.isfinite(features).all()

    def test_gradient_reaches_every_parameter_in_float64(self, module: nn.Module, rows: Tensor) -> None:
        trainable = {name: p for name, p in module.double().named_parameters() if p.requires_grad}
        features = module(rows[:CHUNK].double())
        assert features.dtype == torch.float64
        if trainable:
            gradients = torch.autograd.grad(features.square().sum(), list(trainable.values()), allow_unused=True)
            unused = [name for name, gradient in zip(trainable, gradients, strict=True) if gradient is None]
            assert not unused, f"These parameters do not affect the features: {unused}."
            assert all(torch.isfinite(gradient).all() for gradient in gradients)


def _training_part(data: tuple[Any, np.ndarray]) -> tuple[Any, np.ndarray]:
    n_train = 3 * len(data[1]) // 4
    return _safe_indexing(data[0], np.arange(n_train)), data[1][:n_train]


def _fit(plugin: Backbone, data: tuple[Any, np.ndarray]) -> Backbone:
    return clone(plugin).fit(*_training_part(data), Seeds(0))


def _build(backbone: Backbone, encoded: np.ndarray) -> nn.Module:
    return build_seeded(lambda: backbone.build(encoded.shape[1:]))


def _features(module: nn.Module, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return module(rows)


def _standardised(backbone: Backbone, encoded: np.ndarray) -> Tensor:
    rows = torch.as_tensor(np.array(encoded, dtype=np.float32))
    axes = {"feature": (0,), "channel": (0, *range(2, rows.ndim)), "all": tuple(range(rows.ndim)), "none": None}
    over = axes[backbone.standardise]
    if over is None:
        return rows
    scale, mean = torch.std_mean(rows, dim=over, keepdim=True)
    return (rows - mean) / torch.where(scale > 0, scale, 1)


def _tolerance(encoded: np.ndarray) -> float:
    """Return what rounding may change: batches of other sizes take other code paths of the same kernel."""
    return 1e-5 * max(1.0, float(np.abs(encoded.astype(np.float64)).max()))


def _same(first: Any, second: Any) -> bool:
    return first.equals(second) if hasattr(first, "equals") else same_values(first, second)
