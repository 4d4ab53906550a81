"""The reversible adjoint against the same discrete scheme, differentiated plainly."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

LABEL = jnp.asarray(3)


def field(t, x, args):
    """A nonlinear field that depends on time, on a float and on an integer."""
    rate, label = args
    return jnp.sin(rate * x) + 0.1 * label.astype(x.dtype) * jnp.cos(t).astype(x.dtype)


def diffusion(t, x, args):
    return 0.3 * args[0] * jnp.cos(x)


SDE = fj.SDE(field, diffusion)


def coupled_in_numpy(rate, x0, ts, step, coupling):
    """McCallum and Foster's definition 2.1, in a plain loop."""

    def u(t, x):
        return np.sin(rate * x) + 0.3 * np.cos(t)

    def psi(t0, t1, x):
        h = t1 - t0
        if step is fj.euler:
            return h * u(t0, x)
        return h * u(t0 + h / 2, x + h / 2 * u(t0, x))

    y, z = x0, x0
    for t0, t1 in itertools.pairwise(ts):
        y = coupling * y + (1 - coupling) * z + psi(t0, t1, z)
        z = z - psi(t1, t0, y)
    return y


@pytest.mark.parametrize("step", [fj.euler, fj.midpoint])
@pytest.mark.parametrize("coupling", [0.9, 1.0])
def test_the_coupled_solve_is_the_scheme_of_the_paper(x64, step, coupling):
    ts, x0 = np.linspace(0.0, 1.0, 51) ** 1.5, np.array([0.3, -0.5])
    adjoint = fj.Reversible(coupling)
    x1 = fj.solve(field, x0, ts, (1.3, LABEL), step=step, adjoint=adjoint)
    np.testing.assert_allclose(x1, coupled_in_numpy(1.3, x0, ts, step, coupling), rtol=1e-12)


def test_its_gradient_is_that_of_the_same_scheme_differentiated_plainly(x64):
    def plain(rate, x0, ts):
        def body(pair, interval):
            (y, z), (t0, t1), args = pair, interval, (rate, LABEL)
            y = 0.99 * y + 0.01 * z + fj.midpoint(field, t0, t1, z, args) - z
            return (y, z - (fj.midpoint(field, t1, t0, y, args) - y)), None

        return jnp.sum(jax.lax.scan(body, (x0, x0), (ts[:-1], ts[1:]))[0][0] ** 2)

    def reversible(rate, x0, ts):
        adjoint = fj.Reversible(0.99)
        return jnp.sum(
            fj.solve(field, x0, ts, (rate, LABEL), step=fj.midpoint, adjoint=adjoint) ** 2
        )

    arguments = (jnp.asarray(1.3), jnp.array([0.3, -0.5]), fj.uniform_grid(100))
    expected = jax.grad(plain, (0, 1, 2))(*arguments)
    got = jax.jit(jax.grad(reversible, (0, 1, 2)))(*arguments)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), got, expected
    )


def reversible_heun_end(matrix, x0, n, length):
    """The end of a solve of dX = matrix X dt, which is an SDE without noise."""
    sde = fj.SDE(lambda t, x, args: matrix @ x, lambda t, x, args: jnp.zeros_like(x))
    ts, zero = length * fj.uniform_grid(n), jnp.zeros((n, *x0.shape))
    return np.asarray(fj.solve(sde, x0, ts, step=fj.reversible_heun, increments=zero))


@pytest.mark.parametrize("theta", [1.0, 30.0, -3.0])
def test_the_parasitic_mode_of_reversible_heun_grows_where_the_field_contracts(theta, x64):
    """With a = arsinh(h theta) the eigenvalues of the pair are exp(-a) and -exp(a)."""
    n = 200
    a = np.arcsinh(theta / n)
    modes = np.array([np.exp(-a), -np.exp(a)])
    # Of one equal pair: x after no step and after one, by the two modes.
    first = 1 - theta / n + (theta / n) ** 2 / 2
    weights = np.linalg.solve([[1, 1], modes], [1, first])
    expected = weights @ modes**n
    got = reversible_heun_end(jnp.array([[-theta]]), jnp.ones(1), n, 1.0)[0]
    assert got == pytest.approx(expected, rel=1e-9)
    if theta == 30:
        # In place of exp(-30), since it began with the error of one step, (h theta)^4 / 16.
        assert abs(got) > 1e8


@pytest.mark.parametrize(("turned", "stable"), [(0.99, True), (1.01, False)])
def test_reversible_heun_is_stable_on_rotations_up_to_one_radian_a_step(turned, stable, x64):
    n = 1000
    matrix = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    end = reversible_heun_end(matrix, jnp.array([1.0, 0.0]), n, turned * n)
    assert (np.linalg.norm(end) < 20) == stable


def test_the_coupled_solve_keeps_the_order_of_its_step(x64):
    def error(n):
        ts = fj.uniform_grid(n)
        adjoint = fj.Reversible(0.99)
        x1 = fj.solve(fj.linear_field, 1.0, ts, 1.0, step=fj.midpoint, adjoint=adjoint)
        return abs(float(x1) - np.exp(-1.0))

    assert np.log2(error(100) / error(200)) == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("step", [fj.euler, fj.heun, fj.midpoint, fj.rk4])
def test_the_parasitic_mode_dies_out_up_to_a_contraction_of_one_minus_the_coupling(x64, step):
    """The law of the docstring and of docs/adjoints.md, at half the limit and at twice it."""

    def end(contraction):
        ts = fj.uniform_grid(2000, 0.0, 2000 * contraction)
        x1 = fj.solve(fj.linear_field, 1.0, ts, 1.0, step=step, adjoint=fj.Reversible(0.99))
        return abs(float(x1))

    assert end(0.005) < 2 * np.exp(-10.0)
    assert end(0.02) > np.exp(-10.0)


