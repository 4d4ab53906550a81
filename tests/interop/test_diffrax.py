"""Diffrax both ways: its solvers as steps, and our problems in its hands, are the same solve.

Steps that both have: euler, heun, midpoint, euler_maruyama (Euler), milstein (ItoMilstein; of a
pytree, where that fails, StratonovichMilstein on the corrected drift), stochastic_heun (Heun) and
reversible_heun. rk4 is none of diffrax's, but its table makes it one. Not in diffrax: `fj.adams`
and the steps that read a schedule.

Values agree to 1e-12, and so do gradients in x0 and args: ours by reverse mode, diffrax's by
forward mode along one direction, which it compiles far faster.
"""

import functools
from typing import ClassVar

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

import flowjax as fj
from flowjax.interop import from_diffrax, to_diffrax
from tests.solver.oracles import leafwise

# diffrax and the packages under it promote dtypes in JAX's standard way.
pytestmark = pytest.mark.usefixtures("x64", "standard_promotion")

KEY, X0, THETA = jax.random.key(0), np.array([0.5, -0.4, 0.8]), 1.3
TS = np.linspace(0.0, 1.0, 9) ** 1.5
# Not the first step of the path.
NOISE = {"key": KEY, "first_step": 3}


# The fields are polynomials: they compile faster than sines do.


def field(t, x, args):
    return args * x * (1 - x) / 2 + t


DIAGONAL = fj.SDE(field, lambda t, x, args: 0.3 * x * x + t)
ADDITIVE = fj.SDE(field, lambda t, x, args: 0.3 * args + t)
MATRIX = fj.SDE(
    field,
    lambda t, x, args: 0.2 * jnp.stack([x * x + t, args * jnp.ones_like(x)], -1),
    noise=(2,),
)
OPERATOR = fj.SDE(
    field, lambda t, x, args: lineax.MatrixLinearOperator(jnp.outer(x, x)[:, :2] / 9), noise=(2,)
)
X_TREE = {"a": X0[:2], "b": np.arange(4.0).reshape(2, 2) / 4}


def tree_field(t, x, args):
    return {"a": -x["b"][:, 0] + t, "b": args * x["b"]}


# Noise of two leaves, of which one is shared, and a leaf of the state without either.
BLOCKS = fj.SDE(
    tree_field,
    lambda t, x, args: {
        "a": {"w": 0.1 * x["a"][:, None], "v": None},
        "b": {"w": None, "v": args * x["b"]},
    },
    noise={"w": (1,), "v": ()},
)
SHARED = fj.SDE(tree_field, lambda t, x, args: {"a": 0.1 * x["a"], "b": None}, noise=())
TREE = fj.SDE(tree_field, lambda t, x, args: leafwise(lambda leaf: 0.3 * leaf * leaf, x))
SLOPE = leafwise(lambda leaf: 0.7 - 0.4 * np.arange(leaf.size).reshape(leaf.shape), (X0, X_TREE))


def corrected(t, x, args):
    """The drift of TREE in Stratonovich's sense, f - g g' / 2."""
    half = leafwise(lambda leaf: 0.3 * leaf * leaf * 0.6 * leaf / 2, x)
    return leafwise(jnp.subtract, tree_field(t, x, args), half)


CORRECTED = fj.SDE(corrected, TREE.diffusion)


class ClassicalRungeKutta(diffrax.AbstractERK):
    tableau: ClassVar = diffrax.ButcherTableau(
        c=np.array([0.5, 0.5, 1.0]),
        a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
        b_sol=np.array([1, 2, 2, 1]) / 6,
        b_error=np.zeros(4),
    )
    interpolation_cls: ClassVar = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms):
        return 4


IMPLICIT = {"root_finder": diffrax.VeryChord(rtol=1e-3, atol=1e-6)}
# To 1e-4 it finds no root of implicit Euler on the field, neither here nor in diffrax.
LOOSE = {"root_finder": diffrax.VeryChord(rtol=1e-3, atol=1e-3)}
PROBLEMS = {
    "field": (field, X0),
    "tree field": (tree_field, X_TREE),
    "elementwise": (DIAGONAL, X0),
    "additive": (ADDITIVE, X0),
    "matrix": (MATRIX, X0),
    "operator": (OPERATOR, X0),
    "blocks": (BLOCKS, X_TREE),
    "shared": (SHARED, X_TREE),
    "tree": (TREE, X_TREE),
    "corrected tree": (CORRECTED, X_TREE),
}


