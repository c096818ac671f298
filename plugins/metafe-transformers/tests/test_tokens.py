from __future__ import annotations

import numpy as np
import pytest
import torch
from metafe_transformers import Tokens, Transformer, network

from metafe.contracts import (
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
    Seeds,
    UnreadableRowWarning,
)


def tokens_of(model, rows, **parameters):
    return Tokens(model, **parameters).fit(rows, Seeds(0)).encode(rows)


def test_ids_are_those_of_the_tokenizer(model, texts):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    expected = tokenizer(texts, padding="max_length", max_length=24)["input_ids"]
    np.testing.assert_array_equal(tokens_of(model, texts), expected)


def test_rows_are_as_long_as_the_longest_text_but_no_longer_than_the_model(model):
    assert tokens_of(model, ["card", "my card"]).shape == (2, 8)
    assert tokens_of(model, ["card " * 100]).shape == (1, 40)
    assert tokens_of(model, ["card " * 100], max_length=12).shape == (1, 12)
    assert tokens_of(model, ["card"], max_length=100).shape == (1, 40)


def test_a_longer_text_than_those_of_fit_is_cut(model):
    tokens = Tokens(model).fit(["card"], Seeds(0))
    assert tokens.encode(["card " * 100]).shape == (1, 8)


def test_a_missing_text_is_padding_alone_and_its_features_are_zeros(model):
    rows = ["card", None, ""]
    with pytest.warns(UnreadableRowWarning, match=r"tokens could not read 1 of 3 texts.*row 1 \(missing") as caught:
        ids = Tokens(model).fit(rows, Seeds(0)).encode(rows)
    assert len(caught) == 1, "The same row is named once, although fit reads it too."
    assert not ids[1].any()
    module = Transformer(model).fit(ids, None, Seeds(0)).build(ids.shape[1:])
    for mode in (module.train(), module.eval()):
        features = mode(torch.from_numpy(ids).float())
        assert features[0].any()
        assert features[2].any()
        assert not features[1].any()


def test_padding_does_not_change_a_text(model, texts):
    module = Transformer(model).fit(np.ones((2, 8), int), None, Seeds(0)).build((8,)).eval()
    short, long = (
        module(torch.from_numpy(tokens_of(model, texts[:2], max_length=length)).float()) for length in (8, 30)
    )
    torch.testing.assert_close(short, long, atol=1e-5, rtol=1e-4)


def test_rows_are_the_same_whatever_the_batch(model, texts):
    ids = torch.from_numpy(tokens_of(model, texts * 5)).float()
    module = Transformer(model, adapt="full").fit(ids.numpy().astype(int), None, Seeds(0)).build((24,)).eval()
    with torch.no_grad():
        together = module(ids)
        for part in (ids[:1], ids[3:20], ids[-1:]):
            start = int((ids == part[0]).all(1).nonzero()[0])
            assert torch.equal(module(part), together[start : start + len(part)])


def test_untrained_additions_change_nothing(model, texts):
    ids = tokens_of(model, texts)
    lora = Transformer(model).fit(ids, None, Seeds(0)).build((24,)).eval()
    frozen = Transformer(model, adapt="frozen").fit(ids, None, Seeds(0))
    torch.testing.assert_close(lora(torch.from_numpy(ids)).detach(), torch.from_numpy(frozen.encode(ids)))


def test_a_row_is_computed_once_by_a_frozen_model(model, texts, monkeypatch):
    ids = tokens_of(model, texts)
    first = Transformer(model, adapt="frozen").fit(ids, None, Seeds(0)).encode(ids)
    monkeypatch.setattr(network.PooledTransformer, "forward", None)
    np.testing.assert_array_equal(Transformer(model, adapt="frozen").fit(ids, None, Seeds(1)).encode(ids), first)


def test_only_the_additions_are_trained(model):
    backbone = Transformer(model, rank=3).fit(np.ones((2, 8), int), None, Seeds(0))
    trained = {name: p for name, p in backbone.build((8,)).named_parameters() if p.requires_grad}
    # Query, key, value and three dense layers in each of two blocks, two factors each.
    assert len(trained) == 2 * 6 * 2
    assert all("lora" in name and 3 in p.shape for name, p in trained.items())


@pytest.mark.parametrize("parameters", [{"adapt": "half"}, {"pooling": "max"}, {"rank": 0}, {"alpha": -1.0}], ids=str)
def test_a_parameter_that_cannot_be_is_named(model, parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^transformer {name} must be .*; got {value!r}"):
        Transformer(model, **parameters).fit(np.ones((2, 8), int), None, Seeds(0))


def test_a_length_that_cannot_be_is_named(model):
    with pytest.raises(InvalidParameterError, match=r"^tokens max_length must be .*; got 0"):
        Tokens(model, max_length=0).fit(["card"], Seeds(0))


@pytest.mark.parametrize("rows", [np.zeros((3, 8)), np.zeros((3, 4, 2), int), -np.ones((3, 8), int)], ids=str)
def test_what_are_no_ids_is_refused(rows):
    assert Transformer().accepts(rows).startswith("transformer needs rows of token ids")


@pytest.mark.parametrize("adapt", ["lora", "frozen"])
@pytest.mark.parametrize("towers", [1, 2])
def test_ids_of_another_tokenizer_are_refused(model, saved, adapt, towers):
    folder, n_ids = (model, 29) if towers == 1 else (saved("clip"), 50)
    known = np.full((2, 8), n_ids - 1)
    backbone = Transformer(folder, adapt=adapt).fit(known, None, Seeds(0))
    backbone.encode(known)
    with pytest.raises(
        InvalidInputError,
        match=rf"^transformer of '.*' must get token ids of its own tokenizer, below {n_ids}; got {n_ids}\. Use encoder=Tokens\('",
    ):
        backbone.encode(known + 1)


def test_without_peft_the_error_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    backbone = Transformer(model).fit(np.ones((2, 8), int), None, Seeds(0))
    with pytest.raises(MissingDependencyError, match=r"pip install metafe-transformers\[lora\]"):
        backbone.build((8,))
