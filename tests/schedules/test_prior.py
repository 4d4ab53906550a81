"""What a path begins with: its law, its density, and that samples in its scale end at the data.

Random checks are at five standard errors on each number: a false alarm in 1.7 million.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import flowjax as fj
from tests.solver.random_checks import assert_near, keys_of

SCHEDULES = {
    "CondOT": (fj.CondOT(), 1.0),
    "EDM": (fj.EDM(), 80.0),
    "VarianceExploding": (fj.VarianceExploding(0.01, 50.0), 50.0),
    "VariancePreserving": (fj.VariancePreserving(), 1.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.thin(2)
def test_it_draws_and_scores_normals_of_the_schedules_first_sigma(name):
    schedule, std = SCHEDULES[name]
    prior = schedule.prior((3,))
    xs = np.asarray(jax.jit(jax.vmap(prior.sample))(keys_of("prior", 20_000)), np.float64)
    standard_error = std**2 * np.sqrt(2 / len(xs))
    assert_near((xs**2).mean(axis=0), std**2, standard_error, "variance")
    expected = stats.norm(scale=std).logpdf(xs[:5]).sum(axis=1)
    got = jax.vmap(prior.log_prob)(jnp.asarray(xs[:5], jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_samples_of_edm_from_its_prior_have_the_datas_width():
    """From N(0, 1) in its place the standard deviation is some hundredths of that."""
    target = fj.Gaussian(jnp.zeros(2), 1.0)
    v = target.velocity(fj.EDM())
    ts, key = fj.karras_grid(40, v.schedule), jax.random.key(2)
    xs = fj.sample(key, v, v.schedule.prior((2,)).sample, ts, 2000, step=fj.dpmpp_2m)
    assert abs(float(xs.std()) - 1) < 0.05
    narrow = fj.sample(key, v, fj.CondOT().prior((2,)).sample, ts, 2000, step=fj.dpmpp_2m)
    assert float(narrow.std()) < 0.05


def test_a_pytree_has_noise_of_its_shapes_and_dtypes():
    like = {"a": jax.ShapeDtypeStruct((2, 3), jnp.float16), "b": jnp.zeros(())}
    prior = fj.EDM(2.0).prior(like)
    x = prior.sample(jax.random.key(0))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), x) == {
        "a": ((2, 3), jnp.float16),
        "b": ((), jnp.float32),
    }
    values = np.concatenate([np.ravel(x["a"]), np.ravel(x["b"])]).astype(float)
    expected = stats.norm(scale=2.0).logpdf(values).sum()
    np.testing.assert_allclose(prior.log_prob(x), expected, rtol=1e-5)
    assert len(set(values)) == 7


def test_it_is_differentiable_in_the_schedule():
    value = lambda sigma: fj.EDM(sigma).prior((2,)).log_prob(jnp.array([1.0, 2.0]))  # noqa: E731
    np.testing.assert_allclose(jax.grad(value)(2.0), -2 / 2 + 5 / 8, rtol=1e-6)


def test_the_prior_of_a_later_start_has_the_noise_of_its_time():
    schedule, size = fj.CondOT(), np.int64(3)
    ts = fj.karras_grid(4, schedule)
    np.testing.assert_allclose(schedule.prior((size,), ts[0]).std, schedule(ts[0])[1])
    assert schedule.prior((size,)).std == 1


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fj.EDM().prior(3), TypeError, "like must be a real floating array"),
        (lambda: fj.EDM().prior((2.0,)), (TypeError, ValueError), "like"),
        (lambda: fj.EDM().prior(None), ValueError, "like must hold at least one array"),
        (lambda: fj.EDM().prior((2,)).sample(0), TypeError, "key must be one JAX key"),
        (
            lambda: fj.EDM().prior((2,)).log_prob(jnp.zeros(3)),
            ValueError,
            r"x must be one sample, of shape \[\(2,\)\]",
        ),
    ],
)
def test_bad_input_is_refused(unchecked, call, error, words):
    with pytest.raises(error, match=words):
        call()
