"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

DataFile = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="CSV, Parquet, .npz (arrays X, y, groups) or a folder of images or sound files with a sub-folder per class.",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that 'metafe fit' has written.")]
Target = Annotated[
    str | None,
    typer.Option(
        "--target", "-t", metavar="COL", help="Column, or .npz array, to predict: classes or continuous values."
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups", "-g", metavar="COL", help="Column, or .npz array; each of its values is a task of its own."
    ),
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="COL", help="Column to leave out; may be repeated.")
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--image-size", metavar="N|HxW", help="Resize images to NxN or HxW pixels; the aspect ratio is not kept."
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="The same seed gives the same result on one machine.")
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="Where to compute: auto, cpu, cuda, mps …")]


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Return height and width.

    Raises
    ------
    InvalidParameterError
        Not ``N`` or ``HxW`` with positive whole numbers.

    Examples
    --------
    >>> parse_image_size("28"), parse_image_size("20x32")
    ((28, 28), (20, 32))
    """
    from metafe.contracts import InvalidParameterError

    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise InvalidParameterError(f"--image-size must be N or HxW in pixels, such as 28 or 20x32; got {text!r}.")
    return int(sides[0]), int(sides[-1])


def parse_parameters(pairs: list[str]) -> dict[str, Any]:
    """Return the parameters that ``key=value`` options give, each value read as JSON where it is JSON.

    Raises
    ------
    InvalidParameterError
        No ``=``, or nothing before it.

    Examples
    --------
    >>> parse_parameters(["backbone__width=64", "optimizer=sgd", "tasks__n_shot=[1, 5]", "augment=null"])
    {'backbone__width': 64, 'optimizer': 'sgd', 'tasks__n_shot': (1, 5), 'augment': None}
    """
    from metafe.contracts import InvalidParameterError

    parameters = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InvalidParameterError(f"--param must be key=value, such as backbone__width=64; got {pair!r}.")
        parameters[key.strip()] = _value(value)
    return parameters


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value
