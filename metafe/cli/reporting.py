"""What a person sees: tables on standard output, errors and warnings of one line each on standard error."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

WRONG_INPUT = 2
INTERRUPTED = 130

# Lines in a pipe must not be cut at the width of a terminal that is not there.
_NO_WRAPPING = 10_000


def say(text: str = "") -> None:
    """Print a line on standard output."""
    _console().print(Text(text), soft_wrap=True)


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right_from: int | None = None) -> None:
    """Print a table on standard output, without lines or colours where it is not a terminal.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : sequence of sequence of str
        Cells.
    right_from : int or None, default=None
        First column to be aligned to the right.
    """
    console = _console()
    table = Table(box=SIMPLE_HEAD if console.is_terminal else None, pad_edge=console.is_terminal, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        right = right_from is not None and i >= right_from
        table.add_column(Text(column), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    with console.capture() as rendered:
        console.print(table)
    lines = [line.rstrip() for line in rendered.get().splitlines()]
    sys.stdout.write("\n".join(line for line in lines if line) + "\n")


def warn_line(message: str) -> None:
    """Print a warning on standard error."""
    _say_on_stderr("Warning: ", "yellow", message)


def exit_code_of(command: Callable[[], Any]) -> int:
    """Run a command, report what goes wrong in one line, and return the exit code.

    Parameters
    ----------
    command : callable
        Returns an exit code, or anything else for success.

    Returns
    -------
    int
        0, 2 for wrong input or 130 after Ctrl-C.

    Raises
    ------
    Exception
        Whatever is no fault of the input.
    """
    _replace_unprintable()
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)  # of metafe too
        warnings.showwarning = _showing_once()
        try:
            result = command()
        except (KeyboardInterrupt, typer.Abort):
            result = INTERRUPTED
        except Exception as error:
            if not _comes_from_input(error):
                raise
            _report(error)
            return WRONG_INPUT
    if result == INTERRUPTED:
        _say_on_stderr("Interrupted: ", "yellow", "nothing was saved.")
    return result if isinstance(result, int) else 0


def one_line(text: str) -> str:
    """Return a text with all its white space folded to single blanks."""
    return " ".join(text.split())


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _NO_WRAPPING)


def _say_on_stderr(label: str, style: str, message: str) -> None:
    _console(stderr=True).print(Text.assemble((label, style), one_line(message)), soft_wrap=True)


def _showing_once() -> Callable[..., None]:
    """Return what shows each warning of a command once, however many steps of it read the same rows."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            warn_line(str(message))

    return show


def _report(error: Exception) -> None:
    if os.environ.get("METAFE_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    _say_on_stderr("Error: ", "bold red", _message(error))


def _comes_from_input(error: Exception) -> bool:
    from metafe.contracts import MetafeError  # not before it is needed: help need not wait for scikit-learn

    return isinstance(error, MetafeError | ValueError | OSError) or _is_usage_error(error)


def _is_usage_error(error: Exception) -> bool:
    # Typer's releases take these classes from different places, so that no import of them works with all.
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _message(error: Any) -> str:
    if _is_usage_error(error):
        context = getattr(error, "ctx", None)
        hint = f" Try '{context.command_path} --help'." if context else ""
        message = error.format_message()
        return f"{message}{'' if message.endswith(('.', '?')) else '.'}{hint}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    return str(error) or type(error).__name__


def _replace_unprintable() -> None:
    """Let a terminal that lacks ``±`` show a question mark instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
