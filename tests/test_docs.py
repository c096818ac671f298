"""What README and docs say is true."""

from __future__ import annotations

import doctest
import inspect
import re
import tomllib
import warnings
from importlib import import_module
from pathlib import Path

import pytest
from numpydoc.validate import validate
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import metafe
import metafe.contracts
from metafe.plugins import hookspecs, registry
from metafe.testing import AugmentationContract, BackboneContract, MetaAlgorithmContract, TaskSourceContract

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# numpydoc takes a first parameter called cls for that of a class method.
NUMPYDOC_EXCEPTIONS = {"metafe.register": {"PR02"}}
README_COMMANDS = [
    "pip install -c constraints.txt . && metafe demo",
    'pip install -c constraints.txt -e ".[test]" && pytest',
]


def python_blocks(page: Path) -> list[tuple[int, str]]:
    """Return the first line number and text of each Python block."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.S | re.M)
    return [(text[: block.start(1)].count("\n"), block[1]) for block in found]


class Checker(doctest.OutputChecker):
    """Compares numbers with decimals to within 0.03: their last digits differ between machines."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        """Say whether the output is the one wanted."""
        decimals = re.compile(r"\d+\.\d+")
        wanted, received = ([float(number) for number in decimals.findall(text)] for text in (want, got))
        close = len(wanted) == len(received) and all(abs(w - r) <= 0.03 for w, r in zip(wanted, received, strict=True))
        return close and super().check_output(decimals.sub("#", want), decimals.sub("#", got), optionflags)


def run_blocks(page: Path) -> dict[str, object]:
    """Run a page's Python blocks one after the other in one namespace, and compare what they print with what they say."""
    names: dict[str, object] = {"__name__": f"page_{page.stem}"}
    runner = doctest.DocTestRunner(Checker())
    for line, block in python_blocks(page):
        if ">>>" in block:
            test = doctest.DocTestParser().get_doctest(block, {}, page.name, str(page), line)
            test.globs = names
            assert runner.run(test, clear_globs=False).failed == 0, f"{page.name} says something else in line {line}"
        else:
            exec(compile("\n" * line + block, str(page), "exec"), names)  # the page's own code, from this repository
    return names


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Run where files may be written, and forget the names that a page registers."""
    monkeypatch.chdir(tmp_path)
    before = set(registry()._entries)
    yield
    for name in set(registry()._entries) - before:
        del registry()._entries[name]


@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=lambda page: page.name)
def test_python_blocks_run_and_print_what_they_say(page, scratch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metafe.MetafeWarning)
        run_blocks(page)


@pytest.fixture(scope="module")
def plugins_page():
    """Return the names that the blocks of docs/plugins.md define."""
    return run_blocks(ROOT / "docs" / "plugins.md")


class TestQuantilesOfThePage(BackboneContract):
    @pytest.fixture
    def plugin(self, plugins_page):
        return plugins_page["Quantiles"]()


class TestRidgeHeadOfThePage(MetaAlgorithmContract):
    @pytest.fixture
    def plugin(self, plugins_page):
        return plugins_page["RidgeHead"]()


class TestEarlyStoppedHeadOfThePage(MetaAlgorithmContract):
    @pytest.fixture
    def plugin(self, plugins_page):
        return plugins_page["EarlyStoppedHead"]()


class TestOneAgainstRestOfThePage(TaskSourceContract):
    @pytest.fixture
    def plugin(self, plugins_page):
        return plugins_page["OneAgainstRest"]()


class TestBrightnessOfThePage(AugmentationContract):
    @pytest.fixture
    def plugin(self, plugins_page):
        return plugins_page["Brightness"]()


def test_commands_stand_in_the_readme_as_they_are_run():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("pip install -c")] == README_COMMANDS


def test_every_hook_is_documented_with_its_signature():
    specified = {
        f"{name}({', '.join(inspect.signature(hook).parameters)})"
        for name, hook in inspect.getmembers(hookspecs, inspect.isfunction)
        if name.startswith("metafe_")
    }
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(metafe_\w+\([^)]*\))` \|", page, re.M)) == specified


def public_objects() -> list[str]:
    """Return the dotted name of every public class and function, and of their public methods."""
    found = []
    for module, name in [
        (m, n)
        for m in ("metafe", "metafe.contracts", "metafe.inner_loop", "metafe.testing")
        for n in import_module(m).__all__
    ]:
        value = getattr(import_module(module), name)
        if inspect.isclass(value) or inspect.isfunction(value):
            found.append(f"{module}.{name}")
        if inspect.isclass(value):
            found += [f"{module}.{name}.{method}" for method in vars(value) if _is_public_method(value, method)]
    return sorted(found)


def _is_public_method(cls: type, name: str) -> bool:
    return not name.startswith(("_", "test_")) and inspect.isfunction(vars(cls)[name])


@pytest.mark.parametrize("name", public_objects())
def test_public_names_have_numpydoc_docstrings(name):
    checks = set(PROJECT["tool"]["numpydoc_validation"]["checks"]) - NUMPYDOC_EXCEPTIONS.get(name, set())
    found = [f"{code}: {message}" for code, message in validate(name)["errors"] if code in checks]
    assert not found


def headings(page: Path) -> set[str]:
    """Return the anchors that a page's headings get."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}, which does not exist"
        assert not anchor or anchor in headings(target), f"{page.name} links to {link}, a heading that does not exist"


def test_every_page_of_docs_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name})" not in readme] == []


def requirements(metadata: dict[str, object]) -> list[Requirement]:
    """Return the requirements of a project and of its extras."""
    extras = metadata.get("optional-dependencies", {})
    return [Requirement(line) for line in [*metadata["dependencies"], *[r for extra in extras.values() for r in extra]]]


def constraints() -> dict[str, str]:
    """Return the pinned version of each distribution."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", line) for line in lines), "each line must be name==version"
    assert lines == sorted(lines)
    return dict(line.split("==") for line in lines)


def projects() -> list[Path]:
    """Return every pyproject.toml of the repository."""
    return [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]


@pytest.mark.parametrize("project", projects(), ids=lambda path: path.parent.name)
def test_pins_satisfy_the_bounds(project):
    pinned = constraints()
    for requirement in requirements(tomllib.loads(project.read_text())["project"]):
        name = canonicalize_name(requirement.name)
        if name == "metafe":
            assert requirement.specifier.contains(PROJECT["project"]["version"])
            continue
        assert name in pinned, f"{name} needs a line in constraints.txt"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} excludes the tested {pinned[name]}"


@pytest.mark.parametrize("project", projects(), ids=lambda path: path.parent.name)
def test_every_requirement_has_a_lower_bound(project):
    open_ended = [
        str(requirement)
        for requirement in requirements(tomllib.loads(project.read_text())["project"])
        if canonicalize_name(requirement.name) != "metafe"
        and not any(specifier.operator == ">=" for specifier in requirement.specifier)
    ]
    assert open_ended == []


def test_changelog_begins_with_the_current_version():
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert first is not None
    assert first[1] == PROJECT["project"]["version"]


def test_the_page_of_built_ins_names_each_plugin_and_its_class():
    page = (ROOT / "docs" / "built-ins.md").read_text(encoding="utf-8")
    own = {key: entry.plugin for key, entry in registry()._entries.items() if entry.distribution == "metafe"}
    missing = {name for _, name in own if f"`{name}`" not in page}
    assert not missing
    unnamed = {cls.__name__ for (kind, _), cls in own.items() if kind != "augmentation"} - set(
        re.findall(r"`(\w+)`", page)
    )
    assert not unnamed
