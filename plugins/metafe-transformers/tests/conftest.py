"""A small model with random weights, in the files that pretrained ones come in."""

from __future__ import annotations

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
