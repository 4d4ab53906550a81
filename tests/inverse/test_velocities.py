"""DPS, PiGDM and MMPS against their formulas in dense NumPy, and against posteriors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.inverse import velocities
from tests.inverse import oracles

METHODS = ("dps", "pigdm", "mmps")
PREDICTIONS = ("velocity", "data", "noise", "score", "v")
A = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]])
NOISE, Y, X, T = np.diag([0.04, 0.25]), np.array([1.0, -0.5]), np.array([0.3, -0.2, 0.9]), 0.6
SIGMA = np.sqrt(np.diag(NOISE))


def covariance(seed):
    root = np.random.default_rng(seed).normal(size=(3, 3))
    return root @ root.T / 3 + 0.2 * np.eye(3)


MIXTURE = (
    np.array([0.3, 0.7]),
    np.array([[-1.0, 0.0, 1.0], [1.5, 1.0, 0.0]]),
    np.array([covariance(0), covariance(1)]),
)
GAUSSIAN = tuple(part[1:] for part in MIXTURE)


def operator(x):
    return jnp.asarray(A) @ x


def prior(mixture, predicts="velocity"):
    """The velocity of a mixture under CondOT, by a model that predicts one of the five."""
    values, vectors = map(jnp.asarray, np.linalg.eigh(mixture[2]))
    weights, means = jnp.asarray(mixture[0]), jnp.asarray(mixture[1])

    def model(t, x, args):
        s = 1 - t
        spread = t**2 * values + s**2
        along = jnp.einsum("kij,ki->kj", vectors, x[None] - t * means)
        logs = jnp.log(weights) - jnp.sum(jnp.log(spread) + along**2 / spread, axis=1) / 2
        expected = means + t * jnp.einsum("kij,kj->ki", vectors, values / spread * along)
        data = jax.nn.softmax(logs) @ expected
        noise = (x - t * data) / s
        known = {"velocity": data - noise, "data": data, "noise": noise}
        return (known | {"score": -noise / s, "v": t * noise - s * data})[predicts]

    return fj.velocity(model, fj.CondOT(), predicts)


def made(method, v, observed=Y, operator=operator, sigma=SIGMA, **options):
    """The posterior's velocity; two observations take two iterations."""
    iterations = {} if method == "dps" else {"iterations": 2}
    return getattr(fj.inverse, method)(v, observed, operator, sigma, **iterations, **options)


def shifts(v, *posteriors):
    """What each adds to the velocity v at (T, X), over kappa: its gradient."""
    plain, *values = jax.jit(lambda x: [field(T, x, None) for field in (v, *posteriors)])(X)
    return [np.asarray(value - plain) / ((1 - T) / T) for value in values]


