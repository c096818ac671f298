"""The command line, through Typer's runner and, for what only a process shows, through processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner, Result

import metafe
from metafe.cli.app import app
from metafe.cli.options import parse_image_size, parse_parameters
from metafe.plugins import PluginInfo, registry

COLUMNS = [f"pixel{i}" for i in range(64)]
TRAIN_A_MOMENT = ("--backbone", "mlp", "-p", "backbone__width=8", "--max-steps", "2", "-p", "validation_fraction=0")


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], prog_name="metafe", catch_exceptions=False
    )


def succeed(*arguments: Any) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def fail(*arguments: Any) -> str:
    """Return the error, after checking that it is one line on standard error and nothing else is anywhere."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"Error: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with old.csv, new.csv, old.npz, new.npz and images/, of 300 digits; 6 to 9 are new."""
    folder = tmp_path_factory.mktemp("data")
    digits = load_digits()
    X, y = digits.data[:300].astype(np.uint8), digits.target[:300]
    for name, chosen in (("old", y < 6), ("new", y >= 6)):
        table(X[chosen], y[chosen]).write_csv(folder / f"{name}.csv")
        np.savez(folder / f"{name}.npz", X=X[chosen].reshape(-1, 8, 8), y=y[chosen], site=np.arange(chosen.sum()) % 3)
    for i in range(60):
        save_image(folder / "images" / f"digit {y[i]}" / f"{i:02}.png", X[i].reshape(8, 8) * 15)
    return folder


@pytest.fixture(scope="module")
def extractor(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extractor fitted on old.csv."""
    folder = tmp_path_factory.mktemp("saved") / "extractor"
    succeed("fit", files / "old.csv", "--target", "digit", "--ignore", "site", "-o", folder, *TRAIN_A_MOMENT)
    return folder


@pytest.fixture
def interrupt_at() -> Iterator[Callable[[str], None]]:
    """A function that makes the next fit be interrupted, as by Ctrl-C, when a life-cycle hook is called."""
    plugins: list[Any] = []

    def install(hook: str) -> None:
        class Interrupter:
            pass

        def press(extractor: Any) -> None:
            raise KeyboardInterrupt

        def press_after_a_step(extractor: Any, step: int, metrics: Any) -> None:
            if step:
                raise KeyboardInterrupt

        implementation = press_after_a_step if hook == "metafe_step_finished" else press
        setattr(Interrupter, hook, staticmethod(metafe.hookimpl(implementation)))
        plugins.append(Interrupter())
        registry().manager.register(plugins[-1])

    yield install
    for plugin in plugins:
        registry().manager.unregister(plugin)


def table(X: np.ndarray, y: np.ndarray) -> pl.DataFrame:
    known = {"digit": [f"digit {label}" for label in y], "site": np.arange(len(y)) % 3}
    return pl.DataFrame(X, schema=COLUMNS).with_columns(**{name: pl.Series(values) for name, values in known.items()})


def save_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def rows_of(text: str) -> dict[str, list[str]]:
    """Return the cells of a plain table by its first column."""
    return {cells[0]: cells[1:] for line in text.splitlines() if len(cells := re.split(r"  +", line)) > 1}


# Fitting


def test_fit_saves_what_it_learned_and_says_what_it_decided(files: Path, tmp_path: Path) -> None:
    result = succeed("fit", files / "old.npz", "--max-steps", 2, "-o", tmp_path / "out")
    saved = metafe.load(tmp_path / "out")
    assert saved.input_shape_ == (8, 8)
    assert list(saved.classes_) == [0, 1, 2, 3, 4, 5]
    assert "algorithm: protonet, since" in result.stdout
    assert re.search(r"meta-validation: 0\.\d+ learned, 0\.\d+ standardised rows", result.stdout)
    assert f"Saved {saved.n_features_out_} features a row" in result.stdout


def test_fit_takes_column_names_and_leaves_out_target_and_ignored_columns(extractor: Path) -> None:
    assert list(metafe.load(extractor).feature_names_in_) == COLUMNS


