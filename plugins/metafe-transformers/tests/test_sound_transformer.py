from __future__ import annotations

import numpy as np
import pytest
import torch
from metafe_transformers import SoundEncoder, SoundInputs, SoundTransformer

import metafe
from metafe.contracts import InvalidInputError, InvalidParameterError, Seeds, UnreadableRowWarning

# Of the clips.
RATE = 4000
FAMILIES = ["wav2vec2", "hubert", "ast", "whisper"]


def inputs_of(folder, clips, seconds=0.3, **parameters):
    encoder = SoundInputs(folder, seconds, RATE, **parameters).fit(clips, Seeds(0))
    return encoder.encode(clips)


def built(backbone, rows):
    backbone = backbone.fit(rows, None, Seeds(0))
    return backbone.build(backbone.encode(rows).shape[1:]).eval()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_it_begins_as_the_frozen_model_on_clips_of_full_length(saved, clips, family, pooling):
    whole = [clip[:600] for clip in clips]
    module = built(SoundTransformer(saved(family), pooling=pooling), rows := inputs_of(saved(family), whole, 0.15))
    expected = (
        SoundEncoder(saved(family), pooling, sample_rate=RATE, normalise=False).fit(whole, Seeds(0)).encode(whole)
    )
    np.testing.assert_allclose(module(torch.from_numpy(rows)).detach(), expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mask_says_where_the_clip_is(saved, clips, family):
    rows = inputs_of(saved(family), clips)
    if family == "ast":
        assert (rows[:, 0] == 1).all()
        return
    # Whisper's feature extractor pads to two seconds, in steps of 160 samples at four times the rate.
    heard = np.minimum([len(clip) for clip in clips], 0.3 * RATE) / {"whisper": 40}.get(family, 1)
    np.testing.assert_allclose(rows[:, 0].sum(1), heard, atol=1)


def test_padding_is_not_pooled(saved, clips):
    module = built(SoundTransformer(saved("wav2vec2"), pooling="last"), rows := inputs_of(saved("wav2vec2"), clips))
    short, long = clips[0], clips[-1]
    assert len(short) < 0.3 * RATE < len(long)
    states = module.network(
        torch.from_numpy(rows[:1, 1]), attention_mask=torch.from_numpy(rows[:1, 0]).long()
    ).last_hidden_state
    n_heard = int(np.ceil(states.shape[1] * len(short) / rows.shape[2]))
    torch.testing.assert_close(module(torch.from_numpy(rows[:1])), states[:, n_heard - 1])


def test_only_the_additions_are_trained(saved, clips):
    module = built(SoundTransformer(saved("hubert"), rank=3), inputs_of(saved("hubert"), clips))
    trained = {name: weights for name, weights in module.named_parameters() if weights.requires_grad}
    assert trained
    assert all("lora" in name and 3 in weights.shape for name, weights in trained.items())


def test_training_hides_no_moments_and_leaves_out_no_layers(saved, clips):
    module = built(SoundTransformer(saved("wav2vec2"), "full"), rows := inputs_of(saved("wav2vec2"), clips)).train()
    # Transformers draws hidden moments from NumPy's global generator, and drops layers by the configuration.
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - what must not be used
    module(torch.from_numpy(rows))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert module.network.config.layerdrop == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_clips_that_cannot_be_read_are_zeros(saved, clips, family):
    bad = [np.full(600, np.nan, dtype=np.float32), np.zeros(0, dtype=np.float32)]
    with pytest.warns(UnreadableRowWarning, match="sound-inputs"):
        rows = inputs_of(saved(family), [*clips, *bad])
    module = built(SoundTransformer(saved(family)), rows)
    with torch.no_grad():
        features = module(torch.from_numpy(rows))
    assert torch.isfinite(features).all()
    assert (features[-2:] == 0).all()
    assert (features[:-2] != 0).any(1).all()
    with pytest.raises(InvalidInputError, match="sound-inputs needs rows that can be read; row 6 is not one"):
        inputs_of(saved(family), [*clips, *bad], errors="raise")


def test_a_silent_clip_is_a_clip(saved, clips):
    rows = inputs_of(saved("wav2vec2"), [*clips, np.zeros(900, dtype=np.float32)])
    assert rows[-1, 0].sum() == 900


def test_files_are_what_arrays_are(saved, clips, sound_files):
    np.testing.assert_array_equal(inputs_of(saved("hubert"), sound_files), inputs_of(saved("hubert"), clips))


def test_the_backbone_of_the_same_model_comes_by_itself(saved, sound_files):
    files, y = sound_files * 30, np.arange(180) % 6
    settings = {"max_steps": 2, "validation_fraction": 0.5, "random_state": 0, "device": "cpu"}
    fitted = metafe.MetaFeatureExtractor(
        SoundTransformer(saved("hubert")), "protonet", encoder=SoundInputs(saved("hubert"), 0.3), **settings
    ).fit(files, y)
    assert fitted.transform(files[:3]).shape == (3, 16)
    assert fitted.decisions_["augment"].startswith("none")
    assert SoundInputs(saved("hubert")).default_backbone.model == saved("hubert")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"seconds": 0.01}, "sound-inputs seconds must be a number of at least 0.1"),
        ({"seconds": None}, "sound-inputs seconds must be a number of at least 0.1; got None"),
        ({"sample_rate": 0}, "sound-inputs sample_rate must be"),
        ({"errors": "ignore"}, "sound-inputs errors must be"),
    ],
)
def test_parameters_that_cannot_be_are_refused(saved, clips, parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        SoundInputs(saved("hubert"), **parameters).fit(clips, Seeds(0))


def test_a_model_of_images_is_refused(saved, clips):
    with pytest.raises(InvalidParameterError, match="sound-inputs model must"):
        SoundInputs(saved("vit")).fit(clips, Seeds(0))


@pytest.mark.parametrize(
    "rows", [np.zeros((5, 8)), np.zeros((5, 1, 8)), np.full((5, 2, 8), 0.5)], ids=["2d", "1", "half"]
)
def test_what_the_encoder_did_not_make_is_refused(saved, rows):
    assert SoundTransformer(saved("hubert")).accepts(rows).endswith("Use encoder='sound-inputs'.")
    assert SoundTransformer().accepts(rows).startswith("sound-transformer needs a model; got None.")
