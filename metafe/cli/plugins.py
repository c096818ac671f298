"""``metafe plugins``: what is installed, and what failed to load."""

from __future__ import annotations

from metafe.cli.help import describe

HELP = describe(
    "List the plugins, and why one failed to load.",
    "METAFE_PLUGINS limits which distributions are loaded: a comma-separated list of names, empty for metafe's own "
    "alone.",
    examples=["metafe plugins", "METAFE_PLUGINS= metafe plugins"],
)


def plugins() -> None:
    """List the plugins."""
    from metafe.cli.reporting import say_table
    from metafe.plugins import registry

    listing = registry().listing()
    lines = [(p.kind or "?", p.name, p.distribution, p.version, " ".join(p.error.split())) for p in listing]
    failed = any(p.error for p in listing)
    columns = ("kind", "name", "distribution", "version", "load error")[: 5 if failed else 4]
    say_table(columns, [line[: len(columns)] for line in lines])
