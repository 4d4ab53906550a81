"""Gradients through the solve are the exact gradients of the discrete solver, for every adjoint."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import flowjax as fj
from tests.solver.oracles import (
    array_problem,
    assert_close,
    cast,
    leafwise,
    numpy_increments,
    tree_problem,
    uneven_grid,
)

pytestmark = pytest.mark.usefixtures("x64")

ADJOINTS = {
    "the default": fj.Checkpointed(),
    "three segments": fj.Checkpointed(segments=3),
    "direct": fj.Direct(),
    "truncated to all steps": fj.Truncated(last=97),
}
# A prime number of steps, so that no segment length divides it; beyond the one-level threshold.
N = 97


def linear(t, x, args):
    return args * x


def geometric(mu_sigma_index):
    return lambda t, x, args: args[mu_sigma_index] * x


GEOMETRIC = fj.SDE(geometric(0), geometric(1))


def test_eulers_gradients_on_a_linear_field_are_exact():
    """x_n = (1 + ha)^n x0, so dx_n/da = n h (1 + ha)^(n-1) x0 and dx_n/dx0 = (1 + ha)^n."""
    a, x0 = -0.8, 1.7
    end = lambda x0, a: fj.solve(linear, x0, fj.uniform_grid(N), a)  # noqa: E731
    by_x0, by_a = jax.jit(jax.grad(end, argnums=(0, 1)))(x0, a)
    h = 1 / N
    np.testing.assert_allclose(by_x0, (1 + h * a) ** N, rtol=1e-12)
    np.testing.assert_allclose(by_a, N * h * (1 + h * a) ** (N - 1) * x0, rtol=1e-12)


def exact_geometric_gradients(x0, ts, mu, sigma, dws):
    """Of X = x0 prod_k f_k, f_k = 1 + mu h_k + sigma dW_k, in x0, ts, (mu, sigma) and dW."""
    h = np.diff(ts)
    f = 1 + mu * h + sigma * dws
    x = x0 * np.prod(f)
    by_h = x * mu / f
    by_ts = np.concatenate([[0.0], by_h]) - np.concatenate([by_h, [0.0]])
    return x / x0, by_ts, np.array([x * np.sum(h / f), x * np.sum(dws / f)]), x * sigma / f


@pytest.mark.parametrize("adjoint", ADJOINTS.values(), ids=ADJOINTS)
def test_euler_maruyamas_gradients_on_geometric_brownian_motion_are_exact(adjoint):
    """In the state, the time grid, the drift's and the diffusion's coefficient, the increments."""
    ts, args, x0 = uneven_grid(N), np.array([0.4, 0.7]), 1.3
    dws = numpy_increments(ts, np.zeros(()))

    def end(x0, ts, args, dws):
        return fj.solve(GEOMETRIC, x0, ts, args, increments=dws, adjoint=adjoint)

    inputs = [jnp.asarray(value) for value in (x0, ts, args, dws)]
    got = jax.jit(jax.grad(end, argnums=(0, 1, 2, 3)))(*inputs)
    assert_close(got, exact_geometric_gradients(x0, ts, *args, dws), 1e-12)


def test_the_gradient_in_the_time_grid_passes_through_the_noise_of_a_key():
    """dW_k = sqrt(h_k) z_k with z fixed by the key: its rate in h_k is dW_k / (2 h_k)."""
    ts, args, key = uneven_grid(20), jnp.array([0.4, 0.7]), jax.random.key(5)
    end = lambda ts, args: fj.solve(GEOMETRIC, 1.3, ts, args, key=key)  # noqa: E731
    by_ts, by_args = jax.jit(jax.grad(end, argnums=(0, 1)))(ts, args)
    dws = np.asarray(fj.brownian_increments(key, ts, np.zeros(())))
    _, expected, expected_args, by_dw = exact_geometric_gradients(1.3, ts, *args, dws)
    by_h = by_dw * dws / (2 * np.diff(ts))
    expected = expected + np.concatenate([[0.0], by_h]) - np.concatenate([by_h, [0.0]])
    assert_close((by_ts, by_args), (expected, expected_args), 1e-12)


# Problems with everything in it: noise, time and parameters, on an array or a pytree.


def noisy_problem(n, make=array_problem):
    """The SDE, and what to differentiate in: (x0, ts, args, increments)."""
    problem = make(jnp)
    ts = uneven_grid(n)
    increments = cast(numpy_increments(ts, problem.x0), jnp.float64)
    x0, args = cast((problem.x0, problem.args), jnp.float64)
    return problem.sde, (x0, jnp.asarray(ts), args, increments)


def reward(x):
    return sum(jnp.sum(leaf * leaf * (3 + leaf)) for leaf in jax.tree.leaves(x))


def inner(a, b):
    return sum(np.vdot(*leaves) for leaves in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.mark.parametrize(("n", "segments"), [(13, (1, 3, 7, 13)), (97, (None, 7))])
def test_checkpointed_is_direct_for_any_number_of_segments(n, segments):
    """Also where the segments do not divide the steps: both n are prime."""
    sde, inputs = noisy_problem(n)

    def gradient(adjoint):
        def end(inputs):
            x0, ts, args, increments = inputs
            return reward(fj.solve(sde, x0, ts, args, increments=increments, adjoint=adjoint))

        return jax.jit(jax.grad(end))(inputs)

    expected = gradient(fj.Direct())
    for count in segments:
        assert_close(gradient(fj.Checkpointed(count)), expected, 1e-13)


@pytest.mark.parametrize(
    ("make", "adjoint"),
    [
        (tree_problem, fj.Checkpointed()),
        (array_problem, fj.Direct()),
        (array_problem, fj.Truncated(5)),
    ],
)
def test_forward_and_reverse_mode_agree(make, adjoint):
    """<v, J u> = <J^T v, u> for random u and v, through the whole trajectory."""
    sde, inputs = noisy_problem(20, make)
    generator = np.random.default_rng(11)
    random_like = lambda tree: leafwise(  # noqa: E731
        lambda leaf: generator.standard_normal(leaf.shape), tree
    )

    def path(inputs):
        x0, ts, args, increments = inputs
        return fj.trajectory(sde, x0, ts, args, increments=increments, adjoint=adjoint)

    @jax.jit
    def both_modes(inputs, u, v):
        return jax.jvp(path, (inputs,), (u,))[1], jax.vjp(path, inputs)[1](v)

    u, v = random_like(inputs), random_like(jax.eval_shape(path, inputs))
    forward, (backward,) = both_modes(inputs, u, v)
    np.testing.assert_allclose(inner(v, forward), inner(backward, u), rtol=1e-11)


@pytest.mark.parametrize("step", [fj.rk4, fj.milstein])
def test_gradients_are_the_limits_of_finite_differences(step):
    """Central differences with step 1e-5 in a random direction of all the inputs: error ~1e-10."""
    equation, (x0, ts, args, increments) = noisy_problem(15)
    if step is fj.rk4:
        equation, increments = equation.drift, None

    def end(inputs):
        x0, ts, args, increments = inputs
        return reward(fj.solve(equation, x0, ts, args, step=step, increments=increments))

    flat, unflatten = ravel_pytree((x0, ts, args, increments))
    flat = np.asarray(flat)
    value_and_gradient = jax.jit(jax.value_and_grad(lambda flat: end(unflatten(flat))))
    direction = np.random.default_rng(2).standard_normal(flat.size)
    direction = direction / np.linalg.norm(direction)
    value = lambda e: value_and_gradient(flat + e * direction)[0]  # noqa: E731
    difference = (value(1e-5) - value(-1e-5)) / 2e-5
    gradient = value_and_gradient(flat)[1]
    np.testing.assert_allclose(np.dot(gradient, direction), difference, rtol=1e-8, atol=1e-9)


def test_second_derivatives_are_exact_in_any_mixture_of_modes():
    """Of (1 + ha)^n x0: n (n-1) h^2 (1 + ha)^(n-2) x0 in a, n h (1 + ha)^(n-1) in a and x0."""
    a, x0, h = -0.8, 1.7, 1 / N

    def end(inputs):
        return fj.solve(linear, inputs[0], fj.uniform_grid(N), inputs[1])

    mixed = N * h * (1 + h * a) ** (N - 1)
    pure = N * (N - 1) * h * h * (1 + h * a) ** (N - 2) * x0
    expected = np.array([[0.0, mixed], [mixed, pure]])
    inputs = jnp.array([x0, a])
    for outer, inner in [
        (jax.jacfwd, jax.jacrev),
        (jax.jacrev, jax.jacfwd),
        (jax.jacrev, jax.jacrev),
    ]:
        got = jax.jit(outer(inner(end)))(inputs)
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


def test_a_hessian_through_noise_is_the_same_for_every_adjoint():
    sde, (x0, ts, args, increments) = noisy_problem(11)

    def hessian(adjoint):
        def end(x0):
            settings = {"step": fj.milstein, "increments": increments, "adjoint": adjoint}
            return reward(fj.solve(sde, x0, ts, args, **settings))

        return jax.jit(jax.hessian(end))(x0)

    expected = hessian(fj.Direct())
    np.testing.assert_allclose(expected, expected.T, rtol=1e-12)
    assert_close(hessian(fj.Checkpointed(segments=4)), expected, 1e-13)


def test_the_memory_of_a_stepper_is_differentiated_with_its_state():
    """Adams-Bashforth 2 on x' = -r x^2, against the gradient of the same steps written out."""

    def step(field, t0, t1, x, args, dw=None, previous=None):
        now = field(t0, x, args)
        return x + (t1 - t0) * (3 * now - previous) / 2, now

    field = lambda t, x, r: -r * x * x  # noqa: E731
    stepper = fj.Stepper(lambda field, t0, x0, args: field(t0, x0, args), step)
    ts = jnp.asarray(uneven_grid(7))

    def written_out(x, r):
        previous = -r * x * x
        for h in np.diff(ts):
            now = -r * x * x
            x, previous = x + h * (3 * now - previous) / 2, now
        return x

    expected = jax.jit(jax.grad(written_out, argnums=(0, 1)))(0.8, 1.3)
    for adjoint in (fj.Checkpointed(), fj.Checkpointed(segments=3), fj.Direct()):

        def end(x0, r, adjoint=adjoint):
            return fj.solve(field, x0, ts, r, step=stepper, adjoint=adjoint)

        assert_close(jax.jit(jax.grad(end, argnums=(0, 1)))(0.8, 1.3), expected, 1e-14)


