"""What the densities refuse, and in which words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from tests.densities.problems import normal_log_prob

KEY = jax.random.key(0)
SDE = fj.ornstein_uhlenbeck(1.0, 1.0)


class Score:
    """A field that says it gives no velocity."""

    gives = "score"

    def __call__(self, t, x, args):
        return -x


def sampler(field, t0, t1, x, args, dw=None):
    """A step that reads a schedule, as the few-step samplers do."""
    return x


sampler.reads = "velocity"


class Sampler:
    """Another, with options."""

    reads = "velocity"

    def __call__(self, field, t0, t1, x, args, dw=None):
        return x


DENSITIES = [fj.log_likelihood, fj.euler_log_likelihood]


def call(density, change):
    arguments = {
        "x": jnp.ones(2),
        "v": lambda t, x, args: -x,
        "init_log_prob": normal_log_prob,
        "ts": np.array([0.0, 0.5, 1.0]),
    }
    # Traced only: what is refused is refused then.
    return jax.eval_shape(lambda: density(**(arguments | change)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"v": SDE}, TypeError, "v must be a velocity.*got an SDE"),
        ({"v": Score()}, TypeError, "v must be a velocity.*got a field of the score"),
        ({"v": Score}, TypeError, "v must be a velocity|v must be a function .*, got <class"),
        ({"v": 1.0}, TypeError, r"v must be a velocity.*got 1.0"),
        ({"v": None}, TypeError, r"v must be a velocity.*got None"),
        ({"v": lambda t, x, args: x[0]}, ValueError, r"v's output must have shape \(2,\)"),
        ({"v": lambda t, x, args: None}, ValueError, "v's output must have the state's structure"),
        ({"init_log_prob": 0.0}, TypeError, "init_log_prob must be a function.*got 0.0"),
        (
            {"init_log_prob": fj.Gaussian},
            TypeError,
            "init_log_prob must be a function x0 -> log p_0.*got <class",
        ),
        (
            {"init_log_prob": fj.Gaussian(0.0, 1.0)},
            TypeError,
            "such as prior.log_prob, got Gaussian",
        ),
        (
            {"init_log_prob": lambda x: x},
            TypeError,
            r"init_log_prob must return a real floating scalar, got f32\[2\]",
        ),
        ({"init_log_prob": lambda x: 1}, TypeError, "real floating scalar, got 1"),
        ({"init_log_prob": lambda x: None}, TypeError, "real floating scalar, got None"),
        ({"init_log_prob": lambda x: (x[0],)}, TypeError, "real floating scalar, got .f32"),
        ({"ts": np.array([1.0, 0.5, 0.0])}, ValueError, "ts must be the sampler's own grid"),
        ({"ts": None}, TypeError, "ts must be a grid of times.*got None"),
        ({"ts": 20}, TypeError, r"write fj.uniform_grid\(20\)"),
        ({"ts": np.array([1.0])}, ValueError, "ts must be a 1-D floating array"),
        ({"x": jnp.arange(2)}, TypeError, "x must be a real floating array, got dtype int32"),
        ({"x": None}, ValueError, "x must hold at least one array"),
        ({"x": "data"}, TypeError, "x must be a real floating array, got str"),
        ({"method": "discrete"}, TypeError, "unexpected keyword argument 'method'"),
    ],
)
def test_what_every_density_refuses(density, change, error, words):
    with pytest.raises(error, match=words):
        call(density, change)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"divergence": "exact"}, r"must be fj.Exact\(\) or fj.Hutchinson\(key\), got 'exact'"),
        ({"divergence": None}, r"must be fj.Exact\(\) or fj.Hutchinson\(key\), got None"),
        ({"divergence": fj.Exact}, r"must be fj.Exact\(\) or .*, got <class .*Exact'>"),
        ({"divergence": fj.Hutchinson}, r"fj.Hutchinson\(key\), got <class .*Hutchinson'>"),
        ({"divergence": KEY}, r"must be fj.Exact\(\) or fj.Hutchinson\(key\), got"),
        (
            {"step": sampler},
            "step must be a method for any ODE, such as fj.rk4, got sampler,",
        ),
        ({"step": Sampler()}, "step must be a method for any ODE, .* got Sampler"),
        ({"step": fj.euler_maruyama}, "step must be a method for any ODE.*euler_maruyama"),
        ({"step": "rk4"}, "step must be"),
        ({"adjoint": fj.Direct}, "adjoint must be"),
    ],
)
def test_what_log_likelihood_refuses(change, words):
    with pytest.raises(TypeError, match=words):
        call(fj.log_likelihood, change)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((), TypeError, "missing 1 required positional argument: 'key'"),
        ((0,), TypeError, "key must be one JAX key"),
        ((None,), TypeError, "key must be one JAX key.*got None"),
        ((jnp.ones(2),), TypeError, "key must be one JAX key.*dtype float32"),
        ((jax.random.split(KEY),), ValueError, "key must be one JAX key.*vmap"),
        ((KEY, 0), ValueError, "probes.*got 0"),
        ((KEY, 2.0), TypeError, "probes.*got 2.0"),
        ((KEY, True), TypeError, "probes.*got True"),
        ((4, KEY), TypeError, "key must be one JAX key.*got 4"),
    ],
)
def test_what_hutchinson_refuses(arguments, error, words):
    with pytest.raises(error, match=words):
        fj.Hutchinson(*arguments)


def test_a_sample_without_a_number_has_no_euler_density():
    with pytest.raises(ValueError, match="x must hold at least one number, got only arrays"):
        call(fj.euler_log_likelihood, {"x": {"a": jnp.ones((0, 3))}})


def test_exact_takes_no_arguments():
    with pytest.raises(TypeError, match="argument"):
        fj.Exact(KEY)


@pytest.mark.parametrize("density", DENSITIES)
def test_a_grid_in_halves_that_decreases_is_refused_under_jit_too(density):
    ts = jnp.array([1.0, 0.5, 0.0], jnp.bfloat16)
    with pytest.raises(ValueError, match="ts must be the sampler's own grid"):
        jax.jit(lambda x: density(x, lambda t, x, args: -x, normal_log_prob, ts))(jnp.ones(2))


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("ts", [fj.uniform_grid(4), np.linspace(0.0, 1.0, 5)])
@pytest.mark.parametrize("under", [lambda f: f, jax.jit, jax.grad])
def test_times_where_the_velocity_is_not_determined_are_refused(density, ts, under):
    v = fj.velocity(lambda t, x, args: -x, fj.CondOT(), "noise")
    call = under(lambda x: density(x, v, normal_log_prob, ts))
    with pytest.raises(ValueError, match=r"at t = 0.*start the grid later"):
        call(jnp.ones(2))


def test_the_end_is_refused_only_to_the_density_that_looks_there():
    v = fj.velocity(lambda t, x, args: -x, fj.SquareRoot(), "data")
    with pytest.raises(ValueError, match=r"at t = 1.*end the grid earlier"):
        call(fj.log_likelihood, {"v": v})
    call(fj.euler_log_likelihood, {"v": v})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize(
    ("field", "words"),
    [
        (lambda v: fj.with_noise(v, 0.5).drift, "v must be a velocity.*got a field of the drift"),
        (lambda v: fj.with_noise(v, 0.5), "v must be a velocity.*got an SDE"),
        (lambda v: fj.Gaussian(0.0, 1.0).marginal_score(v.schedule), "got a field of the score"),
        (lambda v: fj.precondition(v.model, v.schedule), "got a field of the data"),
    ],
)
def test_what_is_made_of_a_velocity_and_is_none_is_refused(density, field, words):
    v = fj.velocity(lambda t, x, args: -x, fj.CondOT())
    with pytest.raises(TypeError, match=words):
        call(density, {"v": field(v)})
