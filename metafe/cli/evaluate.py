"""``metafe evaluate``: judge an extractor on small problems with classes it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from metafe.cli.help import describe
from metafe.cli.options import DataFile, Device, Folder, Groups, Ignore, Seed, Target

if TYPE_CHECKING:
    from metafe import FewShotScore
    from metafe.cli.data import Rows

HELP = describe(
    "Judge features on small problems drawn from new data.",
    "The standardised rows are judged beside them, on the same problems. For classes: mean accuracy in per cent of "
    "the nearest class mean, with its 95 % interval. For continuous targets: R² of ridge regression; --groups keeps "
    "each problem inside one group. Use classes, or groups, that 'metafe fit' has not seen.",
    examples=[
        "metafe evaluate features new.csv --target species",
        "metafe evaluate features new.csv --target species --way 3 --shot 1 --shot 10 --episodes 1000",
        "metafe evaluate features houses.parquet --target price --groups town --shot 10",
    ],
)

Way = Annotated[
    int | None,
    typer.Option(
        "--way", metavar="N", min=2, help="Classes in a problem.", show_default="5, or all where there are fewer"
    ),
]
Shots = Annotated[
    list[int] | None,
    typer.Option(
        "--shot",
        metavar="N",
        min=1,
        help="Labelled rows of each class; may be repeated.",
        show_default="1, 5; for continuous targets 5, 10",
    ),
]
Queries = Annotated[int, typer.Option("--query", metavar="N", min=1, help="Rows of each class to judge on.")]
Episodes = Annotated[int, typer.Option("--episodes", metavar="N", min=2, help="Problems to draw.")]
Adapt = Annotated[bool, typer.Option("--adapt", help="Let the extractor adapt to the labelled rows of each problem.")]


def evaluate(
    folder: Folder,
    data: DataFile,
    target: Target = None,
    groups: Groups = None,
    ignore: Ignore = None,
    way: Way = None,
    shots: Shots = None,
    query: Queries = 15,
    episodes: Episodes = 600,
    adapt: Adapt = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Judge features on new data."""
    from metafe import load
    from metafe.cli.data import Request, read
    from metafe.contracts import InvalidInputError

    extractor = load(folder)
    extractor.device = device
    rows = read(data, Request(target, groups, ignore or (), extractor=extractor))
    if rows.target is None:
        fix = "Move the files of each class into a sub-folder" if data.is_dir() else "Name them with --target"
        raise InvalidInputError(
            f"metafe evaluate needs the classes or targets to judge by; got none in {str(data)!r}. {fix}."
        )
    _warn_of_seen_classes(extractor, rows)
    shots = shots or _default_shots(rows)
    settings = {"n_query": query, "n_episodes": episodes, "random_state": seed, "n_way": _way(way, rows)}
    candidates = {
        "extractor": (extractor, adapt),
        "standardised input": (standardiser(extractor.encoder_).fit(rows.X), False),
    }
    scores = {
        name: _scores(transformer, rows, shots, {**settings, "adapt": a})
        for name, (transformer, a) in candidates.items()
    }
    say_scores(scores, shots)
    _say_sizes(scores["extractor"][0], rows, settings["n_way"])


def standardiser(encoder: Any = None) -> Any:
    """Return an unfitted transformer that encodes rows, flattens them and standardises each value."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    first = [] if encoder is None else [FunctionTransformer(encoder.encode)]
    return make_pipeline(*first, FunctionTransformer(flatten), StandardScaler())


def flatten(X: Any) -> np.ndarray:
    """Return rows as vectors, in their own type."""
    return np.asarray(X).reshape(len(X), -1)


def say_scores(scores: dict[str, list[FewShotScore]], shots: list[int]) -> None:
    """Print a table of scores, a line for each kind of features and a column for each number of shots.

    Parameters
    ----------
    scores : dict of str to list of FewShotScore
    shots : list of int
    """
    from metafe.cli.reporting import say_table

    rows = [(name, *(score_text(score) for score in of_shots)) for name, of_shots in scores.items()]
    of_classes = next(iter(scores.values()))[0].n_classes > 0
    unit = "accuracy %" if of_classes else "R²"
    say_table(("features", *(f"{shot}-shot {unit}" for shot in shots)), rows, right_from=1)


def score_text(score: FewShotScore) -> str:
    """Write a mean and its interval: in per cent for classes, as it is for R²."""
    if score.n_classes:
        return f"{100 * score.mean:.1f} ± {100 * score.interval:.1f}"
    return f"{score.mean:.3f} ± {score.interval:.3f}"


def _scores(transformer: Any, rows: Rows, shots: list[int], settings: dict[str, Any]) -> list[FewShotScore]:
    from metafe import few_shot_score

    return [
        few_shot_score(transformer, rows.X, rows.y, groups=rows.group_labels, n_shot=shot, **settings) for shot in shots
    ]


def _default_shots(rows: Rows) -> list[int]:
    """Return one and five rows of a class, or what a regression can be fitted on."""
    from metafe.inputs import kind_of_target

    return [5, 10] if rows.y is not None and kind_of_target(rows.y).startswith("continuous") else [1, 5]


def _way(way: int | None, rows: Rows) -> int:
    return way if way is not None else max(2, min(5, len(np.unique(rows.y))))  # type: ignore[arg-type]


def _warn_of_seen_classes(extractor: Any, rows: Rows) -> None:
    """Say so where the classes are no new ones; targets of groups are local to them and may well recur."""
    from metafe.cli.reporting import warn_line

    labels = {str(label) for label in np.unique(rows.y)}  # type: ignore[arg-type]
    seen = labels & {str(label) for label in getattr(extractor, "classes_", ())}
    if seen and rows.groups is None:
        warn_line(
            f"{len(seen)} of the {len(labels)} classes were seen in fit; the accuracy does not tell how new classes "
            "would fare. Evaluate on others."
        )


def _say_sizes(score: FewShotScore, rows: Rows, n_way: int) -> None:
    from metafe.cli.reporting import say

    ways = f"{n_way}-way problems from {score.n_classes} classes" if score.n_classes else "regression problems"
    say(f"{len(score.scores)} {ways}, {len(rows.X)} rows, the same for all; ± is the 95 % interval over problems")
