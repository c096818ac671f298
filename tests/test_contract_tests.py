"""The contract tests find what they are there to find."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

BROKEN_PLUGINS = Path(__file__).with_name("broken_plugins.py")
_NAMES = runpy.run_path(str(BROKEN_PLUGINS))
BROKEN = [(cls.__name__, check) for checks in _NAMES["BROKEN"].values() for cls, check in checks.items()]
SOUND = [cls.__name__ for cls in _NAMES["SOUND"].values()]


@pytest.fixture(scope="session")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The failed checks of each plugin, all of them run once in a process of their own."""
    report = tmp_path_factory.mktemp("report") / "report.xml"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(BROKEN_PLUGINS),
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
    ]
    done = subprocess.run(
        command, cwd=BROKEN_PLUGINS.parent.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    failed: dict[str, set[str]] = {}
    for case in ET.parse(report).iter("testcase"):
        plugin = case.attrib["classname"].rpartition(".Test")[2]
        failed.setdefault(plugin, set())
        if case.find("failure") is not None:
            failed[plugin].add(case.attrib["name"])
    return failed


@pytest.mark.parametrize(("plugin", "check"), BROKEN, ids=[name for name, _ in BROKEN])
def test_a_broken_plugin_fails_its_check(failures, plugin, check):
    assert check in failures[plugin]


@pytest.mark.parametrize("plugin", SOUND)
def test_a_sound_plugin_fails_none(failures, plugin):
    assert failures[plugin] == set()
