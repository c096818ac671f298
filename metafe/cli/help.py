"""Help that is worth reading, on a terminal and in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from typer.core import TyperCommand, TyperGroup

from metafe.cli.reporting import exit_code_of


def describe(summary: str, *paragraphs: str, examples: Sequence[str] = ()) -> str:
    """Write a help text.

    Parameters
    ----------
    summary : str
        One sentence.
    *paragraphs : str
        What else to know.
    examples : sequence of str
        Command lines, shown one a line.

    Returns
    -------
    str
        With the mark that keeps Typer from joining the lines of the examples.
    """
    shown = ["\b\n" + "\n".join(f"  $ {example}" for example in examples)] if examples else []
    return "\n\n".join([summary, *paragraphs, *shown])


class Command(TyperCommand):
    """A command whose help is plain text where nobody looks at a terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        self.rich_markup_mode = self.rich_markup_mode if sys.stdout.isatty() else None
        super().format_help(ctx, formatter)


class Commands(TyperGroup):
    """The group of all commands: reports errors and warnings, each in one line."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        self.rich_markup_mode = self.rich_markup_mode if sys.stdout.isatty() else None
        super().format_help(ctx, formatter)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; in standalone mode, leave the process with its exit code."""
        run = partial(super().main, args, prog_name, complete_var, False, windows_expand_args, **extra)
        if not standalone_mode:
            return run()
        sys.exit(exit_code_of(run))
