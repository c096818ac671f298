"""What metafe expects of an installed distribution of plugins."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest

from metafe.contracts import MetafeWarning

# The built-ins are there to be derived from, too.
_BUILT_INS = ("algorithms", "augmentations", "backbones", "inner_loop", "tasks")
PUBLIC_MODULES = frozenset(
    {"metafe", "metafe.contracts", "metafe.plugins", "metafe.testing", *(f"metafe.{name}" for name in _BUILT_INS)}
)
_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n((?: {4}[^\n]*\n)+))?", re.S | re.M)
_DECIMAL = re.compile(r"\d+\.\d+")
_LIST = """
import json, sys
from metafe.plugins import registry
listed = [[p.kind, p.name, p.version, p.error] for p in registry().listing() if p.distribution == sys.argv[1]]
print(json.dumps({"plugins": listed, "modules": [name for name in sys.modules if "." not in name]}))
"""


class DistributionContract:
    """Checks of a distribution as metafe sees it once it is installed; derive one class of it.

    Attributes
    ----------
    distribution : str
        Its name, as pip knows it.
    package : str
        Its importable name.
    plugins : mapping of str to collection of str
        The names that it registers, by the kind of plugin: ``"backbone"``, ``"algorithm"``, ``"task source"``, ``"augmentation"``
        or ``"encoder"``.
    heavy : collection of str, default=()
        Modules that must not be loaded where plugins are only listed.

    Examples
    --------
    >>> class TestMine(DistributionContract):
    ...     distribution = "metafe-mine"
    ...     package = "metafe_mine"
    ...     plugins = {"backbone": ["mine"]}
    ...     heavy = ["scipy"]
    """

    distribution: ClassVar[str]
    package: ClassVar[str]
    plugins: ClassVar[Mapping[str, Collection[str]]]
    heavy: ClassVar[Collection[str]] = ()

    def test_its_plugins_are_listed(self) -> None:
        """Check that each plugin is listed with distribution and version, and none failed to load."""
        number = version(self.distribution)
        expected = [[kind, name, number, ""] for kind, names in self.plugins.items() for name in names]
        assert sorted(_listed(self.distribution)["plugins"], key=str) == sorted(expected, key=str)

    def test_listing_loads_no_heavy_module(self) -> None:
        """Check that ``metafe plugins`` stays quick."""
        loaded = set(self.heavy) & set(_listed(self.distribution)["modules"])
        assert not loaded, f"Listing the plugins loads {sorted(loaded)}; import them in the functions that need them."

    def test_it_imports_what_metafe_makes_public(self) -> None:
        """Check that package and tests import public modules of metafe by their full names."""
        for path, node in self._imports():
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path.name} must import by full names; line {node.lineno} does not."
                modules = [node.module or ""]
            else:
                modules = [alias.name for alias in node.names]
            private = {m for m in modules if m.split(".")[0] == "metafe"} - PUBLIC_MODULES
            assert not private, f"{path.name} must import public modules; line {node.lineno} imports {sorted(private)}."

    def test_what_it_imports_is_exported(self) -> None:
        """Check that the names it imports are promised, and not only there."""
        for path, node in self._imports():
            if isinstance(node, ast.ImportFrom) and node.module in PUBLIC_MODULES:
                promised = set(import_module(node.module).__all__)
                # A module of metafe is as public as its names.
                submodules = {m.removeprefix("metafe.") for m in PUBLIC_MODULES} if node.module == "metafe" else set()
                hidden = {alias.name for alias in node.names} - promised - submodules
                assert not hidden, (
                    f"{path.name} must import exported names; line {node.lineno} imports {sorted(hidden)}."
                )

    def test_its_readme_prints_what_it_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Check the blocks of Python in the README beside the folder of tests, run one after the other in an empty folder.

        What a block prints follows it, indented by four blanks; numbers with decimals may be off by 0.05, since their last
        digits differ between machines.
        """
        page = Path(inspect.getfile(type(self))).parents[1] / "README.md"
        monkeypatch.chdir(tmp_path)
        names: dict[str, Any] = {"__name__": "readme"}
        for block, said in _BLOCK.findall(page.read_text(encoding="utf-8")):
            printed = StringIO()
            with redirect_stdout(printed), warnings.catch_warnings():
                warnings.simplefilter("ignore", MetafeWarning)
                exec(compile(block, str(page), "exec"), names)  # noqa: S102 - the page's own code
            wanted, received = textwrap.dedent(said), printed.getvalue()
            assert _DECIMAL.sub("#", received) == _DECIMAL.sub("#", wanted)
            numbers = [[float(number) for number in _DECIMAL.findall(text)] for text in (received, wanted)]
            assert numbers[0] == pytest.approx(numbers[1], abs=0.05)

    def _imports(self) -> Iterator[tuple[Path, ast.Import | ast.ImportFrom]]:
        folders = [Path(str(import_module(self.package).__file__)).parent, Path(inspect.getfile(type(self))).parent]
        for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield path, node


@cache
def _listed(distribution: str) -> dict[str, Any]:
    """List the plugins in a process of its own, which has loaded nothing else."""
    command = [sys.executable, "-c", _LIST, distribution]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)  # noqa: S603 - own code
    found: dict[str, Any] = json.loads(done.stdout)
    return found