def reward(x):
    return sum(jnp.sum(leaf * leaf * (3 + leaf)) for leaf in jax.tree.leaves(x))


def noise_of(kind):
    return NOISE if isinstance(PROBLEMS[kind][0], fj.SDE) else {}


@functools.cache
def in_diffrax(kind, solver):
    """Diffrax's end, and the derivative of its reward along one direction of (x0, args)."""
    problem, x0 = PROBLEMS[kind]
    options = {"adjoint": diffrax.ForwardMode(), "max_steps": len(TS) - 1}

    def run(x0, theta):
        kwargs = to_diffrax(problem, x0, TS, theta, solver=solver, **noise_of(kind), **options)
        x1 = leafwise(lambda leaf: leaf[0], diffrax.diffeqsolve(**kwargs).ys)
        return reward(x1), x1

    direction = SLOPE[x0 is X_TREE], 0.9
    along = jax.jit(lambda *at: jax.jvp(run, at, direction, has_aux=True))
    _, slope, x1 = along(x0, THETA)
    return x1, slope


def here(kind, step):
    """The same by a step of flowjax."""
    problem, x0 = PROBLEMS[kind]

    def run(x0, theta):
        x1 = fj.solve(problem, x0, TS, theta, step=step, **noise_of(kind))
        return reward(x1), x1

    (_, x1), slopes = jax.jit(jax.value_and_grad(run, (0, 1), has_aux=True))(x0, THETA)
    direction = SLOPE[x0 is X_TREE], 0.9
    return x1, sum(map(np.vdot, *map(jax.tree.leaves, (slopes, direction))))


def assert_same(got, want, rtol=1e-12):
    leafwise(lambda got, want: np.testing.assert_allclose(got, want, rtol, rtol), got, want)


def nightly(*values):
    return pytest.param(*values, marks=pytest.mark.nightly)


# --- a step of both, and a problem in both --------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "solver", "kind"),
    [
        ("euler", diffrax.Euler(), "field"),
        nightly("euler", diffrax.Euler(), "tree field"),
        nightly("heun", diffrax.Heun(), "field"),
        ("heun", diffrax.Heun(), "tree field"),
        nightly("midpoint", diffrax.Midpoint(), "field"),
        nightly("rk4", ClassicalRungeKutta(), "field"),
        ("euler_maruyama", diffrax.Euler(), "elementwise"),
        nightly("euler_maruyama", diffrax.Euler(), "tree"),
        nightly("euler_maruyama", diffrax.Euler(), "matrix"),
        nightly("euler_maruyama", diffrax.Euler(), "operator"),
        nightly("euler_maruyama", diffrax.Euler(), "blocks"),
        nightly("euler_maruyama", diffrax.Euler(), "shared"),
        ("milstein", diffrax.ItoMilstein(), "elementwise"),
        ("stochastic_heun", diffrax.Heun(), "matrix"),
        nightly("stochastic_heun", diffrax.Heun(), "elementwise"),
        nightly("stochastic_heun", diffrax.Heun(), "operator"),
        nightly("stochastic_heun", diffrax.Heun(), "blocks"),
        ("reversible_heun", diffrax.ReversibleHeun(), "elementwise"),
        nightly("reversible_heun", diffrax.ReversibleHeun(), "matrix"),
    ],
)
def test_our_step_is_diffraxs_solver_on_the_path_of_the_key(name, solver, kind):
    assert_same(here(kind, getattr(fj, name)), in_diffrax(kind, solver))


@pytest.mark.nightly
def test_milstein_of_a_pytree_is_stratonovichs_on_the_corrected_drift():
    solver = diffrax.StratonovichMilstein()
    assert_same(here("tree", fj.milstein), in_diffrax("corrected tree", solver))


def right_end(field, t0, t1, x, args, dw=None):
    return x + (t1 - t0) * field(t1, x, args)


