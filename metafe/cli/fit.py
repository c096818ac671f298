"""``metafe fit``: learn features from a file and save the extractor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metafe.cli.help import describe
from metafe.cli.options import (
    DataFile,
    Device,
    Groups,
    Ignore,
    ImageSize,
    Seed,
    Target,
    parse_image_size,
    parse_parameters,
)

if TYPE_CHECKING:
    from metafe import MetaFeatureExtractor

HELP = describe(
    "Learn features from old data and save the extractor.",
    "Without --target there is nothing to learn from: the features are the standardised rows, or what a named backbone "
    "gives untrained.",
    "What is left at 'auto' is decided by rule from the data, and said. Ctrl-C ends training early and saves the best "
    "features so far.",
    examples=[
        "metafe fit old.csv --target species -o features",
        "metafe fit customers.parquet --target bought --groups customer -o features",
        "metafe fit photos/ --image-size 84 -o features",
        "metafe fit old.npz --backbone mlp -p backbone__width=64 -o features",
    ],
)

Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="DIR", help="Folder for the extractor; an extractor in it is replaced."),
]
Backbone = Annotated[
    str,
    typer.Option("--backbone", metavar="NAME", help="Name of the network or descriptor; 'metafe plugins' lists them."),
]
Algorithm = Annotated[str, typer.Option("--algorithm", metavar="NAME", help="Name of the meta-learning algorithm.")]
Tasks = Annotated[str, typer.Option("--tasks", metavar="NAME", help="Name of the task source.")]
MaxSteps = Annotated[
    int | None, typer.Option("--max-steps", metavar="N", min=0, help="Longest training, in steps.", show_default="auto")
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        metavar="KEY=VALUE",
        help="Any other parameter, such as backbone__width=64; the value is JSON, or else text.",
    ),
]
Verbosity = Annotated[
    bool | None,
    typer.Option(
        "--verbose/--quiet",
        "-v/-q",
        help="Show progress, or print warnings and errors alone.",
        show_default="progress on a terminal",
    ),
]


def fit(
    data: DataFile,
    output: Output,
    target: Target = None,
    groups: Groups = None,
    ignore: Ignore = None,
    image_size: ImageSize = None,
    backbone: Backbone = "auto",
    algorithm: Algorithm = "auto",
    tasks: Tasks = "auto",
    max_steps: MaxSteps = None,
    parameters: Parameters = None,
    seed: Seed = 0,
    device: Device = "auto",
    verbose: Verbosity = None,
) -> None:
    """Learn features and save the extractor."""
    from metafe.cli.data import Request, read
    from metafe.cli.writing import check_output_folder

    check_output_folder(output)
    named = {"backbone": backbone, "algorithm": algorithm, "tasks": tasks, "device": device, "random_state": seed}
    extractor = _extractor(named, max_steps, parse_parameters(parameters or []))
    rows = read(data, Request(target, groups, ignore or (), parse_image_size(image_size), extractor.encoder))
    if rows.encoder is not None:
        extractor.encoder = rows.encoder
    extractor.verbose = int(sys.stderr.isatty() if verbose is None else verbose)
    extractor.fit(rows.X, rows.y, groups=rows.group_labels)
    extractor.verbose = 0
    extractor.save(output)
    if verbose is not False:
        say_outcome(extractor, output)


def say_outcome(extractor: MetaFeatureExtractor, folder: Path) -> None:
    """Print what was decided, what was measured and where the extractor is.

    Parameters
    ----------
    extractor : MetaFeatureExtractor
        Fitted.
    folder : Path
        Where it was saved.
    """
    from metafe.cli.reporting import say

    for name, decision in extractor.decisions_.items():
        say(f"{name}: {decision}")
    if extractor.validation_:
        say(_validation(extractor.validation_))
    say(f"Saved {extractor.n_features_out_} features a row in {folder}")


def _extractor(named: dict[str, Any], max_steps: int | None, parameters: dict[str, Any]) -> MetaFeatureExtractor:
    from metafe import MetaFeatureExtractor

    extractor = MetaFeatureExtractor(**named)
    if max_steps is not None:
        extractor.max_steps = max_steps
    return extractor.set_params(**parameters)


def _validation(validation: dict[str, float]) -> str:
    over_classes = (
        f" over tasks, {validation['class_low']:+.3f} to {validation['class_high']:+.3f} over classes"
        if "class_low" in validation
        else ""
    )
    return (
        f"meta-validation: {validation['score']:.3f} learned, {validation['baseline']:.3f} standardised rows; "
        f"difference {validation['gain']:+.3f}, 95 % interval {validation['low']:+.3f} to {validation['high']:+.3f}"
        f"{over_classes}"
    )
