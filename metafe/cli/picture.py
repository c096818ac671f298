"""The picture that the demonstration draws."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from metafe import FewShotScore

# Colours of Okabe and Ito, told apart with any colour vision; digits are drawn as digits besides.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
SHOT_COLOURS = ("#56B4E9", "#0072B2")
SHOTS = (1, 5)
BAR_WIDTH = 0.38
# Enough to see the classes, and few enough for t-SNE to take a moment.
SHOWN_OF_CLASS = 80
TSNE_STEPS = 500


def draw(
    path: Path, scores: dict[str, list[FewShotScore]], features: dict[str, np.ndarray], labels: np.ndarray
) -> None:
    """Draw accuracy bars and, side by side, a 2-D view of the novel classes in each kind of features.

    The view is of the first rows of each class.

    Parameters
    ----------
    path : Path
        PNG file.
    scores : dict of str to list of FewShotScore
        For each kind of features, with one and with five shots.
    features : dict of str to ndarray of shape (n, n_features)
        What to view, left to right, by title.
    labels : ndarray of shape (n,)
        Classes of the rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(features), width_ratios=(1.15, *(1 for _ in features)))
    _draw_bars(axes[0], scores)
    shown = np.concatenate([np.flatnonzero(labels == label)[:SHOWN_OF_CLASS] for label in np.unique(labels)])
    for axis, (title, values) in zip(axes[1:], features.items(), strict=True):
        _draw_view(axis, title, _project(values[shown]), labels[shown])
    figure.suptitle("Handwritten digits that training has not seen", fontsize=15)
    figure.savefig(path, dpi=120)


def _draw_bars(axis: Any, scores: dict[str, list[FewShotScore]]) -> None:
    places = np.arange(len(scores))
    for i, (shot, colour) in enumerate(zip(SHOTS, SHOT_COLOURS, strict=True)):
        means = [100 * of_shots[i].mean for of_shots in scores.values()]
        intervals = [100 * of_shots[i].interval for of_shots in scores.values()]
        label = f"{shot} labelled image{'s' if shot > 1 else ''} a class"
        bars = axis.bar(
            places + (i - 0.5) * BAR_WIDTH, means, BAR_WIDTH, yerr=intervals, capsize=3, color=colour, label=label
        )
        axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=10)
    n_classes = next(iter(scores.values()))[0].n_classes
    axis.axhline(100 / n_classes, color="#666666", linestyle="--", linewidth=1, label="chance")
    axis.set(
        ylim=(0, 118), ylabel="accuracy in %, with 95 % interval", title=f"{n_classes}-way accuracy on novel classes"
    )
    axis.set_xticks(places, list(scores), fontsize=11)
    axis.set_yticks(range(0, 101, 20))
    axis.legend(loc="upper left", ncols=3, fontsize=9, frameon=False, columnspacing=1.2, handlelength=1.4)
    axis.spines[["top", "right"]].set_visible(False)


def _project(features: np.ndarray) -> np.ndarray:
    """Return two dimensions, by the same method and seed for all kinds of features."""
    from sklearn.manifold import TSNE

    if len(np.unique(features, axis=0)) < 2:
        return np.zeros((len(features), 2))
    return np.asarray(TSNE(init="pca", max_iter=TSNE_STEPS, random_state=0).fit_transform(features.astype(np.float32)))


def _draw_view(axis: Any, title: str, points: np.ndarray, labels: np.ndarray) -> None:
    for label, colour in zip(np.unique(labels), COLOURS, strict=True):
        of_class = points[labels == label]
        axis.scatter(*of_class.T, marker=f"${label}$", s=38, color=colour, linewidths=0.2, alpha=0.85)
    axis.set(title=title, xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
