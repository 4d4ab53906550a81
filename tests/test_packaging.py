"""What is declared of the package: its dependencies, its version and, in the README, its names."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

import flowjax as fj
from tools import release_notes

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = {"benchmarks", "examples", "flowjax", "tests", "tools"}


def names(requirements):
    return {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements}


CORE = names(PROJECT["dependencies"])
EXTRAS = {name: names(of) for name, of in PROJECT["optional-dependencies"].items()}


def imported(tree):
    """The packages that a module imports: (name, whether it needs it to be imported itself)."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Try))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module]
        else:
            continue
        for module in modules:
            name = module.partition(".")[0]
            if name not in sys.stdlib_module_names and name not in OWN:
                yield name, id(node) not in inside


def undeclared(folder, always, inside_functions):
    """Imports of the modules in a folder whose distribution is not declared: (file, name)."""
    owner = importlib.metadata.packages_distributions()
    found = set()
    for source in sorted((ROOT / folder).rglob("*.py")):
        for name, needed in imported(ast.parse(source.read_text(encoding="utf-8"))):
            distributions = {one.lower() for one in owner.get(name, [name])}
            if not distributions & (always if needed else always | inside_functions):
                found.add((str(source.relative_to(ROOT)), name))
    return found


@pytest.mark.parametrize(
    ("folder", "always", "inside_functions"),
    [
        ("flowjax", CORE, EXTRAS["examples"] | EXTRAS["molecules"] | EXTRAS["files"]),
        # Flax is for one of them, which is about it.
        ("examples", CORE | EXTRAS["examples"] | {"flax"}, set()),
        ("benchmarks", CORE | EXTRAS["bench"], EXTRAS["peers"]),
        (
            "tests",
            CORE | EXTRAS["examples"] | EXTRAS["test"],
            EXTRAS["peers"] | EXTRAS["bench"] | EXTRAS["molecules"],
        ),
        ("tools", CORE | EXTRAS["notebooks"], set()),
    ],
)
def test_every_import_is_declared(folder, always, inside_functions):
    assert undeclared(folder, always, inside_functions) == set()


def test_an_import_that_is_not_declared_is_caught():
    assert ("flowjax/grids/unequal.py", "scipy") in undeclared("flowjax", CORE - {"scipy"}, set())
    assert undeclared("examples", CORE, set())


def test_the_version_is_that_of_the_project():
    assert fj.__version__ == importlib.metadata.version("flowjax-solvers")


def test_the_citation_and_the_changelog_are_of_the_same_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [fj.__version__]
    # The newest version that the changelog names; before the first release it names none.
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    named = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert [name for name in named if name != "Unreleased"][:1] in ([], [fj.__version__])
    assert release_notes.version() == fj.__version__


def test_the_notes_of_a_release_are_its_section_of_the_changelog():
    changelog = (
        "# Changelog\n\n## [Unreleased]\n\n- new\n\n## [1.10.0] - 2026-01-02\n\n- b\n- c\n\n"
    )
    changelog += "## [1.1.0] - 2025-01-02\n\n- a\n"
    assert release_notes.section(changelog, "1.10.0") == "- b\n- c"
    assert release_notes.section(changelog, "1.1.0") == "- a"
    assert release_notes.section(changelog, "1.1") is None
    with pytest.raises(SystemExit, match=r"the tag is v9\.9"):
        release_notes.main("v9.9")


def test_the_readme_lists_every_public_name():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("## What is there")[2].partition("\n\nWhat to expect")[0]
    listed = set(re.findall(r"`(?:flowjax\.)?(\w+)[.`]", table))
    assert listed >= set(fj.__all__)
