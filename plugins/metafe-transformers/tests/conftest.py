"""Small models with random weights, in the files that pretrained ones come in."""

from __future__ import annotations

import numpy as np
import pytest

WORDS = [
    "where",
    "is",
    "my",
    "card",
    "i",
    "was",
    "charged",
    "twice",
    "please",
    "change",
    "the",
    "pin",
    "of",
    "this",
    "account",
    "top",
    "up",
    "did",
    "not",
    "work",
    "##s",
    "##ing",
]
TEXTS = [
    "Where is my card?",
    "I was charged twice",
    "please change the PIN of this account",
    "top up did not work",
    "Where is the account?",
    "",
    "my card was charged, charged and charged, and charged, and then was charged twice this working top up",
    "cards",
]


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("METAFE_CACHE", str(tmp_path / "cache"))


def _save_model(folder, seed=0):
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", ",", *WORDS]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def save_model():
    """A function that writes a model to a folder, other weights for another seed, and returns the folder."""
    return _save_model


@pytest.fixture(scope="session")
def model(tmp_path_factory, save_model):
    """The folder of the model."""
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def texts():
    """Eight texts of unequal length, one of them empty."""
    return list(TEXTS)


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.5}
SIDE = 32
VISION = {**SMALL, "intermediate_size": 32, "image_size": SIDE, "patch_size": 8}
SPEECH = {
    **SMALL,
    "intermediate_size": 32,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
RATE = 4000


def _vit(t):
    return t.ViTModel(t.ViTConfig(**VISION)), t.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})


def _dinov2(t):
    config = t.Dinov2Config(**SMALL, image_size=28, patch_size=14)
    processor = t.BitImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": 28, "width": 28})
    return t.Dinov2Model(config), processor


def _clip(t):
    words = {**SMALL, "intermediate_size": 32, "vocab_size": 50}
    config = t.CLIPConfig(text_config=words, vision_config=VISION, projection_dim=8)
    size = {"height": SIDE, "width": SIDE}
    return t.CLIPModel(config), t.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size)


def _convnext(t):
    config = t.ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1], initializer_range=0.5)
    return t.ConvNextModel(config), t.ConvNextImageProcessorPil(size={"shortest_edge": 64})


def _resnet(t):
    config = t.ResNetConfig(embedding_size=4, hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1])
    return t.ResNetModel(config), t.ConvNextImageProcessorPil(size={"shortest_edge": 64})


def _wav2vec2(t):
    return t.Wav2Vec2Model(t.Wav2Vec2Config(**SPEECH)), t.Wav2Vec2FeatureExtractor(sampling_rate=RATE)


def _hubert(t):
    return t.HubertModel(t.HubertConfig(**SPEECH)), t.Wav2Vec2FeatureExtractor(sampling_rate=RATE)


def _whisper(t):
    config = t.WhisperConfig(
        vocab_size=60,
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=20,
        max_source_positions=100,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        init_std=0.5,
    )
    return t.WhisperModel(config), t.WhisperFeatureExtractor(feature_size=20, chunk_length=2)


def _ast(t):
    config = t.ASTConfig(**SMALL, intermediate_size=32, max_length=64, num_mel_bins=16)
    return t.ASTModel(config), t.ASTFeatureExtractor(max_length=64, num_mel_bins=16)


MODELS = {
    make.__name__[1:]: make for make in (_vit, _dinov2, _clip, _convnext, _resnet, _wav2vec2, _hubert, _whisper, _ast)
}


def _save_other_model(name, folder, seed=0):
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = MODELS[name](transformers)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def save_other_model():
    """A function that writes a model of images or sound to a folder, by its family, and returns the folder."""
    return _save_other_model


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A function that returns the folder of a model of images or sound, by its family."""
    folders = {}

    def folder(name):
        if name not in folders:
            folders[name] = _save_other_model(name, tmp_path_factory.mktemp(name))
        return folders[name]

    return folder


@pytest.fixture
def images():
    """Six images ``(40, 50, 3)`` uint8."""
    return np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), dtype=np.uint8)


@pytest.fixture
def image_files(images, tmp_path):
    """The images as files."""
    from PIL import Image

    paths = [str(tmp_path / f"{i}.png") for i in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture
def clips():
    """Six clips of 0.15 to 0.65 seconds at the rate of the models, float32."""
    rng = np.random.default_rng(0)
    lengths = [600 + 400 * i for i in range(6)]
    return [
        (0.3 * np.sin(np.arange(n) * (0.2 + 0.1 * i)) + 0.01 * rng.normal(size=n)).astype(np.float32)
        for i, n in enumerate(lengths)
    ]


@pytest.fixture
def sound_files(clips, tmp_path):
    """The clips as files of real numbers."""
    import soundfile

    paths = [str(tmp_path / f"{i}.wav") for i in range(len(clips))]
    for clip, path in zip(clips, paths, strict=True):
        soundfile.write(path, clip, RATE, subtype="FLOAT")
    return paths
