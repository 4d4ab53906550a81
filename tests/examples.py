"""The scripts in examples/, as modules."""

import importlib
import pathlib

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def imported(name):
    with pytest.MonkeyPatch.context() as patch:
        # As for a script, whose folder Python searches first.
        patch.syspath_prepend(EXAMPLES)
        return importlib.import_module(name)