# Truncated: the gradient by hand, with stop_gradient on the state n - k steps from the start.


def by_hand(x0, ts, args, increments, last):
    """Euler-Maruyama on the array problem as a Python loop; all states, the early ones stopped."""
    sde = array_problem(jnp).sde
    x, path, n = x0, [], len(ts) - 1
    for i in range(n):
        if 0 < i == n - last:
            x, path = jax.lax.stop_gradient((x, path))
        h = ts[i + 1] - ts[i]
        x = x + h * sde.drift(ts[i], x, args) + sde.diffusion(ts[i], x, args) * increments[i]
        path.append(x)
    return jnp.stack(path)


@pytest.mark.parametrize("last", [1, 3])
def test_truncated_is_the_gradient_by_hand_with_the_early_state_stopped(last):
    """Of the last state and of all those after x0, in reverse and in forward mode."""
    sde, inputs = noisy_problem(4)

    def by_flowjax(inputs):
        x0, ts, args, increments = inputs
        settings = {"increments": increments, "adjoint": fj.Truncated(last)}
        end = fj.solve(sde, x0, ts, args, **settings)
        path = fj.trajectory(sde, x0, ts, args, **settings)
        return 2 * reward(end) + reward(path[1:])

    def wanted(inputs):
        path = by_hand(*inputs, last)
        return 2 * reward(path[-1]) + reward(path)

    @jax.jit
    def both_modes(inputs, u):
        return jax.grad(by_flowjax)(inputs), jax.jvp(by_flowjax, (inputs,), (u,))[1]

    expected = jax.jit(jax.grad(wanted))(inputs)
    direction = leafwise(np.cos, inputs)
    gradient, forward = both_modes(inputs, direction)
    assert_close(gradient, expected, 1e-13)
    np.testing.assert_allclose(forward, inner(expected, direction), rtol=1e-12)
    assert not np.any(expected[0])


