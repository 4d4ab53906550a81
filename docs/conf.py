"""How the site is built: `make docs`, or `sphinx-build -W docs out/docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

import flowjax  # noqa: E402

project = "flowjax"
author = "The flowjax developers"
copyright = author
version = release = flowjax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # a copy of MathJax lies in the site, which needs no other server
    "sphinx_copybutton",
    "markdown_docstrings",
    "outside_pages",
]
exclude_patterns = ["_extensions", "_build"]

# Pages: Markdown with $mathematics$, headings that can be linked to.
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
# A price in dollars is no formula.
myst_dmath_allow_digits = False

# The reference: signatures without types, which the text of each argument tells.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "groupwise"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"flowjax {release}"
html_static_path = ["_static"]
html_css_files = ["flowjax.css"]
html_show_sphinx = False
html_copy_source = False
templates_path = []
pygments_style = "friendly"
pygments_dark_style = "github-dark"
# Prompts are not copied, nor what a line prints.
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
