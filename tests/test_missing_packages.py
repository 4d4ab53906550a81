"""Where an optional package is imported, its lack is answered with the extra that has it."""

import ast
import importlib.metadata
import re
import sys

import pytest

from tests.test_packaging import CORE, EXTRAS, OWN, ROOT

OWNER = importlib.metadata.packages_distributions()
GUARD = re.compile(r"except ImportError.*raise ImportError.*flowjax-solvers\[(\w+)\]", re.DOTALL)


def lazily_imported(source):
    """Third-party packages that are imported inside of functions, with the functions' sources."""
    tree, lines = ast.parse(source), source.splitlines()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in (name.partition(".")[0] for name in names):
                if name not in OWN and name not in sys.stdlib_module_names:
                    yield name, "\n".join(lines[function.lineno - 1 : function.end_lineno])


def unguarded(source, path):
    """Packages of a module for which no function names the extra: (path, package)."""
    wanted, guarded = set(), set()
    for name, function in lazily_imported(source):
        distributions = {one.lower() for one in OWNER.get(name, [name])}
        if distributions & CORE:
            continue
        wanted.add((path, name))
        extra = GUARD.search(function)
        if extra and distributions & EXTRAS[extra[1]]:
            guarded.add((path, name))
    return wanted - guarded


SOURCES = sorted((ROOT / "flowjax").rglob("*.py"))


def test_each_optional_package_is_asked_for_by_its_extra():
    found = [name for path in SOURCES for name, _ in lazily_imported(path.read_text("utf-8"))]
    assert {"matplotlib", "sklearn", "tqdm"} <= set(found)
    missing = set()
    for path in SOURCES:
        missing |= unguarded(path.read_text("utf-8"), str(path.relative_to(ROOT)))
    assert missing == set()


@pytest.mark.parametrize(
    "wrong",
    [
        "def plot():\n    import matplotlib\n",
        "def plot():\n    try:\n        import matplotlib\n    except ImportError as error:\n"
        "        raise ImportError('pip install flowjax-solvers[peers]') from error\n",
    ],
    ids=["nothing", "another extra"],
)
def test_one_that_is_not_is_caught(wrong):
    assert unguarded(wrong, "plot.py") == {("plot.py", "matplotlib")}
