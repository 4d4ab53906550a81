"""Links of a page to files beside docs/, which have a place of their own in the site."""

import re

PAGES = {"../CONTRIBUTING.md": "contributing.md", "../CHANGELOG.md": "changelog.md"}


def relink(app, name, source):
    """CONTRIBUTING.md and CHANGELOG.md are pages; other files are named, and not linked to."""
    for path, page in PAGES.items():
        source[0] = source[0].replace(f"]({path}", f"]({page}")


def setup(app):
    app.connect("source-read", relink)
    return {"parallel_read_safe": True}
