from __future__ import annotations

import warnings
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from metafe_audio import LogMel, LogMelOfArrays, MfccMeans, MfccTimes, sounds
from sklearn.base import clone

from metafe import MetaFeatureExtractor
from metafe.contracts import InvalidInputError, InvalidParameterError, Seeds, UnreadableRowWarning

RATE = 8000


def encoded(encoder, rows):
    return encoder.fit(rows, Seeds(0)).encode(rows)


@pytest.fixture
def written(tmp_path):
    """A function that writes samples to a file and returns its path."""

    def write(samples, rate=RATE, name="clip.wav"):
        soundfile.write(tmp_path / name, samples, rate)
        return str(tmp_path / name)

    return write


def test_a_tone_is_loudest_in_its_band_and_time(make_tone):
    low, high = (encoded(LogMelOfArrays(sample_rate=RATE, seconds=0.5), [make_tone(p, 0.5)])[0, 0] for p in (300, 2000))
    assert low.max() == high.max() == 80
    assert low.argmax(0)[16] < high.argmax(0)[16]
    assert abs(int(low.max(0).argmax()) - 16) <= 1, "The tone is loudest in its middle."


def test_files_and_arrays_give_the_same(tones, files):
    parameters = {"seconds": 0.5, "n_mels": 20}
    of_files = encoded(LogMel(**parameters), files)
    of_arrays = encoded(LogMelOfArrays(sample_rate=RATE, **parameters), tones[0])
    np.testing.assert_array_equal(of_files, of_arrays)


def test_level_does_not_matter(tones):
    clip = tones[0][0]
    loud, quiet, whole = encoded(
        LogMelOfArrays(sample_rate=RATE), [clip, clip / 1000, (clip * 30000).round().astype(np.int16)]
    )
    np.testing.assert_allclose(loud, quiet, atol=1e-2)
    assert np.abs(loud - whole).mean() < 1, "Rounding to 16 bits is noise that is hardly heard."


@pytest.mark.parametrize(("subtype", "dtype"), [("PCM_U8", np.uint8), ("PCM_16", np.int16), ("PCM_32", np.int32)])
def test_whole_numbers_are_what_a_file_of_them_is(make_tone, tmp_path, subtype, dtype):
    clip = make_tone(500, 0.4)
    limits = np.iinfo(dtype)
    half = (int(limits.max) - int(limits.min) + 1) / 2
    whole = (np.rint(clip * (half - 1)) + (half if limits.min == 0 else 0)).astype(dtype)
    # Files are written from what the whole numbers stand for.
    soundfile.write(tmp_path / "clip.wav", (whole - (half if limits.min == 0 else 0)) / half, RATE, subtype=subtype)
    of_file = encoded(LogMel(seconds=0.4), [tmp_path / "clip.wav"])
    of_array = encoded(LogMelOfArrays(sample_rate=RATE, seconds=0.4), [whole])
    np.testing.assert_allclose(of_array, of_file, atol=0.05)


def test_silence_of_numbers_without_a_sign_is_their_middle():
    assert not encoded(LogMelOfArrays(sample_rate=RATE), [np.full(3000, 128, dtype=np.uint8)]).any()


def test_clips_of_one_length_may_be_a_list_or_one_array(make_tone):
    clips = [make_tone(pitch, 0.3) for pitch in (300, 500, 900)]
    encoder = LogMelOfArrays(sample_rate=RATE)
    np.testing.assert_array_equal(encoded(encoder, np.stack(clips)), encoded(encoder, clips))


@pytest.mark.parametrize(
    ("rows", "received"),
    [
        ([torch.zeros(3000), torch.zeros(2000)], "a Tensor"),
        (torch.zeros(2, 3000), "a Tensor"),
        ([[0.0, 1.0], [0.0]], "a list"),
        ([np.zeros(3000, dtype=bool)], "bool of shape (3000,)"),
        ([np.array(["loud"])], "<U4 of shape (1,)"),
    ],
    ids=["tensors", "tensor", "ragged lists", "bool", "words"],
)
def test_what_is_no_array_of_samples_is_named_with_the_fix(rows, received):
    expected = (
        f"log-mel-of-arrays needs arrays of samples, (n_samples,); got {received}. Convert rows with numpy.asarray."
    )
    assert LogMelOfArrays().accepts(rows) == expected


