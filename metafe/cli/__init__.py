"""The command line: ``metafe search``, ``fit``, ``transform``, ``evaluate``, ``plugins`` and ``demo``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments of the process name, and exit with its code.

    The exit code is 0 after success, 2 after an error in what was given (one line on standard error; a traceback too
    where ``METAFE_DEBUG=1``), and 130 after Ctrl-C.
    """
    try:
        from metafe.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)
