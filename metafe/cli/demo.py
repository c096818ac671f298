"""``metafe demo``: a short search for features of handwritten digits that it has never seen."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from metafe.cli.help import describe
from metafe.cli.options import Device, Seed

if TYPE_CHECKING:
    from metafe import FewShotScore, MetaFeatureExtractor, MetaFeatureSearchCV

HELP = describe(
    "Search for features on five handwritten digits, judge them on five others.",
    "Takes two or three minutes on two cores and needs no download. Prints what the search found, and 5-way accuracy "
    "from one and from five labelled images a class for raw pixels, PCA, LDA and the winner, on the same problems for "
    "all; saves the winner, a page about the search and a picture. It says so where nothing beats the pixels.",
    examples=["metafe demo", "metafe demo --seed 1 -o demo-of-another-split"],
)

RAW, METAFE = "raw pixels", "metafe"
SHOTS = (1, 5)
N_NOVEL = 5
VIEWS = {"Before: the novel classes in raw pixels": RAW, "After: the novel classes in metafe's features": METAFE}
PCA_VARIANCE = 0.95
# So that the demonstration is the same whatever else is installed, and is over while someone looks at it.
BACKBONES = ["mlp", "conv4"]
MAX_STEPS = 100
SECONDS = 120.0

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the winner, the report and the picture.")
]
Trials = Annotated[int, typer.Option("--n-trials", metavar="N", min=1, help="Trials of the search.")]
MaxSteps = Annotated[
    int, typer.Option("--max-steps", metavar="N", min=0, help="Longest training of a trial, in steps.")
]
Episodes = Annotated[int, typer.Option("--episodes", metavar="N", min=2, help="Problems to judge on.")]


@dataclass(frozen=True)
class Digits:
    """The digits, split by class.

    Parameters
    ----------
    base_rows, novel_rows : ndarray of shape (n, 8, 8)
    base_labels, novel_labels : ndarray of shape (n,)
    """

    base_rows: np.ndarray
    base_labels: np.ndarray
    novel_rows: np.ndarray
    novel_labels: np.ndarray


def demo(
    output: Output = Path("metafe-demo"),
    n_trials: Trials = 20,
    max_steps: MaxSteps = MAX_STEPS,
    episodes: Episodes = 600,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Show what metafe does."""
    from metafe.cli.evaluate import say_scores
    from metafe.cli.picture import draw
    from metafe.cli.reporting import say
    from metafe.cli.search import say_found
    from metafe.cli.writing import check_output_folder

    began = time.perf_counter()
    check_output_folder(output / "extractor")
    digits = split_digits(seed)
    say(f"Searching on the digits {_listed(digits.base_labels)}; {_listed(digits.novel_labels)} are kept out.")
    found = demo_search(seed, n_trials, max_steps, device).fit(digits.base_rows, digits.base_labels)
    found.best_estimator_.save(output / "extractor")
    say_found(found, output / "extractor", found.write_report(output / "report"))
    judged = {RAW: pixels(), **_classical(digits), METAFE: found}
    scores = {name: _scores(transformer, digits, episodes, seed) for name, transformer in judged.items()}
    say(f"\n{N_NOVEL}-way problems from the digits kept out, the same {episodes} for all:\n")
    say_scores(scores, list(SHOTS))
    say(f"\n{verdict(scores, found.best_estimator_)}")
    views = {title: judged[name].transform(digits.novel_rows) for title, name in VIEWS.items()}
    draw(
        output / "demo.png",
        scores,
        views,
        digits.novel_labels,
    )
    say(f"Saved the picture in {output / 'demo.png'}; {time.perf_counter() - began:.0f} s in all.")


def demo_search(seed: int, n_trials: int, max_steps: int, device: str = "auto") -> MetaFeatureSearchCV:
    """Return the unfitted search of the demonstration.

    Parameters
    ----------
    seed, n_trials, max_steps : int
    device : str, default="auto"

    Returns
    -------
    MetaFeatureSearchCV
    """
    from metafe import MetaFeatureExtractor, MetaFeatureSearchCV

    return MetaFeatureSearchCV(
        MetaFeatureExtractor(max_steps=max_steps, device=device),
        backbones=BACKBONES,
        n_trials=n_trials,
        timeout=SECONDS,
        random_state=seed,
        verbose=int(sys.stderr.isatty()),
    )


def split_digits(seed: int) -> Digits:
    """Return scikit-learn's handwritten digits, five of the ten classes kept out.

    Parameters
    ----------
    seed : int
        Decides which.

    Returns
    -------
    Digits
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    novel = np.isin(digits.target, np.random.default_rng(seed).choice(10, N_NOVEL, replace=False))
    return Digits(digits.images[~novel], digits.target[~novel], digits.images[novel], digits.target[novel])


def pixels() -> Any:
    """Return a transformer that gives the pixels as they are."""
    from sklearn.preprocessing import FunctionTransformer

    from metafe.cli.evaluate import flatten

    return FunctionTransformer(flatten)


def verdict(scores: dict[str, list[FewShotScore]], extractor: MetaFeatureExtractor) -> str:
    """Say in words how metafe's features compare with the raw pixels on the same problems.

    Parameters
    ----------
    scores : dict of str to list of FewShotScore
    extractor : MetaFeatureExtractor

    Returns
    -------
    str
    """
    from metafe.training.probe import compare

    found = [compare(learned.scores, raw.scores) for learned, raw in zip(scores[METAFE], scores[RAW], strict=True)]
    differences = ", ".join(
        f"{_points(c.gain)} ({_points(c.low)} to {_points(c.high)}) at {shot}-shot"
        for c, shot in zip(found, SHOTS, strict=True)
    )
    text = f"metafe against raw pixels, in points with the 95 % interval: {differences}."
    if extractor.backbone_.name != "identity":
        return f"{text} The pixels are better here." if all(c.high < 0 for c in found) else text
    return f"{text} Nothing was surely better on held-out digits of the search, so the features are the pixels, scaled."


def _points(difference: float) -> str:
    """Write a difference of accuracies in points, never as minus nothing."""
    return f"{round(100 * difference, 1) + 0.0:+.1f}"


def _classical(digits: Digits) -> dict[str, Any]:
    """Return PCA and LDA fitted on the base classes."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    methods: dict[str, Callable[[], Any]] = {
        "PCA": lambda: PCA(PCA_VARIANCE, svd_solver="full"),
        "LDA": LinearDiscriminantAnalysis,
    }
    return {
        name: make_pipeline(pixels(), method()).fit(digits.base_rows, digits.base_labels)
        for name, method in methods.items()
    }


def _scores(transformer: Any, digits: Digits, episodes: int, seed: int) -> list[FewShotScore]:
    from metafe import few_shot_score

    return [
        few_shot_score(
            transformer,
            digits.novel_rows,
            digits.novel_labels,
            n_way=N_NOVEL,
            n_shot=shot,
            n_episodes=episodes,
            random_state=seed,
        )
        for shot in SHOTS
    ]


def _listed(labels: np.ndarray) -> str:
    names = [str(label) for label in np.unique(labels)]
    return f"{', '.join(names[:-1])} and {names[-1]}"
