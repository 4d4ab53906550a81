"""Pages beside docs/, and pages of the menu that are not there."""

import re
from pathlib import Path

# Files that have a page of their own in the site.
PAGES = {
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../benchmarks/README.md": "benchmarks.md",
}
# Lines of the menu, as in "Gallery <gallery>".
OPTIONAL = re.compile(r"^.*<((?:data|gallery|interop|metrics|migrating/\w+))>\n", re.MULTILINE)


def read(app, name, source):
    """A link to a file is one to its page; what may be missing is left out of the menu."""
    for path, page in PAGES.items():
        source[0] = source[0].replace(f"]({path}", f"]({page}")
    if name == "index":
        folder = Path(app.srcdir)
        source[0] = OPTIONAL.sub(
            lambda line: line[0] if (folder / f"{line[1]}.md").exists() else "", source[0]
        )


def setup(app):
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
