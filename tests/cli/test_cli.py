"""Fitting, transforming, evaluating, listing and the demonstration."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

import metafe
from metafe.cli.evaluate import standardiser
from metafe.cli.options import parse_image_size, parse_parameters
from metafe.plugins import PluginInfo, registry

# Fitting


def test_fit_saves_what_it_learned_and_says_what_it_decided(cli: Any, files: Path, tmp_path: Path) -> None:
    result = cli.succeed("fit", files / "old.npz", "--max-steps", 2, "-o", tmp_path / "out")
    saved = metafe.load(tmp_path / "out")
    assert saved.input_shape_ == (8, 8)
    assert list(saved.classes_) == [0, 1, 2, 3, 4, 5]
    assert "algorithm: protonet, since" in result.stdout
    assert re.search(r"meta-validation: 0\.\d+ learned, 0\.\d+ standardised rows", result.stdout)
    assert f"Saved {saved.n_features_out_} features a row" in result.stdout


def test_fit_takes_column_names_and_leaves_out_target_and_ignored_columns(cli: Any, extractor: Path) -> None:
    assert list(metafe.load(extractor).feature_names_in_) == cli.COLUMNS


def test_fit_sets_plugins_and_nested_parameters(cli: Any, files: Path, tmp_path: Path) -> None:
    options = ("--backbone", "mlp", "-p", "backbone__width=7", "-p", "optimizer=sgd", "-p", "augment=null", "--seed", 3)
    cli.succeed(
        "fit", files / "old.npz", "--max-steps", 1, "-o", tmp_path / "out", "-p", "validation_fraction=0", *options
    )
    saved = metafe.load(tmp_path / "out").get_params()
    assert (saved["backbone__width"], saved["optimizer"], saved["augment"], saved["random_state"]) == (
        7,
        "sgd",
        None,
        3,
    )


def test_same_seed_gives_the_same_features(cli: Any, files: Path, tmp_path: Path) -> None:
    features = []
    for seed in (1, 1, 2):
        cli.succeed("fit", files / "old.npz", "--seed", seed, "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
        features.append(metafe.load(tmp_path / "out").transform(np.load(files / "new.npz")["X"]))
    assert (features[0] == features[1]).all()
    assert not np.allclose(features[0], features[2])


def test_quiet_prints_nothing(cli: Any, files: Path, tmp_path: Path) -> None:
    assert cli.succeed("fit", files / "old.npz", "-o", tmp_path / "out", "--quiet", *cli.TRAIN_A_MOMENT).output == ""


def test_verbose_shows_progress_on_standard_error(cli: Any, files: Path, tmp_path: Path) -> None:
    result = cli.succeed("fit", files / "old.npz", "-o", tmp_path / "out", "--verbose", *cli.TRAIN_A_MOMENT)
    assert "protonet 2/2" in result.stderr
    assert metafe.load(tmp_path / "out").verbose == 0


def test_fit_with_groups_learns_from_each(cli: Any, files: Path, tmp_path: Path) -> None:
    cli.succeed("fit", files / "old.csv", "-t", "digit", "-g", "site", "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    saved = metafe.load(tmp_path / "out")
    assert saved.tasks_.name == "groups"
    assert saved.n_features_in_ == 64


def test_fit_without_target_standardises_and_says_so(cli: Any, files: Path, tmp_path: Path) -> None:
    result = cli.succeed("fit", files / "old.csv", "--ignore", "digit", "--ignore", "site", "-o", tmp_path / "out")
    assert "since there is no y" in result.stdout


def test_numbers_that_are_not_whole_are_a_regression(cli: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(rng.normal(size=(60, 3)), schema=["a", "b", "c"])
    frame.with_columns((pl.col("a") * 2 + 0.1).alias("price"), town=pl.Series(np.arange(60) % 4)).write_parquet(
        tmp_path / "x.parquet"
    )
    options = ("--target", "price", "--groups", "town")
    cli.succeed("fit", tmp_path / "x.parquet", *options, "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    assert not hasattr(metafe.load(tmp_path / "out"), "classes_")
    result = cli.succeed("evaluate", tmp_path / "out", tmp_path / "x.parquet", *options, "--query", 5, "--episodes", 10)
    assert re.search("5-shot R² +10-shot R²", result.stdout)
    assert float(cli.rows_of(result.stdout)["standardised input"][1].split()[0]) > 0.5


def test_an_extractor_is_replaced_and_nothing_else_is(cli: Any, files: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("all of it")
    assert "holds something else" in cli.fail("fit", files / "old.npz", "-o", tmp_path / "notes", *cli.TRAIN_A_MOMENT)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["thesis.txt"]
    for width in (4, 5):
        parameters = (*cli.TRAIN_A_MOMENT, "-p", f"backbone__width={width}")
        cli.succeed("fit", files / "old.npz", "-o", tmp_path / "out", *parameters)
    assert metafe.load(tmp_path / "out").backbone_.width == 5


def test_ctrl_c_saves_the_best_so_far(
    cli: Any, files: Path, tmp_path: Path, interrupt_at: Callable[[str], None]
) -> None:
    interrupt_at("metafe_step_finished")
    result = cli.succeed("fit", files / "old.npz", "--backbone", "mlp", "--max-steps", 20, "-o", tmp_path / "out")
    assert "Warning: Training was interrupted; the best weights so far are kept." in result.stderr
    assert metafe.load(tmp_path / "out").history_[-1]["step"] == 1


def test_ctrl_c_with_nothing_to_save(
    cli: Any, files: Path, tmp_path: Path, interrupt_at: Callable[[str], None]
) -> None:
    interrupt_at("metafe_fit_started")
    result = cli.run("fit", files / "old.npz", "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    assert (result.exit_code, result.stderr) == (130, "Interrupted: nothing was saved.\n")
    assert not (tmp_path / "out").exists()


# Transforming


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_transform_writes_tables_with_target_and_groups(
    cli: Any, files: Path, extractor: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"out{suffix}"
    cli.succeed("transform", extractor, files / "new.csv", "-t", "digit", "-g", "site", "-o", out)
    written = pl.read_csv(out) if suffix == ".csv" else pl.read_parquet(out)
    original = pl.read_csv(files / "new.csv")
    loaded = metafe.load(extractor)
    assert written.columns == ["digit", "site", *loaded.get_feature_names_out()]
    assert written.select("digit", "site").equals(original.select("digit", "site"))
    expected = loaded.transform(original.select(cli.COLUMNS))
    np.testing.assert_allclose(written.drop("digit", "site").to_numpy(), expected, rtol=1e-6)


def test_transform_writes_arrays(cli: Any, files: Path, extractor: Path, tmp_path: Path) -> None:
    cli.succeed(
        "transform", extractor, files / "new.csv", "-t", "digit", "--ignore", "site", "-o", tmp_path / "out.npz"
    )
    original = pl.read_csv(files / "new.csv")
    with np.load(tmp_path / "out.npz") as written:
        assert set(written) == {"X", "digit"}
        assert list(written["digit"]) == original["digit"].to_list()
        assert (written["X"] == metafe.load(extractor).transform(original.select(cli.COLUMNS))).all()


def test_transform_finds_columns_by_name(cli: Any, files: Path, extractor: Path, tmp_path: Path) -> None:
    turned = pl.read_csv(files / "new.csv").select(reversed(cli.COLUMNS))
    turned.write_csv(tmp_path / "turned.csv")
    cli.succeed("transform", extractor, tmp_path / "turned.csv", "-o", tmp_path / "out.parquet")
    expected = metafe.load(extractor).transform(turned.select(cli.COLUMNS))
    assert (pl.read_parquet(tmp_path / "out.parquet").to_numpy() == expected).all()


def test_transform_keeps_unlabelled_rows_and_their_order(
    cli: Any, files: Path, extractor: Path, tmp_path: Path
) -> None:
    frame = pl.read_csv(files / "new.csv").with_columns(digit=pl.lit(None, pl.String))
    frame.write_parquet(tmp_path / "unlabelled.parquet")
    cli.succeed(
        "transform", extractor, tmp_path / "unlabelled.parquet", "-t", "digit", "-g", "site", "-o", tmp_path / "out.csv"
    )
    written = pl.read_csv(tmp_path / "out.csv")
    assert written["digit"].null_count() == len(frame)
    assert written["site"].to_list() == frame["site"].to_list()


def test_missing_and_unknown_columns(cli: Any, files: Path, extractor: Path, tmp_path: Path) -> None:
    pl.read_csv(files / "new.csv").drop("pixel3", "digit", "site").write_csv(tmp_path / "few.csv")
    assert "few.csv lacks 'pixel3'" in cli.fail(
        "transform", extractor, tmp_path / "few.csv", "-o", tmp_path / "out.csv"
    )
    message = cli.fail("transform", extractor, files / "new.csv", "-o", tmp_path / "out.csv")
    assert "has 'digit', 'site' too" in message
    assert "--ignore" in message


# Evaluating


def test_evaluate_judges_both_on_the_same_problems(cli: Any, files: Path, extractor: Path) -> None:
    options = ("-t", "digit", "--ignore", "site", "--episodes", 30, "--query", 5)
    result = cli.succeed("evaluate", extractor, files / "new.csv", *options)
    assert "features            1-shot accuracy %  5-shot accuracy %" in result.stdout
    assert "30 4-way problems from 4 classes" in result.stdout
    frame = pl.read_csv(files / "new.csv")
    X, y = frame.select(cli.COLUMNS), frame["digit"].to_numpy()
    settings = {"n_way": 4, "n_shot": 1, "n_query": 5, "n_episodes": 30, "random_state": 0}
    score = metafe.few_shot_score(metafe.load(extractor), X, y, **settings)
    cells = cli.rows_of(result.stdout)
    assert cells["extractor"][0] == f"{100 * score.mean:.1f} ± {100 * score.interval:.1f}"
    raw = X.to_numpy().astype(float)
    spread = raw.std(axis=0)
    score = metafe.few_shot_score(None, (raw - raw.mean(axis=0)) / np.where(spread > 0, spread, 1), y, **settings)
    assert cells["standardised input"][0] == f"{100 * score.mean:.1f} ± {100 * score.interval:.1f}"


def test_evaluate_takes_way_shots_seed_and_adapts(cli: Any, files: Path, tmp_path: Path) -> None:
    cli.succeed("fit", files / "old.npz", "-o", tmp_path / "out", *cli.TRAIN_A_MOMENT)
    command = ("evaluate", tmp_path / "out", files / "new.npz", "--way", 2, "--shot", 3, "--episodes", 10, "--query", 5)
    result = cli.succeed(*command)
    assert "3-shot accuracy %" in result.stdout
    assert "1-shot" not in result.stdout
    assert "10 2-way problems" in result.stdout
    assert cli.succeed(*command, "--seed", 0).stdout == result.stdout
    assert cli.succeed(*command, "--seed", 1).stdout != result.stdout
    assert cli.rows_of(cli.succeed(*command, "--adapt").stdout)["extractor"] == cli.rows_of(result.stdout)["extractor"]


def test_evaluate_warns_of_classes_seen_in_fit(cli: Any, files: Path, extractor: Path) -> None:
    options = ("-t", "digit", "--ignore", "site", "--episodes", 5, "--query", 5)
    assert "6 of the 6 classes were seen in fit" in cli.run("evaluate", extractor, files / "old.csv", *options).stderr
    assert cli.run("evaluate", extractor, files / "new.csv", *options).stderr == ""


def test_the_baseline_of_evaluate_keeps_the_type_of_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    assert standardiser().fit_transform(rows).dtype == np.float32


def test_evaluate_needs_a_target_and_enough_classes(cli: Any, files: Path, extractor: Path) -> None:
    assert "--target" in cli.fail("evaluate", extractor, files / "new.csv", "--ignore", "digit", "--ignore", "site")
    assert "4 classes" in cli.fail(
        "evaluate", extractor, files / "new.csv", "-t", "digit", "--ignore", "site", "--way", 9
    )


# Listing, help and the demonstration


def test_plugins_are_listed_with_distribution_and_version(cli: Any) -> None:
    lines = cli.succeed("plugins").stdout.splitlines()
    assert re.split(r"  +", lines[0])[:4] == ["kind", "name", "distribution", "version"]
    assert ["backbone", "conv4", "metafe", metafe.__version__] in [re.split(r"  +", line)[:4] for line in lines]
    assert {line.split("  ")[0] for line in lines[1:]} >= {"algorithm", "augmentation", "backbone", "task source"}


def test_plugins_that_failed_are_listed_with_their_error(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = PluginInfo("", "broken", "metafe-broken", "0.3", "ImportError: no module\n named torch_extras")
    monkeypatch.setattr(registry(), "_failures", [failure])
    result = cli.succeed("plugins")
    assert re.search(
        r"^\?  +broken  +metafe-broken  +0\.3  +ImportError: no module named torch_extras$", result.stdout, re.M
    )


def test_version_and_help(cli: Any) -> None:
    assert cli.succeed("--version").stdout == f"metafe {metafe.__version__}\n"
    assert cli.succeed().stdout == cli.succeed("--help").stdout
    for command in ("search", "fit", "transform", "evaluate", "plugins", "demo"):
        assert command in cli.succeed("--help").stdout
        assert f"    $ metafe {command}" in cli.succeed(command, "--help").stdout or command == "plugins"


def test_demo_prints_a_table_and_saves_winner_report_and_picture(cli: Any, tmp_path: Path) -> None:
    result = cli.succeed("demo", "-o", tmp_path / "shown", "--n-trials", 2, "--max-steps", 1, "--episodes", 12)
    cells = cli.rows_of(result.stdout)
    for name in ("raw pixels", "PCA", "LDA", "metafe"):
        assert all(re.fullmatch(r"\d+\.\d ± \d+\.\d", cell) for cell in cells[name]), name
        assert len(cells[name]) == 2
    assert "standardised rows (baseline)" in result.stdout
    assert (tmp_path / "shown" / "report" / "index.html").is_file()
    assert re.search(r"metafe against raw pixels, .* at 1-shot, .* at 5-shot", result.stdout)
    with Image.open(tmp_path / "shown" / "demo.png") as picture:
        assert picture.width > 1000
    learned, novel = re.search(r"digits (.*); (.*) are kept out", result.stdout).groups()  # type: ignore[union-attr]
    digits = [sorted(map(int, re.findall(r"\d", part))) for part in (learned, novel)]
    assert list(metafe.load(tmp_path / "shown" / "extractor").classes_) == digits[0]
    assert sorted(digits[0] + digits[1]) == list(range(10))


@pytest.mark.filterwarnings("ignore::metafe.contracts.FeatureQualityWarning")
def test_demo_says_when_nothing_learned_beat_the_input() -> None:
    from metafe.cli.demo import METAFE, RAW, split_digits, verdict

    digits = split_digits(0)
    scores = {
        name: [metafe.FewShotScore(0.5, 0.1, np.array([0.4, 0.6]) + shift, 5)] * 2
        for name, shift in ((RAW, 0.1), (METAFE, 0.0))
    }
    extractor = metafe.MetaFeatureExtractor("identity").fit(digits.base_rows, digits.base_labels)
    assert "Nothing was surely better" in verdict(scores, extractor)
    assert "-10.0 (-10.0 to -10.0) at 1-shot" in verdict(scores, extractor)
    network = metafe.MetaFeatureExtractor("mlp", max_steps=1, augment=None).fit(digits.base_rows, digits.base_labels)
    assert verdict(scores, network).endswith("at 5-shot. The pixels are better here.")


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
