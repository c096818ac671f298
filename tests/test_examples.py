"""The examples run and show what they say."""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

EXAMPLES = Path(__file__).parents[1] / "examples"
BENCHMARKS = EXAMPLES.parent / "benchmarks"


def run(script: Path, *arguments: str) -> str:
    """Run a script in another process, warnings being errors, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(text: str, pattern: str) -> list[float]:
    """Return the numbers that a pattern's group finds."""
    return [float(number) for number in re.findall(pattern, text)]


def test_every_example_is_tested_and_says_what_it_shows():
    source = Path(__file__).read_text(encoding="utf-8")
    for script in EXAMPLES.glob("*.py"):
        assert f'"{script.name}"' in source
        assert script.read_text(encoding="utf-8").startswith('"""')


def test_first_contact():
    printed = run(EXAMPLES / "first_contact.py")
    assert all(accuracy > 0.85 for accuracy in figures(printed, r"accuracy[^:]*: (0\.\d+)"))
    assert "64 columns became 64 features: metafeatureextractor0, ..., metafeatureextractor63" in printed
    assert "algorithm = protonet, since" in printed


def test_custom_backbone():
    printed = run(EXAMPLES / "custom_backbone.py")
    assert "CorrectedPixels(depth=2) gives 64 features" in printed
    pixels, features = figures(printed, r"accuracy (0\.\d+)")
    assert features > pixels


def test_few_shot_novel_classes():
    printed = run(EXAMPLES / "few_shot_novel_classes.py")
    gains = figures(printed, r"gain ([+-]\d\.\d+)")
    assert len(gains) == 4
    assert min(gains) > 0
    assert min(figures(printed, r"classify: (0\.\d+) right")) > 0.85


def test_search_in_a_pipeline():
    printed = run(EXAMPLES / "search_in_a_pipeline.py")
    assert "8 trials, judged on 3 folds by row" in printed
    assert figures(printed, r"accuracy of the pipeline: (0\.\d+)")[0] > 0.8
    assert figures(printed, r"accuracy of predict: (0\.\d+)")[0] > 0.9


def test_search_with_custom_plugin(tmp_path):
    printed = run(EXAMPLES / "search_with_custom_plugin.py", str(tmp_path / "report"))
    assert re.search(r"^spectrum .* over the best baseline", printed, re.M)
    rows, winner = figures(printed, r"accuracy (0\.\d+)")
    assert winner > rows + 0.5
    assert (tmp_path / "report" / "index.html").is_file()


def test_search_on_two_machines():
    printed = run(EXAMPLES / "search_on_two_machines.py")
    assert len(figures(printed, r"ran (\d+) of")) == 2
    # Both may begin the last one at the same moment.
    assert 12 <= max(figures(printed, r"of (\d+) trials")) <= 13


def test_sinusoid(tmp_path):
    picture = tmp_path / "waves.png"
    printed = run(EXAMPLES / "sinusoid.py", str(picture))
    before, after = figures(printed, r"mean squared error (\d\.\d+)")
    assert after < 0.4 < 3 < before
    assert picture.read_bytes().startswith(b"\x89PNG")


def losses_and_accuracies(printed: str) -> tuple[list[float], list[float]]:
    """Return the loss of each epoch and the four accuracies that the network example prints."""
    return figures(printed, r"loss (\d\.\d+)"), figures(printed, r"(\d\.\d+) by")


def test_mnist_784_128_10_on_the_digits():
    printed = run(EXAMPLES / "mnist_784_128_10.py", "--digits")
    losses, accuracies = losses_and_accuracies(printed)
    assert printed.startswith("64-128-10 network, 1347 training rows")
    assert len(losses) == 10
    assert losses == sorted(losses, reverse=True)
    assert len(accuracies) == 4
    assert min(accuracies) > 0.8


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write bytes in the IDX format, gzipped where the name says so."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = bytes([0, 0, 0x08, array.ndim]) + sizes + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def idx_folder(tmp_path):
    """The digits as the four files of MNIST, two of them gzipped."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X.reshape(-1, 8, 8), y, random_state=0)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", X_train)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", y_train)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", X_test)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", y_test)
    return tmp_path


def test_mnist_784_128_10_reads_idx_files(idx_folder):
    """From the files comes what the same rows gave without them."""
    from_files = run(EXAMPLES / "mnist_784_128_10.py", str(idx_folder), "--epochs", "2")
    assert from_files == run(EXAMPLES / "mnist_784_128_10.py", "--digits", "--epochs", "2")


@pytest.fixture(scope="module")
def read_mnist():
    """The example's own reader."""
    spec = importlib.util.spec_from_file_location("mnist_784_128_10", EXAMPLES / "mnist_784_128_10.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read_mnist


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not an IDX file", "must begin like an IDX file"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 9, 1, 2]), "must hold \\[9\\] values"),
    ],
)
def test_the_reader_says_what_is_wrong_with_a_file(read_mnist, idx_folder, content, said):
    (idx_folder / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=f"t10k-labels-idx1-ubyte {said}"):
        read_mnist(idx_folder)


def test_the_reader_names_the_file_that_is_missing(read_mnist, idx_folder):
    (idx_folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte"):
        read_mnist(idx_folder)


def test_import_cost_prints_a_ratio():
    """The figure itself is not judged here: it means something on a quiet machine only."""
    printed = run(BENCHMARKS / "import_cost.py", "--repeats", "1")
    assert figures(printed, r"ratio (\d+\.\d+)")[0] > 0
