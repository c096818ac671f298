"""What an installed encoder reads goes through every command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import metafe
from metafe.contracts import Encoder
from metafe.plugins import registry

WORDS = ("red", "green", "blue", "grey", "pink", "gold")


class WordCounts(Encoder):
    """Count some words."""

    name = "test-word-counts"
    reads = "text"

    def encode(self, X: Any) -> np.ndarray:
        return np.array([[text.split().count(word) for word in WORDS] for text in X], dtype=float)


class Lengths(Encoder):
    """The length of what is written in each column."""

    name = "test-lengths"
    reads = "table"

    def encode(self, X: Any) -> np.ndarray:
        return np.array([[len(str(value)) for value in row] for row in X.rows()], dtype=float)


class FileSizes(Encoder):
    """The first bytes of sound files."""

    name = "test-first-bytes"
    reads = "sound files"

    def encode(self, X: Any) -> np.ndarray:
        return np.stack([np.frombuffer(Path(path).read_bytes()[:8], np.uint8) for path in X])


class ImageSizes(FileSizes):
    """The first bytes of image files."""

    name = "test-first-bytes-of-images"
    reads = "image files"


class Squares(Encoder):
    """Images as squares of one value, that of the first byte of their file."""

    name = "test-squares"
    reads = "image files"

    def __init__(self, side: int = 3, resize: str = "pad") -> None:
        self.side = side
        self.resize = resize

    def encode(self, X: Any) -> np.ndarray:
        return np.stack([np.full((self.side, self.side), Path(path).read_bytes()[0]) for path in X])


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoders of this module alone, in a registry that forgets them again."""
    others = {key: entry for key, entry in registry()._entries.items() if key[0] != "encoder"}
    monkeypatch.setattr(registry(), "_entries", others)
    for encoder in (WordCounts, Lengths, FileSizes, ImageSizes):
        metafe.register(encoder)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A CSV file of 120 strings in six classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 6
    weights = 1 + 4 * np.eye(6)
    rows = [" ".join(rng.choice(WORDS, 12, p=weights[k] / weights[k].sum())) for k in labels]
    path = tmp_path / "texts.csv"
    pl.DataFrame({"text": rows, "topic": [f"topic {k}" for k in labels]}).write_csv(path)
    return path


def through_all_commands(cli: Any, data: Path, folder: Path, *options: str) -> Any:
    """Fit, transform and evaluate; return the extractor."""
    cli.succeed("fit", data, *options, "-o", folder / "out", *cli.TRAIN_A_MOMENT)
    cli.succeed("transform", folder / "out", data, *options, "-o", folder / "features.csv")
    judged = cli.succeed("evaluate", folder / "out", data, *options, "--query", "5", "--episodes", "20")
    assert set(cli.rows_of(judged.stdout)) >= {"extractor", "standardised input"}
    extractor = metafe.load(folder / "out")
    assert len(pl.read_csv(folder / "features.csv").columns) > extractor.n_features_out_
    return extractor


def test_a_column_of_text(cli: Any, texts: Path, tmp_path: Path) -> None:
    extractor = through_all_commands(cli, texts, tmp_path, "--target", "topic")
    assert isinstance(extractor.encoder_, WordCounts)


def test_a_table_of_words_and_gaps(cli: Any, texts: Path, tmp_path: Path) -> None:
    table = pl.read_csv(texts).with_columns(count=pl.Series([None, *range(119)]))
    table.write_parquet(tmp_path / "table.parquet")
    extractor = through_all_commands(cli, tmp_path / "table.parquet", tmp_path, "--target", "topic")
    assert isinstance(extractor.encoder_, Lengths)
    assert list(extractor.feature_names_in_) == ["text", "count"]


@pytest.mark.parametrize(("suffix", "encoder"), [(".wav", FileSizes), (".png", ImageSizes)])
def test_a_folder_of_files(cli: Any, tmp_path: Path, suffix: str, encoder: type[Encoder]) -> None:
    rng = np.random.default_rng(0)
    for i in range(120):
        file = tmp_path / "files" / f"class {i % 6}" / f"{i}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(rng.integers(40 * (i % 6), 40 * (i % 6) + 40, 8, dtype=np.uint8).tobytes())
    extractor = through_all_commands(cli, tmp_path / "files", tmp_path)
    assert isinstance(extractor.encoder_, encoder)
    assert pl.read_csv(tmp_path / "features.csv")["class"].n_unique() == 6


