"""An optional package is imported by the one helper, which names the extra that has it."""

import ast
import importlib.metadata
import sys

import pytest

from flowjax._optional import optional
from tests.test_packaging import CORE, EXTRAS, OWN, ROOT

OWNER = importlib.metadata.packages_distributions()
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def is_optional(module):
    package = module.partition(".")[0]
    distributions = {one.lower() for one in OWNER.get(package, [package])}
    return package not in OWN | set(sys.stdlib_module_names) and not distributions & CORE


def nodes_of(scope):
    """What stands in a function or a module, but for the functions inside of it."""
    for node in ast.iter_child_nodes(scope):
        if not isinstance(node, FUNCTIONS):
            yield node
            yield from nodes_of(node)


def asked_for(scope):
    """The calls of the helper in a scope: (line, arguments that are literals)."""
    for node in nodes_of(scope):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "optional":
            yield (
                node.lineno,
                [one.value if isinstance(one, ast.Constant) else None for one in node.args],
            )


def imported(scope):
    """The imports of optional packages that are statements: (line, module)."""
    for node in nodes_of(scope):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        yield from ((node.lineno, name) for name in names if is_optional(name))


def faults(source):
    """Imports without the helper before them, and calls of it with an extra that lacks them."""
    tree, found = ast.parse(source), set()
    for scope in (tree, *(node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))):
        calls = [(line, arguments) for line, arguments in asked_for(scope)]
        for line, (module, _, extra) in calls:
            package = str(module).partition(".")[0]
            distributions = {one.lower() for one in OWNER.get(package, [package])}
            if not distributions & EXTRAS.get(extra, set()):
                found.add((line, module, extra))
        for line, module in imported(scope):
            package = module.partition(".")[0]
            before = [str(name).partition(".")[0] for at, (name, *_) in calls if at < line]
            if package not in before:
                found.add((line, module, None))
    return found


SOURCES = sorted((ROOT / "flowjax").rglob("*.py"))


def test_each_optional_package_is_asked_for_by_its_extra():
    asked = set()
    for path in SOURCES:
        source = path.read_text("utf-8")
        assert faults(source) == set(), path
        for node in ast.walk(ast.parse(source)):
            asked |= {str(name).partition(".")[0] for _, (name, *_) in asked_for(node)}
    assert asked == {"matplotlib", "PIL", "sklearn", "tqdm", "zarr", "rdkit"}


GUARD = "    optional('matplotlib', 'plot', 'examples')\n"


@pytest.mark.parametrize(
    "wrong",
    [
        "def plot():\n    import matplotlib\n",
        "def plot():\n    import matplotlib\n" + GUARD,
        "def other():\n" + GUARD + "def plot():\n    from matplotlib.patches import Circle\n",
        "try:\n    import matplotlib\nexcept ImportError:\n    matplotlib = None\n",
        "def plot():\n    return optional('matplotlib', 'plot', 'peers')\n",
        "def plot(name):\n    return optional(name, 'plot', 'examples')\n",
    ],
    ids=["nothing", "too late", "elsewhere", "module", "another extra", "no literal"],
)
def test_one_that_is_not_is_caught(wrong):
    assert faults("def right():\n" + GUARD + "    import matplotlib.figure\n") == set()
    assert len(faults(wrong)) == 1


def test_the_error_says_who_needs_what_and_where_it_is(monkeypatch):
    assert optional("json.decoder", "this", "examples").JSONDecodeError
    monkeypatch.setitem(sys.modules, "PIL", None)  # PIL.Image may be there from before
    with pytest.raises(ImportError) as caught:
        optional("PIL.Image", "a.png", "files")
    assert str(caught.value) == "a.png needs Pillow: pip install 'flowjax-solvers[files]'."
