"""The settings that every test runs under, and the fixtures that all share.

Strict everywhere: no silent change of dtype, no silent change of rank, warnings are errors
(pyproject.toml), and in the nightly run the annotations of flowjax are checked at each call. The
tests run in 32 bits unless they ask for more.
"""

import gc
import itertools
import os
import zlib

# A test worker has about one core to itself. JAX and BLAS read these when they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    one_thread = "--xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one_thread}".strip()
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def is_nightly(config):
    """Whether all tests run, as in `make test-all`, and not the part that runs by day."""
    return config.option.markexpr != "not nightly"


def pytest_configure(config):
    # Comes before the first import of flowjax. It takes a tenth of the time of all tests.
    if is_nightly(config):
        jaxtyping.install_import_hook("flowjax", "beartype.beartype")


def enable_x64(enabled: bool):
    """A context manager that turns 64-bit numbers on or off, in every supported JAX."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax.experimental import enable_x64 as older_enable_x64

    return older_enable_x64(enabled)


def thinned(items):
    """The tests, with so many cases of each marked `thin(cases)`, spread evenly over its table.

    Where they begin differs from test to test, so that each case of a table meets some of them.
    """
    for _, group in itertools.groupby(items, lambda item: item.nodeid.partition("[")[0]):
        cases = list(group)
        mark = cases[0].get_closest_marker("thin")
        keep = min(mark.args[0], len(cases)) if mark else len(cases)
        start = zlib.crc32(cases[0].nodeid.partition("[")[0].encode())
        chosen = sorted((start + i * len(cases) // keep) % len(cases) for i in range(keep))
        yield from (cases[i] for i in chosen)


def pytest_collection_modifyitems(config, items):
    """First what takes long at once, so that no worker waits for it alone at the end."""
    if not is_nightly(config):
        kept = list(thinned(items))
        config.hook.pytest_deselected(items=list(set(items) - set(kept)))
        items[:] = kept
    items.sort(key=lambda item: "test_devices" not in item.nodeid)


@pytest.fixture
def x64():
    """The test runs with 64-bit numbers."""
    with enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """The test runs twice, in 32 and in 64 bits, and receives the dtype to compute in."""
    with enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


@pytest.fixture
def unchecked():
    """Annotations are not checked, so bad input meets flowjax's own errors, as in use."""
    checks_off = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", checks_off)


@pytest.fixture
def standard_promotion():
    """JAX's standard dtype promotion, for code of others that does not hold to the strict one."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def small_heap():
    """What lives already is no concern of the garbage collector.

    JAX's check for leaks runs the collector at the end of every trace, which takes seconds a time
    among all that a worker's earlier tests have left in caches.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