# Where parameters live.


class Decay(eqx.Module):
    rate: jax.Array
    name: str = "decay"

    def __call__(self, t, x, args):
        return -self.rate * x

    def drift(self, t, x, args):
        return -self.rate * x

    def diffusion(self, t, x, args):
        return self.rate * x


def test_gradients_reach_parameters_closed_over_or_held_in_a_module():
    rate, ts = 0.8, fj.uniform_grid(N)
    expected = -N * (1 / N) * (1 - rate / N) ** (N - 1)
    ways = {
        "closed over": jax.grad(lambda r: fj.solve(lambda t, x, args: -r * x, 1.0, ts))(rate),
        "in args": jax.grad(lambda r: fj.solve(lambda t, x, r: -r * x, 1.0, ts, r))(rate),
        "module": eqx.filter_grad(lambda field: fj.solve(field, 1.0, ts))(Decay(jnp.array(rate))),
        "bound method": eqx.filter_grad(lambda model: fj.solve(model.drift, 1.0, ts))(
            Decay(jnp.array(rate))
        ),
        "in args as a module": eqx.filter_grad(
            lambda model: fj.solve(lambda t, x, model: model(t, x, None), 1.0, ts, model)
        )(Decay(jnp.array(rate))),
    }
    for way, got in ways.items():
        got = got.rate if isinstance(got, Decay) else got
        np.testing.assert_allclose(got, expected, rtol=1e-12, err_msg=way)


