from __future__ import annotations

import numpy as np
import pytest
import torch
from metafe_transformers import ImageEncoder, ImageTransformer, network
from PIL import Image
from sklearn.base import clone

from metafe.contracts import InvalidInputError, InvalidParameterError, MissingDependencyError, Seeds


def built(backbone, images):
    backbone = backbone.fit(images, None, Seeds(0))
    return backbone.build(backbone.encode(images).shape[1:]).eval()


@pytest.fixture
def square():
    """Images of the size of the model, standardised as its processor does."""
    return np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)


@pytest.mark.parametrize(("family", "pooling"), [("vit", "cls"), ("clip", "mean"), ("convnext", "mean")])
def test_it_begins_as_the_frozen_model(saved, square, family, pooling):
    from transformers import AutoImageProcessor

    side = {"convnext": 64}.get(family, 32)
    images = np.stack([np.asarray(Image.fromarray(x.transpose(1, 2, 0)).resize((side, side))) for x in square])
    processor = AutoImageProcessor.from_pretrained(saved(family), backend="pil")
    pixels = processor(images=list(images), return_tensors="pt")["pixel_values"]
    expected = ImageEncoder(saved(family), pooling, normalise=False).fit(images, Seeds(0)).encode(images)
    module = built(ImageTransformer(saved(family), pooling=pooling), pixels.numpy())
    np.testing.assert_allclose(module(pixels).detach(), expected, atol=1e-4)


def test_only_the_additions_are_trained(saved, square):
    module = built(ImageTransformer(saved("vit"), rank=3), square)
    trained = {name: weights for name, weights in module.named_parameters() if weights.requires_grad}
    # Query, key, value and three dense layers in each of two blocks, two factors each.
    assert len(trained) == 2 * 6 * 2
    assert all("lora" in name and 3 in weights.shape for name, weights in trained.items())


def test_of_a_full_model_all_that_counts_is_trained(saved, square):
    frozen = {
        n for n, p in built(ImageTransformer(saved("dinov2"), "full"), square).named_parameters() if not p.requires_grad
    }
    assert frozen == {"network.embeddings.mask_token"}


@pytest.mark.parametrize("shape", [(4, 12, 14), (4, 1, 12, 14), (4, 12, 14, 3)], ids=str)
def test_images_of_any_size_and_layout_will_do(saved, shape):
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    backbone = ImageTransformer(saved("vit")).fit(images, None, Seeds(0))
    encoded = backbone.encode(images)
    assert backbone.build(encoded.shape[1:])(torch.from_numpy(np.ascontiguousarray(encoded))).shape == (4, 16)


def test_grey_is_three_equal_channels(saved):
    grey = np.random.default_rng(0).normal(size=(4, 1, 12, 14)).astype(np.float32)
    module = built(ImageTransformer(saved("vit"), "full"), grey)
    grey = torch.from_numpy(grey)
    torch.testing.assert_close(module(grey), module(grey.expand(-1, 3, -1, -1)))


def test_channels_that_the_model_does_not_take_are_refused(saved):
    backbone = ImageTransformer(saved("vit")).fit(np.zeros((4, 2, 12, 14)), None, Seeds(0))
    with pytest.raises(InvalidInputError, match="image-transformer needs images of 1 or 3 channels; got 2"):
        backbone.build((2, 12, 14))


def test_rows_are_the_same_whatever_the_batch(saved, square):
    images = torch.from_numpy(np.tile(square, (9, 1, 1, 1))[:33]).float()
    images[20:] = 0
    module = built(ImageTransformer(saved("vit"), "full"), square)
    with torch.no_grad():
        together = module(images)
        for part in (slice(0, 1), slice(3, 20), slice(18, 33)):
            assert torch.equal(module(images[part]), together[part])


def test_blank_rows_are_computed_once(saved, square, monkeypatch):
    module = built(ImageTransformer(saved("vit"), "full"), square)
    n_rows = []
    features = module._features
    monkeypatch.setattr(module, "_features", lambda images: n_rows.append(len(images)) or features(images))
    with torch.no_grad():
        module(torch.cat([torch.from_numpy(square[:1]).float(), torch.zeros(100, 3, 32, 32)]))
    assert n_rows == [1, 1]


