"""Field transformers, against the velocities of Gaussians that are known in closed form."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.samplers.schedules import OneOf
from tests.schedules.schedule_oracles import (
    PREDICTIONS,
    SCHEDULES,
    determined,
    gaussian,
)

every_schedule = pytest.mark.parametrize("name", SCHEDULES)
MEAN, STD = np.array([0.5, -1.0]), np.array([0.8, 0.5])
TIMES = np.array([0.0, 0.05, 0.3, 0.6, 0.95, 1.0])
X = np.array([[0.3, 0.1], [-1.0, 0.5], [0.7, 2.0], [0.0, -1.0], [1.0, 0.2], [-0.4, 0.9]])


class Linear(eqx.Module):
    """A small model with arrays: a prediction linear in x, with an output like x."""

    weight: jax.Array
    calls: list = eqx.field(static=True, default_factory=list)

    def __call__(self, t, x, args):
        self.calls.append(None)
        return self.weight * x + args


# --- velocity -------------------------------------------------------------------------------------


class Exact(eqx.Module):
    """The exact prediction of Gaussian data, of any of the five."""

    target: fj.Gaussian
    schedule: object
    predicts: str = eqx.field(static=True)

    def __call__(self, t, x, args):
        u = self.target.velocity(self.schedule)(t, x, None)
        return fj.convert(u, t, x, self.schedule, source="velocity", target=self.predicts)


@pytest.mark.parametrize("name", ["VariancePreserving", "Trigonometric"])
@pytest.mark.thin(1)
def test_a_model_of_any_prediction_solves_to_the_same_sample(name, x64):
    schedule = SCHEDULES[name][0]
    target, ts = fj.Gaussian(MEAN, STD), fj.uniform_grid(8, 0.05, 1.0)

    @jax.jit
    def ends(x):
        fields = [fj.velocity(Exact(target, schedule, p), schedule, p) for p in PREDICTIONS]
        return jnp.stack([fj.solve(field, x, ts, step=fj.midpoint) for field in fields])

    got = ends(X[0])
    expected = fj.solve(target.velocity(schedule), X[0], ts, step=fj.midpoint)
    np.testing.assert_allclose(got, np.tile(expected, (5, 1)), rtol=1e-10)


def test_a_model_of_the_data_gives_the_formula(x64):
    model = Linear(jnp.array([2.0, -1.0]))
    for t in (0.0, 0.4):
        got = fj.velocity(model, fj.CondOT(), predicts="data")(t, X[0], 0.5)
        np.testing.assert_allclose(got, ([2.0, -1.0] * X[0] + 0.5 - X[0]) / (1 - t), rtol=1e-14)


def test_new_weights_compile_nothing_and_receive_gradients(x64):
    calls, ts = [], fj.uniform_grid(4)

    def end(weight):
        field = fj.velocity(Linear(weight, calls), fj.CondOT(), predicts="v")
        return fj.solve(field, X[0], ts, 0.5)

    first = end(jnp.array([0.3, -0.2]))
    traced = len(calls)
    assert traced > 0
    assert not np.allclose(end(jnp.array([0.1, 0.9])), first)
    assert len(calls) == traced

    def by_hand(weight):
        x = X[0].astype(complex)
        for t in np.arange(4) / 4:
            v, norm = weight * x + 0.5, t**2 + (1 - t) ** 2
            data, noise = (t * x - (1 - t) * v) / norm, ((1 - t) * x + t * v) / norm
            x = x + (data - noise) / 4
        return x

    weight = np.array([0.3, -0.2])
    np.testing.assert_allclose(first, by_hand(weight).real, rtol=1e-13)
    slope = jax.grad(lambda weight: end(weight).sum())(jnp.asarray(weight))
    np.testing.assert_allclose(slope, by_hand(weight + 1e-30j).imag / 1e-30, rtol=1e-12)


def test_a_velocity_keeps_the_structure_and_dtypes_of_the_state():
    x = {"a": jnp.ones(3, jnp.bfloat16), "b": (jnp.ones((2, 2)),)}
    field = fj.velocity(
        lambda t, x, args: jax.tree.map(lambda leaf: leaf / 2, x), fj.SquareRoot(), "noise"
    )
    u = jax.jit(field)(np.float32(0.5), x, None)
    # u = D + s' E with D = (x - s E) / a and s' = -1 / (2 s)
    expected = 2 * (1 - np.sqrt(0.5) / 2) - 0.5 / (2 * np.sqrt(0.5))
    np.testing.assert_allclose(u["b"][0], np.full((2, 2), expected), rtol=1e-6)
    assert u["a"].dtype == jnp.bfloat16
    np.testing.assert_allclose(u["a"].astype(np.float32), np.full(3, expected), rtol=2**-8)


# --- precondition ---------------------------------------------------------------------------------


class Recording(eqx.Module):
    """A network that returns one number and leaves what it was shown in `seen`."""

    output: float
    seen: list = eqx.field(static=True, default_factory=list)

    def __call__(self, c_noise, x, args):
        self.seen.append((c_noise, x))
        return jnp.full_like(x, self.output)


def karras(noise, sd):
    """Table 1 of Karras et al. 2022: c_skip, c_out, c_in, c_noise at a noise level."""
    total = noise**2 + sd**2
    return sd**2 / total, noise * sd / np.sqrt(total), 1 / np.sqrt(total), np.log(noise) / 4


@pytest.mark.parametrize("name", ["EDM", "CondOT"])
def test_preconditioning_is_that_of_edm(name, x64):
    """On the state divided by alpha, at the noise level sigma / alpha."""
    schedule, formulas = SCHEDULES[name]
    for t in (0.2, 0.6, 0.9):
        point = formulas(t)
        c_skip, c_out, c_in, c_noise = karras(point.s / point.a, 0.7)
        network = Recording(0.4)
        got = fj.precondition(network, schedule, 0.7)(t, jnp.asarray(X[0]), None)
        relative = X[0] / point.a
        np.testing.assert_allclose(network.seen[0][0], c_noise, rtol=1e-12)
        np.testing.assert_allclose(network.seen[0][1], c_in * relative, rtol=1e-12)
        np.testing.assert_allclose(got, c_skip * relative + c_out * 0.4, rtol=1e-12)


@every_schedule
def test_the_network_and_its_target_have_unit_variance_at_every_time(name, x64):
    schedule, formulas = SCHEDULES[name]
    sd = 0.7

    @jax.jit
    @jax.vmap
    def coefficients(t):
        def model(output, x):
            network = Recording(output)
            return fj.precondition(network, schedule, sd)(t, x, None), *network.seen[0]

        skip, c_noise, scale = model(0.0, jnp.ones(()))
        return skip, model(1.0, jnp.zeros(()))[0], scale, c_noise

    for t, numbers in zip(TIMES, np.transpose(coefficients(TIMES)), strict=True):
        skip, out, scale, c_noise = numbers
        point = formulas(t)
        np.testing.assert_allclose(scale**2 * (point.a**2 * sd**2 + point.s2), 1, rtol=1e-12)
        # x_1 - skip x_t, for x_1 of variance sd^2, is what the network must make of c_out.
        variance = (1 - skip * point.a) ** 2 * sd**2 + skip**2 * point.s2
        np.testing.assert_allclose(variance, out**2, rtol=1e-9, atol=1e-15)
        # The documented weight makes the loss of D the mean square of the network's error.
        if point.s2 > 0:
            weight = (point.s2 + point.a**2 * sd**2) / (point.s2 * sd**2)
            np.testing.assert_allclose(weight * out**2, 1, rtol=1e-12)
        assert abs(c_noise) <= 2.5
        if 0 < t < 1:
            np.testing.assert_allclose(
                c_noise, np.log(point.s / point.a) / 4, rtol=1e-9, atol=1e-12
            )


@every_schedule
def test_preconditioning_has_finite_gradients_at_both_ends(name):
    schedule = SCHEDULES[name][0]

    @jax.jit
    def slopes(t, x, weight):
        def model(t, x, weight):
            network = lambda c_noise, x, args: jnp.sin(weight * x + c_noise)  # noqa: E731
            return fj.precondition(network, schedule)(t, x, None)

        return jax.jacrev(model, argnums=(0, 1, 2))(t, x, weight)

    for t in (0.0, 1.0):
        assert np.all(np.isfinite(slopes(t, 0.3, 1.5)))


# --- change_schedule ------------------------------------------------------------------------------


def reaches(old, new, t):
    """Whether the ratio of `new` at t lies within those of `old`."""
    with np.errstate(divide="ignore"):
        ratio = [p.a**2 / p.s2 for p in (old(np.float64(0)), old(np.float64(1)), new(t))]
    return ratio[0] <= ratio[2] <= ratio[1]


@jax.jit
def changed_from_every_schedule(new, xs):
    """At each time and from each old schedule, to the new one of a number."""
    schedules = tuple(schedule for schedule, _ in SCHEDULES.values())
    target = fj.Gaussian(MEAN, STD)

    def one(t, x, old):
        before, after = OneOf(old, schedules), OneOf(new, schedules)
        return fj.change_schedule(target.velocity(before), after)(t, x, None)

    # Scans, so that the switches between schedules stay so.
    def from_every(point):
        return jax.lax.map(lambda old: one(*point, old), jnp.arange(len(schedules)))

    return jax.lax.map(from_every, (jnp.asarray(TIMES), xs))


@pytest.mark.parametrize("new", SCHEDULES)
def test_the_velocity_under_a_new_schedule_is_that_of_the_same_data(new, x64):
    """From every old one; at the ends wherever the old velocity determines the new one."""
    _, formulas = SCHEDULES[new]
    xs = np.stack([max(1, formulas(t).s) * x for t, x in zip(TIMES, X, strict=True)])

    got = np.asarray(changed_from_every_schedule(list(SCHEDULES).index(new), xs))
    compared = 0
    for (i, t), (j, old) in itertools.product(enumerate(TIMES), enumerate(SCHEDULES)):
        old_formulas = SCHEDULES[old][1]
        if not reaches(old_formulas, formulas, t):
            continue
        # What the new velocity needs at t = 1 the old one may not determine: the score.
        needs_score = t == 1 and not determined(formulas(t), "data", "velocity")
        if needs_score and not determined(old_formulas(t), "velocity", "score"):
            continue
        expected = gaussian(formulas(t), MEAN, np.diag(STD**2), xs[i])["velocity"]
        size = max(1, *np.abs(expected), *np.abs(xs[i]))
        np.testing.assert_allclose(got[i, j] / size, expected / size, atol=1e-10, err_msg=old)
        compared += 1
    assert compared >= 4 * 3


def test_a_flow_on_a_new_schedule_ends_at_the_same_sample(x64):
    target, old, new = fj.Gaussian(MEAN, STD), fj.VariancePreserving(), fj.Trigonometric()
    field = fj.change_schedule(target.velocity(old), new)
    # Both start at one ratio: the new path where the old one begins.
    start = new.time_at(old.log_snr(0.0))
    ends = [
        fj.solve(u, X[0], fj.uniform_grid(400, t0, 1.0), step=fj.rk4)
        for u, t0 in ((field, start), (target.velocity(old), 0.0))
    ]
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-7)


def test_the_gradients_of_a_changed_schedule_are_finite_at_both_ends(x64):
    target = fj.Gaussian(MEAN, STD)
    olds = fj.VariancePreserving(), fj.Polynomial(2)
    news = fj.SquareRoot(), fj.Trigonometric()

    @jax.jit
    def slopes(pair, t, x):
        old, new = OneOf(pair, olds), OneOf(pair, news)
        field = fj.change_schedule(target.velocity(old), new)
        return jax.jacrev(lambda t, x: field(t, x, None), argnums=(0, 1))(t, x)

    for pair, t in itertools.product(range(2), (0.0, 0.5, 1.0)):
        for leaf in slopes(pair, t, X[0]):
            assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("predicts", PREDICTIONS)
@pytest.mark.thin(2)
def test_every_prediction_is_that_of_the_same_data_under_the_new_schedule(predicts, x64):
    """Of the noise and of the score at t = 0 too, where alpha is zero in the new one alone.

    The new schedule's ratio is out of the old one's reach there: it is taken at its nearest end.
    """
    target, old, new = fj.Gaussian(MEAN, STD), fj.VariancePreserving(), fj.CondOT()
    model = Exact(target, old, predicts)

    @jax.jit
    @jax.vmap
    def both(t):
        of_model = fj.change_schedule(fj.velocity(model, old, predicts), new)
        fields = of_model, target.velocity(new)
        return [(v(t, X[1], None), *v.data_and_noise(t, X[1], None)) for v in fields]

    got, want = map(np.asarray, both(jnp.array([0.0, 0.03, 0.5, 0.97])))
    np.testing.assert_allclose(got[:, 1:], want[:, 1:], rtol=1e-9)
    np.testing.assert_allclose(got[:, 0], want[:, 0], atol=0.02)  # alpha is 0.0066 there


def test_a_target_tells_its_data_under_a_new_schedule_where_its_velocity_stands_still(x64):
    """As that of Polynomial(2) does at t = 0; a guided one tells it no more."""
    v = fj.change_schedule(fj.Gaussian(MEAN, STD).velocity(fj.Polynomial(2)), fj.CondOT())
    expected = fj.Gaussian(MEAN, STD).velocity(fj.CondOT())(0.0, X[0], None)
    np.testing.assert_allclose(v(0.0, X[0], None), expected, rtol=1e-12)
    np.testing.assert_allclose(
        fj.solve(v, X[0], fj.uniform_grid(1), step=fj.ddim), MEAN, rtol=1e-12
    )


# --- bad input ------------------------------------------------------------------------------------


def wider(t, x, args):
    return jnp.concatenate([x, x])


STRAIGHT, VP = fj.CondOT(), fj.VariancePreserving()
V = fj.velocity(wider, STRAIGHT)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fj.velocity(wider, STRAIGHT, "x0"), ValueError, "predicts.*velocity.*'x0'"),
        (lambda: fj.velocity(wider, STRAIGHT, None), ValueError, "predicts.*None"),
        (lambda: fj.velocity(3, STRAIGHT), TypeError, "model must be a function.*3"),
        (lambda: fj.velocity(Linear, STRAIGHT), TypeError, "model must be a function.*Linear"),
        (lambda: fj.velocity(STRAIGHT, wider), TypeError, "schedule must be.*wider"),
        (lambda: fj.velocity(wider, "CondOT"), TypeError, "schedule must be.*'CondOT'"),
        (lambda: fj.velocity(wider, fj.CondOT), TypeError, "schedule must be.*CondOT"),
        (lambda: fj.velocity(V, STRAIGHT), TypeError, "model must be.*a field of the velocity"),
        (
            lambda: fj.velocity(fj.with_noise(V, 0.5).drift, STRAIGHT),
            TypeError,
            "model must be a function.* got a field of the drift",
        ),
        (lambda: fj.velocity(wider, STRAIGHT, coupled="yes"), TypeError, "coupled.*'yes'"),
        (
            lambda: fj.velocity(wider, STRAIGHT, "score", coupled=True),
            ValueError,
            "coupled must be False for a model of the score",
        ),
        (
            lambda: fj.velocity(fj.precondition(wider, VP), STRAIGHT, "data"),
            ValueError,
            "schedule must be the one that this model was made for, VariancePreserving.*CondOT",
        ),
        (
            lambda: fj.velocity(fj.Gaussian(0.0, 1.0).marginal_score(VP), STRAIGHT, "score"),
            ValueError,
            "made for, VariancePreserving",
        ),
        (
            lambda: fj.velocity(fj.precondition(wider, VP), fj.VariancePreserving(0.1, 10), "data"),
            ValueError,
            "made for, .*20.* got .*10",
        ),
        (lambda: V(0.5, X[0], None), ValueError, r"the model's output must have shape \(2,\)"),
        (lambda: V(np.zeros(2), X[0], None), ValueError, "the model's output"),
        (
            lambda: fj.velocity(lambda t, x, args: x, STRAIGHT)(np.zeros(2), X[0], None),
            ValueError,
            r"t must be a scalar, got shape \(2,\); use jax.vmap",
        ),
        (lambda: V(2.0, X[0], None), ValueError, r"t must lie within \[0, 1\].*got 2.0"),
        (lambda: V.data_and_noise(-0.1, X[0], None), ValueError, r"\[0, 1\].*got -0.1"),
        (lambda: V.score(np.nan, X[0], None), ValueError, r"t must lie within.*nan"),
        (lambda: V("0.5", X[0], None), ValueError, "the model's output"),
        (lambda: fj.velocity(wider, STRAIGHT, np.ones(3)), ValueError, "predicts must be one of"),
        (
            lambda: V.with_model(fj.Gaussian(0.0, 1.0).marginal_score(STRAIGHT)),
            ValueError,
            "predicts must be 'score', which this model gives, got 'velocity'",
        ),
        (lambda: V.with_model(V), TypeError, "model must be.*got a field of the velocity"),
        (
            lambda: fj.velocity(fj.Gaussian(0.0, 1.0).velocity(VP).model, VP, "data"),
            ValueError,
            "predicts must be 'velocity', which this model gives, got 'data'",
        ),
        (lambda: V.with_model(3), TypeError, "model must be a function.*3"),
        (lambda: fj.precondition(None, STRAIGHT), TypeError, "network.*None"),
        (lambda: fj.precondition(wider, fj.CondOT), TypeError, "schedule.*CondOT"),
        (lambda: fj.precondition(V, STRAIGHT), TypeError, "network.*a field of the velocity"),
        (lambda: fj.precondition(wider, STRAIGHT, 0.0), ValueError, "sigma_data.*positive.*0.0"),
        (lambda: fj.precondition(wider, STRAIGHT, np.inf), ValueError, "sigma_data.*finite.*inf"),
        (lambda: fj.precondition(wider, STRAIGHT, np.nan), ValueError, "sigma_data.*nan"),
        (lambda: fj.precondition(wider, STRAIGHT, "1"), TypeError, "sigma_data.*'1'"),
        (
            lambda: fj.precondition(wider, STRAIGHT)(0.5, X[0], None),
            ValueError,
            "the network's output must have shape",
        ),
        (lambda: fj.change_schedule(1, fj.EDM()), TypeError, "needs a fj.Velocity.*got 1"),
        (lambda: fj.change_schedule(wider, fj.EDM()), TypeError, "needs a fj.Velocity.*wider"),
        (lambda: fj.change_schedule(V, fj.EDM), TypeError, "new must be a schedule.*EDM"),
        (lambda: fj.change_schedule(V, wider), TypeError, "new must be a schedule.*wider"),
        (
            lambda: fj.change_schedule(V, fj.EDM())(0.5, X[0], None),
            ValueError,
            "the model's output must have shape",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words, unchecked):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    "same",
    [
        fj.VariancePreserving(0.1, 20),
        fj.VariancePreserving(jnp.float32(0.1), np.float32(20.0)),
        fj.VariancePreserving(0.1, jnp.float32(20.0)),
    ],
)
def test_a_preconditioned_model_is_of_every_schedule_of_the_same_numbers(same):
    fj.velocity(fj.precondition(wider, VP), same, "data")


def test_numbers_of_a_schedule_that_are_traced_are_not_compared():
    def value(high):
        model = fj.precondition(lambda c, x, args: x, fj.VariancePreserving(0.1, high))
        return fj.velocity(model, fj.VariancePreserving(0.1, high), "data")(0.5, X[0], None)

    np.testing.assert_allclose(jax.jit(value)(20.0), value(20.0), rtol=1e-5)


class Cosine(fj.Schedule):
    """A user's own schedule: the trigonometric one by its two formulas."""

    def alpha(self, t):
        return jnp.sin(np.pi / 2 * t)

    def sigma(self, t):
        return jnp.cos(np.pi / 2 * t)


def test_a_schedule_of_ones_own_may_be_the_old_one_and_the_new(x64):
    target, x = fj.Gaussian(MEAN, STD), jnp.asarray(X[1])
    for old, new in ((Cosine(), fj.CondOT()), (fj.CondOT(), Cosine()), (Cosine(), Cosine())):
        v = fj.change_schedule(target.velocity(old), new)
        both = jax.jit(lambda t, v=v, new=new: (v(t, x, None), target.velocity(new)(t, x, None)))
        for t in (0.0, 0.3, 1.0):
            np.testing.assert_allclose(*both(t), rtol=1e-9)
