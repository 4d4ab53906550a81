"""The certificate of a solve: no difference where there is none, and one where there is."""

import importlib.metadata
import itertools
import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax import __main__ as self_check
from flowjax.interop import Cost, CrossCheck, cross_check, from_diffrax
from flowjax.interop.cross_check import _difference
from flowjax.interop.order import coarsened, measured_order
from flowjax.solver.stepper import name_of
from tests.conftest import enable_x64
from tests.solver.random_checks import assert_near

# diffrax and the packages under it promote dtypes in JAX's standard way.
pytestmark = pytest.mark.usefixtures("x64", "standard_promotion")

KEY, X0, THETA = jax.random.key(0), np.array([0.5, -1.0, 2.0]), 1.3
TS = np.linspace(0.0, 1.0, 257)


def field(t, x, args):
    return args * jnp.sin(x) + t


# Noise that rules, so that its order is seen.
NOISY = fj.SDE(lambda t, x, args: -x, lambda t, x, args: args * x)
ADDITIVE = fj.SDE(lambda t, x, args: jnp.sin(3 * x), lambda t, x, args: args)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("problem", "step", "order"),
    [
        (field, fj.euler, 1.0),
        (field, fj.heun, 2.0),
        (field, fj.midpoint, 2.0),
        (NOISY, fj.euler_maruyama, 0.5),
        (NOISY, fj.milstein, 1.0),
        (NOISY, fj.stochastic_heun, 1.0),
        (ADDITIVE, fj.reversible_heun, 1.0),
        (ADDITIVE, from_diffrax(diffrax.ShARK()), 1.5),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_cross_check_finds_no_difference_and_the_order_of_the_method(problem, step, order):
    key = KEY if isinstance(problem, fj.SDE) else None
    found = cross_check(problem, X0, TS, THETA, step=step, key=key, paths=256)
    assert found.difference < 1e-12
    assert found.gradient_difference < 1e-12
    assert abs(found.order - order) < 0.2
    assert f"256 steps of {name_of(step)} beside diffrax." in str(found)


@pytest.mark.nightly
def test_a_cross_check_sees_a_step_that_differs():
    def twice_the_noise(sde, t0, t1, x, args, dw):
        return x + (t1 - t0) * sde.drift(t0, x, args) + 2 * sde.contract(t0, x, args, dw)

    found = cross_check(
        NOISY, X0, TS[::32], THETA, step=twice_the_noise, solver=diffrax.Euler(), key=KEY, paths=1
    )
    assert found.difference > 1e-2
    assert found.gradient_difference > 1e-2


ONES, NAN, INF = np.ones(3), np.array([np.nan]), np.array([np.inf])


@pytest.mark.parametrize(
    ("ours", "theirs", "off"),
    [
        ((ONES, NAN), (ONES, ONES[:1]), np.nan),
        ((ONES, ONES[:1]), (ONES, NAN), np.nan),
        ((NAN, ONES), (NAN, ONES), np.nan),
        ((INF, ONES), (INF, ONES), 0.0),
        ((INF, ONES), (-INF, ONES), np.inf),
        ((INF, ONES), (ONES[:1], ONES), np.inf),
        # Beside an infinity, and of arrays of other sizes.
        (np.array([np.inf, 3.0]), np.array([np.inf, 2.0]), 0.5),
        ((1e6 * ONES, 1.1 * ONES), (1e6 * ONES, ONES), 0.1),
        ((ONES, 0.1 * ONES), (ONES, 0 * ONES), 0.1),
        (ONES, ONES, 0.0),
        ((ONES[:0], ONES), (ONES[:0], 2 * ONES), 0.5),
    ],
)
def test_the_difference_is_that_of_each_array_and_never_hides_nan(ours, theirs, off):
    np.testing.assert_allclose(_difference(ours, theirs), off, rtol=1e-12)


@pytest.mark.parametrize(
    ("of_h", "order"),
    [
        (lambda h: h, 1.0),
        (lambda h: h**2, 2.0),
        (lambda h: h**4, None),  # 4e-9 between the finest two, beside a rounding of 1e-7
        (lambda h: jnp.where(h > 1 / 64, jnp.inf, h), None),
        (lambda h: jnp.where(h > 1 / 64, jnp.nan, h), None),
        (lambda h: 0 * h, None),
    ],
)
def test_an_order_is_not_told_of_rounding_or_of_what_is_not_finite(of_h, order):
    """Of a method with the error h^p, in 32 bits."""

    def run(x, dw, ts):
        return x * (1 + of_h(ts[1] - ts[0]))

    ts = jnp.linspace(0, 1, 65, dtype=jnp.float32)
    found = measured_order(run, jnp.ones(4, jnp.float32), ts, None, None, None, False)
    assert found == (order and pytest.approx(order, abs=0.01))


def test_an_order_is_the_mean_over_the_paths_of_the_keys_in_parts_too(monkeypatch):
    """Of the ends W_1 + sum dW^2, by NumPy."""
    keys, ts = jax.random.split(KEY, 5), np.linspace(0.0, 1.0, 9)
    like = jax.ShapeDtypeStruct((2,), float)

    def draw(key):
        return fj.brownian_increments(key, ts, like)

    def run(problem, dw, ts):
        return problem + jnp.sum(dw + dw**2, 0)

    paths = np.stack([draw(key) for key in keys])
    ends = [np.sum(paths.reshape(5, -1, k, 2).sum(2) ** 2, 1) for k in (1, 2, 4, 8)]
    apart = [np.linalg.norm(a - b, axis=1).mean() for a, b in itertools.pairwise(ends)]
    order = np.polyfit(np.log([1, 2, 4]), np.log(apart), 1)[0]
    monkeypatch.setattr("flowjax.interop.order._NUMBERS", 32)  # two paths at once
    found = measured_order(run, np.zeros(2), ts, draw(keys[0]), draw, keys, False)
    assert found == pytest.approx(order, rel=1e-9)


def test_coarsened_areas_are_those_of_the_sums_of_the_path():
    """Between the area and the increment there is no covariance, and its variance is h / 12."""
    ts, keys = np.linspace(0.0, 2.0, 13) ** 1.5, jax.random.split(jax.random.key(1), 20_000)
    like = jax.ShapeDtypeStruct((), float)
    pairs = jax.jit(jax.vmap(lambda key: fj.brownian_increments(key, ts, (like, like))))(keys)
    coarse = jax.jit(jax.vmap(lambda pair: coarsened(pair, ts, 6)))(pairs)
    dw, other = (np.asarray(part)[:, -1] for part in coarse)
    h, n = ts[12] - ts[6], len(keys)
    # By NumPy: the integral of the path, each step of which has its own area.
    fine, areas = (np.asarray(part)[:, 6:] for part in pairs)
    integral = (np.cumsum(fine, 1) - fine / 2 + areas / np.sqrt(12)) @ np.diff(ts)[6:]
    whole = fine.sum(1)
    np.testing.assert_allclose(dw, whole, rtol=1e-12)
    np.testing.assert_allclose(other / np.sqrt(12), integral / h - whole / 2, atol=1e-12)
    # Five standard errors on each: a false alarm in 1.7 million.
    assert_near(np.mean(other**2) / h, 1.0, np.sqrt(2 / n), "variance")
    assert_near(np.mean(other * dw) / h, 0.0, np.sqrt(1 / n), "covariance")


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="key must be left out: a field has no noise"):
        cross_check(field, X0, TS, THETA, key=KEY)
    with pytest.raises(ValueError, match="give key or increments, one of the two"):
        cross_check(NOISY, X0, TS, THETA)
    with pytest.raises(ValueError, match="solver must be given for a step that diffrax has not"):
        cross_check(field, X0, TS, THETA, step=fj.rk4)
    with pytest.raises(ValueError, match="ItoMilstein of diffrax takes a state of one array"):
        cross_check(NOISY, {"a": X0}, TS, THETA, step=fj.milstein, key=KEY)
    with pytest.raises(TypeError, match="solver must be one of diffrax"):
        cross_check(field, X0, TS, THETA, solver="euler")
    with pytest.raises(ValueError, match="paths must be a static positive int"):
        cross_check(field, X0, TS, THETA, paths=0)
    with pytest.raises(ValueError, match="got a batch of keys of shape"):
        cross_check(NOISY, X0, TS, THETA, key=jax.random.split(KEY, 3))


