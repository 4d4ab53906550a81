"""What rounding must not turn into an advantage, nor a ratio into NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

TS = fj.uniform_grid(4)


@pytest.mark.parametrize("size", [3, 7, 24])
@pytest.mark.parametrize("reward", [0.1, 0.3, 1.7])
@pytest.mark.parametrize("scaled", [True, False])
def test_equal_rewards_have_no_advantage(size, reward, scaled):
    got = fj.rewards.group_advantages(jnp.full((2, size), reward), scaled=scaled)
    np.testing.assert_array_equal(got, np.zeros((2, size)))


@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
def test_a_ratio_beyond_all_numbers_has_a_finite_gradient(advantage):
    """Clipped it is zero; where a ratio has grown that ought to fall, there is no NaN either."""

    def loss(drift, old):
        sde = fj.SDE(lambda t, x, args: drift, lambda t, x, args: 1.0)
        return fj.rewards.policy_gradient(sde, jnp.zeros(5), old, advantage, TS)

    old = jnp.full(4, -200.0)  # so that each log-ratio is near 200
    value, slope = jax.value_and_grad(loss)(jnp.array(0.1), old)
    assert np.isfinite(value)
    assert np.isfinite(slope)
    if advantage >= 0:
        assert slope == 0
        np.testing.assert_allclose(value, -4 * 1.2 * advantage, rtol=1e-6)


def test_a_base_of_other_noise_or_times_is_refused():
    def sde(g):
        return fj.SDE(lambda t, x, args: 0 * x, lambda t, x, args: g)

    log_probs = fj.transition_log_probs(jnp.zeros(5), sde(1.0), TS)
    with pytest.raises(ValueError, match="must have the same noise"):
        fj.rewards.policy_gradient(
            sde(1.0), jnp.zeros(5), log_probs, 1.0, TS, base=sde(2.0), kl=0.1
        )
    # Without a weight no base is asked for, in whatever form the number comes.
    fj.rewards.policy_gradient(sde(1.0), jnp.zeros(5), log_probs, 1.0, TS, kl=jnp.array(0.0))
