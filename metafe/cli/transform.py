"""``metafe transform``: turn the rows of a file into features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metafe.cli.help import describe
from metafe.cli.options import DataFile, Device, Folder, Groups, Ignore, Target

HELP = describe(
    "Turn rows into features and write them to a file.",
    "The file is CSV, Parquet or .npz, by its suffix. The columns named by --target and --groups are carried over "
    "unchanged; of images, file name and class are. Columns are found by name, and images are resized as in 'metafe "
    "fit'.",
    examples=[
        "metafe transform features new.csv -o new-features.csv",
        "metafe transform features new.csv --target species --ignore id -o new-features.parquet",
        "metafe transform features photos/ -o photos.npz",
    ],
)

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="File to write; .csv, .parquet or .npz. It is replaced.")
]


def transform(
    folder: Folder,
    data: DataFile,
    output: Output,
    target: Target = None,
    groups: Groups = None,
    ignore: Ignore = None,
    device: Device = "auto",
) -> None:
    """Turn rows into features."""
    from metafe import load
    from metafe.cli.data import Request, read
    from metafe.cli.reporting import say
    from metafe.cli.writing import check_output_file, write_features

    check_output_file(output)
    extractor = load(folder)
    extractor.device = device
    rows = read(data, Request(target, groups, ignore or (), extractor=extractor))
    features = extractor.transform(rows.X)
    write_features(output, features, list(extractor.get_feature_names_out()), rows.known)
    say(f"Wrote {features.shape[0]} rows of {features.shape[1]} features to {output}")