@pytest.mark.nightly
def test_the_self_check_says_that_both_agree_with_the_order_of_the_method(capsys):
    """In 32 bits, as it is run; the strong order for additive noise is 1."""
    with enable_x64(False):
        assert self_check.main() == 0
    out = capsys.readouterr().out
    assert "agree to rounding" in out
    (order,) = (line for line in out.splitlines() if line.startswith("order "))
    assert abs(float(order.split()[1]) - 1) < 0.2


@pytest.mark.parametrize(
    ("off", "verdict"),
    [(1e-7, "agree to"), (1e-3, "DIFFER by more than"), (np.nan, "DIFFER by more than")],
)
def test_the_self_check_prints_versions_devices_the_table_and_a_verdict(
    off, verdict, capsys, monkeypatch
):
    cost = Cost(0.25, 2e-5, None)
    found = CrossCheck(100, "euler_maruyama", "Euler", 0.0, off, None, (cost,) * 2, (cost,) * 2)
    monkeypatch.setattr("flowjax.interop.cross_check", lambda *args, **how: found)
    assert self_check.main() == ("DIFFER" in verdict)
    out = capsys.readouterr().out
    for package in ("jax", "jaxlib", "equinox", "optax", "diffrax"):
        assert f"{package} {importlib.metadata.version(package)}" in out
    for words in (
        *(f"flowjax {fj.__version__}, Python ", f"devices: {jax.devices()[0]}"),
        *("100 steps of euler_maruyama beside diffrax.Euler", "0.25 s", "20 us", "unknown"),
        *(f"{off:.1e}", "not measured", f"flowjax and diffrax {verdict} rounding"),
    ):
        assert words in out


@pytest.mark.parametrize("fails", ["an import", "the solve"])
def test_a_self_check_that_fails_prints_the_versions_and_the_traceback(fails, capsys, monkeypatch):
    def broken(*args, **how):
        raise RuntimeError("no such thing")

    if fails == "an import":
        monkeypatch.setitem(sys.modules, "flowjax.interop", None)
    else:
        monkeypatch.setattr("flowjax.interop.cross_check", broken)
    assert self_check.main() == 1
    out = capsys.readouterr().out
    assert f"diffrax {importlib.metadata.version('diffrax')}" in out
    assert "Traceback" in out
    assert "FAILED" in out
    assert ("no such thing" if fails == "the solve" else "flowjax.interop") in out
