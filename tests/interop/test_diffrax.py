"""Diffrax both ways: its solvers as steps, and our problems in its hands, are the same solve."""

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

import flowjax as fj
from flowjax.interop import cross_check, from_diffrax, to_diffrax

# diffrax and the packages under it promote dtypes in JAX's standard way.
pytestmark = pytest.mark.usefixtures("x64", "standard_promotion")

KEY, X0, THETA = jax.random.key(0), np.array([0.5, -1.0, 2.0]), 1.3


def times(n=8):
    """A grid of unequal steps."""
    return np.linspace(0.0, 1.0, n + 1) ** 1.5


def field(t, x, args):
    return args * jnp.sin(x) + t


DIAGONAL = fj.SDE(field, lambda t, x, args: 0.3 * jnp.cos(x) + t)
MATRIX = fj.SDE(
    field,
    lambda t, x, args: 0.2 * jnp.stack([jnp.sin(x) + t, args * jnp.ones_like(x)], -1),
    noise=(2,),
)
OPERATOR = fj.SDE(
    field, lambda t, x, args: lineax.MatrixLinearOperator(jnp.outer(x, x)[:, :2]), noise=(2,)
)
TREE = fj.SDE(
    lambda t, x, args: {"a": -x["b"][:, 0], "b": args * x["b"]},
    lambda t, x, args: {
        "a": {"w": 0.1 * x["a"][:, None], "v": None},
        "b": {"w": None, "v": x["b"]},
    },
    noise={"w": (1,), "v": ()},
)
X_TREE = {"a": X0[:2], "b": np.arange(4.0).reshape(2, 2)}
SDES = {
    "elementwise": (DIAGONAL, X0),
    "matrix": (MATRIX, X0),
    "operator": (OPERATOR, X0),
    "blocks": (TREE, X_TREE),
}
IMPLICIT = {"root_finder": diffrax.VeryChord(rtol=1e-3, atol=1e-5)}
FOR_ODES = {
    "Euler": diffrax.Euler(),
    "Heun": diffrax.Heun(),
    "Ralston": diffrax.Ralston(),
    "Bosh3": diffrax.Bosh3(),
    "Tsit5": diffrax.Tsit5(),
    "Dopri8": diffrax.Dopri8(),
    "ReversibleHeun": diffrax.ReversibleHeun(),
    "Kvaerno5": diffrax.Kvaerno5(**IMPLICIT),
    "HalfSolver": diffrax.HalfSolver(diffrax.Euler()),
}
FOR_SDES = {
    "Euler": diffrax.Euler(),
    "Heun": diffrax.Heun(),
    "Midpoint": diffrax.Midpoint(),
    "EulerHeun": diffrax.EulerHeun(),
    "ItoMilstein": diffrax.ItoMilstein(),
    "StratonovichMilstein": diffrax.StratonovichMilstein(),
    "ReversibleHeun": diffrax.ReversibleHeun(),
}


def value_and_slopes(run, x0):
    """The end, and the gradient of a functional of it in x0 and theta."""

    def value(x0, theta):
        x1 = run(x0, theta)
        return sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves(x1)), x1

    (_, x1), slopes = jax.jit(jax.value_and_grad(value, (0, 1), has_aux=True))(x0, THETA)
    return x1, slopes


def theirs(solver, problem, ts, **noise):
    def run(x0, theta):
        kwargs = to_diffrax(problem, x0, ts, theta, **noise)
        kwargs |= {"adjoint": diffrax.DirectAdjoint(), "max_steps": len(ts) - 1}
        ys = diffrax.diffeqsolve(solver=solver, **kwargs).ys
        return jax.tree.map(lambda leaf: leaf[0], ys)

    return run


def assert_same(got, want, rtol=1e-12):
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol), got, want
    )


@pytest.mark.parametrize("name", FOR_ODES)
def test_a_solver_for_odes_takes_the_steps_that_it_takes_in_diffrax(name):
    solver, ts = FOR_ODES[name], times(32)
    step = from_diffrax(solver)
    got = value_and_slopes(lambda x0, theta: fj.solve(field, x0, ts, theta, step=step), X0)
    # A root finder's tolerance is between the gradients of its two ways through it.
    assert_same(got, value_and_slopes(theirs(solver, field, ts), X0))