def test_gradients_reach_a_module_whose_methods_are_the_sde():
    """dX = -r X dt + r X dW: dX/dr = X sum_k (dW_k - h)/(1 - r h + r dW_k)."""
    rate, ts = 0.6, uneven_grid(30)
    dws = numpy_increments(ts, np.zeros(()))

    def end(model):
        sde = fj.SDE(model.drift, model.diffusion)
        return fj.solve(sde, 1.0, jnp.asarray(ts), increments=jnp.asarray(dws))

    got = eqx.filter_grad(end)(Decay(jnp.array(rate))).rate
    h = np.diff(ts)
    factors = 1 - rate * h + rate * dws
    np.testing.assert_allclose(got, np.prod(factors) * np.sum((dws - h) / factors), rtol=1e-12)


def test_a_static_argument_does_not_hinder_the_gradient_in_another():
    """A label, a flag and a name in args are no numbers to differentiate in."""
    args = {"label": jnp.array(2), "flag": True, "name": "linear", "rates": jnp.arange(4.0)}

    def field(t, x, args):
        assert args["flag"] is True
        assert args["name"] == "linear"
        return args["rates"][args["label"]] * x

    got = jax.grad(lambda x0: fj.solve(field, x0, fj.uniform_grid(10), args))(1.0)
    np.testing.assert_allclose(got, 1.2**10, rtol=1e-13)


# Through the whole trajectory.


@pytest.mark.parametrize(("n", "every"), [(12, 3), (80, 7)])
def test_the_gradient_of_every_kth_state_is_that_of_all_states_sliced(n, every):
    sde, inputs = noisy_problem(n)

    def loss(inputs, every, stride):
        x0, ts, args, increments = inputs
        path = fj.trajectory(sde, x0, ts, args, increments=increments, every=every)
        return reward(leafwise(lambda leaf: leaf[::stride], path))

    gradient = jax.jit(jax.grad(loss), static_argnums=(1, 2))
    assert_close(gradient(inputs, every, 1), gradient(inputs, 1, every), 1e-13)


@pytest.mark.parametrize(
    ("n", "every", "segments"),
    [(13, 3, 13), (13, 3, 2), (13, 5, 7), (13, 1, 4), (300, 20, None)],
)
@pytest.mark.thin(2)
def test_a_trajectory_in_segments_of_any_length_has_the_same_gradient(n, every, segments):
    """More segments than recorded times and fewer, also where nothing divides anything."""
    sde, inputs = noisy_problem(n)

    def loss(inputs, adjoint):
        x0, ts, args, increments = inputs
        settings = {"increments": increments, "adjoint": adjoint, "every": every}
        path = fj.trajectory(sde, x0, ts, args, **settings)
        return reward(path), path

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    got, path = gradient(inputs, fj.Checkpointed(segments))
    expected, expected_path = gradient(inputs, fj.Direct())
    assert_close(path, expected_path, 1e-14)
    assert_close(got, expected, 1e-13)