def stratonovich_drift(sde, t0, t1, x, args, dw):
    g = sde.diffusion(t0, x, args)
    _, g_dg = jax.jvp(lambda x: sde.diffusion(t0, x, args), (x,), (g,))
    return x + (t1 - t0) * (sde.drift(t0, x, args) + g_dg / 2) + g * dw


@pytest.mark.parametrize(
    ("planted", "kind"), [(right_end, "field"), (stratonovich_drift, "elementwise")]
)
def test_the_comparison_with_diffrax_sees_another_method(planted, kind):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(here(kind, planted), in_diffrax(kind, diffrax.Euler()))


def test_the_comparison_with_diffrax_sees_another_path(monkeypatch):
    """That of the next steps."""
    theirs = in_diffrax("elementwise", diffrax.Euler())
    monkeypatch.setitem(NOISE, "first_step", 4)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(here("elementwise", fj.euler_maruyama), theirs)


# --- terms and paths ------------------------------------------------------------------------------


def by_numpy(kind, t, x, dw):
    """g(t, x) dW, by hand."""
    if kind == "elementwise":
        return (0.3 * x * x + t) * dw
    if kind == "matrix":
        return 0.2 * ((x * x + t) * dw[0] + THETA * dw[1])
    if kind == "operator":
        return x * (x[:2] @ dw) / 9
    if kind == "blocks":
        return {"a": 0.1 * x["a"] * dw["w"], "b": THETA * x["b"] * dw["v"]}
    if kind == "shared":
        return {"a": 0.1 * x["a"] * dw, "b": 0 * x["b"]}
    return {name: 0.3 * leaf * leaf * dw[name] for name, leaf in x.items()}


@pytest.mark.parametrize(
    "kind", [nightly("elementwise"), nightly("matrix"), "operator", "blocks", "shared", "tree"]
)
@pytest.mark.thin(2)
def test_the_terms_are_the_drift_and_the_diffusion_of_the_paths_increment(kind):
    sde, x0 = PROBLEMS[kind]
    problem = to_diffrax(sde, x0, TS, THETA, **NOISE)
    noise = sde.noise
    like = x0
    if noise is not None:
        shapes = [jax.ShapeDtypeStruct(shape, float) for shape in noise.shapes]
        like = jax.tree.unflatten(noise.structure, shapes)
    dw = fj.brownian_increments(KEY, TS, like, first_step=3)
    drift, diffusion = problem["terms"].terms
    dw = leafwise(lambda leaf: np.asarray(leaf[5]), dw)

    def of_terms(x):
        product = diffusion.vf_prod(TS[5], x, THETA, diffusion.contr(TS[5], TS[6]))
        return product, drift.vf_prod(TS[5], x, THETA, drift.contr(TS[5], TS[6]))

    by_noise, by_drift = jax.jit(of_terms)(x0)
    assert_same(by_noise, by_numpy(kind, TS[5], x0, dw), 1e-14)
    h = TS[6] - TS[5]
    assert_same(by_drift, leafwise(lambda f: h * f, sde.drift(TS[5], x0, THETA)), 1e-14)


def test_the_path_has_the_increments_of_the_key_to_the_last_bit_and_is_straight_between():
    ts, x0 = jnp.asarray(TS, jnp.float32), jnp.float32(X0)
    path = to_diffrax(DIAGONAL, x0, ts, THETA, **NOISE)["terms"].terms[1].control
    dw, other = fj.brownian_increments(KEY, ts, (x0, x0), first_step=3)
    # Against NumPy's interpolation of the sums, over and within steps, from the start too.
    generator = np.random.default_rng()
    starts, ends = np.sort(generator.uniform(0, 1, (2, 100)), 0).astype(np.float32)

    @jax.jit
    def evaluated(path):
        between, area = jax.vmap(path.evaluate), functools.partial(path.evaluate, use_levy=True)
        whole, part = jax.vmap(area)(ts[:-1], ts[1:]), area(ts[0], ts[2])
        return between(ts[:-1], ts[1:]), between(starts, ends), between(ends), whole, part

    steps, within, since_start, whole, part = evaluated(path)
    np.testing.assert_array_equal(steps, dw)
    np.testing.assert_array_equal(dw, fj.brownian_increments(KEY, ts, x0, first_step=3))
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(dw, 0)])

    def straight(t):
        return np.stack([np.interp(t, np.asarray(ts, float), w) for w in sums.T], -1)

    np.testing.assert_allclose(within, straight(ends) - straight(starts), atol=2e-6)
    np.testing.assert_allclose(since_start, straight(ends), atol=2e-6)
    # With its space-time Levy areas, over whole steps alone.
    np.testing.assert_array_equal(whole.W, dw)
    np.testing.assert_allclose(whole.H, other / np.sqrt(12), rtol=1e-6)
    assert np.isnan(part.H).all()


