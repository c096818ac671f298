"""What metafe expects of an installed distribution of plugins."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

PUBLIC_MODULES = frozenset({"metafe", "metafe.contracts", "metafe.plugins", "metafe.testing"})
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
