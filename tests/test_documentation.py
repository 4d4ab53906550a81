"""Every example in the documentation runs and shows what it says.

Docstring examples run under the strict settings of the tests, the blocks of the Markdown files
under JAX's own, as a reader types them: in sequence, each file in a session of its own.
"""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import pytest

import flowjax

ROOT = Path(__file__).parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def documented():
    """Each docstring that belongs to a module of flowjax: (full name, text)."""
    for info in pkgutil.walk_packages(flowjax.__path__, "flowjax.", onerror=_fail):
        module = importlib.import_module(info.name)
        yield info.name, module.__doc__
        for name, value in vars(module).items():
            # The docstring of a method that remembers is that of its step.
            value = value.step if isinstance(value, flowjax.Stepper) else value
            if getattr(value, "__module__", None) != info.name:
                continue
            yield f"{info.name}.{name}", value.__doc__
            if inspect.isclass(value):
                for attribute in vars(value):
                    member = inspect.getattr_static(value, attribute)
                    yield f"{info.name}.{name}.{attribute}", getattr(member, "__doc__", None)


def _fail(name):
    raise ImportError(f"cannot import {name}")


def with_examples():
    texts = {"flowjax": flowjax.__doc__, **dict(documented())}
    return {name: text for name, text in texts.items() if isinstance(text, str) and ">>>" in text}


EXAMPLES = with_examples()

# Their examples need JAX's standard promotion of dtypes: optax does not hold to the strict one.
STANDARD_PROMOTION = {
    f"flowjax.training.{name}"
    for name in (
        "loop.fit",
        "state.TrainState",
        "state.init",
        "state.step",
        "state.averaged",
        "files.save",
        "files.restore",
    )
} | {f"flowjax.interop.{name}.{name}" for name in ("to_diffrax", "from_diffrax", "cross_check")}


def run_examples(name, text):
    """Runs the examples of one docstring with nothing imported; returns what went wrong."""
    test = doctest.DocTestParser().get_doctest(inspect.cleandoc(text), {}, name, None, None)
    report = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    return "".join(report) if runner.run(test, out=report.append).failed else ""


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_docstring_example_shows_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    promotion = "standard" if name in STANDARD_PROMOTION else "strict"
    with jax.numpy_dtype_promotion(promotion):
        failure = run_examples(name, EXAMPLES[name])
    assert not failure, failure


def test_the_examples_of_functions_classes_methods_and_private_modules_are_found():
    assert {
        "flowjax.solver.views.solve",
        "flowjax.solver.adjoints.Checkpointed",
        "flowjax.samplers.dpm_solver.dpmpp_2m",
    } <= set(EXAMPLES)


@pytest.mark.parametrize(
    "wrong",
    [
        ">>> import flowjax as fj\n>>> fj.uniform_grid(2)\nArray([0. , 0.4, 1. ], dtype=float32)",
        ">>> import flowjax as fj\n>>> fj.no_such_name",
        ">>> fj.uniform_grid(2).shape\n(3,)",
    ],
    ids=["another number", "an unknown name", "a missing import"],
)
def test_a_wrong_example_is_caught(wrong):
    assert run_examples("wrong", wrong)


# --- Markdown -------------------------------------------------------------------------------------

PAGES = [page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if page.exists()]


def python_blocks(text):
    """Each block fenced as ```python: (number of its first line, code)."""
    pattern = re.compile(r"^([ \t]*)```python[ \t]*\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)
    for block in pattern.finditer(text):
        indent = len(block[1])
        lines = [line[indent:] for line in block[2].splitlines()]
        yield text.count("\n", 0, block.start(2)) + 1, "\n".join(lines)


def run_page(text, name):
    """Types the blocks of a page into one session."""
    session = {"__name__": "__main__"}
    for line, code in python_blocks(text):
        if ">>>" in code:
            parser = doctest.DocTestParser()
            test = parser.get_doctest(code, session, name, name, line - 1)
            test.globs = session
            report = []
            runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
            failed = runner.run(test, out=report.append, clear_globs=False).failed
            assert not failed, "".join(report)
        else:
            # The empty lines before the code make tracebacks show the line of the page.
            exec(compile("\n" * (line - 1) + code, name, "exec"), session)
    return session


# The others take minutes: the workflow that builds the site runs them, and the nightly one.
BY_DAY = {ROOT / name for name in ("README.md", "docs/index.md", "docs/getting_started.md")}


def as_case(page):
    marks = [] if page in BY_DAY else pytest.mark.nightly
    return pytest.param(page, marks=marks, id=str(page.relative_to(ROOT)))


@pytest.mark.parametrize("page", [*map(as_case, PAGES)])
def test_the_python_blocks_of_a_page_run_as_a_user_types_them(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        run_page(page.read_text(encoding="utf-8"), page.name)


def test_a_page_is_run_block_by_block_in_one_session():
    page = "```python\na = 1\n```\n\ntext\n\n- ```python\n```\n\n```python\nb = a + 1\n```\n"
    session = run_page(page + "```python\n>>> b\n2\n```\n```sh\nexit 1\n```\n", "page")
    assert (session["a"], session["b"]) == (1, 2)


def test_a_page_that_does_not_run_is_caught():
    with pytest.raises(NameError):
        run_page("```python\na = 1\n```\n```python\nc = d\n```\n", "page")
    with pytest.raises(AssertionError, match="Got"):
        run_page("```python\n>>> 1 + 1\n3\n```\n", "page")
