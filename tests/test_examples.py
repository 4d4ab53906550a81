"""What every example keeps to, and that those of `make demo` see a planted fault.

That the demo itself passes is checked by running it: it is a stage of CI.
"""

import ast
import re

import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.examples import EXAMPLES, imported

ROOT = EXAMPLES.parent
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NAMES = {script.stem for script in SCRIPTS}

# Those that CI runs as they are, by a target of the Makefile; tests run the others, in small.
STAGES = {
    "linear_ode": "demo",
    "ornstein_uhlenbeck": "demo",
    "digits": "demo",
    "digit_samplers": "samplers",
}


def faults(source):
    """What an example ought to keep to and does not."""
    tree, found = ast.parse(source), []
    if len(source.splitlines()) > 120:
        found.append("is longer than 120 lines")
    if not re.match(r".+[.:]\n\n\s*\S", ast.get_docstring(tree) or ""):
        found.append("has no title and story")
    if not re.search(r'\n\n\nif __name__ == "__main__":\n    .*\bmain\(.*\n\Z', source):
        found.append("does not end with main()")
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        if NAMES & {part for module in modules for part in module.split(".")}:
            found.append("imports another example")
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_is_one_story_of_its_own(script):
    assert faults(script.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("import sys\n", "import sys\n" + "\n" * 100, "is longer than 120 lines"),
        ("\n\n    dx/dt", "\n    dx/dt", "has no title and story"),
        ("    main(*sys.argv[1:2])\n", "    pass\n", "does not end with main()"),
        ("import sys\n", "import sys\n\nimport digits\n", "imports another example"),
        ("import sys\n", "import sys\n\nfrom examples.digits import main\n", "imports another"),
    ],
)
def test_an_example_that_does_not_keep_to_it_is_caught(before, after, fault):
    source = (EXAMPLES / "linear_ode.py").read_text(encoding="utf-8")
    assert any(found.startswith(fault) for found in faults(source.replace(before, after)))


def test_every_example_is_run_by_a_stage_or_a_test():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    ci = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / ".ci/run", *(ROOT / ".github/workflows").glob("*.yml"))
    )
    for name, target in STAGES.items():
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        assert recipe, target
        assert f"examples/{name}.py" in recipe[1]
        assert re.search(rf"make {target}\b", ci), target
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    in_tests = set(re.findall(r'\b(?:imported|run)\("(\w+)"', tests))
    assert NAMES - set(STAGES) - in_tests == set()


# --- a planted fault is seen ----------------------------------------------------------------------


def test_a_method_whose_error_does_not_halve_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="does not halve"):
        imported("linear_ode").main(tmp_path, step=fj.midpoint)
    assert (tmp_path / "linear_ode.png").exists()


def test_a_noise_of_another_size_is_an_error(tmp_path):
    """The variance is 10 percent off, which is ten standard errors."""
    with pytest.raises(SystemExit, match="5 standard errors"):
        imported("ornstein_uhlenbeck").main(tmp_path, sigma=1.05)
    assert (tmp_path / "ornstein_uhlenbeck.png").exists()


@pytest.mark.nightly
def test_digits_that_are_not_those_asked_for_are_an_error(monkeypatch, tmp_path):
    example = imported("digits")
    monkeypatch.setattr(example, "LABELS", np.repeat(np.arange(10), 8))
    nowhere = lambda t, x, args: jnp.zeros_like(x)  # noqa: E731
    monkeypatch.setattr(example, "trained", lambda *args: (nowhere, np.ones(100)))
    with pytest.raises(SystemExit, match="FAILED: less than 90%"):
        example.main(tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 3