@pytest.mark.parametrize("name", FOR_SDES)
def test_a_solver_for_sdes_takes_the_steps_that_it_takes_in_diffrax(name):
    solver, ts = FOR_SDES[name], times()
    step = from_diffrax(solver)
    got = value_and_slopes(
        lambda x0, theta: fj.solve(DIAGONAL, x0, ts, theta, step=step, key=KEY), X0
    )
    assert_same(got, value_and_slopes(theirs(solver, DIAGONAL, ts, key=KEY), X0))


@pytest.mark.parametrize("kind", SDES)
@pytest.mark.parametrize(
    ("step", "solver"),
    [(fj.euler_maruyama, diffrax.Euler()), (fj.stochastic_heun, diffrax.Heun())],
    ids=["euler_maruyama", "stochastic_heun"],
)
def test_our_steps_are_diffrax_solvers_on_the_path_of_the_key(kind, step, solver):
    (sde, x0), ts = SDES[kind], times()
    got = value_and_slopes(
        lambda x0, theta: fj.solve(sde, x0, ts, theta, step=step, key=KEY, first_step=3), x0
    )
    assert_same(got, value_and_slopes(theirs(solver, sde, ts, key=KEY, first_step=3), x0))


def test_another_path_is_another_solution():
    """The comparison sees a wrong path: that of the next steps."""
    ts = times()
    ours = fj.solve(DIAGONAL, X0, ts, THETA, key=KEY)
    other = theirs(diffrax.Euler(), DIAGONAL, ts, key=KEY, first_step=1)(X0, THETA)
    assert np.abs(ours - other).max() > 1e-3


def test_the_path_has_the_increments_of_the_key_to_the_last_bit_and_is_straight_between():
    ts = jnp.asarray(times(), jnp.float32)
    path = to_diffrax(DIAGONAL, jnp.float32(X0), ts, THETA, key=KEY)["terms"].terms[1].control
    dw = fj.brownian_increments(KEY, ts, jnp.float32(X0))
    got = jax.vmap(path.evaluate)(ts[:-1], ts[1:])
    np.testing.assert_array_equal(got, dw)
    # Against NumPy's interpolation of the sums, over and within steps, from the start too.
    ts64, sums = np.asarray(ts, float), np.concatenate([np.zeros((1, 3)), np.cumsum(dw, 0)])

    def straight(t):
        return np.stack([np.interp(t, ts64, w) for w in sums.T], -1)

    generator = np.random.default_rng()
    starts, ends = np.sort(generator.uniform(0, 1, (2, 100)), 0).astype(np.float32)
    got = jax.vmap(path.evaluate)(starts, ends)
    np.testing.assert_allclose(got, straight(ends) - straight(starts), atol=2e-6)
    np.testing.assert_allclose(jax.vmap(path.evaluate)(ends), straight(ends), atol=2e-6)


def test_an_adaptive_and_an_implicit_solve_of_the_same_problem_is_one_call():
    problem = to_diffrax(lambda t, x, args: -args * x, X0, times(), THETA)
    adaptive = {"stepsize_controller": diffrax.PIDController(rtol=1e-8, atol=1e-8)}
    for solver in (diffrax.Tsit5(), diffrax.Kvaerno5()):
        ys = diffrax.diffeqsolve(solver=solver, **problem | adaptive).ys[0]
        np.testing.assert_allclose(ys, X0 * np.exp(-THETA), rtol=1e-6)
    saved = {"saveat": diffrax.SaveAt(dense=True)}
    dense = diffrax.diffeqsolve(solver=diffrax.Tsit5(), **problem | adaptive | saved)
    np.testing.assert_allclose(dense.evaluate(0.3), X0 * np.exp(-0.3 * THETA), rtol=1e-6)


def test_where_a_root_finder_fails_the_state_is_nan():
    never = diffrax.VeryChord(rtol=1e-30, atol=1e-30)
    step = from_diffrax(diffrax.Kvaerno3(root_finder=never))
    assert np.isnan(fj.solve(field, X0, times(), THETA, step=step)).all()