@pytest.mark.parametrize("command", ["fit", "search"])
def test_a_size_of_images_is_that_of_the_encoder(cli: Any, tmp_path: Path, command: str) -> None:
    del registry()._entries["encoder", ImageSizes.name]
    metafe.register(Squares)
    for i in range(60):
        file = tmp_path / "files" / f"class {i % 6}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([i]))
    brief = cli.TRAIN_A_MOMENT if command == "fit" else ("--n-trials", "1", "--backbone", "mlp", "--max-steps", "2")
    cli.succeed(command, tmp_path / "files", "--image-size", "5", "-o", tmp_path / "out", *brief)
    encoder = metafe.load(tmp_path / "out").encoder_
    assert (encoder.side, encoder.resize) == (5, "stretch")
    assert "not an image" in cli.fail("fit", tmp_path / "files", "--image-size", "5x6", "-o", tmp_path / "out")
    assert "not an image" in cli.fail("fit", tmp_path / "files", "-p", "encoder=null", "-o", tmp_path / "out")


def test_a_size_of_images_has_no_effect_on_sound(cli: Any, tmp_path: Path) -> None:
    for i in range(12):
        file = tmp_path / "files" / f"class {i % 2}" / f"{i}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(range(i, i + 8)))
    result = cli.succeed("fit", tmp_path / "files", "--image-size", "5", "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    assert "--image-size is for images and has no effect on sound files." in result.stderr


def test_a_further_column_beside_text_is_named(cli: Any, texts: Path, tmp_path: Path) -> None:
    cli.succeed("fit", texts, "--target", "topic", "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    pl.read_csv(texts).with_columns(number=1).write_csv(texts)
    transform = ("transform", tmp_path / "out", texts, "--target", "topic", "-o", tmp_path / "features.csv")
    error = cli.fail(*transform)
    assert "a single column of text beside target and groups; got 'text', 'number'." in error
    cli.succeed(*transform, "--ignore", "number")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("written", [["007", "12", "0"], ["true", "false", "true"], ["1.50", "", "2"]], ids=str)
def test_a_column_that_is_text_to_the_extractor_is_text_whatever_is_written_in_it(
    cli: Any, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, written: list[str]
) -> None:
    cli.succeed("fit", texts, "--target", "topic", "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    new = tmp_path / f"new{suffix}"
    if suffix == ".csv":
        new.write_text("\n".join(["text", *(text or '""' for text in written)]) + "\n")
    else:
        pl.DataFrame({"text": [float(len(text)) for text in written]}).write_parquet(new)
    seen: list[str] = []
    encode = WordCounts.encode
    monkeypatch.setattr(WordCounts, "encode", lambda self, X: (seen.extend(X), encode(self, X))[1])
    cli.succeed("transform", tmp_path / "out", new, "-o", tmp_path / "features.csv")
    assert len(pl.read_csv(tmp_path / "features.csv")) == 3
    assert seen == (written if suffix == ".csv" else [f"{len(text)}.0" for text in written])


def test_a_named_encoder_of_text_reads_digits(cli: Any, texts: Path, tmp_path: Path) -> None:
    pl.read_csv(texts).with_columns(text=pl.arange(120)).write_csv(texts)
    named = ("-p", "encoder=test-word-counts", *cli.TRAIN_A_MOMENT)
    cli.succeed("fit", texts, "--target", "topic", "-o", tmp_path / "out", *named)
    assert isinstance(metafe.load(tmp_path / "out").encoder_, WordCounts)


def test_a_search_reads_them_too(cli: Any, texts: Path, tmp_path: Path) -> None:
    brief = ("--n-trials", "1", "--backbone", "mlp", "--max-steps", "2")
    cli.succeed("search", texts, "--target", "topic", *brief, "-o", tmp_path / "out")
    assert isinstance(metafe.load(tmp_path / "out").encoder_, WordCounts)


def test_without_an_encoder_the_package_is_named(
    cli: Any, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {key: entry for key, entry in registry()._entries.items() if key[0] != "encoder"}
    monkeypatch.setattr(registry(), "_entries", others)
    error = cli.fail("fit", texts, "--target", "topic", "-o", tmp_path / "out")
    assert "pip install metafe-transformers" in error
    assert "pip install metafe-tabular" in cli.fail("fit", texts, "-o", tmp_path / "out")