def test_short_clips_get_silence_on_both_sides(make_tone):
    short = encoded(LogMelOfArrays(sample_rate=RATE, seconds=1.0), [make_tone(500, 0.3)])[0, 0]
    assert short.shape[1] == 63
    assert not short[:, :20].any()
    assert not short[:, -20:].any()
    assert short[:, 31].any()


def test_of_long_clips_the_middle_is_taken(make_tone, written):
    middle = make_tone(500, 0.4)
    long = np.concatenate([make_tone(2000, 1.0), middle, make_tone(2000, 1.0)])
    encoder = LogMelOfArrays(sample_rate=RATE, seconds=0.4)
    expected = encoded(encoder, [middle])
    np.testing.assert_array_equal(encoder.encode([long]), expected)
    path = written(long)
    np.testing.assert_allclose(encoded(LogMel(seconds=0.4), [path]), expected, atol=0.5)


def test_a_silent_clip_is_zeros_and_no_error():
    assert not encoded(LogMelOfArrays(sample_rate=RATE), [np.zeros(3000), np.zeros(5000)]).any()


@pytest.mark.parametrize("n_samples", [1, 5, 100])
def test_a_clip_shorter_than_a_window_is_heard(n_samples):
    clip = np.ones(n_samples)
    assert encoded(LogMelOfArrays(sample_rate=RATE), [clip, np.ones(5000)])[0].any()


def test_channels_are_averaged(make_tone, written):
    clip = make_tone(500, 0.4)
    stereo = written(np.stack([clip, clip], axis=1), name="stereo.wav")
    mono = written(clip, name="mono.wav")
    np.testing.assert_allclose(*encoded(LogMel(), [mono, stereo]), atol=1e-3)


def test_rates_are_brought_to_that_of_most_files(make_tone, written):
    paths = [written(make_tone(500, 0.4, rate), rate, f"{i}.wav") for i, rate in enumerate([8000, 8000, 22050])]
    encoder = LogMel().fit(paths, Seeds(0))
    assert encoder.sample_rate_ == 8000
    first, _, resampled = encoder.encode(paths)
    assert np.abs(first - resampled)[first > 40].mean() < 1


def test_the_highest_rate_is_16_khz_unless_told(written):
    path = written(np.ones(44100), 44100)
    assert LogMel().fit([path], Seeds(0)).sample_rate_ == 16000
    assert LogMel(sample_rate=44100).fit([path], Seeds(0)).sample_rate_ == 44100


@pytest.mark.parametrize(("lengths", "expected"), [([0.3] * 95 + [2.0] * 5, 0.3), ([0.01], 0.2), ([30.0], 10.0)])
def test_the_length_is_a_high_quantile(lengths, expected):
    clips = [np.ones(round(seconds * RATE), dtype=np.int16) for seconds in lengths]
    settled = LogMelOfArrays(sample_rate=RATE).fit(clips, Seeds(0)).seconds_
    assert settled == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "au"])
def test_every_kind_of_file_is_read(make_tone, written, suffix):
    encoded_file = encoded(LogMel(), [written(make_tone(500, 0.5), name=f"clip.{suffix}")])
    assert encoded_file.max() == 80


def test_files_that_cannot_be_read_are_zeros_and_named_once(files, tmp_path):
    broken, empty = tmp_path / "broken.wav", tmp_path / "empty.wav"
    broken.write_bytes(b"RIFF, but no more")
    soundfile.write(empty, np.zeros(0), RATE)
    rows = [files[0], str(tmp_path / "none.wav"), broken, str(empty), files[1]]
    encoder = LogMel(seconds=0.5).fit(files, Seeds(0))
    for _ in range(2):
        with pytest.warns(
            UnreadableRowWarning, match=r"log-mel could not read 3 of 5 clips.*none.wav.*no samples"
        ) as caught:
            blank = encoder.encode(rows)
        assert len(caught) == 1
    assert not blank[1:4].any()
    np.testing.assert_array_equal(blank[[0, 4]], encoder.encode(files[:2]))