def test_a_path_on_a_grid_that_decreases_has_the_increments_of_its_steps():
    """Of additive noise the end is the sum of g(t) dW, by hand."""
    sde = fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: 1 + t)
    ts, dw = np.linspace(1.0, 0.0, 5), np.array([0.1, 0.2, 0.4, 0.8])
    problem = to_diffrax(sde, 0.0, ts, increments=dw, solver=diffrax.Euler())
    want = np.sum((1 + ts[:-1]) * dw)
    np.testing.assert_allclose(diffrax.diffeqsolve(**problem).ys[0], want, rtol=1e-12)
    np.testing.assert_allclose(fj.solve(sde, 0.0, ts, increments=dw), want, rtol=1e-12)


def test_a_pair_of_increments_on_a_grid_that_decreases_is_refused():
    """Diffrax's solvers with areas have the wrong sign of the drift there."""
    pair = (np.zeros((len(TS) - 1, 3)),) * 2
    with pytest.raises(ValueError, match="ts must increase where increments are a pair"):
        to_diffrax(ADDITIVE, X0, TS[::-1], THETA, increments=pair)


@pytest.mark.parametrize(
    ("dtype", "times"), [("bfloat16", "float32"), ("bfloat16", "float64"), ("float32", "float64")]
)
def test_fields_in_diffrax_see_the_state_and_the_time_as_in_a_solve(dtype, times):
    """Which diffrax gives wider. So a field that multiplies by the time keeps its dtype."""
    seen = []

    def recorded(t, x, args):
        seen.append((t.dtype.name, x.dtype.name))
        return x.astype(t.dtype) * t if dtype == "float32" else x

    sde, x0 = fj.SDE(recorded, recorded), jnp.asarray(X0, dtype)
    ts = TS.astype(times)
    fj.solve(sde, x0, ts, key=KEY)
    drift, diffusion = to_diffrax(sde, x0, ts, key=KEY)["terms"].terms
    wide = jnp.asarray(X0, times)
    t, dw = jnp.asarray(ts[1]), diffusion.contr(ts[1], ts[2])
    assert diffusion.vf_prod(t, wide, None, dw).dtype == times
    drift.vf_prod(t, wide, None, drift.contr(ts[1], ts[2]))
    assert set(seen) == {("float32", dtype)}


def test_in_half_precision_diffrax_has_the_solve_here():
    """To a rounding of 16 bits: it was off by more where the field saw a wider state."""

    def rough(t, x, args):
        return -jnp.sin(7 * x)

    x0, options = jnp.asarray(X0, jnp.bfloat16), {"adjoint": diffrax.ForwardMode()}
    problem = to_diffrax(rough, x0, TS, solver=diffrax.Euler(), **options)
    theirs = diffrax.diffeqsolve(**problem).ys[0].astype(jnp.bfloat16)
    np.testing.assert_array_equal(theirs, fj.solve(rough, x0, TS))


def test_the_second_motion_is_drawn_only_for_a_solver_that_takes_areas():
    def path(**options):
        return to_diffrax(DIAGONAL, X0, TS, **NOISE, **options)["terms"].terms[1].control

    assert path(solver=diffrax.Heun()).other is None
    for options in ({}, {"solver": diffrax.SPaRK()}):
        assert path(**options).other.shape == (len(TS) - 1, 3)
    np.testing.assert_array_equal(path(solver=diffrax.Heun()).increments, path().increments)


