"""The reference in docs/api has an entry for every public name, once."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import flowjax as fj

PAGES = sorted((Path(__file__).parents[1] / "docs" / "api").glob("*.md"))
ENTRY = re.compile(r"^\.\. auto(\w+):: (flowjax\.\S+)\n((?:    :.*\n)*)", re.MULTILINE)

# Imported by themselves.
ALONE = ["flowjax.interop", "flowjax.plot"]


def wanted():
    """The flat names and the modules, as a reference names them."""
    return sorted([*(f"flowjax.{name}" for name in fj.__all__), *ALONE])


def entries(text):
    """What a page documents: (directive, name, options)."""
    return [(what, name, options.split()) for what, name, options in ENTRY.findall(text)]


REFERENCE = [entry for page in PAGES for entry in entries(page.read_text(encoding="utf-8"))]


def kind(name):
    """The directive that documents a name."""
    if name in ALONE:
        return "module"
    value = getattr(fj, name.removeprefix("flowjax."))
    if isinstance(value, ModuleType):
        return "module"
    if isinstance(value, type):
        return "class"
    return "data" if isinstance(value, fj.Stepper) else "function"


def test_every_public_name_has_one_entry():
    assert sorted(name for _, name, _ in REFERENCE) == wanted()


def test_an_entry_is_of_the_kind_of_its_name():
    assert [(name, what) for what, name, _ in REFERENCE if what != kind(name)] == []


def test_modules_and_classes_show_their_members():
    lacking = [n for what, n, options in REFERENCE if what in ("module", "class") and not options]
    assert lacking == []


def test_a_module_names_its_members():
    """Without ``__all__`` the reference would show what a module imports, or nothing."""
    modules = [importlib.import_module(name) for what, name, _ in REFERENCE if what == "module"]
    assert [m.__name__ for m in modules if not hasattr(m, "__all__")] == []


def test_a_name_that_is_missing_or_named_twice_is_seen():
    page = ".. autofunction:: flowjax.solve\n\n.. autoclass:: flowjax.SDE\n    :members:\n"
    assert entries(page) == [
        ("function", "flowjax.solve", []),
        ("class", "flowjax.SDE", [":members:"]),
    ]
    names = [name for _, name, _ in REFERENCE]
    assert sorted(names[1:]) != wanted() != sorted([*names, names[0]])
