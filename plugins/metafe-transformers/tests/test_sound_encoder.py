from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from metafe_transformers import SoundEncoder, SoundInputs, frozen, sound_encoder

from metafe.contracts import (
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
    Seeds,
    UnreadableRowWarning,
)

# Of the clips, and of the models of raw samples.
RATE = 4000


def encoded(encoder, rows):
    return encoder.fit(rows, Seeds(0)).encode(rows)


@pytest.fixture
def encoder(saved):
    return SoundEncoder(saved("wav2vec2"), sample_rate=RATE)


def states_of(folder, clip):
    """What transformers makes of one clip alone, at the rate of the model."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    network = AutoModel.from_pretrained(folder).eval()
    network = network.get_encoder() if network.config.is_encoder_decoder else network
    with torch.no_grad():
        made = extractor(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        return network(**made).last_hidden_state[0].numpy()


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "ast"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_it_is_what_the_model_gives_for_one_clip_alone(saved, clips, family, pooling):
    picked = {"mean": lambda s: s.mean(0), "cls": lambda s: s[0], "last": lambda s: s[-1]}
    rate = 16_000 if family == "ast" else RATE
    rows = [np.tile(clip, rate // RATE) for clip in clips]
    expected = [picked[pooling](states_of(saved(family), row)) for row in rows]
    encoder = SoundEncoder(saved(family), pooling, sample_rate=rate, normalise=False)
    np.testing.assert_allclose(encoded(encoder, rows), expected, atol=1e-5)


def test_the_silence_that_whisper_adds_is_not_averaged(saved, clips):
    rows = [np.tile(clip, 4) for clip in clips]
    # A state for every 320 samples.
    expected = [states_of(saved("whisper"), row)[: -(-len(row) // 320)].mean(0) for row in rows]
    found = encoded(SoundEncoder(saved("whisper"), normalise=False), rows)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "kept", [list, np.array, pd.Series, lambda p: [Path(path) for path in p]], ids=["list", "array", "series", "paths"]
)
def test_files_are_what_arrays_are(encoder, clips, sound_files, kept):
    np.testing.assert_array_equal(encoded(encoder, kept(sound_files)), encoded(encoder, clips))


def test_clips_of_one_length_may_be_one_array(encoder, clips):
    rows = np.stack([clip[:600] for clip in clips])
    np.testing.assert_array_equal(encoded(encoder, rows), encoded(encoder, list(rows)))


def test_files_and_arrays_are_resampled_to_the_rate_of_the_model(encoder, saved, tmp_path):
    seconds = np.arange(8000) / 8000
    tone = (0.5 * np.sin(2 * np.pi * 220 * seconds)).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", tone, 8000, subtype="FLOAT")
    of_file = encoded(encoder, [tmp_path / "tone.wav"])
    np.testing.assert_array_equal(encoded(SoundEncoder(saved("wav2vec2"), sample_rate=8000), [tone]), of_file)
    np.testing.assert_allclose(encoded(encoder, [tone[::2]]), of_file, atol=0.02)
    assert not np.allclose(encoded(encoder, [tone]), of_file, atol=0.02)


def test_channels_are_averaged(encoder, clips, tmp_path):
    both = np.stack([clips[0] * 1.5, clips[0] * 0.5], axis=1)
    soundfile.write(tmp_path / "both.wav", both, RATE, subtype="FLOAT")
    np.testing.assert_allclose(encoded(encoder, [tmp_path / "both.wav"]), encoded(encoder, clips[:1]), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8])
def test_whole_numbers_are_scaled_by_their_type(saved, dtype):
    # Of a model that hears how loud a clip is.
    encoder = SoundEncoder(saved("whisper"))
    limits = np.iinfo(dtype)
    half = (int(limits.max) - int(limits.min) + 1) / 2
    steps = np.rint(np.sin(np.arange(8000) * 0.3) * half / 2)
    whole = (steps + (half if limits.min == 0 else 0)).astype(dtype)
    np.testing.assert_array_equal(encoded(encoder, [whole]), encoded(encoder, [steps / half]))


def test_the_middle_of_a_long_clip_counts(saved, encoder, clips, sound_files):
    short = SoundEncoder(saved("wav2vec2"), sample_rate=RATE, seconds=0.125)
    expected = encoded(encoder, [clip[(len(clip) - 500) // 2 :][:500] for clip in clips])
    np.testing.assert_array_equal(encoded(short, clips), expected)
    np.testing.assert_array_equal(encoded(short, sound_files), expected)
    assert not np.allclose(encoded(encoder, clips), expected)


def test_all_of_a_clip_counts_without_seconds(saved, encoder, clips):
    whole = SoundEncoder(saved("wav2vec2"), sample_rate=RATE, seconds=None)
    np.testing.assert_array_equal(encoded(whole, clips), encoded(encoder, clips))


def test_a_clip_of_one_sample_gets_silence(encoder, clips):
    one, longer = encoded(encoder, [clips[0][5:6], np.pad(clips[0][5:6], (0, RATE // 10 - 1))])
    np.testing.assert_array_equal(one, longer)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "whisper", "ast"])
def test_a_silent_clip_is_a_clip_like_any_other(saved, family):
    embeddings = encoded(SoundEncoder(saved(family), sample_rate=RATE), [np.zeros(1000)])
    assert embeddings.shape == (1, 16)
    assert np.isfinite(embeddings).all()


def test_clips_that_cannot_be_read_are_zeros_and_named_once(encoder, clips, sound_files, tmp_path):
    Path(sound_files[1]).write_bytes(b"RIFF and nothing")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    rows = [*sound_files, np.zeros(0), str(tmp_path / "empty.wav"), np.full(500, np.nan), "none.wav"]
    with pytest.warns(
        UnreadableRowWarning, match="sound-encoder could not read 5 of 10 rows, which are zeros"
    ) as caught:
        embeddings = encoded(encoder, rows)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "row 6 (ValueError: no samples)" in message
    assert "empty.wav' (ValueError: no samples)" in message
    assert "row 8 (ValueError: samples that are not finite)" in message
    assert not embeddings[[1, 6, 7, 8, 9]].any()
    np.testing.assert_array_equal(embeddings[[0, 2]], encoded(encoder, [clips[0], clips[2]]))


def test_a_clip_that_the_extractor_does_not_take_ends_nothing(encoder, clips, monkeypatch):
    load = sound_encoder.load_feature_extractor

    def picky(owner, folder):
        extractor = load(owner, folder)

        def extract(samples, **parameters):
            if len(samples) == len(clips[1]):
                raise ValueError("an odd length")
            return extractor(samples, **parameters)

        extract.sampling_rate = extractor.sampling_rate
        return extract

    monkeypatch.setattr(sound_encoder, "load_feature_extractor", picky)
    with pytest.warns(UnreadableRowWarning, match=r"could not read 1 of 6 rows.*row 1 \(ValueError: an odd length"):
        embeddings = encoded(encoder, clips)
    assert not embeddings[1].any()
    assert embeddings[[0, 2, 3, 4, 5]].any(axis=1).all()


@pytest.mark.parametrize(
    ("misfit", "why"), [(None, "missing"), (float("nan"), "missing"), ([0.0, 1.0], "a list")], ids=str
)
def test_a_row_of_another_kind_is_one_that_cannot_be_read(saved, clips, misfit, why):
    rows = [*clips, misfit]
    for encoder in (SoundEncoder(saved("wav2vec2")), SoundInputs(saved("wav2vec2"))):
        with pytest.warns(UnreadableRowWarning, match=rf"1 of 7 rows, which are zeros: row 6 \({why}\)\."):
            assert not encoded(encoder, rows)[6].any()
        with pytest.raises(InvalidInputError, match=rf"; row 6 is not one \({why}\)"):
            encoded(encoder.set_params(errors="raise"), rows)


@pytest.mark.parametrize("kind", [SoundEncoder, SoundInputs])
@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["none.wav"] * 2, r"row 0, 'none\.wav' \(LibsndfileError: .*\)"),
        ([None, np.zeros(0)], r"row 0 \(missing\)"),
        ([np.full(900, np.nan)] * 2, r"row 0 \(ValueError: samples that are not finite\)"),
    ],
    ids=["files", "missing", "not finite"],
)
def test_rows_of_which_none_can_be_read_are_an_error_of_fit(saved, kind, rows, named):
    with pytest.raises(
        InvalidInputError,
        match=rf"^{kind.name} needs rows that can be read; got 2, and none of 2 .* such as {named}\. Pass",
    ):
        kind(saved("wav2vec2")).fit(rows, Seeds(0))


def test_new_clips_of_which_none_can_be_read_are_zeros(encoder, clips):
    encoder.fit(clips, Seeds(0))
    with pytest.warns(UnreadableRowWarning):
        embeddings = encoder.encode([np.zeros(0), np.zeros(0)])
    assert embeddings.shape == (2, 16)
    assert not embeddings.any()


def test_unreadable_clips_can_be_an_error(saved, clips):
    with pytest.raises(
        InvalidInputError, match=r"^sound-encoder needs rows that can be read; row 6 is not one \(.*no samples"
    ):
        encoded(SoundEncoder(saved("wav2vec2"), errors="raise"), [*clips, np.zeros(0)])


@pytest.mark.parametrize(
    ("rows", "received"),
    [
        ("a.wav", "got a str"),
        ([], "got none"),
        ([np.zeros((2, 9))], r"row 0 is float64 of shape \(2, 9\)"),
        ([np.zeros(9), [1.0, 2.0]], "row 1 is a list"),
        ([np.zeros(9, bool)], r"row 0 is bool of shape \(9,\)"),
        ([torch.zeros(9)], r"row 0 is a Tensor\. Convert rows with numpy\.asarray\."),
        (torch.zeros(2, 9), "row 0 is a Tensor"),
        ([[0.0, 1.0], [0.0]], "row 0 is a list"),
        (np.zeros(9), "row 0 is a float64"),
    ],
    ids=str,
)
def test_what_are_no_clips_is_refused(encoder, clips, rows, received):
    encoder.fit(clips, Seeds(0))
    with pytest.raises(InvalidInputError, match=f"^sound-encoder needs .*{received}"):
        encoder.encode(rows)


@pytest.mark.parametrize(
    "parameters",
    [{"pooling": "max"}, {"seconds": 0.0}, {"seconds": "long"}, {"sample_rate": 0}, {"errors": "ignore"}],
    ids=str,
)
def test_a_parameter_that_cannot_be_is_named(saved, clips, parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^sound-encoder {name} must be .*; got {value!r}"):
        encoded(SoundEncoder(saved("wav2vec2"), **parameters), clips)


def test_a_clip_is_computed_once_ever(encoder, clips, sound_files, monkeypatch):
    arrays, files = encoded(encoder, clips), encoded(encoder, sound_files)
    monkeypatch.setattr(frozen, "frozen_model", None)
    np.testing.assert_array_equal(encoded(encoder, clips[::-1]), arrays[::-1])
    np.testing.assert_array_equal(encoded(encoder, sound_files), files)


def test_a_model_must_be_named():
    assert SoundEncoder().accepts(["a.wav"]).startswith("sound-encoder needs a model; got None.")


def test_a_model_of_images_is_refused(saved, clips):
    with pytest.raises(InvalidParameterError, match=r"sound-encoder model must hold .* processor"):
        encoded(SoundEncoder(saved("vit")), clips)


def test_without_librosa_the_error_says_what_to_install(encoder, clips, monkeypatch):
    monkeypatch.setattr(SoundEncoder, "libraries", ("no-such-library",))
    with pytest.raises(
        MissingDependencyError, match=r"needs no-such-library.*pip install metafe-transformers\[audio\]"
    ):
        encoded(encoder, clips)