def test_fit_sets_plugins_and_nested_parameters(files: Path, tmp_path: Path) -> None:
    options = ("--backbone", "mlp", "-p", "backbone__width=7", "-p", "optimizer=sgd", "-p", "augment=null", "--seed", 3)
    succeed("fit", files / "old.npz", "--max-steps", 1, "-o", tmp_path / "out", "-p", "validation_fraction=0", *options)
    saved = metafe.load(tmp_path / "out").get_params()
    assert (saved["backbone__width"], saved["optimizer"], saved["augment"], saved["random_state"]) == (
        7,
        "sgd",
        None,
        3,
    )


def test_same_seed_gives_the_same_features(files: Path, tmp_path: Path) -> None:
    features = []
    for seed in (1, 1, 2):
        succeed("fit", files / "old.npz", "--seed", seed, "-o", tmp_path / "out", *TRAIN_A_MOMENT)
        features.append(metafe.load(tmp_path / "out").transform(np.load(files / "new.npz")["X"]))
    assert (features[0] == features[1]).all()
    assert not np.allclose(features[0], features[2])


def test_quiet_prints_nothing(files: Path, tmp_path: Path) -> None:
    assert succeed("fit", files / "old.npz", "-o", tmp_path / "out", "--quiet", *TRAIN_A_MOMENT).output == ""


def test_verbose_shows_progress_on_standard_error(files: Path, tmp_path: Path) -> None:
    result = succeed("fit", files / "old.npz", "-o", tmp_path / "out", "--verbose", *TRAIN_A_MOMENT)
    assert "protonet 2/2" in result.stderr
    assert metafe.load(tmp_path / "out").verbose == 0


def test_fit_with_groups_learns_from_each(files: Path, tmp_path: Path) -> None:
    succeed("fit", files / "old.csv", "-t", "digit", "-g", "site", "-o", tmp_path / "out", *TRAIN_A_MOMENT)
    saved = metafe.load(tmp_path / "out")
    assert saved.tasks_.name == "groups"
    assert saved.n_features_in_ == 64


def test_fit_without_target_standardises_and_says_so(files: Path, tmp_path: Path) -> None:
    result = succeed("fit", files / "old.csv", "--ignore", "digit", "--ignore", "site", "-o", tmp_path / "out")
    assert "since there is no y" in result.stdout


