"""What the pages on migrating say, taken from the pages themselves: their names and their numbers.

A page has blocks fenced as ```python, which run wherever flowjax does, and as ```py, which need the
other library. Run in the order of the page, in one session, a block of the latter kind that sets
`theirs` has the numbers that flowjax has as `ours`.

A table headed "there | here", or "there | instead", has names as code: of the other library on the
left, of flowjax and JAX's libraries on the right.
"""

import ast
import importlib
import inspect
import itertools
import re
from pathlib import Path

import jax
import numpy as np

FOLDER = Path(__file__).parents[2] / "docs" / "migrating"
PAGES = sorted(path.name for path in FOLDER.glob("*.md"))
BLOCK = re.compile(r"^```(python|py)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
HEADS = (["there", "here"], ["there", "instead"])

# What a reader has imported; those that need more than the core are only looked up if installed.
HERE = {
    "fj": "flowjax",
    "flowjax": "flowjax",
    "jax": "jax",
    "jnp": "jax.numpy",
    "np": "numpy",
    "eqx": "equinox",
    "optax": "optax",
    "diffrax": "diffrax",
}


def page(name):
    return (FOLDER / name).read_text(encoding="utf-8")


# --- Numbers --------------------------------------------------------------------------------------


def compared(name, old="", new="", without=None):
    """Runs a page, and yields (ours, theirs) after each block of the other library that has them.

    In the blocks of flowjax old is first replaced by new: a planted mistake. Blocks that import the
    library `without` are left out.
    """
    session = {"__name__": "__main__"}
    text = page(name)
    assert old in text
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for block in BLOCK.finditer(text):
            code = block[2]
            if without and f"from {without}" in code:
                continue
            if old and block[1] == "python":
                code = code.replace(old, new)
            # The empty lines before the code make tracebacks show the line of the page.
            first = text.count("\n", 0, block.start(2))
            exec(compile("\n" * first + code, name, "exec"), session)
            if "theirs" in session:
                yield as_arrays(session["ours"]), as_arrays(session.pop("theirs"))


def as_arrays(tree):
    """The leaves in float64, of a tree of arrays or tensors."""

    def array(leaf):
        return np.asarray(leaf.detach() if hasattr(leaf, "detach") else leaf, np.float64)

    return [array(leaf) for leaf in jax.tree.leaves(tree)]


def difference(pair):
    """The largest difference, over the largest number, of the leaf where that is largest."""
    ours, theirs = pair
    assert [leaf.shape for leaf in ours] == [leaf.shape for leaf in theirs]
    # Not by `max`, which passes over NaN.
    return float(
        np.max(
            [np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in zip(ours, theirs, strict=True)]
        )
    )


def differences(name, without=None):
    """Of all of a page."""
    return [difference(pair) for pair in compared(name, without=without)]


def first_differences(name, count):
    """Of the first pairs of a page, so many."""
    return [difference(pair) for pair in itertools.islice(compared(name), count)]


def first_difference(name, old, new, without=None):
    """Of the first pair of a page, after a planted mistake."""
    return difference(next(compared(name, old, new, without)))


# --- Names ----------------------------------------------------------------------------------------


def rows(name, heading=None):
    """The code in the rows of the tables of names, or of those under a heading: (left, right)."""
    within, under = False, heading is None
    for line in page(name).splitlines():
        if heading is not None and line.startswith("## "):
            under = line == heading
        # A bar inside of code is none of the table.
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if not line.startswith("|"):
            within = False
        elif cells in HEADS and under:
            within = True
        elif within and not set(line) <= set("|-: "):
            assert len(cells) == 2, f"{name}: {line}"
            yield tuple(re.findall(r"`([^`]+)`", cell) for cell in cells)


def wrong_names(spans, scope, arguments=(), values=()):
    """Of pieces of code, those that name what does not exist: (code, why).

    A piece is a name, a call, or an argument such as `rtol=1e-5` or `method="euler"`. A name may be
    one of scope (its attributes are followed), or an argument of one of the functions `arguments`.
    A call's own arguments must be those of its function. A string must be one of values.
    """
    found = []
    for span in spans:
        try:
            check(span, scope, parameters_of(*arguments), values)
        except (AttributeError, NameError, SyntaxError, TypeError, ValueError) as error:
            found.append((span, str(error)))
    return found


def check(span, scope, parameters, values):
    try:
        body = ast.parse(span, mode="eval").body
    except SyntaxError:
        # An argument alone.
        body = ast.parse(f"_({span})", mode="eval").body
    for node in ast.walk(body):
        if isinstance(node, (ast.Attribute, ast.Name)):
            look_up(node, scope, parameters)
        is_word = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_word and node.value not in values:
            raise ValueError(f"{node.value!r} is none of the values")
        if isinstance(node, ast.Call):
            alone = isinstance(node.func, ast.Name) and node.func.id == "_"
            known = parameters if alone else parameters_of(look_up(node.func, scope, parameters))
            for keyword in node.keywords:
                if known is not None and keyword.arg not in {*known, None}:
                    raise TypeError(f"{keyword.arg} is no argument")


def look_up(node, scope, parameters):
    """What a name stands for, or None where it is an argument's name or the caller's own."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    if node.id in scope:
        value = scope[node.id]
    elif node.id == "_" or node.id in (parameters or ()):
        return None
    else:
        raise NameError(f"{node.id} is not known")
    for name in reversed(names):
        if value is OPAQUE:
            return OPAQUE
        if inspect.isclass(value) and name in getattr(value, "__annotations__", {}):
            return OPAQUE
        value = getattr(value, name)
    return value


def words(text):
    return text.split()


OPAQUE = object()
"""Stands for what is not installed, or is the caller's own: any attribute will do."""


def parameters_of(*functions):
    """The arguments that functions take by name; None where one takes any, or is not known."""
    known = set()
    for function in functions:
        if isinstance(function, str):
            known.add(function)
            continue
        if function is None or function is OPAQUE or not callable(function):
            return None
        parameters = inspect.signature(function).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return None
        known |= {parameter.name for parameter in parameters}
    return known


def here():
    """The scope of the right column."""
    importlib.import_module("flowjax.interop")
    return {name: importlib.import_module(module) for name, module in HERE.items()}
