"""What the README says is true."""

from __future__ import annotations

import re
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import metafe

README = Path(__file__).parents[1] / "README.md"
NUMBER = re.compile(r"\d+\.\d+")


def test_python_blocks_run_and_print_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"^```python\n(.*?)^```\n(?:\n((?: {4}[^\n]*\n)+))?", README.read_text(encoding="utf-8"), re.S | re.M
    )
    names: dict[str, object] = {"__name__": "readme"}
    for block, said in blocks:
        printed = StringIO()
        with redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore", metafe.MetafeWarning)
            exec(compile(block, str(README), "exec"), names)  # the page's own code, from this repository
        wanted = re.sub("^ {4}", "", said, flags=re.M)
        # The last digits differ between machines.
        assert NUMBER.sub("#", printed.getvalue()) == NUMBER.sub("#", wanted)
        decimals = [[float(number) for number in NUMBER.findall(text)] for text in (printed.getvalue(), wanted)]
        assert decimals[0] == pytest.approx(decimals[1], abs=0.05)