# --- a solver of diffrax as a step ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "kind"),
    [
        (diffrax.Tsit5(), "field"),
        nightly(diffrax.Bosh3(), "tree field"),
        nightly(diffrax.Dopri5(), "field"),
        nightly(diffrax.Dopri8(), "field"),
        nightly(diffrax.Ralston(), "field"),
        nightly(diffrax.ReversibleHeun(), "field"),
        nightly(diffrax.LeapfrogMidpoint(), "field"),
        nightly(diffrax.HalfSolver(diffrax.Euler()), "field"),
        nightly(diffrax.ImplicitEuler(**LOOSE), "field"),
        nightly(diffrax.Kvaerno3(**IMPLICIT), "field"),
        nightly(diffrax.Kvaerno5(**IMPLICIT), "field"),
        nightly(diffrax.Heun(), "tree"),
        nightly(diffrax.Midpoint(), "matrix"),
        nightly(diffrax.Ralston(), "elementwise"),
        nightly(diffrax.EulerHeun(), "elementwise"),
        nightly(diffrax.StratonovichMilstein(), "tree"),
        nightly(diffrax.ShARK(), "additive"),
        nightly(diffrax.SRA1(), "additive"),
        nightly(diffrax.SEA(), "additive"),
        nightly(diffrax.SlowRK(), "matrix"),
        nightly(diffrax.GeneralShARK(), "blocks"),
        nightly(diffrax.SPaRK(), "elementwise"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, diffrax.AbstractSolver) else value,
)
def test_a_solver_of_diffrax_takes_the_steps_that_it_takes_there(solver, kind):
    assert_same(here(kind, from_diffrax(solver)), in_diffrax(kind, solver))


def test_implicit_euler_divides_where_euler_multiplies():
    """In closed form, x / prod(1 + h theta), and its gradient in theta."""
    step, h = from_diffrax(diffrax.ImplicitEuler(**IMPLICIT)), np.diff(TS)

    def end(theta):
        return jnp.sum(fj.solve(fj.linear_field, X0, TS, theta, step=step))

    value, slope = jax.jit(jax.value_and_grad(end))(THETA)
    expected = np.sum(X0) / np.prod(1 + h * THETA)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(slope, -expected * np.sum(h / (1 + h * THETA)), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "solver", "kind"),
    [
        ("euler_maruyama", diffrax.Euler(), "blocks"),
        ("milstein", diffrax.ItoMilstein(), "elementwise"),
        ("reversible_heun", diffrax.ReversibleHeun(), "elementwise"),
    ],
)
def test_the_step_of_a_solver_that_both_have_is_ours(name, solver, kind):
    """Which is diffrax's, as is shown above. Forward mode goes through it too."""
    problem, x0 = PROBLEMS[kind]
    direction = SLOPE[x0 is X_TREE], 0.9

    def both(x0, theta):
        return [
            fj.solve(problem, x0, TS, theta, step=step, **NOISE)
            for step in (getattr(fj, name), from_diffrax(solver))
        ]

    ends, slopes = jax.jit(lambda *at: jax.jvp(both, at, direction))(x0, THETA)
    assert_same(ends[1], ends[0])
    assert_same(slopes[1], slopes[0])


def test_a_levy_area_is_that_of_the_integral_of_the_path():
    """A method with space-time areas solves x' = w, dw = dW by the areas themselves."""
    sde = fj.SDE(
        lambda t, x, args: jnp.array([1.0, 0.0]) * x[1],
        lambda t, x, args: jnp.array([[0.0], [1.0]]),
        noise=(1,),
    )
    like = jax.ShapeDtypeStruct((1,), float)
    dw, other = fj.brownian_increments(KEY, TS, (like, like))

    def total(value, t0, t1, x0, x1, dw):
        return value + dw

    how = {"init": np.zeros(1), "update": total, "step": from_diffrax(diffrax.SRA1())}
    (area, end), kept = fj.fold(sde, np.zeros(2), TS, key=KEY, **how)
    np.testing.assert_array_equal(dw, fj.brownian_increments(KEY, TS, like))
    assert_same(end, np.sum(dw))
    # What a fold is given is the increment alone.
    assert_same(kept, np.sum(dw, 0))
    dw, other = map(np.asarray, (dw, other))
    middles = np.cumsum(dw, 0) - dw / 2
    assert_same(area, np.diff(TS) @ (middles + other / np.sqrt(12))[:, 0])


