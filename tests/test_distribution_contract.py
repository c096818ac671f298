"""The contract of distributions finds what it is there to find."""

from __future__ import annotations

import importlib
import sys
from contextlib import nullcontext

import pytest

PACKAGE = """
from metafe.contracts import Backbone
from metafe import load, testing
import metafe.plugins
"""
TESTS = """
from metafe.testing import DistributionContract
class Mine(DistributionContract):
    distribution = "metafe"
    package = "of_mine"
    plugins = {"backbone": ["mine"]}
    heavy = ["json", "not_there"]
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A function from the source of a package to the checks of its distribution."""

    def made(source=PACKAGE):
        (tmp_path / "of_mine").mkdir()
        (tmp_path / "of_mine" / "__init__.py").write_text("")
        (tmp_path / "of_mine" / "plugins.py").write_text(source)
        (tmp_path / "tests_of_mine.py").write_text(TESTS)
        monkeypatch.syspath_prepend(tmp_path)
        for name in ("of_mine", "tests_of_mine"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module("tests_of_mine").Mine()

    return made


def test_public_imports_pass(make):
    checks = make()
    checks.test_it_imports_what_metafe_makes_public()
    checks.test_what_it_imports_is_exported()


@pytest.mark.parametrize(("says", "right"), [("0.5 of 1", True), ("0.52 of 1", True), ("0.6 of 1", False), ("", False)])
def test_a_readme_that_says_something_else_is_found(make, tmp_path, monkeypatch, says, right):
    (tmp_path / "package" / "tests").mkdir(parents=True)
    monkeypatch.setattr("inspect.getfile", lambda _: str(tmp_path / "package" / "tests" / "test_mine.py"))
    page = f"A block.\n\n```python\nhalf = 1 / 2\nprint(half, 'of 1')\n```\n\n    {says}\n"
    (tmp_path / "package" / "README.md").write_text(page)
    checks = make()
    with nullcontext() if right else pytest.raises(AssertionError):
        checks.test_its_readme_prints_what_it_says(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "source", ["import metafe.training", "from metafe.contracts.backbone import Backbone", "from . import plugins"]
)
def test_private_and_relative_imports_are_found(make, source):
    with pytest.raises(AssertionError, match=r"plugins\.py must import .*line 1"):
        make(source).test_it_imports_what_metafe_makes_public()


@pytest.mark.parametrize("source", ["from metafe.contracts import backbone", "from metafe import extractor"])
def test_names_that_are_not_promised_are_found(make, source):
    with pytest.raises(AssertionError, match=r"plugins\.py must import exported names; line 1"):
        make(source).test_what_it_imports_is_exported()


def test_other_plugins_than_expected_are_found(make):
    with pytest.raises(AssertionError, match="mine"):
        make().test_its_plugins_are_listed()


def test_heavy_modules_are_found(make):
    with pytest.raises(AssertionError, match=r"loads \['json'\]"):
        make().test_listing_loads_no_heavy_module()
