"""Showing how far training is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol


class Report(Protocol):
    """Called after each step, with metrics where the step was validated."""

    def __call__(self, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """Show that a step is done."""


@contextmanager
def show_progress(label: str, n_steps: int, verbose: int) -> Iterator[Report]:
    """Show a bar on a terminal, a line for each validation elsewhere, nothing where ``verbose`` is 0.

    Parameters
    ----------
    label : str
        What is being trained.
    n_steps : int
        Length of the bar.
    verbose : int

    Yields
    ------
    Report
    """
    if not verbose:
        yield lambda step, metrics=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:

        def say(step: int, metrics: Mapping[str, float] | None = None) -> None:
            if metrics:
                console.print(f"{label} {step}/{n_steps} {_text(metrics)}")

        yield say
        return
    texts = TextColumn("{task.description}"), TextColumn("{task.fields[metrics]}")
    columns = (texts[0], BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), texts[1])
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=n_steps, metrics="")

        def report(step: int, metrics: Mapping[str, float] | None = None) -> None:
            fields = {"metrics": _text(metrics)} if metrics else {}
            progress.update(task, completed=step, **fields)  # type: ignore[arg-type]

        yield report


def show_decisions(decisions: Mapping[str, str], verbose: int) -> None:
    """Write a line for each parameter that ``"auto"`` decided, nothing where ``verbose`` is 0.

    Parameters
    ----------
    decisions : dict of str to str
        Parameter to what was decided, and why.
    verbose : int
    """
    if not verbose:
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    for parameter, decision in decisions.items():
        console.print(f"{parameter}: {decision}", markup=False)


def _text(metrics: Mapping[str, float] | None) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in (metrics or {}).items() if name != "step")