def test_increments_alone_do_not_make_levy_areas():
    dw = fj.brownian_increments(KEY, TS, X0)
    with pytest.raises(ValueError, match=r"a pair \(dW, dB\) for step ShARK"):
        fj.solve(ADDITIVE, X0, TS, THETA, step=from_diffrax(diffrax.ShARK()), increments=dw)
    with pytest.raises(ValueError, match="Levy area of each step, which increments do not"):
        diffrax.diffeqsolve(
            **to_diffrax(ADDITIVE, X0, TS, THETA, increments=dw, solver=diffrax.ShARK())
        )


def test_an_equal_solver_compiles_nothing_again():
    traced = []

    def counted(t, x, args):
        traced.append(t)
        return -x

    counts = []
    for solver in (diffrax.Euler(), diffrax.Euler(), diffrax.Midpoint()):
        fj.solve(counted, X0, TS, step=from_diffrax(solver))
        counts.append(len(traced))
    assert counts[0] == counts[1] < counts[2]


def test_where_a_root_finder_fails_the_state_is_nan():
    never = diffrax.VeryChord(rtol=1e-30, atol=1e-30)
    step = from_diffrax(diffrax.ImplicitEuler(root_finder=never))
    assert np.isnan(fj.solve(field, X0, TS, THETA, step=step)).all()


def test_a_state_of_another_precision_than_the_times_goes_through_a_solver():
    with jax.numpy_dtype_promotion("strict"):
        x1 = fj.solve(lambda t, x, args: -x, jnp.float32(X0), TS, step=from_diffrax(diffrax.Heun()))
    np.testing.assert_allclose(x1, X0 * np.prod(1 - np.diff(TS) + np.diff(TS) ** 2 / 2), rtol=1e-6)


# --- what diffrax alone does, by one call ---------------------------------------------------------


@pytest.mark.nightly
def test_adaptive_implicit_and_dense_solves_are_one_call_and_have_the_right_gradient():
    def decay(t, x, args):
        return -args * x

    controller = diffrax.PIDController(rtol=1e-8, atol=1e-8)
    times = np.array([0.2, 0.7])
    for solver in (diffrax.Tsit5(), diffrax.Kvaerno5()):
        saveat = diffrax.SaveAt(ts=times, dense=True)
        options = {"solver": solver, "stepsize_controller": controller, "saveat": saveat}
        solution = diffrax.diffeqsolve(**to_diffrax(decay, X0, TS, THETA, **options))
        np.testing.assert_allclose(solution.ys, X0 * np.exp(-THETA * times)[:, None], rtol=1e-6)
        np.testing.assert_allclose(solution.evaluate(0.3), X0 * np.exp(-0.3 * THETA), rtol=1e-6)
        del options["saveat"]

        def end(theta, options=options):
            return jnp.sum(diffrax.diffeqsolve(**to_diffrax(decay, X0, TS, theta, **options)).ys)

        slope = jax.grad(end)(THETA)
        np.testing.assert_allclose(slope, -np.sum(X0) * np.exp(-THETA), rtol=1e-6)


def test_an_option_takes_the_place_of_what_is_made():
    options = {"solver": diffrax.Tsit5(), "stepsize_controller": diffrax.ConstantStepSize()}
    problem = to_diffrax(field, X0, TS, THETA, dt0=0.1, **options)
    assert problem["solver"] is options["solver"]
    assert problem["stepsize_controller"] is options["stepsize_controller"]
    assert problem["dt0"] == 0.1


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "reason"),
    [
        (diffrax.QUICSORT(0.1), "is for underdamped Langevin equations alone"),
        (diffrax.ALIGN(0.1), "is for underdamped Langevin equations alone"),
        (diffrax.SemiImplicitEuler(), "is for an equation of two parts"),
        (diffrax.KenCarp4(), "is for an equation of two parts"),
        (diffrax.Sil3(), "is for an equation of two parts"),
        (diffrax.Kvaerno5(), "takes the tolerances of its root finder from a step size controller"),
        (diffrax.HalfSolver(diffrax.ImplicitEuler()), "takes the tolerances of its root finder"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_solver_that_cannot_be_a_step_is_refused_with_the_reason(solver, reason):
    with pytest.raises(ValueError, match=f"cannot be a step: {type(solver).__name__} {reason}"):
        from_diffrax(solver)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("tsit5", "got 'tsit5'"),
        (diffrax.Tsit5, r"got the class Tsit5: write diffrax.Tsit5\(\)"),
        (diffrax.PIDController(rtol=1e-3, atol=1e-3), "step size controller PIDController: a step"),
    ],
    ids=["a word", "a class", "a controller"],
)
def test_what_is_no_solver_is_refused(given, words):
    with pytest.raises(TypeError, match=f"solver must be one of diffrax, .*{words}"):
        from_diffrax(given)