@pytest.mark.parametrize("n_rows", [1, 4, 16, 17, 40])
def test_parts_are_of_a_constant_size(n_rows):
    sizes = []
    rows = torch.randn(n_rows, 3)
    assert torch.equal(network._in_parts(rows, 16, lambda part: sizes.append(len(part)) or 2 * part), 2 * rows)
    assert set(sizes) == {16}


def test_a_frozen_model_gives_what_it_gives_on_standardised_images(saved, square):
    backbone = ImageTransformer(saved("vit"), "frozen").fit(square, None, Seeds(0))
    # By the statistics of the saved processor.
    means = scales = 255 * 0.5
    standardised = torch.from_numpy(((square - means) / scales).astype(np.float32))
    with torch.no_grad():
        expected = built(ImageTransformer(saved("vit"), "full"), square)(standardised)
    torch.testing.assert_close(torch.from_numpy(backbone.encode(square)), expected)


def test_an_image_is_computed_once_by_a_frozen_model(saved, square, monkeypatch):
    backbone = ImageTransformer(saved("vit"), "frozen")
    first = backbone.fit(square, None, Seeds(0)).encode(square)
    monkeypatch.setattr(network.PooledVision, "forward", None)
    np.testing.assert_array_equal(clone(backbone).fit(square, None, Seeds(1)).encode(square[::-1]), first[::-1])


def test_poolings_of_a_frozen_model_have_rows_of_their_own_and_training_rows_have_not(saved, square, monkeypatch):
    first, second = (
        ImageTransformer(saved("vit"), "frozen", pooling=pooling).fit(square, None, Seeds(0)).encode(square)
        for pooling in ("mean", "cls")
    )
    assert not np.allclose(first, second)
    monkeypatch.setattr(network.PooledVision, "forward", None)
    again = ImageTransformer(saved("vit"), "frozen").fit(square[:2] // 2, None, Seeds(0)).encode(square)
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_frozen_model_scales_by_its_training_rows_where_nobody_knows_what_is_white(saved, square, channels):
    images = square[:, :channels] - 100.0
    backbone = ImageTransformer(saved("vit"), "frozen").fit(images, None, Seeds(0))
    np.testing.assert_allclose(backbone.channel_means_, images.mean(axis=(0, 2, 3)))
    backbone.fit(square[:, :channels] / 255, None, Seeds(0))
    np.testing.assert_allclose(backbone.channel_means_, [0.5] * channels)


def test_a_network_without_linear_layers_takes_no_additions(saved, square):
    with pytest.raises(
        InvalidParameterError, match=r"image-transformer adapt='lora' needs linear layers.*adapt='full'"
    ):
        built(ImageTransformer(saved("resnet")), square)
    assert built(ImageTransformer(saved("resnet"), "full"), square)(torch.zeros(1, 3, 32, 32)).shape == (1, 8)


def test_a_convolutional_network_has_no_tokens(saved, square):
    with pytest.raises(InvalidParameterError, match="pooling must be 'mean'"):
        built(ImageTransformer(saved("convnext"), pooling="cls"), square)


def test_a_model_must_be_named(square):
    assert ImageTransformer().accepts(square).startswith("image-transformer needs a model; got None.")


def test_what_are_no_images_is_refused(saved):
    assert ImageTransformer(saved("vit")).accepts(np.zeros((3, 9))).startswith("image-transformer needs images")


def test_without_peft_the_error_says_what_to_install(saved, square, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(MissingDependencyError, match=r"pip install metafe-transformers\[lora\]"):
        built(ImageTransformer(saved("vit")), square)


def test_a_hub_that_cannot_be_reached_does_not_advise_a_model_of_text(square, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingDependencyError, match="copy the model and pass model='its/folder'") as refusal:
        ImageTransformer("someone/no-such-model").fit(square, None, Seeds(0))
    assert "minilm" not in str(refusal.value)
