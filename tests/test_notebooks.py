"""The notebooks that are kept are those of their scripts, have been run, and are small.

`make notebooks` makes them and runs them, which a nightly job does too.
"""

import json
import re

import pytest

from tests.examples import EXAMPLES

SCRIPTS = sorted((EXAMPLES / "notebooks").glob("*.py"))
HEADER = re.compile(r"\A(# .*\n|#\n)+\n")


def cells_of_script(text):
    """The cells of a script in the percent format: (kind, source)."""
    cells = []
    for part in re.split(r"^# %%", HEADER.sub("", text), flags=re.MULTILINE)[1:]:
        mark, _, source = part.partition("\n")
        kind = "markdown" if "[markdown]" in mark else "code"
        if kind == "markdown":
            source = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
        cells.append((kind, source.strip()))
    return cells


def cells_of_notebook(notebook):
    return [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook["cells"]]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_notebook_is_that_of_its_script_and_has_been_run(script):
    kept = script.with_suffix(".ipynb")
    notebook = json.loads(kept.read_text(encoding="utf-8"))
    cells = cells_of_script(script.read_text(encoding="utf-8"))
    assert cells_of_notebook(notebook) == cells, "run `make notebooks`"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert any("image/png" in output.get("data", {}) for c in code for output in c["outputs"])
    assert kept.stat().st_size < 500_000
    assert re.match(r"# \S", cells[0][1])  # a title, and a story below it
    assert "\n\n" in cells[0][1]


def test_there_are_three_notebooks_and_a_changed_script_is_seen():
    assert {s.stem for s in SCRIPTS} >= {
        "the_notes",
        "gradients_through_the_sampler",
        "your_own_data",
    }
    text = SCRIPTS[0].read_text(encoding="utf-8")
    assert cells_of_script(text) != cells_of_script(text.replace("fj.uniform_grid", "grid"))
