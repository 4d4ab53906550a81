"""The training loop against a NumPy loop, closed-form minima and its own promises on batches."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flowjax.grids.uniform import uniform_grid
from flowjax.losses import flow_matching
from flowjax.models import MLP
from flowjax.sampling.views import sample
from flowjax.training import fit

KEY = jax.random.key(0)


def squared_error(model, sample, key):
    x, y = sample
    return (model["slope"] * x + model["offset"] - y) ** 2


def line(num=12):
    x = np.linspace(-1.0, 2.0, num)
    return x, 3 * x - 1 + 0.1 * np.cos(9 * x)


def value_of_sample(model, sample, key):
    """A loss that tells which sample it saw."""
    return sample + 0 * model


def test_full_batches_are_gradient_descent_in_numpy(dtype):
    x, y = line()
    model = {"slope": jnp.asarray(0.5, dtype), "offset": jnp.asarray(0.0, dtype)}
    data = (jnp.asarray(x, dtype), jnp.asarray(y, dtype))
    state, losses = fit(
        model, squared_error, data, KEY, optimizer=optax.sgd(0.1), steps=50, batch_size=12
    )

    slope, offset, want = 0.5, 0.0, []
    for _ in range(50):
        residual = slope * x + offset - y
        want.append(np.mean(residual**2))
        slope, offset = (
            slope - 0.1 * 2 * np.mean(residual * x),
            offset - 0.1 * 2 * np.mean(residual),
        )
    tolerance = 1e-12 if dtype == jnp.float64 else 1e-4
    assert losses.dtype == dtype
    np.testing.assert_allclose(losses, want, rtol=tolerance)
    got = [state.model["slope"], state.model["offset"]]
    np.testing.assert_allclose(got, [slope, offset], rtol=tolerance)


def test_each_pass_visits_every_sample_once_in_a_new_order():
    data = jnp.arange(20.0)
    _, seen = fit(
        jnp.array(1.0), value_of_sample, data, KEY, optimizer=optax.sgd(0.0), steps=60, batch_size=1
    )
    passes = np.asarray(seen).reshape(3, 20)
    for order in passes:
        np.testing.assert_array_equal(np.sort(order), data)
    # Each pair of equal orders, or an order left as it was, would be a chance of 1 in 20!.
    assert len({tuple(order) for order in [*passes, np.asarray(data)]}) == 4


def test_an_incomplete_last_batch_is_left_out():
    data = 2.0 ** jnp.arange(10.0)
    _, means = fit(
        jnp.array(1.0), value_of_sample, data, KEY, optimizer=optax.sgd(0.0), steps=6, batch_size=3
    )
    # The sum of a batch of three different powers of two names them; three batches make a pass.
    sums = np.rint(3 * np.asarray(means)).astype(int)
    for one_pass in sums.reshape(2, 3):
        assert all(int(batch).bit_count() == 3 for batch in one_pass)
        assert int(np.bitwise_or.reduce(one_pass)).bit_count() == 9


def test_step_i_is_a_function_of_key_and_i_alone():
    def random_loss(model, sample, key):
        return sample * model + jax.random.normal(key)

    def losses(key, steps):
        return fit(
            jnp.array(1.0),
            random_loss,
            jnp.arange(10.0),
            key,
            optimizer=optax.sgd(1e-3),
            steps=steps,
            batch_size=4,
        )[1]

    long = losses(KEY, 12)
    np.testing.assert_array_equal(losses(KEY, 12), long)
    np.testing.assert_array_equal(losses(KEY, 5), long[:5])
    np.testing.assert_array_equal(losses(jax.random.PRNGKey(0), 5), long[:5])
    assert not np.any(np.isclose(losses(jax.random.key(1), 12), long))


def test_every_sample_of_every_step_has_its_own_key():
    """Means of b independent normals have variance 1/b; shared keys would give 1."""

    def noise(model, sample, key):
        return jax.random.normal(key) + 0 * model

    def check(loss):
        _, means = fit(
            jnp.array(1.0),
            loss,
            jnp.zeros(8),
            KEY,
            optimizer=optax.sgd(0.0),
            steps=500,
            batch_size=8,
        )
        variance = np.var(np.asarray(means, float))
        # The variance of 500 normals has the standard error sqrt(2 / 500) of itself.
        return abs(8 * variance - 1) < 5 * np.sqrt(2 / 500) and len(np.unique(means)) == 500

    assert check(noise)
    assert not check(lambda model, sample, key: noise(model, sample, jax.random.key(1)))


def test_a_linear_velocity_converges_to_the_closed_form_minimum(standard_promotion):
    """u = a x + b on data N(2, 0.5^2): the expected loss is a quadratic with a known minimum."""
    mean, std = 2.0, 0.5
    # d/da and d/db of mean^2 (a^2/3 - a + 1) + 2 mean b (a/2 - 1) + b^2
    #                   + std^2 (a^2/3 - a + 1) + a^2/3 + a + 1.
    hessian = np.array([[2 * (mean**2 + std**2 + 1) / 3, mean], [mean, 2.0]])
    a, b = np.linalg.solve(hessian, [mean**2 + std**2 - 1, 2 * mean])

    data = mean + std * jax.random.normal(jax.random.key(2), (4096,))
    data = mean + std * (data - data.mean()) / data.std()
    state, _ = fit(
        eqx.Partial(lambda weights, t, x, args: weights[0] * x + weights[1], jnp.zeros(2)),
        flow_matching,
        data,
        KEY,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 600)),
        steps=600,
        batch_size=512,
    )
    # The weights settle within about 0.01 of the minimum; zero is 1 away and more.
    np.testing.assert_allclose(state.model.args[0], [a, b], atol=0.05)


@pytest.mark.nightly
def test_a_trained_model_draws_the_label_that_is_asked_for(standard_promotion):
    """Two labels, each a narrow Gaussian; every sample lands near the one of its label."""
    centres = jnp.array([[-1.0, 1.0], [1.0, 0.5]])
    labels = jnp.arange(256) % 2
    data = (centres[labels] + 0.1 * jax.random.normal(jax.random.key(3), (256, 2)), labels)
    state, _ = fit(
        MLP((2,), width=32, depth=1, num_classes=2, key=jax.random.key(4)),
        lambda model, sample, key: flow_matching(model, sample[0], key, sample[1]),
        data,
        KEY,
        optimizer=optax.adam(3e-3),
        steps=300,
        batch_size=128,
    )

    def init(key):
        return jax.random.normal(key, (2,))

    for label, centre in enumerate(centres):
        drawn = np.asarray(
            sample(KEY, state.model, init, uniform_grid(30), 200, args=jnp.asarray(label))
        )
        far = np.linalg.norm(drawn - np.asarray(centre), axis=1) > 0.7
        assert far.mean() < 0.05
        np.testing.assert_allclose(drawn.mean(axis=0), centre, atol=0.15)


def test_data_may_be_any_pytree_of_numpy_or_jax_arrays():
    """One with None in it, an array without elements, and keys; the last sees each sample once."""
    data = {
        "x": np.arange(4.0, dtype=np.float32),
        "none": None,
        "empty": jnp.zeros((4, 0)),
        "key": jax.random.split(jax.random.key(1), 4),
    }

    def loss(model, sample, key):
        assert sample["none"] is None
        assert sample["empty"].shape == (0,)
        return sample["x"] * jax.random.normal(sample["key"]) + jnp.sum(sample["empty"]) + 0 * model

    _, losses = fit(
        jnp.array(1.0), loss, data, KEY, optimizer=optax.sgd(0.1), steps=4, batch_size=1
    )
    want = data["x"] * jax.vmap(jax.random.normal)(data["key"])
    np.testing.assert_allclose(np.sort(losses), np.sort(want), rtol=1e-6)


def test_whatever_is_not_a_floating_array_is_left_alone(standard_promotion):
    class Model(eqx.Module):
        weight: jax.Array
        count: jax.Array
        function: object
        name: str

    model = Model(jnp.array(1.0), jnp.array(3), jnp.sin, "sine")
    state, _ = fit(
        model,
        lambda model, x, key: (model.weight * model.function(x) - model.count) ** 2,
        jnp.ones(4),
        KEY,
        optimizer=optax.adamw(0.1),
        steps=3,
        batch_size=2,
    )
    trained = state.model
    assert trained.weight != model.weight
    assert (int(trained.count), trained.function, trained.name) == (3, jnp.sin, "sine")
    assert float(model.weight) == 1, "the model that was passed in is unchanged"


def test_the_step_is_traced_once_for_all_steps_passes_and_calls(standard_promotion):
    traces = []

    def loss(model, sample, key):
        traces.append(None)
        return (model - sample) ** 2

    optimizer = optax.adam(0.1)
    for seed in range(2):
        fit(
            jnp.array(0.0),
            loss,
            jnp.arange(6.0),
            jax.random.key(seed),
            optimizer=optimizer,
            steps=10,
            batch_size=2,
        )
    assert len(traces) == 1


def test_progress_shows_the_steps_and_the_loss_and_changes_nothing(capsys):
    def run(progress):
        return fit(
            jnp.array(0.0),
            lambda model, sample, key: (model - sample) ** 2,
            jnp.arange(6.0),
            KEY,
            optimizer=optax.sgd(0.1),
            steps=70,
            batch_size=2,
            progress=progress,
        )

    quiet = run(False)
    assert capsys.readouterr().err == ""
    shown = run(True)
    bar = capsys.readouterr().err
    assert "70/70" in bar
    assert f"loss={shown[1][-1]:.4f}" in bar
    np.testing.assert_array_equal(shown[0].model, quiet[0].model)
    np.testing.assert_array_equal(shown[1], quiet[1])


def test_a_loss_that_is_not_finite_is_passed_on_and_reported():
    with pytest.warns(RuntimeWarning, match=r"not finite from step 2 on \(3 of 5 steps\)"):
        _, losses = fit(
            jnp.array(1.0),
            # The model is 1, 0, -1, -2, ...: its root is not a number from step 2 on.
            lambda model, sample, key: model + 0 * jax.lax.stop_gradient(jnp.sqrt(model)),
            jnp.zeros(2),
            KEY,
            optimizer=optax.sgd(1.0),
            steps=5,
            batch_size=2,
        )
    np.testing.assert_array_equal(losses, [1, 0, np.nan, np.nan, np.nan])


def test_without_tqdm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"pip install 'flowjax-solvers\[examples\]'"):
        fit(
            jnp.array(1.0),
            value_of_sample,
            jnp.zeros(2),
            KEY,
            optimizer=optax.sgd(0.1),
            steps=1,
            batch_size=1,
            progress=True,
        )


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"data": ()}, ValueError, "data must hold at least one array"),
        ({"data": jnp.zeros((0, 3))}, ValueError, "at least one sample"),
        ({"data": (jnp.zeros(4), jnp.zeros(5))}, ValueError, "data\\[0\\].*4.*data\\[1\\].*5"),
        ({"data": jnp.array([1.0, jnp.nan])}, ValueError, "data must be finite, got 1 numbers"),
        ({"data": jnp.zeros(())}, ValueError, "leading axis"),
        ({"data": [1.0, 2.0]}, TypeError, "data\\[0\\] must be an array of numbers, got float"),
        ({"steps": 0}, ValueError, "steps"),
        ({"steps": 2.5}, TypeError, "steps"),
        ({"steps": True}, TypeError, "steps"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 5}, ValueError, "batch_size must be at most the number of samples = 4"),
        ({"batch_size": 2.0}, TypeError, "batch_size"),
        ({"key": 0}, TypeError, "key"),
        ({"key": jax.random.split(jax.random.key(0))}, ValueError, "batch of keys"),
        ({"optimizer": 1e-3}, TypeError, "optax"),
        ({"model": jnp.array(1)}, TypeError, "floating arrays to train"),
        ({"model": {"slope": 1.0}}, TypeError, "floating arrays to train, got {'slope': 1.0}"),
        ({"model": MLP}, TypeError, "floating arrays to train, got <class"),
        ({"loss": lambda model, x, key: jnp.ones(2)}, TypeError, "floating scalar, got f32.2."),
        ({"loss": lambda model, x, key: 1}, TypeError, "loss.model, sample, key. must .* got 1"),
        ({"loss": lambda model, x, key: model > 0}, TypeError, "real floating scalar, got bool"),
        ({"loss": lambda model, x, key: x.astype(int)}, TypeError, "floating scalar, got i32"),
        (
            {"loss": lambda model, x, key: model.astype(complex)},
            TypeError,
            "floating scalar, got .*c64",
        ),
        ({"loss": lambda model, x, key: None}, TypeError, "real floating scalar, got None"),
        ({"loss": lambda model, x, key: (model, x, x)}, TypeError, "floating scalar, got .f32"),
        ({"loss": None}, TypeError, "loss must be a function .model, sample, key.*got None"),
        ({"loss": MLP}, TypeError, "loss must be a function .model, sample, key.*got <class"),
        ({"data": None}, ValueError, "data must hold at least one array"),
        ({"data": "digits"}, TypeError, "data must be an array of numbers, got str"),
        ({"data": lambda: 0}, TypeError, "data must be a function .key, i. -> batch, or arrays"),
        ({"data": np.array(list("abcd"))}, TypeError, "data must be an array of numbers, got <U1"),
        ({"optimizer": optax.adam}, TypeError, "optax optimiser.*got <function adam"),
        ({"optimizer": "adam"}, TypeError, "optax optimiser.*got 'adam'"),
        ({"rate": 1e-3}, TypeError, "rate"),
    ],
)
def test_bad_input_is_refused(unchecked, change, error, words):
    settings = {
        "model": jnp.array(1.0),
        "loss": lambda model, x, key: (model - x) ** 2,
        "data": jnp.zeros(4),
        "key": KEY,
        "optimizer": optax.sgd(0.1),
        "steps": 1,
        "batch_size": 2,
    }
    with pytest.raises(error, match=words):
        fit(**(settings | change))