@pytest.mark.parametrize(
    ("solver", "reason"),
    [
        (diffrax.ShARK(), "needs the SpaceTimeLevyArea of each step"),
        (diffrax.SRA1(), "needs the SpaceTimeLevyArea of each step"),
        (diffrax.QUICSORT(), "needs the SpaceTimeTimeLevyArea of each step"),
        (diffrax.SemiImplicitEuler(), "is for an equation of two parts"),
        (diffrax.KenCarp4(), "is for an equation of two parts"),
    ],
)
def test_a_solver_that_cannot_be_a_step_is_refused_with_the_reason(solver, reason):
    with pytest.raises(ValueError, match=f"cannot be a step: {type(solver).__name__} {reason}"):
        from_diffrax(solver)


def test_a_solver_of_another_kind_than_the_problem_is_refused():
    ts = times()
    with pytest.raises(ValueError, match="Tsit5 is a solver for ODEs"):
        fj.solve(DIAGONAL, X0, ts, THETA, step=from_diffrax(diffrax.Tsit5()), key=KEY)
    with pytest.raises(ValueError, match="ItoMilstein is a solver for an SDE, got a plain field"):
        fj.solve(field, X0, ts, THETA, step=from_diffrax(diffrax.ItoMilstein()))
    step = from_diffrax(diffrax.HalfSolver(diffrax.Euler()))
    with pytest.raises(ValueError, match="asks for that of a part of it"):
        fj.solve(DIAGONAL, X0, ts, THETA, step=step, key=KEY)
    with pytest.raises(TypeError, match=r"solver must be one of diffrax, .* got 'tsit5'"):
        from_diffrax("tsit5")


def test_a_problem_that_is_not_whole_is_refused():
    ts = times()
    with pytest.raises(ValueError, match="give key or increments, one of the two"):
        to_diffrax(DIAGONAL, X0, ts)
    with pytest.raises(ValueError, match="key must be left out: a field has no noise"):
        to_diffrax(field, X0, ts, key=KEY)
    with pytest.raises(ValueError, match=r"increments must have shape \(8, 3\)"):
        to_diffrax(DIAGONAL, X0, ts, increments=np.zeros((7, 3)))
    with pytest.raises(TypeError, match="field_or_sde must be a function"):
        to_diffrax(None, X0, ts)


@pytest.mark.parametrize(
    ("problem", "step", "order"),
    [
        (field, fj.euler, 1.0),
        (field, fj.heun, 2.0),
        (DIAGONAL, fj.euler_maruyama, 0.5),
        (DIAGONAL, fj.milstein, 1.0),
    ],
    ids=["euler", "heun", "euler_maruyama", "milstein"],
)
def test_a_cross_check_finds_no_difference_and_the_order_of_the_method(problem, step, order):
    key = KEY if isinstance(problem, fj.SDE) else None
    strong = problem
    if key is not None:
        # Noise that rules, so that its order is seen.
        strong = fj.SDE(lambda t, x, args: -x, lambda t, x, args: args * x)
    found = cross_check(strong, X0, np.linspace(0, 1, 257), THETA, step=step, key=key, paths=256)
    assert found.difference < 1e-12
    assert found.gradient_difference < 1e-12
    assert abs(found.order - order) < 0.2
    assert "relative" in str(found)
    assert f"256 steps of {step.__name__} beside diffrax." in str(found)


def test_a_cross_check_sees_a_step_that_differs():
    def twice_the_noise(sde, t0, t1, x, args, dw):
        return x + (t1 - t0) * sde.drift(t0, x, args) + 2 * sde.contract(t0, x, args, dw)

    found = cross_check(
        DIAGONAL, X0, times(), THETA, step=twice_the_noise, solver=diffrax.Euler(), key=KEY
    )
    assert found.difference > 1e-2
    assert found.gradient_difference > 1e-2


def test_a_cross_check_of_a_field_with_noise_is_refused():
    with pytest.raises(ValueError, match="key must be left out: a field has no noise"):
        cross_check(field, X0, times(), THETA, key=KEY)


def test_a_cross_check_of_a_step_that_diffrax_has_not_is_refused():
    with pytest.raises(ValueError, match="solver must be given for a step that diffrax has not"):
        cross_check(field, X0, times(), THETA, step=fj.rk4)


def test_the_self_check_says_that_both_agree(capsys):
    import importlib

    importlib.import_module("flowjax.__main__").main()
    out = capsys.readouterr().out
    assert f"flowjax {fj.__version__}" in out
    assert "agree to rounding" in out
