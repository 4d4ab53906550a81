"""Prints what CHANGELOG.md says of a version, for the release on GitHub.

    python tools/release_notes.py v1.2.3

It is an error if the version is not that of the package, or the changelog has no section of it.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]


def version() -> str:
    """That of the package, read and not imported: a release needs nothing installed for it."""
    text = (ROOT / "flowjax/__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0]


def section(changelog: str, name: str) -> str | None:
    """What stands below ``## [name]``, or ``## [name] - date``, up to the next version."""
    head = rf"^## \[{re.escape(name)}\](?: - \d{{4}}-\d\d-\d\d)?\n"
    found = re.search(head + r"(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else None


def main(tag: str) -> None:
    if tag != f"v{version()}":
        sys.exit(f"the tag is {tag}, and flowjax.__version__ {version()}")
    notes = section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version())
    if not notes:
        sys.exit(f"CHANGELOG.md has no section ## [{version()}] - date")
    print(notes)


if __name__ == "__main__":
    main(*sys.argv[1:])
