"""What the densities of paths refuse, and in which words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

KEY = jax.random.key(0)
TS = np.linspace(0.0, 1.0, 5, dtype=np.float32)
PATH = jnp.arange(10.0).reshape(5, 2)
SDE = fj.ornstein_uhlenbeck(1.0, 1.0)
V = fj.velocity(lambda t, x, args: -x, fj.CondOT())
COUPLED = fj.velocity(lambda t, x, args: -x, fj.CondOT(), coupled=True)
TARGET = fj.Gaussian(jnp.zeros(2), 0.5).velocity(fj.CondOT())


def field(t, x, args):
    return -x


def not_linear(sde, t0, t1, x, args, dw):
    return fj.plus(x, (1, jax.tree.map(jnp.sin, dw)))


def with_matrix(g, noise):
    return fj.SDE(field, lambda t, x, args: jnp.asarray(g), noise=noise)


DENSITIES = [fj.path_log_prob, fj.transition_log_probs]
REFUSED = {
    "a field": ({"sde": field}, TypeError, "sde must be an SDE.*got a plain function, field"),
    "a flow": ({"sde": V}, TypeError, "sde must be an SDE.*field of the velocity.*fj.ancestral"),
    "an ODE step": ({"step": fj.euler}, TypeError, "step euler draws no noise"),
    "a flow's step": ({"sde": V, "step": fj.ddim}, TypeError, "step ddim draws no noise"),
    "an SDE for a sampler": ({"step": fj.ancestral}, TypeError, "ancestral needs a fj.Velocity"),
    "milstein": ({"step": fj.milstein}, ValueError, "milstein is not Gaussian given the state"),
    "Heun": ({"step": fj.stochastic_heun}, ValueError, "stochastic_heun is not Gaussian"),
    "reversible": ({"step": fj.reversible_heun}, ValueError, "remembers the steps before"),
    "churn": ({"sde": V, "step": fj.edm_heun(churn=0.1)}, ValueError, "edm_heun is not Gaussian"),
    "two steps": ({"sde": V, "step": fj.dpmpp_2m_sde}, ValueError, "dpmpp_2m_sde remembers"),
    "its own": ({"step": not_linear}, ValueError, "not_linear is not Gaussian.*gaussian = True"),
    "coupled": ({"sde": COUPLED, "step": fj.ancestral}, ValueError, "coupled pairs"),
    "short path": ({"path": PATH[:-1]}, ValueError, r"path must have.*5 times.*shape \(4, 2\)"),
    "one state": ({"path": 1.0}, ValueError, r"path must have the states.*shape \(\)"),
    "a leaf": ({"path": {"a": PATH[1:]}}, ValueError, r"path\['a'\] must have the states"),
    "integers": ({"path": jnp.arange(5)}, TypeError, "path must be a real floating array"),
    "structure": (
        {"path": {"a": PATH}, "sde": fj.SDE(lambda t, x, args: x["a"], lambda t, x, args: 1.0)},
        ValueError,
        "drift output must have the state's structure",
    ),
    "backward": ({"ts": TS[::-1]}, ValueError, "ts must increase"),
    "repeated time": ({"ts": TS[[0, 1, 1, 2, 3]]}, ValueError, "ts must increase"),
    "no grid": ({"ts": 4}, TypeError, "ts must be a grid"),
    "outside": ({"sde": V, "step": fj.ancestral, "ts": TS + 1}, ValueError, r"within \[0, 1\]"),
    "the last step": ({"sde": V, "step": fj.ancestral}, ValueError, r"step 3, from t = 0.75 to 1"),
    "of a target": ({"sde": TARGET, "step": fj.ancestral}, ValueError, r"step 3.*path\[:-1\]"),
    "no noise left": (
        {"sde": fj.with_noise(V, lambda t: 1 - t, noise_until=0.5)},
        ValueError,
        "step 2, from t = 0.5 to 0.75",
    ),
    "exponential": (
        {"sde": fj.with_noise(V, 1.0), "step": fj.exponential_euler},
        ValueError,
        "step 3, from t = 0.75 to 1",
    ),
    "an element": (
        {"sde": fj.SDE(field, lambda t, x, args: jnp.array([1.0, 0.0]))},
        ValueError,
        "step 0, from t = 0.0 to 0.25",
    ),
    "singular": ({"sde": with_matrix(np.ones((2, 3)), (3,))}, ValueError, "step 0.*direction|step"),
    "little noise": (
        {"sde": with_matrix(np.ones((2, 1)), (1,))},
        ValueError,
        "sde must have noise in every direction.*1 motions for 2 elements",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_density_is_refused_when_it_is_traced(name, density):
    change, error, words = REFUSED[name]
    arguments = {"path": PATH, "sde": SDE, "ts": TS} | change
    path = arguments.pop("path")
    with pytest.raises(error, match=words):
        jax.eval_shape(lambda path: density(path, **arguments), path)


def test_noise_that_depends_on_the_state_is_looked_at_where_the_state_is_known():
    """And not in its place where it is traced: a zero there would be no zero here."""
    sde = fj.SDE(field, lambda t, x, args: jnp.where(x > 1.5, x, 0.0))
    with pytest.raises(ValueError, match="step 0"):
        fj.path_log_prob(PATH, sde, TS)
    far = 2 + PATH
    assert np.isfinite(fj.path_log_prob(far, sde, TS))
    assert np.isfinite(jax.jit(lambda path: fj.path_log_prob(path, sde, TS))(far))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("sde_p", "sde_q", "error", "words"),
    [
        (field, SDE, TypeError, "sde_p must be an SDE"),
        (SDE, field, TypeError, "sde_q must be an SDE"),
        (fj.ornstein_uhlenbeck(1.0, 1.1), SDE, ValueError, "must have the same noise.*step 0"),
        (with_matrix(np.eye(2), (2,)), SDE, ValueError, "must have the same noise.*a matrix"),
    ],
)
def test_what_has_no_ratio_is_refused(sde_p, sde_q, error, words):
    with pytest.raises(error, match=words):
        jax.eval_shape(lambda path: fj.path_log_ratio(path, sde_p, sde_q, TS), PATH)


@pytest.mark.usefixtures("unchecked")
def test_an_observer_refuses_a_step_when_it_is_made():
    for make in (fj.densities.log_ratio, fj.densities.kl):
        with pytest.raises(ValueError, match="milstein is not Gaussian"):
            make(SDE, SDE, step=fj.milstein)
    with pytest.raises(TypeError, match="euler draws no noise"):
        fj.densities.log_prob(SDE, step=fj.euler)


def test_the_tracer_errors_of_jax_pass():
    sde = fj.SDE(lambda t, x, args: x if x[0] > 0 else -x, lambda t, x, args: 1.0)
    with pytest.raises(jax.errors.TracerBoolConversionError):
        fj.path_log_prob(PATH, sde, TS)