def test_numbers_that_are_not_whole_are_a_regression(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(rng.normal(size=(60, 3)), schema=["a", "b", "c"])
    frame.with_columns((pl.col("a") * 2 + 0.1).alias("price"), town=pl.Series(np.arange(60) % 4)).write_parquet(
        tmp_path / "x.parquet"
    )
    options = ("--target", "price", "--groups", "town")
    succeed("fit", tmp_path / "x.parquet", *options, "-o", tmp_path / "out", *TRAIN_A_MOMENT)
    assert not hasattr(metafe.load(tmp_path / "out"), "classes_")
    result = succeed("evaluate", tmp_path / "out", tmp_path / "x.parquet", *options, "--query", 5, "--episodes", 10)
    assert re.search("5-shot R² +10-shot R²", result.stdout)
    assert float(rows_of(result.stdout)["standardised input"][1].split()[0]) > 0.5


def test_an_extractor_is_replaced_and_nothing_else_is(files: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("all of it")
    assert "holds something else" in fail("fit", files / "old.npz", "-o", tmp_path / "notes", *TRAIN_A_MOMENT)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["thesis.txt"]
    for width in (4, 5):
        parameters = (*TRAIN_A_MOMENT, "-p", f"backbone__width={width}")
        succeed("fit", files / "old.npz", "-o", tmp_path / "out", *parameters)
    assert metafe.load(tmp_path / "out").backbone_.width == 5


def test_ctrl_c_saves_the_best_so_far(files: Path, tmp_path: Path, interrupt_at: Callable[[str], None]) -> None:
    interrupt_at("metafe_step_finished")
    result = succeed("fit", files / "old.npz", "--backbone", "mlp", "--max-steps", 20, "-o", tmp_path / "out")
    assert "Warning: Training was interrupted; the best weights so far are kept." in result.stderr
    assert metafe.load(tmp_path / "out").history_[-1]["step"] == 1


def test_ctrl_c_with_nothing_to_save(files: Path, tmp_path: Path, interrupt_at: Callable[[str], None]) -> None:
    interrupt_at("metafe_fit_started")
    result = run("fit", files / "old.npz", "-o", tmp_path / "out", *TRAIN_A_MOMENT)
    assert (result.exit_code, result.stderr) == (130, "Interrupted: nothing was saved.\n")
    assert not (tmp_path / "out").exists()


# Transforming


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_transform_writes_tables_with_target_and_groups(
    files: Path, extractor: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"out{suffix}"
    succeed("transform", extractor, files / "new.csv", "-t", "digit", "-g", "site", "-o", out)
    written = pl.read_csv(out) if suffix == ".csv" else pl.read_parquet(out)
    original = pl.read_csv(files / "new.csv")
    loaded = metafe.load(extractor)
    assert written.columns == ["digit", "site", *loaded.get_feature_names_out()]
    assert written.select("digit", "site").equals(original.select("digit", "site"))
    expected = loaded.transform(original.select(COLUMNS))
    np.testing.assert_allclose(written.drop("digit", "site").to_numpy(), expected, rtol=1e-6)


def test_transform_writes_arrays(files: Path, extractor: Path, tmp_path: Path) -> None:
    succeed("transform", extractor, files / "new.csv", "-t", "digit", "--ignore", "site", "-o", tmp_path / "out.npz")
    original = pl.read_csv(files / "new.csv")
    with np.load(tmp_path / "out.npz") as written:
        assert set(written) == {"X", "digit"}
        assert list(written["digit"]) == original["digit"].to_list()
        assert (written["X"] == metafe.load(extractor).transform(original.select(COLUMNS))).all()


def test_transform_finds_columns_by_name(files: Path, extractor: Path, tmp_path: Path) -> None:
    turned = pl.read_csv(files / "new.csv").select(reversed(COLUMNS))
    turned.write_csv(tmp_path / "turned.csv")
    succeed("transform", extractor, tmp_path / "turned.csv", "-o", tmp_path / "out.parquet")
    expected = metafe.load(extractor).transform(turned.select(COLUMNS))
    assert (pl.read_parquet(tmp_path / "out.parquet").to_numpy() == expected).all()


def test_transform_keeps_unlabelled_rows_and_their_order(files: Path, extractor: Path, tmp_path: Path) -> None:
    frame = pl.read_csv(files / "new.csv").with_columns(digit=pl.lit(None, pl.String))
    frame.write_parquet(tmp_path / "unlabelled.parquet")
    succeed(
        "transform", extractor, tmp_path / "unlabelled.parquet", "-t", "digit", "-g", "site", "-o", tmp_path / "out.csv"
    )
    written = pl.read_csv(tmp_path / "out.csv")
    assert written["digit"].null_count() == len(frame)
    assert written["site"].to_list() == frame["site"].to_list()


def test_missing_and_unknown_columns(files: Path, extractor: Path, tmp_path: Path) -> None:
    pl.read_csv(files / "new.csv").drop("pixel3", "digit", "site").write_csv(tmp_path / "few.csv")
    assert "few.csv lacks 'pixel3'" in fail("transform", extractor, tmp_path / "few.csv", "-o", tmp_path / "out.csv")
    message = fail("transform", extractor, files / "new.csv", "-o", tmp_path / "out.csv")
    assert "has 'digit', 'site' too" in message
    assert "--ignore" in message


# Images


def test_images_become_grey_uint8_rows_with_a_class_per_folder(files: Path, tmp_path: Path) -> None:
    succeed("fit", files / "images", "-o", tmp_path / "out", *TRAIN_A_MOMENT)
    saved = metafe.load(tmp_path / "out")
    assert saved.input_shape_ == (8, 8)
    assert list(saved.classes_) == [f"digit {i}" for i in range(10)]
    succeed("transform", tmp_path / "out", files / "images", "-o", tmp_path / "out.csv")
    written = pl.read_csv(tmp_path / "out.csv")
    assert written["file"][0] == "digit 0/00.png"
    assert written["class"][0] == "digit 0"
    first = np.asarray(Image.open(files / "images" / "digit 0" / "00.png"))
    np.testing.assert_allclose(written.row(0)[2:], saved.transform(first[None])[0], rtol=1e-5, atol=1e-6)


def test_sizes_colours_and_depths_are_made_equal(tmp_path: Path) -> None:
    from metafe.cli.images import read_image_folder

    save_image(tmp_path / "a" / "deep.png", np.full((9, 9), 257 * 7, np.uint16))
    save_image(tmp_path / "b" / "grey.png", np.full((12, 20), 9, np.uint8))
    grey = read_image_folder(tmp_path, (10, 14))
    assert (grey.pixels.shape, grey.pixels.dtype) == ((2, 10, 14), np.uint8)
    assert [int(image.mean()) for image in grey.pixels] == [7, 9]
    save_image(tmp_path / "b" / "red.png", np.tile(np.array([200, 0, 0], np.uint8), (5, 5, 1)))
    coloured = read_image_folder(tmp_path, (10, 14))
    assert coloured.pixels.shape == (3, 10, 14, 3)
    assert coloured.pixels[2, 0, 0].tolist() == [200, 0, 0]
    assert coloured.classes == ["a", "b", "b"]
    assert read_image_folder(tmp_path, None, like=(8, 8)).pixels.shape == (3, 8, 8)


def test_a_picture_taken_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    from metafe.cli.images import read_image_folder

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((8, 12), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image_folder(tmp_path, None).pixels.shape == (1, 12, 8)


def test_images_of_other_sizes_are_read_as_in_fit(files: Path, tmp_path: Path) -> None:
    succeed("fit", files / "images", "--image-size", "10x12", "-o", tmp_path / "out", *TRAIN_A_MOMENT)
    save_image(tmp_path / "loose" / "one.png", np.zeros((30, 40, 3), np.uint8))
    succeed("transform", tmp_path / "out", tmp_path / "loose", "-o", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as written:
        assert written["X"].shape == (1, metafe.load(tmp_path / "out").n_features_out_)
        assert set(written) == {"X", "file"}


def test_images_that_cannot_be_used(files: Path, tmp_path: Path) -> None:
    fit = ("-o", tmp_path / "out")
    save_image(tmp_path / "sizes" / "a" / "1.png", np.zeros((8, 8), np.uint8))
    save_image(tmp_path / "sizes" / "b" / "2.png", np.zeros((9, 8), np.uint8))
    assert "--image-size" in fail("fit", tmp_path / "sizes", *fit)
    (tmp_path / "damaged" / "a").mkdir(parents=True)
    (tmp_path / "damaged" / "a" / "broken.png").write_bytes(b"no picture")
    assert "broken.png" in fail("fit", tmp_path / "damaged", *fit)
    whole = (files / "images" / "digit 0" / "00.png").read_bytes()
    (tmp_path / "damaged" / "a" / "broken.png").write_bytes(whole[: len(whole) - 30])
    assert "broken.png" in fail("fit", tmp_path / "damaged", *fit)
    (tmp_path / "empty").mkdir()
    assert "sub-folder per class" in fail("fit", tmp_path / "empty", *fit)
    save_image(tmp_path / "sizes" / "stray.png", np.zeros((8, 8), np.uint8))
    assert "stray.png" in fail("fit", tmp_path / "sizes", *fit)
    assert "--target" in fail("fit", files / "images", "--target", "digit", *fit)


# Evaluating


def test_evaluate_judges_both_on_the_same_problems(files: Path, extractor: Path) -> None:
    options = ("-t", "digit", "--ignore", "site", "--episodes", 30, "--query", 5)
    result = succeed("evaluate", extractor, files / "new.csv", *options)
    assert "features            1-shot accuracy %  5-shot accuracy %" in result.stdout
    assert "30 4-way problems from 4 classes" in result.stdout
    frame = pl.read_csv(files / "new.csv")
    X, y = frame.select(COLUMNS), frame["digit"].to_numpy()
    settings = {"n_way": 4, "n_shot": 1, "n_query": 5, "n_episodes": 30, "random_state": 0}
    score = metafe.few_shot_score(metafe.load(extractor), X, y, **settings)
    cells = rows_of(result.stdout)
    assert cells["extractor"][0] == f"{100 * score.mean:.1f} ± {100 * score.interval:.1f}"
    raw = X.to_numpy().astype(float)
    spread = raw.std(axis=0)
    score = metafe.few_shot_score(None, (raw - raw.mean(axis=0)) / np.where(spread > 0, spread, 1), y, **settings)
    assert cells["standardised input"][0] == f"{100 * score.mean:.1f} ± {100 * score.interval:.1f}"


def test_evaluate_takes_way_shots_seed_and_adapts(files: Path, tmp_path: Path) -> None:
    succeed("fit", files / "old.npz", "-o", tmp_path / "out", *TRAIN_A_MOMENT)
    command = ("evaluate", tmp_path / "out", files / "new.npz", "--way", 2, "--shot", 3, "--episodes", 10, "--query", 5)
    result = succeed(*command)
    assert "3-shot accuracy %" in result.stdout
    assert "1-shot" not in result.stdout
    assert "10 2-way problems" in result.stdout
    assert succeed(*command, "--seed", 0).stdout == result.stdout
    assert succeed(*command, "--seed", 1).stdout != result.stdout
    assert rows_of(succeed(*command, "--adapt").stdout)["extractor"] == rows_of(result.stdout)["extractor"]


def test_evaluate_warns_of_classes_seen_in_fit(files: Path, extractor: Path) -> None:
    options = ("-t", "digit", "--ignore", "site", "--episodes", 5, "--query", 5)
    assert "6 of the 6 classes were seen in fit" in run("evaluate", extractor, files / "old.csv", *options).stderr
    assert run("evaluate", extractor, files / "new.csv", *options).stderr == ""


def test_evaluate_needs_a_target_and_enough_classes(files: Path, extractor: Path) -> None:
    assert "--target" in fail("evaluate", extractor, files / "new.csv", "--ignore", "digit", "--ignore", "site")
    assert "4 classes" in fail("evaluate", extractor, files / "new.csv", "-t", "digit", "--ignore", "site", "--way", 9)


# Wrong input


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b,kind\n1,2,x\n3,red,y\n", "got 'b' (such as '2')"),
        ("a,b,kind\n1,2,x\n3,,y\n", "'b' (1 of 2)"),
        ("a,b,kind\n1,2,x\n3,NaN,y\n", "'b' (1 of 2)"),
        ("a,b,kind\n1,2,x\n3,4,\n", "Column 'kind' must have no missing values; got 1 of 2"),
        ("a,b,kind\n1,2,x\n3,inf,y\n", "infinity"),
        ("a,b,kind\n", "0 rows"),
        ("kind\nx\ny\n", "0 in data.csv"),
        ("", "readable as csv"),
        ("a,b,kind\n1,2,x,9,9\n", "readable as csv"),
        ("a,b,kind\n1,2,x\n3,4,x\n", "at least 2 classes"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "data.csv").write_text(content)
    assert said in fail("fit", tmp_path / "data.csv", "--target", "kind", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_semicolons_and_truth_values_are_understood(tmp_path: Path) -> None:
    from metafe.cli.data import Request, read

    (tmp_path / "data.csv").write_text("a;b;kind\n1,5;true;x\n2,5;false;y\n".replace(",", "."))
    rows = read(tmp_path / "data.csv", Request(target="kind"))
    assert rows.X.to_numpy().tolist() == [[1.5, 1.0], [2.5, 0.0]]
    assert rows.y is not None
    assert rows.y.tolist() == ["x", "y"]


def test_files_that_are_not_there_or_not_what_they_seem(files: Path, tmp_path: Path) -> None:
    fit = ("-o", tmp_path / "out")
    assert "Did you mean" in fail("fit", files / "odl.csv", *fit)
    assert "Check the path" in fail("fit", tmp_path / "nowhere" / "x.csv", *fit)
    (tmp_path / "table.xlsx").touch()
    assert ".csv, .parquet, .npz" in fail("fit", tmp_path / "table.xlsx", *fit)
    for suffix in ("parquet", "npz"):
        (tmp_path / f"wrong.{suffix}").write_text("something else")
        assert f"wrong.{suffix}" in fail("fit", tmp_path / f"wrong.{suffix}", *fit)
    whole = (files / "old.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "cut.npz" in fail("fit", tmp_path / "cut.npz", *fit)


def test_arrays_that_cannot_be_used(files: Path, tmp_path: Path) -> None:
    fit = ("-o", tmp_path / "out")
    np.savez(tmp_path / "a.npz", rows=np.zeros((3, 2)))
    assert "needs the array 'X'" in fail("fit", tmp_path / "a.npz", *fit)
    np.savez(tmp_path / "b.npz", X=np.zeros((3, 2)), y=np.zeros(4))
    assert "y (4,)" in fail("fit", tmp_path / "b.npz", *fit)
    np.savez(tmp_path / "c.npz", X=np.array([{}, {}], dtype=object))
    assert "without pickled objects" in fail("fit", tmp_path / "c.npz", *fit)
    assert "Did you mean 'site'?" in fail("fit", files / "old.npz", "--groups", "sites", *fit)
    assert "--ignore" in fail("fit", files / "old.npz", "--ignore", "a", *fit)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--target", "digits"), "Did you mean 'digit'? Available: 'pixel0', 'pixel1'"),
        (("--target", "digit", "--groups", "town"), "--groups must be a column of old.csv; got 'town'"),
        (("--target", "digit", "--ignore", "towns"), "--ignore must be a column"),
        (("--target", "digit", "--backbone", "mpl"), "Did you mean 'mlp'?"),
        (("--target", "digit", "--algorithm", "protone"), "Did you mean 'protonet'?"),
        (("--target", "digit", "-p", "width"), "--param must be key=value"),
        (("--target", "digit", "-p", "backbone__width=4"), "needs a named backbone"),
        (("--target", "digit", "-p", "tempo=4"), "Invalid parameter 'tempo'"),
        (("--target", "digit", "--device", "cuda:77"), "device must be"),
        (("--image-size", "big"), "--image-size must be N or HxW"),
        (("--max-steps", "-1"), "--max-steps"),
        (("--maxsteps", "1"), "Try 'metafe fit --help'."),
    ],
)
def test_options_that_cannot_work(files: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    assert said in fail("fit", files / "old.csv", "--ignore", "site", *options, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_outputs_that_cannot_be_written(files: Path, extractor: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "got the file" in fail("fit", files / "old.npz", "-o", tmp_path / "file")
    assert "may be written" in fail("fit", files / "old.npz", "-o", tmp_path / "file" / "below")
    transform = ("transform", extractor, files / "new.csv", "-t", "digit", "--ignore", "site", "-o")
    assert ".csv, .parquet, .npz" in fail(*transform, tmp_path / "out.xlsx")
    assert "folder that exists" in fail(*transform, tmp_path / "nowhere" / "out.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "may be written" in fail(*transform, tmp_path / "folder.csv")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user who may not write everywhere")
def test_a_folder_without_permission(files: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "may be written" in fail("fit", files / "old.npz", "-o", tmp_path / "locked" / "out")


def test_a_folder_that_is_no_extractor(files: Path, tmp_path: Path) -> None:
    assert str(tmp_path) in fail("transform", tmp_path, files / "new.csv", "-o", tmp_path / "out.csv")
    assert "images" in fail("evaluate", files / "images", files / "new.csv")


def test_debugging_shows_the_traceback_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFE_DEBUG", "1")
    result = run("fit", tmp_path / "none.csv", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert re.search(r"\nError: DATA must be [^\n]+\n$", result.stderr)


def test_a_fault_of_metafe_is_not_called_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("metafe.plugins.registry", broken)
    with pytest.raises(RuntimeError, match="a fault"):
        run("plugins")


# Listing, help and the demonstration


def test_plugins_are_listed_with_distribution_and_version() -> None:
    lines = succeed("plugins").stdout.splitlines()
    assert re.split(r"  +", lines[0])[:4] == ["kind", "name", "distribution", "version"]
    assert ["backbone", "conv4", "metafe", metafe.__version__] in [re.split(r"  +", line)[:4] for line in lines]
    assert {line.split("  ")[0] for line in lines[1:]} >= {"algorithm", "augmentation", "backbone", "task source"}


def test_plugins_that_failed_are_listed_with_their_error(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = PluginInfo("", "broken", "metafe-broken", "0.3", "ImportError: no module\n named torch_extras")
    monkeypatch.setattr(registry(), "_failures", [failure])
    result = succeed("plugins")
    assert re.search(
        r"^\?  +broken  +metafe-broken  +0\.3  +ImportError: no module named torch_extras$", result.stdout, re.M
    )


def test_version_and_help() -> None:
    assert succeed("--version").stdout == f"metafe {metafe.__version__}\n"
    assert succeed().stdout == succeed("--help").stdout
    for command in ("fit", "transform", "evaluate", "plugins", "demo"):
        assert command in succeed("--help").stdout
        assert f"    $ metafe {command}" in succeed(command, "--help").stdout or command == "plugins"


def test_demo_prints_a_table_and_saves_extractor_and_picture(tmp_path: Path) -> None:
    result = succeed("demo", "-o", tmp_path / "shown", "--max-steps", 1, "--episodes", 12)
    cells = rows_of(result.stdout)
    for name in ("raw pixels", "PCA", "LDA", "metafe"):
        assert all(re.fullmatch(r"\d+\.\d ± \d+\.\d", cell) for cell in cells[name]), name
        assert len(cells[name]) == 2
    assert "algorithm: protonet" in result.stdout
    assert re.search(r"metafe against raw pixels, .* at 1-shot, .* at 5-shot", result.stdout)
    with Image.open(tmp_path / "shown" / "demo.png") as picture:
        assert picture.width > 1000
    learned, novel = re.search(r"digits (.*); (.*) are kept out", result.stdout).groups()  # type: ignore[union-attr]
    digits = [sorted(map(int, re.findall(r"\d", part))) for part in (learned, novel)]
    assert list(metafe.load(tmp_path / "shown" / "extractor").classes_) == digits[0]
    assert sorted(digits[0] + digits[1]) == list(range(10))


def test_demo_says_when_nothing_learned_beat_the_input() -> None:
    from metafe.cli.demo import METAFE, RAW, demo_extractor, split_digits, verdict

    digits = split_digits(0)
    scores = {
        name: [metafe.FewShotScore(0.5, 0.1, np.array([0.4, 0.6]) + shift, 5)] * 2
        for name, shift in ((RAW, 0.1), (METAFE, 0.0))
    }
    extractor = demo_extractor(0).set_params(max_steps=0, backbone="identity").fit(digits.base_rows, digits.base_labels)
    assert "Nothing learned beat the input" in verdict(scores, extractor)
    assert "-10.0 (-10.0 to -10.0) at 1-shot" in verdict(scores, extractor)


def test_parsing_of_options() -> None:
    assert parse_image_size(None) is None
    assert parse_image_size("28") == (28, 28)
    assert parse_parameters(["a=1", "b=x=y", "c=[2, 3]", "d=true", "e="]) == {
        "a": 1,
        "b": "x=y",
        "c": (2, 3),
        "d": True,
        "e": "",
    }
    with pytest.raises(metafe.MetafeError, match="image-size"):
        parse_image_size("0")


# Processes


def process(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    # The variables that make Rich and Typer colour pipes are what a pipe must withstand, except where a test sets them.
    variables = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "PY_COLORS")} | environment
    command = [sys.executable, "-c", "from metafe.cli import main; main()", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=variables, check=False, timeout=300
    )


def test_a_pipe_gets_plain_text() -> None:
    for arguments in (("fit", "--help"), ("plugins",)):
        done = process(*arguments, GITHUB_ACTIONS="true")
        assert done.returncode == 0
        assert "\x1b" not in done.stdout
        assert not re.search("[\u2500-\u257f]", done.stdout), "lines of boxes"
        assert all(line == line.rstrip() for line in done.stdout.splitlines())


def test_a_process_fails_in_one_line_with_code_2(tmp_path: Path) -> None:
    done = process("fit", tmp_path / "none.csv", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"Error: DATA must be [^\n]+\n", done.stderr)


def test_help_waits_for_no_heavy_library() -> None:
    code = (
        "import sys, metafe.cli.app; print([m for m in ('torch', 'sklearn', 'polars', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_in_a_real_terminal_session(files: Path, tmp_path: Path) -> None:
    """Once training is under way, one SIGINT ends it, and the features so far are there."""
    code = "from metafe.cli import main; main()"
    options = ("--backbone", "mlp", "--max-steps", "1000", "-p", "patience=1000000", "--verbose")
    command = [sys.executable, "-c", code, "fit", str(files / "old.npz"), "-o", str(tmp_path / "out"), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "/1000" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=120)
    assert running.returncode == 0
    assert "Warning: Training was interrupted" in said
    assert metafe.load(tmp_path / "out").n_features_out_ == 64