def added(method, mixture, predicts="velocity", **options):
    v = prior(mixture, predicts)
    return shifts(v, made(method, v, **options))[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.thin(1)
def test_the_gradient_is_the_formula_whatever_is_predicted(x64, method):
    expected = oracles.gradient(method, MIXTURE, T, X, A, Y, NOISE)
    posteriors = [made(method, prior(MIXTURE, predicts)) for predicts in PREDICTIONS]
    assert tuple(posterior.predicts for posterior in posteriors) == PREDICTIONS
    for found in shifts(prior(MIXTURE), *posteriors):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_spread_of_pigdm_is_that_of_its_data(x64):
    expected = oracles.gradient("pigdm", MIXTURE, T, X, A, Y, NOISE, c=3.0)
    np.testing.assert_allclose(added("pigdm", MIXTURE, data_std=3.0), expected, rtol=1e-9)


def test_mmps_is_exact_for_gaussian_data_and_the_others_are_not(x64):
    exact = oracles.exact_gradient(GAUSSIAN, T, X, A, Y, NOISE)
    np.testing.assert_allclose(added("mmps", GAUSSIAN), exact, rtol=1e-7)
    size = np.linalg.norm(exact)
    assert all(np.linalg.norm(added(m, GAUSSIAN) - exact) > 0.05 * size for m in ("dps", "pigdm"))


def test_pigdm_is_exact_for_data_of_its_own_spread(x64):
    even = (np.ones(1), np.array([[0.0, 0.0, 0.0]]), 1.7**2 * np.eye(3)[None])
    exact = oracles.exact_gradient(even, T, X, A, Y, NOISE)
    np.testing.assert_allclose(added("pigdm", even, data_std=1.7), exact, rtol=1e-7)
    assert np.linalg.norm(added("pigdm", even) - exact) > 0.05 * np.linalg.norm(exact)


def test_of_a_mixture_mmps_is_the_nearest_to_the_truth(x64):
    """On average over where paths are: the bias that is left, as a part of the gradient."""
    random = np.random.default_rng(0)
    bias = dict.fromkeys(METHODS, 0.0)
    for t in (0.3, 0.6, 0.9):
        for x in t * MIXTURE[1][[0, 1, 1]] + (1 - t) * random.normal(size=(3, 3)):
            exact = oracles.exact_gradient(MIXTURE, t, x, A, Y, NOISE)
            for method in METHODS:
                found = oracles.gradient(method, MIXTURE, t, x, A, Y, NOISE)
                bias[method] += np.linalg.norm(found - exact) / np.linalg.norm(exact) / 9
    assert bias["mmps"] < bias["pigdm"] < bias["dps"]


@pytest.mark.parametrize("factor", [-1.0, 2.0])
def test_a_wrong_sign_and_a_factor_of_two_are_caught(x64, monkeypatch, factor):
    right = velocities.per_score
    monkeypatch.setattr(velocities, "per_score", lambda *given: factor * right(*given))
    expected = oracles.gradient("mmps", MIXTURE, T, X, A, Y, NOISE)
    assert np.abs(added("mmps", MIXTURE, "noise") - expected).max() > 0.1


def test_the_end_of_a_flow_given_an_observation_is_its_posterior(x64):
    """Of Gaussian data every step is linear: mean and covariance of the end, without samples."""
    (_, mean, spread), _ = oracles.posterior(GAUSSIAN, A, Y, NOISE)
    ends = {}
    ts = fj.uniform_grid(400, 1e-2)
    for method in ("pigdm", "mmps"):
        field = made(method, prior(GAUSSIAN))
        end = jax.jit(lambda x, field=field: fj.solve(field, x, ts, step=fj.midpoint))
        starts = jnp.concatenate([jnp.zeros((1, 3)), jnp.eye(3)])
        at_zero, *units = np.asarray(jax.vmap(end)(starts))
        slope = np.transpose(units - at_zero)
        ends[method] = at_zero, slope @ slope.T
    # What is left is the start of the grid, at 0.01, and the steps.
    np.testing.assert_allclose(ends["mmps"][0], mean[0], atol=0.02)
    np.testing.assert_allclose(ends["mmps"][1], spread[0], atol=0.02)
    assert np.abs(ends["pigdm"][1] - spread[0]).max() > 0.05


def test_a_nonlinear_operator_is_linearised_where_the_data_are(x64):
    def curved(x):
        return jnp.stack([x[0] * x[1], jnp.sin(x[2])])

    v = prior(MIXTURE)

    def data(x):
        return v.data_and_noise(T, x, None)[0]

    d, j, a = jax.jit(lambda x: (data(x), jax.jacfwd(data)(x), jax.jacfwd(curved)(data(x))))(X)
    residual = Y - curved(d)
    s2 = (1 - T) ** 2
    between = {
        "dps": NOISE,
        "pigdm": NOISE + s2 / (s2 + T**2) * a @ a.T,
        "mmps": NOISE + s2 / T * a @ j @ a.T,
    }
    posteriors = [made(method, v, operator=curved) for method in METHODS]
    for method, found in zip(METHODS, shifts(v, *posteriors), strict=True):
        expected = j.T @ a.T @ np.linalg.solve(between[method], residual)
        np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_inpainting_by_a_mask_is_that_by_selection(x64):
    """What the mask hides is observed as nothing, whatever the state is."""
    v, mask = prior(MIXTURE), jnp.array([1.0, 0.0, 1.0])
    seen = jnp.array([0.4, -0.3])
    masked = made("mmps", v, jnp.array([0.4, 0.0, -0.3]), lambda x: mask * x, 0.3)
    selected = made("mmps", v, seen, lambda x: x[jnp.array([0, 2])], 0.3)
    np.testing.assert_allclose(*shifts(v, masked, selected), rtol=1e-9)


def test_a_state_of_two_leaves_is_corrected_as_one_array(x64):
    v = prior(MIXTURE)

    def joined(x):
        return jnp.concatenate([x["a"], x["b"]])

    def model(t, x, args):
        u = v(t, joined(x), args)
        return {"a": u[:1], "b": u[1:]}

    pair, x = fj.velocity(model, fj.CondOT()), {"a": X[:1], "b": X[1:]}
    plain = made("mmps", v)
    given = {"y": Y}, lambda x: {"y": operator(joined(x))}, {"y": SIGMA}
    found = made("mmps", pair, *given)
    values = jax.jit(lambda x, y: (found(T, x, None), plain(T, y, None)))(x, X)
    np.testing.assert_allclose(joined(values[0]), values[1], rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_states_of_16_bits_keep_their_dtype(method):
    def model(t, x, args):
        return 0.9 * x

    v = fj.velocity(model, fj.CondOT(), "data")
    posterior = made(method, v, jnp.array([1.0]), lambda x: x[:1], 0.5)
    x = jnp.array([0.5, -1.0], jnp.bfloat16)
    found = jax.jit(lambda x: posterior(T, x, None))(x)
    assert found.dtype == jnp.bfloat16
    wide = jax.jit(lambda x: posterior(T, x, None))(x.astype(jnp.float32))
    np.testing.assert_allclose(found.astype(jnp.float32), wide, rtol=0.03)


def test_a_posterior_is_differentiable_by_the_observation_and_its_noise(x64):
    ts = fj.uniform_grid(10, 0.1)

    def end(y, sigma):
        field = made("mmps", prior(GAUSSIAN), y, sigma=sigma)
        return jnp.sum(jnp.sin(fj.solve(field, jnp.asarray(X), ts)))

    end = jax.jit(end)
    slopes = jax.jit(jax.grad(end, (0, 1)))(jnp.asarray(Y), jnp.asarray(SIGMA))
    for i, slope in enumerate(slopes):
        for j in range(2):
            h = 1e-5 * np.eye(2)[j]
            moved = ((Y + h * (i == 0), SIGMA + h * (i == 1)) for h in (h, -h))
            above, below = (float(end(*one)) for one in moved)
            assert abs((above - below) / 2e-5 - float(slope[j])) < 1e-6


def test_an_iteration_of_mmps_is_one_product_and_no_further_call_of_the_model(x64):
    """Sine marks a call of the model, and cosine its derivative: counted in the program."""

    def model(t, x, args):
        return jnp.sin(x)

    v = fj.velocity(model, fj.CondOT(), "data")
    posterior = fj.inverse.mmps(v, jnp.array([1.0]), lambda x: x[:1], 0.5, iterations=3)
    names = [str(e.primitive) for e in jax.make_jaxpr(posterior)(T, X, None).eqns]
    assert (names.count("sin"), names.count("cos")) == (1, 1)


def test_under_a_schedule_that_keeps_the_data_the_start_is_exact_too(x64):
    """With alpha = 1 at t = 0 nothing is singular there."""
    v = fj.Gaussian(jnp.zeros(1), 1.5).velocity(fj.VarianceExploding(0.01, 4.0))
    _, sigma = v.schedule(0.0)
    posterior = fj.inverse.mmps(v, jnp.array([1.0]), lambda x: x, 0.5)
    x, total = 0.7, 1.5**2 + float(sigma) ** 2
    data, spread = 1.5**2 / total * x, 1.5**2 * float(sigma) ** 2 / total
    corrected = data + spread / (spread + 0.25) * (1.0 - data)
    found, _ = posterior.data_and_noise(0.0, jnp.array([x]), None)
    np.testing.assert_allclose(found, [corrected], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_where_alpha_is_zero_a_start_is_refused_and_nan_if_it_is_traced(method):
    v = fj.Gaussian(jnp.zeros(1), 1.0).velocity(fj.CondOT())
    posterior = getattr(fj.inverse, method)(v, jnp.array([1.0]), lambda x: x, 0.5)
    words = f"{method} does not determine the posterior at t = 0, where alpha = 0"
    for step in (fj.euler, fj.ddim):
        with pytest.raises(ValueError, match=words):
            fj.solve(posterior, jnp.zeros(1), fj.uniform_grid(4), step=step)
    with pytest.raises(ValueError, match=words):
        posterior(0.0, jnp.zeros(1), None)
    assert np.isnan(jax.jit(lambda t: posterior(t, jnp.zeros(1), None))(0.0)).all()


@pytest.mark.parametrize("method", METHODS)
def test_what_has_no_score_is_refused(unchecked, method):
    make = getattr(fj.inverse, method)
    coupled = fj.velocity(lambda t, x, args: x, fj.CondOT(), coupled=True)
    with pytest.raises(ValueError, match=f"{method} needs the score"):
        make(coupled, jnp.zeros(1), lambda x: x, 1.0)
    with pytest.raises(TypeError, match=f"{method} needs a fj.Velocity"):
        make(lambda t, x, args: x, jnp.zeros(1), lambda x: x, 1.0)


@pytest.mark.parametrize(
    ("method", "options", "error", "words"),
    [
        ("dps", {"scale": jnp.ones(2)}, ValueError, "scale must be one number"),
        ("dps", {"scale": float("nan")}, ValueError, "scale must be finite"),
        ("pigdm", {"data_std": 0.0}, ValueError, "data_std must be above 0"),
        ("pigdm", {"iterations": 0}, ValueError, "iterations must be a static positive int"),
        ("mmps", {"iterations": 2.0}, TypeError, "iterations must be a static positive int"),
    ],
)
def test_options_that_make_no_sense_are_refused(unchecked, method, options, error, words):
    v = fj.Gaussian(jnp.zeros(1), 1.0).velocity(fj.CondOT())
    with pytest.raises(error, match=words):
        getattr(fj.inverse, method)(v, jnp.zeros(1), lambda x: x, 1.0, **options)


def test_an_observation_of_another_shape_is_refused_where_it_is_used():
    v = fj.Gaussian(jnp.zeros(3), 1.0).velocity(fj.CondOT())
    posterior = fj.inverse.dps(v, jnp.zeros(3), lambda x: x[:2], 1.0)
    with pytest.raises(ValueError, match=r"the operator's output must have shape \(3,\)"):
        fj.solve(posterior, jnp.zeros(3), fj.uniform_grid(4, 0.1))
