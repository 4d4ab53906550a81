"""The reversible adjoint against the same discrete scheme, differentiated plainly."""

import itertools

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


# However a parameter is given.

WAYS = {
    "a Python float": float,
    "a NumPy scalar": np.float64,
    "a NumPy array": np.asarray,
    "a weakly typed array": jnp.asarray,
    "a float32 array": jnp.float32,
}
INCREMENTS = 0.2 * np.random.default_rng(0).standard_normal((20, 2))


def decay(t, x, args):
    """dx/dt = -rate x, of args with another array and a label beside the rate."""
    return -args["rate"] * x + 0 * args["others"][0] * args["others"][1].astype(x.dtype)


NOISY_DECAY = fj.SDE(decay, lambda t, x, args: args["rate"] * (1 + x * x) / 4)


def decayed(rate, x0=1.0):
    args = {"rate": rate, "others": (jnp.float32(2.0), LABEL)}
    settings = {"step": fj.midpoint, "adjoint": fj.Reversible()}
    return fj.solve(decay, x0, fj.uniform_grid(20), args, **settings)


def noisily_decayed(rate, adjoint=fj.Reversible()):
    args = {"rate": rate, "others": (jnp.float32(2.0), LABEL)}
    increments = jnp.asarray(INCREMENTS[:, 0])
    settings = {"increments": increments, "step": fj.reversible_heun, "adjoint": adjoint}
    return fj.solve(NOISY_DECAY, 1.0, fj.uniform_grid(20), args, **settings)


def linear(t, x, rate):
    return -rate * x


def normal_log_prob(x):
    return -x * x / 2


def likelihood(rate):
    settings = {"step": fj.midpoint, "adjoint": fj.Reversible()}
    return fj.log_likelihood(
        0.6, linear, normal_log_prob, fj.uniform_grid(20), args=rate, **settings
    )


def derivative(function, rate):
    """By a complex step, which has no error of differences."""
    return function(rate + 1e-30j).imag / 1e-30


def coupled_decay(rate):
    """The end from x0 = 1 of dx/dt = -rate x, by the scheme in `coupled_in_numpy`."""
    y = z = 1.0
    a = rate / 20
    for _ in range(20):
        y = 0.999 * y + 0.001 * z + (-a + a * a / 2) * z
        z = z - (a + a * a / 2) * y
    return y


def test_the_gradient_is_the_same_however_a_parameter_is_given():
    """Of a solve, of a noisy one, and of a likelihood: log p_0(x_0) + rate, with x_0 from x_1."""
    expected = {
        decayed: derivative(coupled_decay, 1.3),
        noisily_decayed: jax.grad(noisily_decayed)(jnp.float32(1.3), fj.Direct()),
        likelihood: derivative(lambda rate: rate - (0.6 * coupled_decay(-rate)) ** 2 / 2, 1.3),
    }
    for end, wanted in expected.items():
        compiled = jax.jit(jax.grad(end))
        for way, given in WAYS.items():
            for gradient in (jax.grad(end), compiled):
                np.testing.assert_allclose(gradient(given(1.3)), wanted, rtol=2e-5, err_msg=way)


def test_a_python_float_has_its_gradient_in_every_transformation():
    expected = derivative(coupled_decay, 1.3)
    x0s = jnp.array([0.5, 1.0, -2.0])
    one, pull = jax.vjp(decayed, 1.3)
    np.testing.assert_allclose(pull(jnp.ones_like(one))[0], expected, rtol=2e-5)
    np.testing.assert_allclose(jax.jacrev(decayed)(1.3), expected, rtol=2e-5)
    each = jax.vmap(jax.grad(decayed), in_axes=(None, 0))(1.3, x0s)
    np.testing.assert_allclose(each, expected * x0s, rtol=2e-5)
    in_a_tree = jax.grad(lambda tree: decayed(tree["rate"], tree["x0"][0]))
    got = in_a_tree({"rate": 1.3, "x0": (jnp.float32(-2.0), 7.0)})
    np.testing.assert_allclose(got["rate"], -2 * expected, rtol=2e-5)
    assert got["x0"][1] == 0


# Second derivatives, and batches.


def noisy_loss(rate, x0, increments, adjoint=fj.Reversible()):
    settings = {"increments": increments, "step": fj.reversible_heun, "adjoint": adjoint}
    args, ts = {"rate": rate, "others": (jnp.ones(()), LABEL)}, fj.uniform_grid(20)
    return jnp.sum(fj.trajectory(NOISY_DECAY, x0, ts, args, every=7, **settings) ** 2)


def test_second_derivatives_of_a_reversible_solve_are_right_but_for_forward_mode_within(x64):
    """Reverse mode may itself be differentiated in any mode; forward mode may not be."""

    def total(rate, adjoint):
        losses = jax.vmap(lambda dw: noisy_loss(rate, 0.5, dw, adjoint), in_axes=1)(INCREMENTS)
        return jnp.sum(losses)

    ours = lambda rate: total(rate, fj.Reversible())  # noqa: E731
    expected = jax.jit(jax.hessian(lambda rate: total(rate, fj.Direct())))(1.3)
    for outer in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(outer(jax.jacrev(ours)))(1.3), expected, rtol=1e-9)
    for forward in (jax.jacfwd(ours), jax.jacrev(jax.jacfwd(ours))):
        with pytest.raises(TypeError, match="forward-mode autodiff"):
            forward(1.3)