def sde_gradient(adjoint, key):
    def loss(rate):
        x0, ts = jnp.array([0.3, -0.5]), fj.uniform_grid(100)
        path = fj.trajectory(
            SDE, x0, ts, (rate, LABEL), step=fj.reversible_heun, key=key, adjoint=adjoint, every=20
        )
        return jnp.sum(path**2)

    return jax.jit(jax.value_and_grad(loss))(jnp.asarray(1.3))


def test_reversible_heun_has_the_same_gradient_by_every_adjoint(x64):
    key = jax.random.key(0)
    expected = sde_gradient(fj.Direct(), key)
    for adjoint in (fj.Reversible(), fj.Checkpointed()):
        np.testing.assert_allclose(sde_gradient(adjoint, key), expected, rtol=1e-10)


def test_reversible_heun_is_diffraxs(x64, standard_promotion):
    ts, x0, key = fj.uniform_grid(64), jnp.array([0.3, -0.5]), jax.random.key(1)
    control = diffrax.LinearInterpolation(ts, fj.brownian_path(key, ts, x0))
    terms = diffrax.MultiTerm(
        diffrax.ODETerm(field),
        diffrax.ControlTerm(lambda t, x, args: jnp.diag(diffusion(t, x, args)), control),
    )
    theirs = diffrax.diffeqsolve(
        terms,
        diffrax.ReversibleHeun(),
        ts[0],
        ts[-1],
        None,
        x0,
        (jnp.asarray(1.3), LABEL),
        stepsize_controller=diffrax.StepTo(ts),
    ).ys[0]
    ours = fj.solve(SDE, x0, ts, (1.3, LABEL), step=fj.reversible_heun, key=key)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_reversible_heun_converges_to_the_stratonovich_solution(x64):
    """Geometric noise: X_1 = exp(mu + sigma W_1); the strong error falls with the step."""
    sde = fj.SDE(lambda t, x, args: 0.1 * x, lambda t, x, args: 0.4 * x)
    ts = fj.uniform_grid(512)
    keys = jax.random.split(jax.random.key(2), 400)
    fine = jax.vmap(lambda key: fj.brownian_increments(key, ts, jnp.zeros(())))(keys)
    exact = jnp.exp(0.1 + 0.4 * fine.sum(1))

    def error(k):
        coarse = jax.vmap(lambda dw: fj.coarsen(dw, k))(fine)
        ends = jax.vmap(
            lambda dw: fj.solve(sde, 1.0, ts[::k], step=fj.reversible_heun, increments=dw)
        )(coarse)
        return float(jnp.sqrt(jnp.mean((ends - exact) ** 2)))

    assert np.log2(error(32) / error(8)) / 2 == pytest.approx(1.0, abs=0.2)


def test_its_memory_does_not_grow_with_the_number_of_steps():
    def temporary_bytes(adjoint, n):
        def loss(rate):
            ts = fj.uniform_grid(n)
            return jnp.sum(fj.solve(field, jnp.ones(1000), ts, (rate, LABEL), adjoint=adjoint))

        compiled = jax.jit(jax.grad(loss)).lower(jnp.asarray(1.3)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # DESIGN's figures for n = 4096 over n = 64.
    assert temporary_bytes(fj.Reversible(), 4096) <= 1.5 * temporary_bytes(fj.Reversible(), 64)
    assert temporary_bytes(fj.Checkpointed(), 4096) <= 12 * temporary_bytes(fj.Checkpointed(), 64)


@pytest.mark.parametrize("coupling", [0.0, -0.5, 1.5, "half"])
def test_a_coupling_outside_its_range_is_refused(unchecked, coupling):
    with pytest.raises(ValueError, match="coupling must be a float in"):
        fj.solve(fj.linear_field, 1.0, fj.uniform_grid(4), 1.0, adjoint=fj.Reversible(coupling))


def test_a_method_that_cannot_be_run_backward_is_refused_where_there_is_noise():
    with pytest.raises(TypeError, match="needs a symmetric method"):
        fj.solve(
            SDE,
            jnp.ones(2),
            fj.uniform_grid(4),
            (1.3, LABEL),
            key=jax.random.key(0),
            adjoint=fj.Reversible(),
        )


def test_a_reversible_solve_without_a_digit_left_is_refused():
    ts = fj.uniform_grid(20_000)
    with pytest.raises(ValueError, match="coupling must be closer to 1"):
        fj.solve(fj.linear_field, 1.0, ts, 1.0, adjoint=fj.Reversible())


def test_the_parasitic_mode_of_a_reversible_solve_dies_out_as_its_docstring_says(x64):
    """Decay by theta = 10 over n = 1000 steps: stable for n (1 - lambda) = 15, not for 1."""
    ts = fj.uniform_grid(1000)

    def error(coupling):
        adjoint = fj.Reversible(coupling)
        x1 = fj.solve(fj.linear_field, 1.0, ts, 10.0, step=fj.midpoint, adjoint=adjoint)
        return abs(float(x1) - np.exp(-10.0))

    solution = np.exp(-10.0)
    assert error(1 - 15e-3) < solution / 2
    assert error(1 - 1e-3) > solution


def test_a_reversible_solve_in_16_bits_is_refused():
    x0 = jnp.ones(2, jnp.bfloat16)
    with pytest.raises(TypeError, match=r"state of 32 bits or more.*got dtypes \['bfloat16'\]"):
        fj.solve(fj.linear_field, x0, fj.uniform_grid(8), 1.0, adjoint=fj.Reversible())
