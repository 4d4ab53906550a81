"""``python -m flowjax``: versions, devices and a self-check, for a report of a bug."""

import importlib.metadata
import platform
import time

import jax
import jax.numpy as jnp

import flowjax as fj
from flowjax.interop import cross_check


def main() -> None:
    """Prints them."""
    print(f"flowjax {fj.__version__}, Python {platform.python_version()}, {platform.platform()}")  # noqa: T201
    names = ("jax", "jaxlib", "equinox", "optax", "diffrax")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))  # noqa: T201
    print(f"devices: {', '.join(map(str, jax.devices()))}")  # noqa: T201
    start = time.perf_counter()
    sde, ts = fj.ornstein_uhlenbeck(theta=1.0, sigma=0.5), fj.uniform_grid(100)
    found = cross_check(sde, jnp.ones(4), ts, key=jax.random.key(0))
    print(f"\n{found}")  # noqa: T201
    within = max(found.difference, found.gradient_difference) < 1e-5
    verdict = "agree to rounding" if within else "DIFFER by more than rounding"
    print(f"\nflowjax and diffrax {verdict}; checked in {time.perf_counter() - start:.1f} s.")  # noqa: T201


if __name__ == "__main__":
    main()