def test_a_batch_has_the_gradients_of_its_samples(x64):
    """One for all samples where they share a parameter, one each where it is asked for."""
    x0, own = jnp.array(0.5), jnp.array([1.3, 0.8])  # of one start: the noise makes the batch
    gradient = jax.jit(jax.grad(noisy_loss))
    alone = [gradient(1.3, x0, dw) for dw in INCREMENTS.T]

    def each(rates, axis):
        return jax.vmap(noisy_loss, in_axes=(axis, None, 1))(rates, x0, INCREMENTS)

    per_sample = jax.vmap(jax.grad(noisy_loss), in_axes=(None, None, 1))
    np.testing.assert_allclose(jax.jit(per_sample)(1.3, x0, INCREMENTS), alone, rtol=1e-10)
    shared = jax.jit(jax.grad(lambda rate: jnp.sum(each(rate, None))))(1.3)
    np.testing.assert_allclose(shared, sum(alone), rtol=1e-10)
    of_own = jax.jit(jax.grad(lambda rates: jnp.sum(each(rates, 0))))(own)
    expected = [alone[0], gradient(0.8, x0, INCREMENTS[:, 1])]
    np.testing.assert_allclose(of_own, expected, rtol=1e-10)


def test_a_field_may_use_the_name_of_the_axis_of_its_batch(x64):
    """Samples that attract each other, against the same as one state of all of them."""
    x0s, ts = jnp.array([0.3, -0.5, 1.0]), fj.uniform_grid(20)
    settings = {"step": fj.midpoint, "adjoint": fj.Reversible()}

    def named(t, x, rate):
        return jnp.sin(x) - rate * (x - jax.lax.pmean(x, "samples"))

    def written_out(t, x, rate):
        return jnp.sin(x) - rate * (x - jnp.mean(x))

    def by_name(rate, x0s):
        end = lambda x0: fj.solve(named, x0, ts, rate, **settings)  # noqa: E731
        return jnp.sum(jax.vmap(end, axis_name="samples")(x0s) ** 3)

    def as_one(rate, x0s):
        return jnp.sum(fj.solve(written_out, x0s, ts, rate, **settings) ** 3)

    got, expected = (jax.jit(jax.grad(f, (0, 1)))(0.7, x0s) for f in (by_name, as_one))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), got, expected)


def test_a_batch_takes_the_memory_of_one_state_of_all_samples():
    """The gradient of a shared network: not one for each sample."""
    samples, width = 512, 64

    def network(weights, x):
        return jnp.tanh(x @ weights[0]) @ weights[1]

    def alone(x0, weights):
        field = lambda t, x, weights: network(weights, x)  # noqa: E731
        return fj.solve(field, x0, fj.uniform_grid(8), weights, adjoint=fj.Reversible())

    def temporary_bytes(solved):
        gradient = jax.jit(jax.grad(lambda weights, x0: jnp.sum(solved(x0, weights))))
        weights = (np.zeros((2, width), np.float32), np.zeros((width, 2), np.float32))
        analysis = gradient.lower(weights, np.zeros((samples, 2), np.float32)).compile()
        return analysis.memory_analysis().temp_size_in_bytes

    by_vmap = temporary_bytes(jax.vmap(alone, in_axes=(0, None)))
    assert by_vmap < samples * 4 * width * 4
    assert by_vmap <= 1.1 * temporary_bytes(alone)


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


def test_a_method_of_levy_areas_is_refused():
    """Backward the increment of a step is the negative one, but its area the same."""

    def step(sde, t0, t1, x, args, dw, memory):
        return x + dw[0], memory

    of_areas = fj.Stepper(lambda *args: jnp.zeros(()), step, symmetric=True, levy_area=True)
    how = {"key": jax.random.key(0), "step": of_areas, "adjoint": fj.Reversible()}
    with pytest.raises(TypeError, match="adjoint Reversible does not take steps with Levy areas"):
        fj.solve(SDE, jnp.ones(2), fj.uniform_grid(4), (1.0, LABEL), **how)


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


def test_a_reversible_solve_in_half_precision_is_that_in_32_bits_rounded():
    def end(x0):
        ts, adjoint = fj.uniform_grid(8), fj.Reversible()
        return fj.solve(fj.linear_field, x0, ts, 0.5, step=fj.midpoint, adjoint=adjoint)

    half = jnp.full(2, 1.5, jnp.bfloat16)
    value, slope = jax.value_and_grad(lambda x0: end(x0).sum().astype(jnp.float32))(half)
    np.testing.assert_allclose(value, 2 * end(half.astype(jnp.float32))[0], rtol=2**-6)
    np.testing.assert_allclose(slope.astype(jnp.float32), np.exp(-0.5), rtol=2**-6)
