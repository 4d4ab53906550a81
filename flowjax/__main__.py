"""``python -m flowjax``: versions, devices and a self-check, for a report of a bug."""

import importlib.metadata
import platform
import sys
import time
import traceback

import jax
import jax.numpy as jnp

import flowjax as fj


def main() -> int:
    """Prints them, and returns 0 where flowjax and diffrax agree, else 1."""
    print(f"flowjax {fj.__version__}, Python {platform.python_version()}, {platform.platform()}")  # noqa: T201
    names = ("jax", "jaxlib", "equinox", "optax", "diffrax")
    print(", ".join(f"{name} {_version(name)}" for name in names))  # noqa: T201
    print(f"devices: {', '.join(map(str, jax.devices()))}")  # noqa: T201
    try:
        # Here, because versions are wanted most where an import fails.
        from flowjax.interop import cross_check

        start = time.perf_counter()
        sde, ts = fj.ornstein_uhlenbeck(theta=1.0, sigma=0.5), fj.uniform_grid(100)
        found = cross_check(sde, jnp.ones(4), ts, key=jax.random.key(0))
    except Exception:
        print(f"\n{traceback.format_exc()}\nThe self-check FAILED.")  # noqa: T201
        return 1
    print(f"\n{found}")  # noqa: T201
    # Each by itself: of NaN and a number the larger may be the number.
    within = found.difference < 1e-5 and found.gradient_difference < 1e-5
    verdict = "agree to rounding" if within else "DIFFER by more than rounding"
    print(f"\nflowjax and diffrax {verdict}; checked in {time.perf_counter() - start:.1f} s.")  # noqa: T201
    return 0 if within else 1


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