def test_the_gradient_of_a_vmap_is_the_vmap_of_the_gradient():
    problem = array_problem(jnp)
    args = cast(problem.args, jnp.float64)
    ts = fj.uniform_grid(9)
    x0s = jnp.asarray(np.random.default_rng(0).standard_normal((5, 3)))
    keys = jax.random.split(jax.random.key(1), 5)

    def value(x0, key, args):
        return reward(fj.solve(problem.sde, x0, ts, args, key=key))

    @jax.jit
    def both_ways(x0s, args):
        each = jax.vmap(jax.grad(value, argnums=(0, 2)), in_axes=(0, 0, None))(x0s, keys, args)
        total = jax.grad(
            lambda x0s, args: jnp.sum(jax.vmap(value, in_axes=(0, 0, None))(x0s, keys, args)),
            argnums=(0, 1),
        )(x0s, args)
        return each, total

    (each_x0, each_args), (total_x0, total_args) = both_ways(x0s, args)
    assert_close(total_x0, each_x0, 1e-13)
    assert_close(total_args, leafwise(lambda leaf: np.sum(leaf, axis=0), each_args), 1e-13)


# Checkpointing stores states, not what the field computes on the way.


@functools.cache
def gradient_bytes(adjoint, n, width=64, batch=256, every=None):
    """Temporary memory of the compiled gradient through a network with two hidden layers."""
    # Shapes are all that a compilation needs.
    field = eqx.filter_eval_shape(
        lambda: eqx.nn.MLP(2, 2, width, 2, activation=jnp.tanh, key=jax.random.key(0))
    )

    def loss(field, x0):
        velocity = lambda t, x, args: jax.vmap(field)(x)  # noqa: E731
        if every is None:
            return jnp.sum(fj.solve(velocity, x0, fj.uniform_grid(n), adjoint=adjoint) ** 2)
        path = fj.trajectory(velocity, x0, fj.uniform_grid(n), adjoint=adjoint, every=every)
        return jnp.sum(path**2)

    arrays, static = eqx.partition(field, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    gradient = jax.jit(jax.grad(lambda arrays, x0: loss(eqx.combine(arrays, static), x0)))
    analysis = gradient.lower(arrays, np.zeros((batch, 2))).compile().memory_analysis()
    if analysis is None:
        pytest.skip("this jaxlib does not report the memory of a compiled program")
    return analysis.temp_size_in_bytes


def test_checkpointing_needs_far_less_memory_than_plain_autodiff():
    assert gradient_bytes(fj.Direct(), 100) > 20 * gradient_bytes(fj.Checkpointed(segments=1), 100)
    assert gradient_bytes(fj.Direct(), 100) > 20 * gradient_bytes(fj.Checkpointed(), 100)


def test_the_memory_of_the_default_grows_as_the_square_root_of_the_number_of_steps():
    """16 times the steps: at most 4 times the bytes, where one state per step takes 9 times."""
    assert gradient_bytes(fj.Checkpointed(), 1600) < 4 * gradient_bytes(fj.Checkpointed(), 100)
    one_segment = fj.Checkpointed(segments=1)
    assert gradient_bytes(one_segment, 1600) > 7 * gradient_bytes(one_segment, 100)


def test_segments_bound_the_memory_between_two_recorded_states():
    """Of 800 steps each, in 40 segments each: 2 recorded states + 80 + 20 for 2 + 800."""
    in_one, in_many = fj.Checkpointed(segments=1), fj.Checkpointed(segments=80)
    assert gradient_bytes(in_many, 1600, every=800) < gradient_bytes(in_one, 1600, every=800) / 4


def test_numpy_integers_serve_as_segments_and_counts():
    adjoint = fj.Checkpointed(np.int64(2))
    x1 = fj.solve(fj.linear_field, 1.0, fj.uniform_grid(4), 1.0, adjoint=adjoint)
    np.testing.assert_allclose(x1, 0.75**4, rtol=1e-6)
