"""Pages of files that lie beside docs/."""

# Files that have a page of their own in the site.
PAGES = {
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../benchmarks/README.md": "benchmarks.md",
}


def read(app, name, source):
    """A link to such a file is one to its page."""
    for path, page in PAGES.items():
        source[0] = source[0].replace(f"]({path}", f"]({page}")


def setup(app):
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
