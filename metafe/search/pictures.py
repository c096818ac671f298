"""The pictures of a report, each with the text that says the same."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from metafe.search import attributes as attribute
from metafe.search.samplers import REPORTS
from metafe.search.standings import Standing, best_trial, label_of, objectives_of, score_of
from metafe.search.stops import FOLD_REPORT
from metafe.search.view import View

Theme = Literal["light", "dark"]

# Colours of Okabe and Ito, told apart with any colour vision; markers differ besides. Both are seen on white and on black.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#B8A800")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LEARNED, BASELINE, ENDED_EARLY = COLOURS[0], COLOURS[1], "#8C8C8C"
INK = {"light": "#1a1a1a", "dark": "#e6e6e6"}
PAPER = {"light": "#ffffff", "dark": "#16181d"}
WIDTH, DPI = 9.0, 110
ROWS_SHOWN = 12
CURVES_NAMED = 4
IMPORTANCES_SHOWN = 12
LEAST_IMPORTANCE = 0.005


@dataclass(frozen=True)
class Picture:
    """A picture that is not drawn yet.

    Parameters
    ----------
    name : str
        Of its file, without suffix.
    alt : str
        What it shows, for those who do not see it.
    draw : callable
        Draws it on an empty figure.
    height : float
        In inches.
    """

    name: str
    alt: str
    draw: Callable[[Figure], None]
    height: float = 4.0

    def png(self, theme: Theme) -> bytes:
        """Return the picture for light or dark surroundings."""
        ink, paper = INK[theme], PAPER[theme]
        inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
        style = dict.fromkeys(inked, ink) | {
            "axes.facecolor": paper,
            "legend.facecolor": paper,
            "legend.edgecolor": "none",
        }
        with mpl.rc_context(style):  # type: ignore[arg-type]
            figure = Figure(figsize=(WIDTH, self.height), layout="constrained", facecolor=paper)
            FigureCanvasAgg(figure)
            self.draw(figure)
            written = io.BytesIO()
            figure.savefig(written, format="png", dpi=DPI)
        return written.getvalue()


def leaderboard(rows: Sequence[Standing]) -> Picture:
    """Draw the best trials and all baselines with their intervals.

    Parameters
    ----------
    rows : sequence of Standing
        At least one, best first.
    """
    learned = [row for row in rows if not row.is_baseline][:ROWS_SHOWN]
    shown = [row for row in rows if row.is_baseline or row in learned][::-1]

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for is_baseline, colour, marker, name in (
            (False, LEARNED, "o", "searched"),
            (True, BASELINE, "s", "baseline"),
        ):
            places = [i for i, row in enumerate(shown) if row.is_baseline == is_baseline]
            if not places:
                continue
            scores = [shown[i].score for i in places]
            errors = [shown[i].interval if np.isfinite(shown[i].interval) else 0.0 for i in places]
            axis.errorbar(scores, places, xerr=errors, fmt=marker, color=colour, capsize=3, label=name)
        axis.set_yticks(range(len(shown)), [_numbered(row.trial) for row in shown])
        axis.set(xlabel="score on held-out rows, with 95 % interval over tasks", ylim=(-0.6, len(shown) - 0.4))
        _finish(axis, grid="x")

    best = rows[0]
    alt = (
        f"Scores of {len(shown)} trials with intervals. Best: {best.label}, {_with_interval(best)}. The table has all."
    )
    return Picture("leaderboard", alt, draw, 1.6 + 0.28 * len(shown))


def history(study: Study, trials: Sequence[FrozenTrial]) -> Picture | None:
    """Draw the score of each trial in the order of their numbers, and the best so far.

    Parameters
    ----------
    study : optuna.study.Study
    trials : sequence of FrozenTrial
    """
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    if not complete:
        return None
    pruned = [t for t in trials if t.state == TrialState.PRUNED and t.intermediate_values]
    kinds = {
        ("searched", LEARNED, "o"): [t for t in complete if not attribute.is_baseline(t.user_attrs)],
        ("baseline", BASELINE, "s"): [t for t in complete if attribute.is_baseline(t.user_attrs)],
    }

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for (name, colour, marker), of_kind in kinds.items():
            if of_kind:
                numbers, scores = [t.number for t in of_kind], [score_of(study, t) for t in of_kind]
                axis.scatter(numbers, scores, s=34, color=colour, marker=marker, label=name, zorder=3)
        if pruned:
            last = [t.intermediate_values[max(t.intermediate_values)] for t in pruned]
            numbers = [t.number for t in pruned]
            axis.scatter(numbers, last, s=30, color=ENDED_EARLY, marker="x", label="pruned, last report", zorder=2)
        ordered = sorted(complete, key=lambda t: t.number)
        best = np.maximum.accumulate([score_of(study, t) for t in ordered])
        axis.step([t.number for t in ordered], best, where="post", color=COLOURS[2], linewidth=1.6, label="best so far")
        axis.set(xlabel="trial", ylabel="score")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        _finish(axis)

    best = best_trial(study, complete)
    assert best is not None
    alt = (
        f"Score by number of the trial: {len(complete)} complete, {len(pruned)} pruned. "
        f"The best so far reaches {score_of(study, best):.3f} at trial {best.number}."
    )
    return Picture("history", alt, draw)


def importances(values: dict[str, float]) -> Picture | None:
    """Draw how much each parameter matters.

    Parameters
    ----------
    values : dict of str to float
        Shares that add up to one.
    """
    ordered = sorted(values.items(), key=lambda item: item[1], reverse=True)
    shown = [(name, share) for name, share in ordered if share >= LEAST_IMPORTANCE][:IMPORTANCES_SHOWN]
    if not shown:
        return None

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        names, shares = zip(*shown[::-1], strict=True)
        bars = axis.barh(names, shares, color=LEARNED)
        axis.bar_label(bars, fmt="%.2f", padding=3)
        axis.set(xlabel="share of importance for a good score", xlim=(0, 1.1 * max(shares)))
        _finish(axis, grid="x")

    alt = "Importance of parameters: " + ", ".join(f"{name} {share:.2f}" for name, share in shown) + "."
    return Picture("importances", alt, draw, 1.3 + 0.28 * len(shown))


def pareto(study: Study, trials: Sequence[FrozenTrial]) -> Picture | None:
    """Draw the score against each other objective, with the trials that no other beats in all.

    Parameters
    ----------
    study : optuna.study.Study
    trials : sequence of FrozenTrial
    """
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    names = objectives_of(study)
    if len(names) < 2 or not complete:
        return None
    front = {t.number for t in study.best_trials}
    others = [i for i, name in enumerate(names) if name != "score"]
    of_score = names.index("score")

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(others), squeeze=False, sharey=True)[0]
        for axis, i in zip(axes, others, strict=True):
            for on_front, colour, marker, name in (
                (False, ENDED_EARLY, "o", "beaten in all"),
                (True, COLOURS[5], "D", "Pareto front"),
            ):
                chosen = [t for t in complete if (t.number in front) == on_front]
                values = np.array([t.values for t in chosen]).reshape(len(chosen), len(names))
                axis.scatter(values[:, i], values[:, of_score], s=36, color=colour, marker=marker, label=name)
            _scale(axis, [t.values[i] for t in complete])
            _number_points(axis, [t for t in complete if t.number in front], i, of_score)
            better = "lower" if study.directions[i] == StudyDirection.MINIMIZE else "higher"
            axis.set(xlabel=f"{names[i]} ({better} is better)")
            _finish(axis, legend=axis is axes[0])
        axes[0].set(ylabel="score")

    listed = ", ".join(label_of(t) for t in complete if t.number in front)
    alt = f"Score against {', '.join(names[i] for i in others)}. On the front: {listed}."
    return Picture("pareto", alt, draw)


def learning_curves(study: Study, trials: Sequence[FrozenTrial]) -> Picture | None:
    """Draw the meta-validation scores that trials reported as they trained.

    Parameters
    ----------
    study : optuna.study.Study
    trials : sequence of FrozenTrial
    """
    reported = {t.number: {k: v for k, v in t.intermediate_values.items() if k < FOLD_REPORT} for t in trials}
    curves = [t for t in trials if len(reported[t.number]) > 1]
    if not curves:
        return None
    complete = [t for t in curves if t.state == TrialState.COMPLETE]
    named = sorted(complete, key=lambda t: score_of(study, t), reverse=True)[:CURVES_NAMED]

    # Hundreds of curves are a cloud, through which those in front must be seen.
    opacity = float(np.clip(30 / len(curves), 0.1, 1.0))

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for t, colour, marker in zip(named, COLOURS, MARKERS, strict=False):
            curve = _curve(reported[t.number])
            axis.plot(*curve, color=colour, marker=marker, markersize=4, linewidth=1.6, label=_numbered(t))
        for i, t in enumerate(t for t in curves if t not in named):
            label = "other trials, pruned ones too" if i == 0 else None
            axis.plot(*_curve(reported[t.number]), color=ENDED_EARLY, lw=0.8, alpha=opacity, zorder=1, label=label)
        axis.set(xlabel="share of the training, %", ylabel="meta-validation score, first fold")
        _finish(axis)

    ends = [f"{_numbered(t)} from {_first_last(reported[t.number])}" for t in named]
    alt = f"Meta-validation score of {len(curves)} trials as they trained. The best: {'; '.join(ends) or 'none complete'}."
    return Picture("learning-curves", alt, draw)


def _curve(reported: Mapping[int, float]) -> tuple[list[float], list[float]]:
    """Return by how many per cent of a training each report came, and its score."""
    numbers = sorted(reported)
    return [100 * number / REPORTS for number in numbers], [reported[number] for number in numbers]


def held_out_rows(view: View | None) -> Picture | None:
    """Draw held-out rows in two dimensions, side by side for each kind of features.

    Parameters
    ----------
    view : View or None
    """
    if view is None:
        return None

    panels = [(title, _within_sight(points)) for title, points in view.panels]
    moved = any(not np.array_equal(seen, points) for (_, seen), (_, points) in zip(panels, view.panels, strict=True))
    far_out = "points far out stand at the edge" if moved else ""

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (title, points) in zip(axes, panels, strict=True):
            _draw_points(axis, points, view)
            axis.set(title=title, xlabel="component 1", ylabel="component 2", xticks=[], yticks=[])
        if moved:
            figure.text(0.01, 0.01, far_out, fontsize=8)
        if view.classes is not None:
            axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="class")

    names = " and ".join(title for title, _ in panels)
    said = f"{view.said}: scatter plots of {names}{f'; {far_out}' if moved else ''}."
    return Picture("held-out-rows", said, draw, 4.4)


def _within_sight(points: np.ndarray) -> np.ndarray:
    """Return the points with those far out, beside which the others would be one blot, moved to the edge."""
    low, high = np.percentile(points, [2, 98], axis=0)
    # Where nearly all are the same, the others are what there is to see.
    room = np.where(high > low, high - low, np.inf)
    return np.clip(points, low - room, high + room)


def _draw_points(axis: Any, points: np.ndarray, view: View) -> None:
    if view.classes is None:
        colours = {} if view.values is None else {"c": view.values, "cmap": "viridis"}
        axis.scatter(*points.T, s=16, alpha=0.85, **(colours or {"color": LEARNED}))
        return
    for name, colour, marker in zip(np.unique(view.classes), COLOURS, MARKERS, strict=False):
        of_class = points[view.classes == name]
        axis.scatter(*of_class.T, s=20, color=colour, marker=marker, alpha=0.8, linewidths=0, label=str(name))


def _finish(axis: Any, *, grid: Literal["both", "x"] = "both", legend: bool = True) -> None:
    axis.grid(axis=grid, color="#8C8C8C", alpha=0.3, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if legend and axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=9)


def _scale(axis: Any, values: Sequence[float]) -> None:
    """Let sizes that differ by powers of ten be seen, zero included."""
    positive = [v for v in values if v > 0]
    if positive and max(positive) > 30 * min(positive):
        axis.set_xscale("symlog", linthresh=min(positive))


def _number_points(axis: Any, trials: Sequence[FrozenTrial], column: int, row: int) -> None:
    """Write the number of each trial beside its point, as the table names it."""
    for trial in trials:
        place = trial.values[column], trial.values[row]
        axis.annotate(str(trial.number), place, xytext=(4, 4), textcoords="offset points", fontsize=8)


def _numbered(trial: FrozenTrial) -> str:
    return f"{label_of(trial)} ({trial.number})"


def _with_interval(row: Standing) -> str:
    return f"{row.score:.3f} ± {row.interval:.3f}" if np.isfinite(row.interval) else f"{row.score:.3f}"


def _first_last(reports: dict[int, float]) -> str:
    return f"{reports[min(reports)]:.3f} to {reports[max(reports)]:.3f}"
