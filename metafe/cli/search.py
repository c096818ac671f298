"""``metafe search``: find network, algorithm, tasks and settings, and save the winner."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metafe.cli.fit import MaxSteps, Parameters, Verbosity
from metafe.cli.help import describe
from metafe.cli.options import (
    DataFile,
    Device,
    Groups,
    Ignore,
    ImageSize,
    Target,
    parse_image_size,
    parse_parameters,
)

if TYPE_CHECKING:
    from metafe import MetaFeatureSearchCV
    from metafe.search.finalists import Finalist

HELP = describe(
    "Search for the features that serve best, and save the winner.",
    "Standardised rows, PCA, LDA, NCA and a supervised network come first; something else wins only where it is surely "
    "better on classes, groups or rows that its training has not seen.",
    "With --storage the search can be stopped and continued, and the same command on other machines joins in; without "
    "-o a machine does nothing but work. Ctrl-C ends the search and saves the best so far.",
    examples=[
        "metafe search old.csv --target species -o features --report report",
        "metafe search old.csv --target species --timeout 600 --backbone mlp --backbone identity -o features",
        "metafe search old.csv --target species --storage sqlite:///study.db --study species -o features",
        "metafe search old.csv --target species --storage postgresql+psycopg://me@host/db --study species",
    ],
)

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Folder for the winner; an extractor in it is replaced.",
        show_default="no folder; needs --report or --storage",
    ),
]
ReportFolder = Annotated[
    Path | None,
    typer.Option("--report", metavar="DIR", help="Folder for a page about the search, index.html, and its pictures."),
]
Trials = Annotated[
    int, typer.Option("--n-trials", metavar="N", min=1, help="Trials of the study, those of other machines included.")
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Time for everything.", show_default="none")
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Where the study is kept: sqlite:///FILE, postgresql+psycopg://…, grpc://HOST:PORT or the path of a journal file.",
        show_default="memory",
    ),
]
StudyName = Annotated[
    str | None,
    typer.Option("--study", metavar="NAME", help="Name of the study.", show_default="derived from data and space"),
]
Jobs = Annotated[int, typer.Option("--n-jobs", metavar="N", help="Worker processes; -1 is one for each core.")]
Backbones = Annotated[
    list[str] | None,
    typer.Option("--backbone", metavar="NAME", help="Search this one alone; may be repeated.", show_default="all"),
]
Algorithms = Annotated[
    list[str] | None,
    typer.Option("--algorithm", metavar="NAME", help="Search this one alone; may be repeated.", show_default="all"),
]
TaskSources = Annotated[
    list[str] | None,
    typer.Option("--tasks", metavar="NAME", help="Search this one alone; may be repeated.", show_default="all"),
]
Shot = Annotated[
    int,
    typer.Option("--n-shot", metavar="N", min=1, help="Labelled rows a class to judge with, as new classes will have."),
]
Objectives = Annotated[
    list[str] | None,
    typer.Option(
        "--objective",
        metavar="NAME",
        help="score, latency, n_parameters or n_features; may be repeated.",
        show_default="score",
    ),
]
SearchSeed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        help="The same seed gives the same result on one machine.",
        show_default="0; with --storage none, so that machines try different things",
    ),
]


def search(
    data: DataFile,
    output: Output = None,
    target: Target = None,
    groups: Groups = None,
    ignore: Ignore = None,
    image_size: ImageSize = None,
    report: ReportFolder = None,
    n_trials: Trials = 50,
    timeout: Timeout = None,
    storage: Storage = None,
    study: StudyName = None,
    n_jobs: Jobs = 1,
    backbones: Backbones = None,
    algorithms: Algorithms = None,
    tasks: TaskSources = None,
    n_shot: Shot = 1,
    objectives: Objectives = None,
    max_steps: MaxSteps = None,
    parameters: Parameters = None,
    seed: SearchSeed = None,
    device: Device = "auto",
    verbose: Verbosity = None,
) -> None:
    """Search, and save the winner."""
    from metafe import MetaFeatureExtractor, MetaFeatureSearchCV
    from metafe.cli.data import Request, read

    _check_destinations(output, report, storage)
    fixed = parse_parameters(parameters or []) | ({} if max_steps is None else {"max_steps": max_steps})
    extractor = MetaFeatureExtractor(device=device).set_params(**fixed)
    request = Request(target, groups, ignore or (), parse_image_size(image_size), extractor.encoder)
    found = MetaFeatureSearchCV(
        extractor,
        backbones=backbones,
        algorithms=algorithms,
        tasks=tasks,
        n_trials=n_trials,
        timeout=timeout,
        n_shot=n_shot,
        objectives=tuple(objectives or ("score",)),
        storage=storage,
        study_name=study,
        n_jobs=n_jobs,
        refit=output is not None,
        random_state=0 if seed is None and storage is None else seed,
        verbose=int(sys.stderr.isatty() if verbose is None else verbose),
    )
    rows = read(data, request)
    if rows.encoder is not None:
        extractor.encoder = rows.encoder
    found.fit(rows.X, rows.y, groups=rows.group_labels)
    if output is not None:
        found.best_estimator_.save(output)
    page = None if report is None else found.write_report(report)
    if verbose is not False:
        say_found(found, output, page)


def say_found(found: MetaFeatureSearchCV, folder: Path | None = None, page: Path | None = None) -> None:
    """Print the finalists, the verdict and where everything is.

    Parameters
    ----------
    found : MetaFeatureSearchCV
        Fitted.
    folder : Path or None
        Where the winner was saved.
    page : Path or None
        The report.
    """
    from metafe.cli.reporting import say, say_table

    say(f"Finalists, judged again on {found.splits_}:")
    rows = [_cells(finalist) for finalist in found.finalists_]
    say_table(("features", "trial", "score", "gain over the best baseline"), rows, right_from=1)
    say(found.verdict_)
    if found.storage is not None:
        say(f"Study {found.study_.study_name}: the same command goes on, with a larger --n-trials.")
    if folder is not None:
        say(f"Saved {found.best_estimator_.n_features_out_} features a row in {folder}")
    if page is not None:
        say(f"Wrote the report to {page}")


def _cells(row: Finalist) -> tuple[str, ...]:
    gain = f"{row.gain:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
    name = f"{row.name} (baseline)" if row.is_baseline else row.name
    return name, str(row.trial), f"{row.score:.3f} ± {row.interval:.3f}", gain


def _check_destinations(output: Path | None, report: Path | None, storage: str | None) -> None:
    """Check, before any work, that something will be left of it."""
    from metafe.cli.writing import check_output_folder, check_report_folder
    from metafe.contracts import InvalidParameterError

    if output is None and report is None and storage is None:
        raise InvalidParameterError(
            "metafe search needs a place for what it finds; got none. Name it with -o, --report or --storage."
        )
    if output is not None:
        check_output_folder(output)
    if report is not None:
        check_report_folder(report)
