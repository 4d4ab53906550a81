"""The machine, the versions and the commit that figures belong to; no host names, no paths."""

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

_PACKAGES = (
    *("jax", "jaxlib", "equinox", "diffrax", "tinydiffeq"),
    *("torch", "torchdiffeq", "torchsde", "flow_matching", "diffusers"),
)

_COPIES = 10


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """What a figure depends on; `kind` names the file of results."""
    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"
    kind = f"cpu-{cores()}-cores" if on_cpu else f"{device.platform}-{device.device_kind}"
    return {
        "kind": re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-"),
        "cpu": _cpu(),
        "cores": cores(),
        "accelerator": None if on_cpu else device.device_kind,
        "accelerators": 0 if on_cpu else len(jax.devices()),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that is measured, "+ changes" where files differ from it."""
    head = _git("rev-parse", "HEAD")
    changed = _git(
        "status", "--porcelain", "--", ":/flowjax", ":/benchmarks", ":!/benchmarks/results"
    )
    return head + " + changes" if head and changed else head or "unknown"


def limits() -> dict[str, float]:
    """What the device can do: bytes per second of a large copy, flops of a large product.

    The copy reads and writes an array in place, again and again, since fresh memory costs more;
    the product is of square float32 matrices at full precision.
    """
    large = jax.default_backend() != "cpu"
    copied = jnp.ones(2**28 if large else 2**25, jnp.float32)
    side = 8192 if large else 2048
    factor = jnp.ones((side, side), jnp.float32)
    return {
        "copy_bytes_per_second": 2 * copied.nbytes * _COPIES / _fastest(_copies, copied),
        "product_flops": 2 * side**3 / _fastest(lambda a: a @ a, factor),
    }


def _copies(x: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, _COPIES, lambda _, x: x + 1, x)


def _fastest(function: Callable, argument: Any, repeats: int = 5) -> float:
    compiled = jax.jit(function).lower(argument).compile()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(argument))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).resolve().parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
