"""Docstrings as they are written here: Markdown inside Google's sections.

Mathematics stands between dollars, code between backticks, and a name of the package in backticks
is a link to its entry. Everything else is plain text, in which no character has a meaning.
"""

import importlib
import inspect
import re
from types import ModuleType

import flowjax

ALONE = ("interop", "plot")
# What has lines of its own: a formula, a quotation, an example with what it prints.
BLOCK = re.compile(
    r"^(?P<indent> *)"
    r"(?:\$\$(?P<formula>.+?)\$\$ *$"
    r"|```\w*\n(?P<quoted>.+?)\n *```$"
    r"|(?P<example>>>> .+?)(?=\n *\n|\Z))",
    re.MULTILINE | re.DOTALL,
)
# What stands within a line. The rest is plain.
INLINE = re.compile(r"(`{1,2})(?P<code>[^`]+)\1|\$(?P<formula>[^$]+)\$")


def public_names():
    """What a user may write of the package: the name in full, by how it is said."""
    names = {}
    for name in (*flowjax.__all__, *ALONE):
        names[name] = names[f"fj.{name}"] = f"flowjax.{name}"
        value = importlib.import_module(f"flowjax.{name}") if name in ALONE else vars(flowjax)[name]
        if isinstance(value, ModuleType):
            for member in getattr(value, "__all__", ()):
                full = f"flowjax.{name}.{member}"
                names[f"{name}.{member}"] = names[f"fj.{name}.{member}"] = full
    return names


NAMES = public_names()


def as_rst(text, module):
    """The text of a docstring in reStructuredText, with its sections untouched."""
    result, end = [], 0
    for block in BLOCK.finditer(text):
        result += [inline(text[end : block.start()], module), as_block(**block.groupdict())]
        end = block.end()
    return "".join([*result, inline(text[end:], module)])


def as_block(indent, formula, quoted, example):
    """What has lines of its own; an example is the same in both."""
    if example:
        return indent + example
    directive = ".. math::" if formula else ".. code-block:: text"
    lines = [line.strip() for line in formula.splitlines()] if formula else quoted.splitlines()
    return "\n".join(["", indent + directive, "", *(f"{indent}    {line}" for line in lines), ""])


def inline(text, module):
    """Code, links and formulas of a paragraph; what is left loses its meaning to RST."""
    result, end = [], 0
    for piece in INLINE.finditer(text):
        result += [plain(text[end : piece.start()]), marked(piece, module)]
        # RST wants a role to stand apart from letters.
        if text[piece.end() : piece.end() + 1].isalnum():
            result.append("\\ ")
        end = piece.end()
    return "".join([*result, plain(text[end:])])


def marked(piece, module):
    """A formula, a name that is linked to its entry, or other code."""
    text = " ".join((piece["formula"] or piece["code"]).split())
    if piece["formula"]:
        return f":math:`{text}`"
    for name in (f"{module}.{text}".removeprefix("flowjax."), text):
        if name in NAMES:
            return f":py:obj:`{text} <{NAMES[name]}>`"
    return f"``{text}``"


def plain(text):
    """Text in which no character means anything to RST."""
    return re.sub(r"([*|\\])|(?<=\w)(_)(?!\w)", r"\\\1\2", text)


# Napoleon takes what stands before a colon for a type, in the first line of what is returned and of
# what is no function. An empty word in a line of its own keeps it from that.
NO_TYPE = "\\ "
RETURNS = re.compile(r"^( *Returns:\n)( +)(?=.*:)", re.MULTILINE)


def process(app, what, name, obj, options, lines):
    """Before napoleon, which makes fields of the sections."""
    is_stepper = isinstance(obj, flowjax.Stepper)
    module = "flowjax." + name.split(".")[1] if name.count(".") > 1 else "flowjax"
    # A method that remembers is described by its step.
    text = as_rst(inspect.getdoc(obj.step) if is_stepper else "\n".join(lines), module)
    text = RETURNS.sub(rf"\1\2\{NO_TYPE}\n\2", text)
    lines[:] = [*([NO_TYPE] if is_stepper else []), *text.splitlines()]


def skip(app, what, name, obj, skipped, options):
    """Fields of a named tuple are in its Args."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
