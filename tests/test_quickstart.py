"""The tables of the quickstart; that it runs as a whole is checked by running it."""

import importlib
import pathlib

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def quickstart():
    with pytest.MonkeyPatch.context() as patch:
        # As for a script, whose folder Python searches first.
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("quickstart")


def test_a_table_is_aligned(quickstart, capsys):
    quickstart.print_table(("name", "value"), [("a", "1.0"), ("longer", "10.25")])
    assert capsys.readouterr().out.splitlines() == [
        "   name     value",
        "   ------   -----",
        "   a          1.0",
        "   longer   10.25",
    ]
