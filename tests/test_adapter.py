"""The backbone that begins as the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler, normalize

from metafe import MetaFeatureExtractor, few_shot_score
from metafe.backbones import Adapter, Identity
from metafe.contracts import InvalidParameterError

STEPS = {"augment": None, "validation_fraction": 0, "random_state": 0}


@pytest.mark.parametrize("width", [None, 8])
def test_untrained_it_is_the_direction_of_the_rows(blobs, width):
    X, y = blobs
    features = MetaFeatureExtractor(Adapter(width=width), "protonet", max_steps=0, **STEPS).fit(X, y).transform(X)
    np.testing.assert_allclose(normalize(features), normalize(StandardScaler().fit_transform(X)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), np.sqrt(10), rtol=1e-5)


def test_untrained_with_lengths_it_is_the_rows_up_to_a_factor(blobs):
    X, y = blobs
    settings = {"max_steps": 0, **STEPS}
    features = MetaFeatureExtractor(Adapter("all", direction_only=False), "protonet", **settings).fit(X, y).transform(X)
    rows = MetaFeatureExtractor(Identity("all"), "untrained", **settings).fit(X, y).transform(X)
    np.testing.assert_allclose(features, rows * np.sqrt(10 / X.shape[1]), rtol=1e-4, atol=1e-5)


def test_it_learns_what_the_rows_lack():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(60), 20)
    signal = 2 * rng.normal(size=(60, 3))[classes] + rng.normal(size=(1200, 3))
    rows = np.hstack([signal, 3 * rng.normal(size=(1200, 17))])
    old = classes < 45
    judged = {}
    for backbone in (Adapter(rate=2.0), Identity()):
        extractor = MetaFeatureExtractor(backbone, "protonet", max_steps=300, random_state=0)
        extractor.fit(rows[old], classes[old])
        judged[backbone.name] = few_shot_score(extractor, rows[~old], classes[~old], n_episodes=200, random_state=0)
    assert judged["adapter"].mean > judged["identity"].mean + 0.1


def test_a_row_of_zeros_stays_finite_in_second_derivatives():
    module = Adapter(width=4).build((3,))
    x = torch.zeros(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    assert torch.isfinite(gradient).all()
    second = torch.autograd.grad(gradient.sum(), list(module.parameters()), allow_unused=True)
    assert all(torch.isfinite(g).all() for g in second if g is not None)


@pytest.mark.parametrize("parameters", [{"scaling": "row"}, {"width": 0}, {"width": 2.5}, {"rate": -1.0}])
def test_parameters_are_checked(parameters):
    with pytest.raises(InvalidParameterError, match=r"adapter (scaling|width|rate) must be"):
        Adapter(**parameters).build((3,))
