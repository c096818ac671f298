"""What only a process shows: pipes, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import metafe


def test_a_pipe_gets_plain_text(cli: Any) -> None:
    for arguments in (("fit", "--help"), ("plugins",)):
        done = cli.process(*arguments, GITHUB_ACTIONS="true")
        assert done.returncode == 0
        assert "\x1b" not in done.stdout
        assert not re.search("[\u2500-\u257f]", done.stdout), "lines of boxes"
        assert all(line == line.rstrip() for line in done.stdout.splitlines())


def test_a_process_fails_in_one_line_with_code_2(cli: Any, tmp_path: Path) -> None:
    done = cli.process("fit", tmp_path / "none.csv", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"Error: DATA must be [^\n]+\n", done.stderr)


def test_help_waits_for_no_heavy_library() -> None:
    code = (
        "import sys, metafe.cli.app; print([m for m in ('torch', 'sklearn', 'polars', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_in_a_real_terminal_session(files: Path, tmp_path: Path) -> None:
    """Once training is under way, one SIGINT ends it, and the features so far are there."""
    code = "from metafe.cli import main; main()"
    options = ("--backbone", "mlp", "--max-steps", "1000", "-p", "patience=1000000", "--verbose")
    command = [sys.executable, "-c", code, "fit", str(files / "old.npz"), "-o", str(tmp_path / "out"), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "/1000" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=120)
    assert running.returncode == 0
    assert "Warning: Training was interrupted" in said
    assert metafe.load(tmp_path / "out").n_features_out_ == 64
