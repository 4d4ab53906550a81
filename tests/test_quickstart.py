"""The tables of the quickstart; that it runs as a whole is checked by running it."""

import pytest

from tests.examples import imported


@pytest.fixture(scope="module")
def quickstart():
    return imported("quickstart")


def test_a_table_is_aligned(quickstart, capsys):
    quickstart.print_table(("name", "value"), [("a", "1.0"), ("longer", "10.25")])
    assert capsys.readouterr().out.splitlines() == [
        "   name     value",
        "   ------   -----",
        "   a          1.0",
        "   longer   10.25",
    ]
