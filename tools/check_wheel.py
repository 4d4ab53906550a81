"""Builds the wheel and the source archive, and checks them as a user without extras gets them.

    python tools/check_wheel.py

In a new environment that holds the wheel and what it declares, and from outside of the checkout:
every module is imported, an SDE is solved and differentiated, the version is the one that is
declared, and what draws a picture says which extra it needs. An import that is not declared fails
here. The source archive holds the tests, and what is written for the package index is rendered
(twine check). `make check-build` calls this; the archives stay in dist/.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile

ROOT = pathlib.Path(__file__).parents[1]

IN_USE = """
import importlib, pkgutil, sys

import jax
import flowjax as fj

extras = {"matplotlib", "sklearn", "tqdm", "torch", "flax", "PIL"}
for module in pkgutil.walk_packages(fj.__path__, "flowjax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert not extras & set(sys.modules), extras & set(sys.modules)

sde, ts = fj.ornstein_uhlenbeck(theta=1.0, sigma=0.5), fj.uniform_grid(100)
end = lambda x0: fj.solve(sde, x0, ts, key=jax.random.key(0))
# The noise is additive, so the derivative is that of the decay: (1 - h)^n.
assert abs(jax.grad(end)(1.0) - 0.99**100) < 1e-6

from flowjax import plot
try:
    plot.trajectories(ts, ts)
except ImportError as error:
    assert "flowjax-solvers[" in str(error), error
else:
    raise AssertionError("matplotlib is there: the environment is not a clean one")
print(fj.__version__, fj.__file__)
"""


def run(*command: object, cwd: pathlib.Path = ROOT) -> str:
    """What a command prints; an error if it fails. It does not see the checkout on its path."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    how = {"cwd": cwd, "env": outside, "capture_output": True, "text": True}
    done = subprocess.run(list(map(str, command)), **how)
    if done.returncode:
        sys.exit(f"FAILED: {' '.join(map(str, command))[:200]}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", dist, ROOT)
    (wheel,), (archive,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    print(run(sys.executable, "-m", "twine", "check", "--strict", wheel, archive).strip())
    with zipfile.ZipFile(wheel) as names:
        assert "flowjax/py.typed" in names.namelist()
        assert {name.split("/")[0].split("-")[0] for name in names.namelist()} == {
            "flowjax",
            "flowjax_solvers",
        }
    with tarfile.open(archive) as names:
        inside = {name.partition("/")[2] for name in names.getnames()}
        assert {"tests/conftest.py", "CHANGELOG.md", "LICENSE", "examples/digits.py"} <= inside

    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        venv.create(folder / "clean", with_pip=True)
        (python,) = (folder / "clean").glob("*/python3")
        run(python, "-m", "pip", "install", "--quiet", wheel)
        version, _, where = run(python, "-I", "-c", IN_USE, cwd=folder).strip().partition(" ")
        assert pathlib.Path(where).is_relative_to(folder.resolve()), where
        assert wheel.name.split("-")[1] == version, (wheel.name, version)
    print(f"{wheel.name} and {archive.name} are in order, without extras")


if __name__ == "__main__":
    main()
