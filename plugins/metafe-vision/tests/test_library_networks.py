"""Networks of timm and torchvision: with stand-ins for the libraries everywhere, and with the real ones where they are."""

from __future__ import annotations

import pickle
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from metafe_vision import Timm, Torchvision
from safetensors.torch import save_file
from sklearn.base import clone
from torch import nn

import metafe
from metafe.contracts import InvalidInputError, InvalidParameterError, MissingDependencyError, Seeds
from metafe.testing import BackboneContract, example_rows


class Small(nn.Module):
    """A network with a classifier, as torchvision has them."""

    def __init__(self, n_channels=3):
        super().__init__()
        self.conv1 = nn.Conv2d(n_channels, 6, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 10)

    def forward(self, x):
        return self.fc(self.bn1(self.conv1(x)).relu().mean(dim=(2, 3)))


class SmallSqueeze(nn.Module):
    """A network whose classifier is a convolution, as squeezenet is."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 6, 3)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(6, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        return self.classifier(self.features(x).relu()).flatten(1)


class SmallGoogle(Small):
    """A network with a branch that classifies too while it is trained, as googlenet has two."""

    def __init__(self):
        super().__init__()
        self.aux_logits = True
        self.aux1 = nn.Linear(6, 10)

    def forward(self, x):
        logits = super().forward(x)
        return (logits, self.aux1(logits)) if self.training and self.aux_logits else logits


class FakeTimm(ModuleType):
    """What is used of timm."""

    def __init__(self):
        super().__init__("timm")
        self.__spec__ = ModuleSpec("timm", None)
        self.calls = []
        self.models = SimpleNamespace(load_state_dict=lambda path: torch.load(path, weights_only=True))

    def list_models(self):
        return ["resnet18", "resnet34", "vit_tiny"]

    def get_pretrained_cfg(self, model):
        return SimpleNamespace(fixed_input_size=model.startswith("vit"), mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))

    def create_model(self, model, pretrained, num_classes, in_chans, pretrained_cfg_overlay=None, img_size=None):
        self.calls.append({"pretrained": pretrained, "overlay": pretrained_cfg_overlay, "img_size": img_size})
        assert num_classes == 0
        network = Small(in_chans)
        network.fc = nn.Identity()
        if pretrained and pretrained_cfg_overlay is None:
            raise OSError("the hub cannot be reached")
        if pretrained:
            network.load_state_dict(torch.load(pretrained_cfg_overlay["file"], weights_only=True), strict=False)
        return network


class FakeTorchvision(ModuleType):
    """What is used of torchvision."""

    def __init__(self):
        super().__init__("torchvision")
        self.__spec__ = ModuleSpec("torchvision", None)
        self.models = SimpleNamespace(list_models=self._list, get_model=self._get)

    def _list(self, module):
        assert module is self.models
        return ["resnet18", "vgg11", "squeezenet1_0", "googlenet"]

    def _get(self, model, weights, init_weights=None):
        if weights is not None:
            raise OSError("the hub cannot be reached")
        assert init_weights is (True if model == "googlenet" else None)
        return {"squeezenet1_0": SmallSqueeze, "googlenet": SmallGoogle}.get(model, Small)()


@pytest.fixture
def fake_timm(monkeypatch):
    fake = FakeTimm()
    monkeypatch.setitem(sys.modules, "timm", fake)
    return fake


@pytest.fixture
def fake_torchvision(monkeypatch):
    fake = FakeTorchvision()
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    return fake


class TestTimm(BackboneContract):
    @pytest.fixture(params=[Timm("resnet18"), Timm("vit_tiny", trainable=False)], ids=["trained", "frozen"])
    def plugin(self, request, fake_timm):
        return request.param


class TestTorchvision(BackboneContract):
    @pytest.fixture(
        params=[
            Torchvision("vgg11"),
            Torchvision("resnet18", trainable=False),
            Torchvision("squeezenet1_0"),
            Torchvision("googlenet"),
        ],
        ids=["trained", "frozen", "classifier is a convolution", "auxiliary classifier"],
    )
    def plugin(self, request, fake_torchvision):
        return request.param


class TestTorchvisionInColour(BackboneContract):
    @pytest.fixture
    def data(self):
        return example_rows((3, 9, 12))

    @pytest.fixture
    def plugin(self, fake_torchvision):
        return Torchvision("resnet18")


# What is missing.


@pytest.mark.parametrize("backbone", [Timm("resnet18"), Torchvision("resnet18")], ids=lambda backbone: backbone.name)
def test_a_library_that_is_missing_is_named_with_the_fix(backbone, monkeypatch):
    monkeypatch.setitem(sys.modules, backbone.library, None)
    fix = rf"needs the library {backbone.library}, which cannot be imported: .*Run: pip install 'metafe-vision\["
    with pytest.raises(MissingDependencyError, match=fix):
        backbone.fit(np.zeros((2, 8, 8)), None, Seeds(0))
    monkeypatch.setattr("metafe_vision.library_network.find_spec", lambda name: None)
    assert "Run: pip install" in backbone.accepts(np.zeros((2, 8, 8)))


@pytest.mark.parametrize("backbone", [Timm(), Torchvision()], ids=lambda backbone: backbone.name)
def test_the_name_alone_asks_for_a_model(backbone):
    # So a search over all that is installed leaves them out.
    assert backbone.accepts(np.zeros((2, 8, 8))).startswith(f"{backbone.name} needs the name of a model; got None.")


@pytest.mark.parametrize("make", [Timm, Torchvision])
def test_a_name_may_say_the_model(make, fake_timm, fake_torchvision, images, tmp_path):
    X, y = images
    settings = {"algorithm": "protonet", "augment": None, "max_steps": 1, "validation_fraction": 0, "random_state": 0}
    named = metafe.MetaFeatureExtractor(f"{make.name}:resnet18", **settings).fit(X, y)
    features = metafe.MetaFeatureExtractor(make("resnet18"), **settings).fit(X, y).transform(X[:3])
    np.testing.assert_array_equal(named.transform(X[:3]), features)
    named.save(tmp_path / "named")
    np.testing.assert_array_equal(metafe.load(tmp_path / "named").transform(X[:3]), features)
    assert clone(named).set_params(backbone__trainable=False).backbone.model == "resnet18"


def test_a_search_takes_a_model_by_its_name(fake_timm, images):
    X, y = np.concatenate([images[0]] * 2), np.concatenate([images[1], images[1] + 4])
    template = metafe.MetaFeatureExtractor(max_steps=2, device="cpu")
    search = metafe.MetaFeatureSearchCV(template, backbones=["timm:resnet18"], n_trials=6, random_state=0)
    with warnings.catch_warnings():
        # Of features that are learned in two steps.
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        search.fit(X, y)
    assert fake_timm.calls
    assert "timm" in {trial.params.get("backbone") for trial in search.study_.trials}
    assert "FAIL" not in {trial.state.name for trial in search.study_.trials}


def test_a_model_that_is_not_known_is_named_with_close_ones(fake_timm):
    with pytest.raises(
        InvalidParameterError, match=r"timm model must be one of the 3 .*got 'resnet19'\. Close: resnet"
    ):
        Timm("resnet19").fit(np.zeros((2, 8, 8)), None, Seeds(0))
    Timm("resnet18.a1_in1k").fit(np.zeros((2, 8, 8)), None, Seeds(0))


@pytest.mark.parametrize("make", [Timm, Torchvision])
def test_a_file_that_is_missing_is_named(make, fake_timm, fake_torchvision):
    with pytest.raises(InvalidInputError, match=r"weights must be a file; got 'none\.pt'"):
        make("resnet18", weights="none.pt").fit(np.zeros((2, 8, 8)), None, Seeds(0))


@pytest.mark.parametrize("make", [Timm, Torchvision])
def test_a_hub_that_cannot_be_reached_names_the_way_out(make, fake_timm, fake_torchvision):
    backbone = make("resnet18", pretrained=True).fit(np.zeros((2, 8, 8)), None, Seeds(0))
    with pytest.raises(InvalidInputError, match=r"no pretrained weights .*the hub cannot be reached.*weights='FILE'"):
        backbone.build((1, 8, 8))


@pytest.mark.parametrize("make", [Timm, Torchvision])
def test_weights_of_another_model_are_named(make, fake_timm, fake_torchvision, tmp_path):
    path = str(tmp_path / "other.pt")
    torch.save({"layer.weight": torch.zeros(3)}, path)
    backbone = make("resnet18", weights=path).fit(np.zeros((2, 8, 8)), None, Seeds(0))
    with pytest.raises(InvalidInputError, match=r"needs weights that fit it; those in '.*other\.pt' do not"):
        backbone.build((3, 8, 8))


def test_channels_that_are_neither_grey_nor_colour_are_refused_by_torchvision(fake_torchvision):
    with pytest.raises(InvalidInputError, match=r"must take images of shape \(5, 8, 8\).*1 or 3 channels, not 5"):
        Torchvision("resnet18").fit(np.zeros((2, 5, 8, 8)), None, Seeds(0)).build((5, 8, 8))


@pytest.mark.parametrize("trainable", [True, False])
def test_images_that_are_too_small_for_a_network_are_refused(fake_torchvision, images, weights, monkeypatch, trainable):
    monkeypatch.setattr(Small, "forward", lambda self, x: nn.functional.conv2d(x, torch.zeros(1, 3, 20, 20)))
    backbone = Torchvision("resnet18", weights=weights[1], trainable=trainable)
    with pytest.raises(
        InvalidInputError, match=r"model 'resnet18' must take images of shape \(3, 16, 12\); it does not"
    ):
        frozen_extractor(backbone).fit(*images)


# Weights.


@pytest.fixture
def weights(tmp_path):
    """A network and the two files of its weights."""
    torch.manual_seed(5)
    network = Small()
    torch.save(network.state_dict(), tmp_path / "small.pt")
    save_file(network.state_dict(), tmp_path / "small.safetensors")
    return network, str(tmp_path / "small.pt"), str(tmp_path / "small.safetensors")


def features_of(network, x):
    with torch.no_grad():
        return network.bn1(network.conv1(x)).relu().mean(dim=(2, 3))


def test_a_file_of_weights_is_loaded(weights, fake_torchvision, fake_timm):
    network, *files = weights
    x = torch.randn(4, 3, 8, 8)
    backbones = [*(Torchvision("resnet18", weights=file) for file in files), Timm("resnet18", weights=files[0])]
    for backbone in backbones:
        module = backbone.fit(np.zeros((2, 3, 8, 8)), None, Seeds(0)).build((3, 8, 8)).eval()
        with torch.no_grad():
            torch.testing.assert_close(module(x), features_of(network.eval(), x))


@pytest.mark.parametrize(("model", "make"), [("squeezenet1_0", SmallSqueeze), ("googlenet", SmallGoogle)])
def test_a_file_of_weights_may_hold_every_classifier(model, make, fake_torchvision, tmp_path):
    network = make()
    path = str(tmp_path / "whole.pt")
    torch.save(network.state_dict(), path)
    module = Torchvision(model, weights=path).fit(np.zeros((2, 3, 8, 8)), None, Seeds(0)).build((3, 8, 8))
    kept = module.state_dict()
    first = next(iter(network.state_dict()))
    assert any(torch.equal(value, network.state_dict()[first]) for value in kept.values())
    assert not any(value.shape[0] == 10 for value in kept.values() if value.ndim), "No classifier is left."
    assert module.train()(torch.zeros(2, 3, 8, 8)).shape == (2, 6)


def test_timm_is_told_what_it_needs(fake_timm, weights):
    _, file, _ = weights
    for backbone in (Timm("resnet18"), Timm("vit_tiny"), Timm("resnet18", weights=file)):
        backbone.fit(np.zeros((2, 3, 8, 9)), None, Seeds(0)).build((3, 8, 9))
    assert fake_timm.calls == [
        {"pretrained": False, "overlay": None, "img_size": None},
        {"pretrained": False, "overlay": None, "img_size": (8, 9)},
        {"pretrained": True, "overlay": {"file": file, "custom_load": False}, "img_size": None},
    ]


@pytest.mark.parametrize("trainable", [True, False])
def test_a_saved_extractor_needs_no_file_of_weights(
    weights, fake_torchvision, images, tmp_path, trainable, monkeypatch
):
    _, file, _ = weights
    X, y = images
    backbone = Torchvision("resnet18", weights=file, trainable=trainable)
    extractor = metafe.MetaFeatureExtractor(
        backbone, "protonet", max_steps=2, validation_fraction=0, augment=None, random_state=0, device="cpu"
    ).fit(X, y)
    extractor.save(tmp_path / "saved")
    (tmp_path / "small.pt").unlink()
    restored = metafe.load(tmp_path / "saved")
    monkeypatch.setenv("METAFE_CACHE", "off")
    np.testing.assert_array_equal(restored.transform(X[:5]), extractor.transform(X[:5]))


# Networks with given weights that are not trained.


def frozen_extractor(backbone, **parameters):
    given = {"algorithm": "protonet", "max_steps": 2, "validation_fraction": 0, "augment": None} | parameters
    return metafe.MetaFeatureExtractor(backbone, random_state=0, device="cpu", **given)


@pytest.fixture
def n_computed(monkeypatch):
    """A list of how many images have gone through a network at a time."""
    counts, forward = [], Small.forward
    monkeypatch.setattr(Small, "forward", lambda self, x: counts.append(len(x)) or forward(self, x))
    return counts


class TestFrozenTorchvision(BackboneContract):
    @pytest.fixture
    def plugin(self, fake_torchvision, weights):
        return Torchvision("resnet18", weights=weights[1], trainable=False)


def test_features_are_those_of_the_network_on_standardised_images(weights, fake_torchvision, images):
    network, file, _ = weights
    X, y = images
    features = frozen_extractor(Torchvision("resnet18", weights=file, trainable=False)).fit(X, y).transform(X[:7])
    means, scales = (np.reshape(of, (3, 1, 1)) for of in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    standardised = torch.from_numpy(((X[:7] / 255 - means) / scales).astype(np.float32))
    torch.testing.assert_close(torch.from_numpy(features), features_of(network.eval(), standardised))


@pytest.mark.parametrize(
    ("convert", "means", "scales"),
    [
        (lambda X: X, (102, 127.5, 153), (51, 51, 76.5)),
        (lambda X: X / 255, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3)),
        (lambda X: X[:, :1], (127.5,), (255 * 0.7 / 3,)),
        (lambda X: X.astype(float), None, None),
    ],
    ids=["bytes", "fractions", "grey", "unknown"],
)
def test_images_are_scaled_as_in_pretraining_where_white_is_known(fake_timm, images, tmp_path, convert, means, scales):
    X = convert(images[0])
    file = str(tmp_path / "weights.pt")
    torch.save(Small(X.shape[1]).state_dict(), file)
    backbone = Timm("resnet18", weights=file, trainable=False).fit(X, None, Seeds(0))
    if means is None:
        means, scales = X.mean(axis=(0, 2, 3)), X.std(axis=(0, 2, 3))
    np.testing.assert_allclose(backbone.channel_means_, means)
    np.testing.assert_allclose(backbone.channel_scales_, scales)


@pytest.mark.parametrize("make", [Timm, Torchvision])
def test_an_image_is_computed_once_whatever_the_training_rows(
    make, weights, fake_torchvision, fake_timm, images, n_computed
):
    X, _ = images
    backbone = make("resnet18", weights=weights[1], trainable=False)
    features = backbone.fit(X, None, Seeds(0)).encode(X)
    n_computed.clear()
    np.testing.assert_array_equal(clone(backbone).fit(X[:20], None, Seeds(1)).encode(X), features)
    assert n_computed == []


@pytest.mark.parametrize("make", [Timm, Torchvision])
def test_an_image_is_computed_once_whatever_is_fitted(make, weights, fake_torchvision, fake_timm, images, n_computed):
    X, y = images
    backbone = make("resnet18", weights=weights[1], trainable=False)
    first = frozen_extractor(backbone).fit(X, y)
    assert n_computed, "The first fit computes."
    features = first.transform(X)
    n_computed.clear()
    second = frozen_extractor(backbone, algorithm="r2d2", max_steps=5).fit(X, y)
    np.testing.assert_array_equal(second.transform(X[5:]), features[5:])
    assert n_computed == []
    first.transform(X[:3] + 1)
    assert sum(n_computed) < 64, "Only what is new is computed."


def test_a_search_computes_an_image_once_for_all_trials(weights, fake_torchvision, images, n_computed):
    X, y = np.concatenate([images[0]] * 2), np.concatenate([images[1], images[1] + 4])
    frozen = Torchvision("resnet18", weights=weights[1], trainable=False)

    def searched(n_trials):
        template = metafe.MetaFeatureExtractor(max_steps=2, random_state=0, device="cpu")
        search = metafe.MetaFeatureSearchCV(template, backbones=[frozen], n_trials=n_trials, random_state=0)
        with warnings.catch_warnings():
            # Of features that are learned in two steps.
            warnings.simplefilter("ignore", metafe.MetafeWarning)
            search.fit(X, y)
        assert "FAIL" not in {trial.state.name for trial in search.study_.trials}

    searched(6)  # five baselines, and one more
    # Each image twice, of which the second time it is known; the last part of the network's is filled up.
    assert 64 <= sum(n_computed) <= 128, "Folds share what is computed."
    n_computed.clear()
    searched(8)
    assert n_computed == []


def test_other_weights_and_other_training_rows_have_features_of_their_own(weights, fake_torchvision, images, tmp_path):
    X, y = images
    torch.manual_seed(6)
    other = str(tmp_path / "other.pt")
    torch.save(Small().state_dict(), other)
    first, second = (
        frozen_extractor(Torchvision("resnet18", weights=file, trainable=False)).fit(X, y).transform(X[:5])
        for file in (weights[1], other)
    )
    assert not np.allclose(first, second)
    # Nobody knows what is white in real numbers above 1.
    first, darker = (
        frozen_extractor(Torchvision("resnet18", weights=weights[1], trainable=False))
        .fit(rows, y)
        .transform(X[:5] / 1.0)
        for rows in (X / 1.0, X / 2.0)
    )
    assert not np.allclose(darker, first)


def test_features_do_not_depend_on_what_comes_with_an_image(weights, fake_torchvision, images, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", "off")
    X, y = images
    fitted = frozen_extractor(Torchvision("resnet18", weights=weights[1], trainable=False)).fit(X, y)
    together = fitted.transform(X)
    for part in (slice(0, 1), slice(3, 20), slice(63, 64)):
        np.testing.assert_array_equal(fitted.transform(X[part]), together[part])


def test_weights_that_do_not_fit_a_frozen_network_are_named_in_fit(fake_torchvision, tmp_path):
    path = str(tmp_path / "other.pt")
    torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(InvalidInputError, match=r"needs weights that fit it; those in '.*other\.pt' do not"):
        Torchvision("resnet18", weights=path, trainable=False).fit(np.zeros((2, 8, 8)), None, Seeds(0))


def test_a_frozen_extractor_can_be_pickled(weights, fake_torchvision, images):
    X, y = images
    fitted = frozen_extractor(Torchvision("resnet18", weights=weights[1], trainable=False)).fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(X[:5]), fitted.transform(X[:5]))


# The libraries themselves.


@pytest.mark.parametrize(
    ("make", "model"),
    [
        (Timm, "resnet10t"),
        (Timm, "mobilenetv3_small_050"),
        (Timm, "vit_tiny_patch16_224"),
        (Torchvision, "resnet18"),
        (Torchvision, "squeezenet1_1"),
        (Torchvision, "googlenet"),
    ],
)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_real_networks_begin_with_the_weights_of_a_file(make, model, n_channels, tmp_path):
    pytest.importorskip(make.library, exc_type=ImportError)
    shape = (3, 32, 32)
    given = make(model).fit(np.zeros((2, *shape)), None, Seeds(0)).build(shape).eval()
    network = given[1] if isinstance(given, nn.Sequential) else given
    path = str(tmp_path / "weights.safetensors")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    backbone = make(model, weights=path).fit(np.zeros((2, n_channels, 32, 32)), None, Seeds(0))
    module = backbone.build((n_channels, 32, 32)).eval()
    x = torch.randn(2, n_channels, 32, 32)
    with torch.no_grad():
        assert module(x).shape == given(torch.randn(2, 3, 32, 32)).shape
        # Grey images give what they give in colour.
        torch.testing.assert_close(module(x), given(x.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3)


def test_a_real_network_cannot_take_the_weights_of_another(tmp_path):
    pytest.importorskip("timm", exc_type=ImportError)
    path = str(tmp_path / "weights.safetensors")
    save_file({"conv1.weight": torch.zeros(64, 32, 3, 3)}, path)
    backbone = Timm("resnet10t", weights=path).fit(np.zeros((2, 3, 32, 32)), None, Seeds(0))
    with pytest.raises(InvalidInputError, match="needs weights that fit it"):
        backbone.build((3, 32, 32))


def test_timm_knows_a_model_that_is_misspelt():
    pytest.importorskip("timm", exc_type=ImportError)
    with pytest.raises(InvalidParameterError, match="Close: resnet"):
        Timm("resnet81").fit(np.zeros((2, 3, 32, 32)), None, Seeds(0))
