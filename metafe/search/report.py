"""What people look at after a search: one page and its pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.importance import get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial
from sklearn.base import clone

from metafe.extractor import MetaFeatureExtractor
from metafe.search import attributes as attribute
from metafe.search import pictures
from metafe.search.page import code, details, image, page, paragraph, table
from metafe.search.snippet import code_of
from metafe.search.standings import (
    Standing,
    best_trial,
    count_outcomes,
    failures,
    gain_over,
    label_of,
    objectives_of,
    parameters_of,
    score_of,
    settings_of,
    standings,
)
from metafe.search.storage import SEED
from metafe.training.probe import Comparison

if TYPE_CHECKING:
    from metafe.search.estimator import MetaFeatureSearchCV
    from metafe.search.finalists import Finalist

PAGE = "index.html"
# Fewer say nothing of what matters.
FEWEST_FOR_IMPORTANCES = 8
TOO_FEW = "There are too few complete trials for this picture."
NO_CURVES = "No trial has reported how well it did while it trained."


@dataclass(frozen=True)
class Report:
    """What a page is made from.

    Parameters
    ----------
    study : optuna.study.Study
    trials : sequence of FrozenTrial
    rows : sequence of Standing
        The complete ones, best first.
    search : MetaFeatureSearchCV or None
        Fitted, where the page is about one.
    """

    study: Study
    trials: Sequence[FrozenTrial]
    rows: Sequence[Standing]
    search: MetaFeatureSearchCV | None

    @property
    def winner(self) -> FrozenTrial | None:
        """The winner of the search, or the best trial of a study."""
        if self.search is None:
            return best_trial(self.study, self.trials)
        number = int(self.search.cv_results_["trial"][self.search.best_index_])
        return next(trial for trial in self.trials if trial.number == number)


def write_report(found: MetaFeatureSearchCV | Study, folder: str | Path) -> Path:
    """Write ``index.html``, which needs no other file, and its pictures as PNG files.

    Parameters
    ----------
    found : MetaFeatureSearchCV or optuna.study.Study
        A fitted search; or its study alone, which knows nothing of finalists and of rows.
    folder : str or Path
        Made where it does not exist; files of an earlier report are replaced.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    OSError
        The folder cannot be written to.
    """
    study = found if isinstance(found, Study) else found.study_
    trials = study.get_trials(deepcopy=False)
    report = Report(study, trials, standings(study, trials), None if isinstance(found, Study) else found)
    target = Path(folder) / PAGE
    target.parent.mkdir(parents=True, exist_ok=True)
    html = page("What the search found", _sections(report, target.parent), _lead(report))
    target.write_text(html, encoding="utf-8")
    return target


def _lead(report: Report) -> str:
    counts = count_outcomes(report.trials)
    states = ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "no trials"
    seconds = sum(trial.user_attrs.get(attribute.SECONDS, 0.0) for trial in report.trials)
    facts = f"Study {report.study.study_name}: {states}; {seconds:.0f} s of work in all."
    if report.search is not None:
        return paragraph(report.search.verdict_, "verdict") + paragraph(f"{facts} Judged on {report.search.splits_}.")
    best = report.rows[0] if report.rows else None
    said = "No trial was completed." if best is None else f"Best of the study: {best.label}, {best.score:.3f}."
    return paragraph(said, "verdict") + paragraph(facts)


def _sections(report: Report, folder: Path) -> list[tuple[str, str]]:
    sections = [
        ("Finalists", _finalists(report)),
        ("Leaderboard", _leaderboard(report, folder)),
        ("History", _shown(pictures.history(report.study, report.trials), folder)),
        ("Learning curves", _shown(pictures.learning_curves(report.study, report.trials), folder, NO_CURVES)),
        ("Importance of parameters", _importances(report, folder)),
        ("Pareto front", _pareto(report, folder)),
        ("Held-out rows", _shown(pictures.held_out_rows(getattr(report.search, "_view", None)), folder, "")),
        ("The winner in Python", _snippet(report)),
        ("Trials that failed or were too slow", _failures(report)),
    ]
    return [(heading, content) for heading, content in sections if content]


def _shown(picture: pictures.Picture | None, folder: Path, otherwise: str = TOO_FEW) -> str:
    """Write a picture to its file and return it for the page."""
    if picture is None:
        return paragraph(otherwise) if otherwise else ""
    light = picture.png("light")
    (folder / f"{picture.name}.png").write_bytes(light)
    return image(picture, light)


def _finalists(report: Report) -> str:
    if report.search is None:
        return ""
    # A scorer has no fresh tasks.
    again = "" if report.search._is_downstream else ", judged again on tasks that no trial was chosen by"
    said = (
        f"The best trials and baselines{again}. A searched trial wins only where "
        "the interval of its gain over the best baseline lies above zero, and so does what the gain is at least over held-out "
        "classes, where there are some."
    )
    columns = ("trial", "features", "score", "gain over the best baseline", "95 % interval of the gain", "over classes")
    rows = [_finalist_cells(finalist) for finalist in report.search.finalists_]
    return table(said, columns, rows)


def _finalist_cells(row: Finalist) -> tuple[str, ...]:
    name = f"{row.name} (baseline)" if row.is_baseline else row.name
    interval = f"{row.low:+.3f} to {row.high:+.3f}" if np.isfinite([row.low, row.high]).all() else "unknown"
    gain = f"{row.gain:+.3f}" if np.isfinite(row.gain) else "unknown"
    over_classes = f"at least {row.class_low:+.3f}" if np.isfinite(row.class_low) else "unknown"
    return str(row.trial), name, _with_interval(row.score, row.interval), gain, interval, over_classes


def _leaderboard(report: Report, folder: Path) -> str:
    if not report.rows:
        return paragraph(TOO_FEW)
    columns = (
        *("trial", "features", "settings", "score", "gain over the best baseline", "columns", "weights"),
        *("ms for 1000 rows", "seconds"),
    )
    caption = (
        "All complete trials, on the tasks of the search, the same for all; ± is the 95 % interval over tasks. Gains are over the "
        "baseline that is best on these; finalists are compared with the one that is best on theirs."
    )
    rows = [_standing_cells(row) for row in report.rows]
    picture = _shown(pictures.leaderboard(report.rows), folder)
    return picture + _gains(report) + table(caption, columns, rows, n_text=3)


def _standing_cells(row: Standing) -> tuple[str, ...]:
    kept = row.trial.user_attrs
    return (
        str(row.trial.number),
        f"{row.label} (baseline)" if row.is_baseline else row.label,
        settings_of(row.trial),
        _with_interval(row.score, row.interval),
        _gain(row.gain),
        _number(kept.get(attribute.N_FEATURES), ",.0f"),
        _number(kept.get(attribute.N_PARAMETERS), ",.0f"),
        _number(kept.get(attribute.LATENCY), ".1f", times=1000),
        _number(kept.get(attribute.SECONDS), ".1f"),
    )


def _gains(report: Report) -> str:
    winner = report.winner
    baselines = [
        row for row in report.rows if row.is_baseline and winner is not None and row.trial.number != winner.number
    ]
    if winner is None or not baselines:
        return ""
    rows = [(row.label, _gain(gain_over(winner, row.trial))) for row in baselines]
    caption = f"Gain of {label_of(winner)} (trial {winner.number}) over each baseline, with its 95 % interval."
    return table(caption, ("baseline", "gain"), rows, n_text=1)


def _importances(report: Report, folder: Path) -> str:
    picture = pictures.importances(_measured_importances(report))
    if picture is None:
        return paragraph(f"Needs {FEWEST_FOR_IMPORTANCES} complete trials with choices of the sampler.")
    return _shown(picture, folder) + paragraph(
        "By PED-ANOVA, over the complete trials; a parameter that exists under another counts where it exists."
    )


def _measured_importances(report: Report) -> dict[str, float]:
    chosen = [row.trial for row in report.rows if row.trial.params]
    if len(chosen) < FEWEST_FOR_IMPORTANCES:
        return {}
    with warnings.catch_warnings():
        # It warns of each parameter that few trials have.
        warnings.simplefilter("ignore")
        # What is asked is how to get low values.
        return dict(get_param_importances(report.study, target=lambda trial: -score_of(report.study, trial)))


def _pareto(report: Report, folder: Path) -> str:
    picture = pictures.pareto(report.study, report.trials)
    if picture is None:
        return ""
    names = objectives_of(report.study)
    rows = [
        (str(t.number), label_of(t), *(f"{value:.4g}" for value in t.values or ()))
        for t in sorted(report.study.best_trials, key=lambda t: score_of(report.study, t), reverse=True)
    ]
    caption = "Trials that no other beats in every objective; latency is in seconds for 1000 rows."
    return _shown(picture, folder) + table(caption, ("trial", "features", *names), rows)


def _snippet(report: Report) -> str:
    if report.search is not None:
        search = report.search
        template = MetaFeatureExtractor() if search.extractor is None else clone(search.extractor)
        extractor = template.set_params(**search.best_params_, random_state=report.study.user_attrs.get(SEED))
        return code(code_of(extractor, search.final_estimator))
    winner = report.winner
    parameters: dict[str, Any] = {} if winner is None else parameters_of(winner)
    if not parameters or any(str(value).startswith("object ") for value in parameters.values()):
        return ""
    extractor = MetaFeatureExtractor(random_state=report.study.user_attrs.get(SEED)).set_params(**parameters)
    return code(code_of(extractor)) + paragraph("Add what the extractor that was searched around had set.")


def _failures(report: Report) -> str:
    found = failures(report.trials)
    return "".join(
        details(f"{n} × {error['plugin']}: {error['type']}: {error['message']}", error["traceback"])
        for n, error in found
    )


def _with_interval(score: float, interval: float) -> str:
    return f"{score:.3f} ± {interval:.3f}" if np.isfinite(interval) else f"{score:.3f}"


def _gain(gain: Comparison | None) -> str:
    if gain is None:
        return "–"
    return f"{gain.gain:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})" if np.isfinite(gain.low) else f"{gain.gain:+.3f}"


def _number(value: float | None, written: str, times: float = 1) -> str:
    return "–" if value is None else f"{times * value:{written}}"