def test_a_solver_of_another_kind_than_the_problem_is_refused():
    with pytest.raises(ValueError, match="Tsit5 is a solver for ODEs"):
        fj.solve(DIAGONAL, X0, TS, THETA, step=from_diffrax(diffrax.Tsit5()), key=KEY)
    with pytest.raises(ValueError, match="ItoMilstein is a solver for an SDE, got a plain field"):
        fj.solve(field, X0, TS, THETA, step=from_diffrax(diffrax.ItoMilstein()))
    with pytest.raises(ValueError, match="ItoMilstein of diffrax takes a state of one array"):
        fj.solve(TREE, X_TREE, TS, THETA, step=from_diffrax(diffrax.ItoMilstein()), key=KEY)
    step = from_diffrax(diffrax.HalfSolver(diffrax.Euler()))
    with pytest.raises(ValueError, match="asks for that of a part of it"):
        fj.solve(DIAGONAL, X0, TS, THETA, step=step, key=KEY)
    step = from_diffrax(diffrax.ShARK())
    with pytest.raises(ValueError, match="independent of y"):
        fj.solve(DIAGONAL, X0, TS, THETA, step=step, key=KEY)


def test_a_problem_that_is_not_whole_is_refused():
    with pytest.raises(ValueError, match="give key or increments, one of the two"):
        to_diffrax(DIAGONAL, X0, TS)
    with pytest.raises(ValueError, match="key must be left out: a field has no noise"):
        to_diffrax(field, X0, TS, key=KEY)
    with pytest.raises(ValueError, match=r"increments must have shape \(8, 3\)"):
        to_diffrax(DIAGONAL, X0, TS, increments=np.zeros((7, 3)))
    with pytest.raises(TypeError, match="field_or_sde must be a function"):
        to_diffrax(None, X0, TS)
    with pytest.raises(TypeError, match=r"write fj.uniform_grid\(20\)"):
        to_diffrax(field, X0, 20)
    with pytest.raises(ValueError, match=r"increments must have .* got shape .* and dtype int"):
        to_diffrax(DIAGONAL, X0, TS, increments=np.zeros((8, 3), int))
    with pytest.raises(ValueError, match="first_step is the number of a step in the path"):
        to_diffrax(DIAGONAL, X0, TS, increments=np.zeros((8, 3)), first_step=2)
    with pytest.raises(ValueError, match="first_step is the number of a step in the path"):
        to_diffrax(field, X0, TS, first_step=2)
    with pytest.raises(ValueError, match="first_step must be a static int"):
        to_diffrax(field, X0, TS, first_step="x")


@pytest.mark.parametrize(
    ("ts", "what"), [([0.0, 0.5, 0.5, 1.0], "a time that is repeated"), ([0.0, 1.0, 0.5], "turn")]
)
def test_times_that_diffrax_does_not_go_through_are_refused(ts, what):
    with pytest.raises(ValueError, match=f"ts must increase, or decrease, at each step.*{what}"):
        to_diffrax(DIAGONAL, X0, ts, increments=np.zeros((len(ts) - 1, 3)))
    with pytest.raises(ValueError, match=what):
        to_diffrax(field, X0, ts)
    # Of which it then takes the ends alone.
    to_diffrax(field, X0, ts, stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-3))


@pytest.mark.parametrize("solver", [diffrax.ItoMilstein(), diffrax.StratonovichMilstein()])
def test_noise_that_does_not_commute_is_refused_where_it_is_seen(solver):
    mixing = fj.SDE(field, lambda t, x, args: jnp.roll(x, 1))
    name = type(solver).__name__
    with pytest.raises(ValueError, match=f"{name} needs diagonal noise"):
        fj.solve(mixing, X0, TS, THETA, step=from_diffrax(solver), key=KEY)
