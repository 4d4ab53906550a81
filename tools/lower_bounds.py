"""Print the oldest supported version of each core dependency, one pip constraint per line.

`make test-oldest` installs exactly these. pyproject.toml alone names them, and is read here.
"""

import pathlib
import re
import tomllib


def lower_bounds(requirements: list[str]) -> list[str]:
    """Turn requirements such as `jax>=0.5.0` into constraints such as `jax==0.5.0`."""
    constraints = []
    for requirement in requirements:
        bound = re.match(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9][0-9A-Za-z.]*)", requirement)
        if bound is None:
            raise SystemExit(
                f"pyproject.toml: {requirement!r} names no lower bound (package>=1.2.3)"
            )
        constraints.append(f"{bound[1]}=={bound[2]}")
    return constraints


if __name__ == "__main__":
    pyproject = pathlib.Path(__file__).parent.parent / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    print("\n".join(lower_bounds(project["dependencies"])))
