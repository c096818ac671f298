"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from metafe.cli.demo import HELP as HELP_OF_DEMO
from metafe.cli.demo import demo
from metafe.cli.evaluate import HELP as HELP_OF_EVALUATE
from metafe.cli.evaluate import evaluate
from metafe.cli.fit import HELP as HELP_OF_FIT
from metafe.cli.fit import fit
from metafe.cli.help import Command, Commands, describe
from metafe.cli.plugins import HELP as HELP_OF_PLUGINS
from metafe.cli.plugins import plugins
from metafe.cli.search import HELP as HELP_OF_SEARCH
from metafe.cli.search import search
from metafe.cli.transform import HELP as HELP_OF_TRANSFORM
from metafe.cli.transform import transform

app = typer.Typer(
    name="metafe",
    cls=Commands,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    help=describe(
        "Learn, from many old problems, features on which a few labels of a new one are enough.",
        "See it work on handwritten digits, then learn from your own old data and judge it on classes it has not seen:",
        examples=[
            "metafe demo",
            "metafe search old.csv --target species -o features --report report",
            "metafe fit old.csv --target species -o features",
            "metafe evaluate features new.csv --target species",
            "metafe transform features new.csv --target species -o new-features.csv",
        ],
    ),
)

app.command(cls=Command, help=HELP_OF_FIT)(fit)
app.command(cls=Command, help=HELP_OF_SEARCH)(search)
app.command(cls=Command, help=HELP_OF_TRANSFORM)(transform)
app.command(cls=Command, help=HELP_OF_EVALUATE)(evaluate)
app.command(cls=Command, help=HELP_OF_PLUGINS)(plugins)
app.command(cls=Command, help=HELP_OF_DEMO)(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        import metafe

        typer.echo(f"metafe {metafe.__version__}")
        raise typer.Exit


@app.callback()
def _without_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None and (text := context.get_help()):
        typer.echo(text)