def test_a_file_that_is_repaired_is_read(files, tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(b"nothing")
    encoder = LogMel(seconds=0.5).fit(files, Seeds(0))
    with pytest.warns(UnreadableRowWarning):
        encoder.encode([path])
    path.write_bytes(Path(files[0]).read_bytes())
    np.testing.assert_array_equal(encoder.encode([path]), encoder.encode(files[:1]))


def test_arrays_that_cannot_be_read_are_zeros_and_named_once(tones):
    rows = [*tones[0][:4], np.zeros(0), np.array([1.0, np.nan] * 500), *[np.zeros(0)] * 5]
    with pytest.warns(
        UnreadableRowWarning, match=r"7 of 11 .*row 4 \(no samples\); row 5 .*finite.*; and 2 more\."
    ) as caught:
        blank = encoded(LogMelOfArrays(sample_rate=RATE), rows)
    assert len(caught) == 1
    assert not blank[4:].any()


def test_what_cannot_be_read_can_be_an_error(files, tmp_path):
    encoder = LogMel(errors="raise").fit(files, Seeds(0))
    with pytest.raises(InvalidInputError, match=r"^log-mel needs clips that can be read; row 1, '.*none\.wav', cannot"):
        encoder.encode([files[0], str(tmp_path / "none.wav")])


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(
        InvalidInputError,
        match=r"got 2, and none of 2 that were looked at can, such as row 0, .*a\.wav. \(LibsndfileError",
    ):
        LogMel().fit([tmp_path / "a.wav", tmp_path / "b.wav"], Seeds(0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_arrays_of_which_none_is_finite_are_an_error(value):
    with pytest.raises(
        InvalidInputError, match=r"got 2, and none of 2 .* such as row 0 \(samples that are not finite\)\."
    ):
        LogMelOfArrays(sample_rate=RATE).fit([np.full(900, value)] * 2, Seeds(0))


@pytest.mark.parametrize(
    ("encoder", "rows"),
    [
        (LogMel(), "a.wav"),
        (LogMel(), []),
        (LogMel(), [3]),
        (LogMel(), [np.zeros(2000)]),
        (LogMel(), 3),
        (LogMelOfArrays(), ["a.wav"]),
        (LogMelOfArrays(), [np.zeros((2, 3000))]),
        (LogMelOfArrays(), [[0.0, 1.0]]),
        (MfccMeans(), ["a.wav", 3]),
        (MfccTimes(), [None, 3]),
    ],
    ids=str,
)
def test_what_is_no_clip_is_refused(encoder, rows):
    reason = encoder.accepts(rows)
    assert reason.startswith(f"{encoder.name} needs ")
    with pytest.raises(InvalidInputError, match="needs"):
        encoder.fit(rows, Seeds(0))


@pytest.mark.parametrize("encoder", [LogMel(), MfccMeans(), MfccTimes(), LogMelOfArrays(sample_rate=RATE)], ids=str)
@pytest.mark.parametrize(
    ("misfit", "why"), [(None, "missing"), (float("nan"), "missing"), (np.nan, "missing"), ({}, "a dict")], ids=str
)
def test_a_row_of_another_kind_is_one_that_cannot_be_read(files, tones, encoder, misfit, why):
    clips = tones[0] if isinstance(encoder, LogMelOfArrays) else files
    rows = [*clips[:2], misfit, *clips[2:4]]
    with pytest.warns(UnreadableRowWarning, match=rf"1 of 5 clips, which are zeros: row 2 \({why}\)\.") as caught:
        descriptions = encoded(encoder, rows)
    assert len(caught) == 1
    assert not descriptions[2].any()
    assert descriptions[[0, 1, 3, 4]].reshape(4, -1).any(axis=1).all()
    with pytest.raises(InvalidInputError, match=rf"; row 2, cannot \({why}\)"):
        encoded(clone(encoder).set_params(errors="raise"), rows)


@pytest.mark.parametrize(
    ("encoder", "name", "value"),
    [
        (LogMel, "n_mels", 4),
        (LogMel, "seconds", 0),
        (LogMel, "seconds", "long"),
        (LogMel, "sample_rate", 10),
        (LogMel, "errors", "ignore"),
        (MfccMeans, "n_coefficients", 0),
        (MfccMeans, "n_coefficients", 41),
        (MfccTimes, "n_coefficients", 1),
        (MfccTimes, "n_times", 1),
    ],
    ids=str,
)
def test_a_parameter_that_cannot_be_is_named(files, encoder, name, value):
    with pytest.raises(InvalidParameterError, match=f"^{encoder.name} {name} must be .*; got {value!r}"):
        encoder(**{name: value}).fit(files, Seeds(0))


def test_arrays_need_a_rate(tones):
    with pytest.raises(InvalidParameterError, match=r"sample_rate must be a whole number of at least 1000; got 'auto'"):
        LogMelOfArrays(sample_rate="auto").fit(tones[0], Seeds(0))


def test_a_file_is_read_once_ever(files, monkeypatch):
    first = encoded(LogMel(), files)
    monkeypatch.setattr(sounds, "read_file", None)
    np.testing.assert_array_equal(encoded(LogMel(), files), first)


def test_mfcc_means_are_those_of_librosa(files):
    encoder = MfccMeans(13, deviations=True).fit(files, Seeds(0))
    statistics = encoder.encode(files[:3])
    assert statistics.shape == (3, 26)
    from librosa.feature import mfcc

    bands = encoder.decibels(sounds.read_file(files[0], RATE, encoder.seconds_))
    coefficients = mfcc(S=bands, n_mfcc=13)
    np.testing.assert_allclose(statistics[0, :13], coefficients.mean(1), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(statistics[0, 13:], coefficients.std(1), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("encoder", [MfccMeans(deviations=True), MfccTimes()], ids=str)
@pytest.mark.parametrize("n_samples", [1, 127, 128, 511, 512])
def test_a_clip_below_the_window_is_described_in_silence(make_tone, tmp_path, encoder, n_samples):
    clip, path = make_tone(900, 0.5)[1003 : 1003 + n_samples], tmp_path / "short.wav"
    soundfile.write(path, clip, RATE, subtype="FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        described = encoded(encoder, [path])
    # Of a spectrogram the windows count that the clip itself reaches, not those of what it is padded with.
    bands = encoder.decibels(clip / np.abs(clip).max())
    assert bands.shape == (40, 1 + n_samples // 128)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        power = librosa.feature.melspectrogram(
            y=clip / np.abs(clip).max(), sr=RATE, n_fft=512, win_length=256, hop_length=128, n_mels=40
        )
    np.testing.assert_allclose(bands, np.maximum(10 * np.log10(power / power.max() + 1e-30) + 80, 0), atol=1e-3)
    assert np.isfinite(described).all()


def glide(seconds, silence=0.0):
    """A tone that rises from 300 to 1500 Hz, with silence on both sides."""
    pitch = np.linspace(300, 1500, round(seconds * RATE))
    wave = 0.4 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE)
    return np.pad(wave, round(silence * RATE)).astype(np.float32)


def test_the_course_of_coefficients_depends_on_neither_tempo_nor_silence(tmp_path):
    clips = [glide(0.4), glide(0.8), glide(0.4, silence=0.3), glide(0.4)[::-1], np.zeros(RATE, dtype=np.float32)]
    paths = [str(tmp_path / f"{i}.wav") for i in range(len(clips))]
    for path, clip in zip(paths, clips, strict=True):
        soundfile.write(path, clip, RATE, subtype="FLOAT")
    encoder = MfccTimes(seconds=1.0).fit(paths, Seeds(0))
    usual, slow, quiet_around, backwards, silent = courses = encoder.encode(paths)
    assert courses.shape == (5, 12 * 16)
    np.testing.assert_array_equal(silent, 0)
    np.testing.assert_allclose(courses.reshape(5, 12, 16).mean(axis=2), 0, atol=0.1 * np.abs(usual).max())
    to_other = np.linalg.norm(usual - backwards)
    assert np.linalg.norm(usual - slow) < 0.3 * to_other
    assert np.linalg.norm(usual - quiet_around) < 0.3 * to_other
    np.testing.assert_allclose(backwards.reshape(12, 16)[:, ::-1], usual.reshape(12, 16), atol=0.3 * to_other)


def test_automatic_backbone_of_the_course_is_the_adapter(files, tones):
    decided = MetaFeatureExtractor(encoder="mfcc-times", max_steps=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decided.fit(files, tones[1])
    assert "adapter" in decided.decisions_["backbone"]
