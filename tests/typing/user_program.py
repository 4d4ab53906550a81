# pyright: strict
"""A user's program, whose own code is typed: what is public has types that a strict checker knows.

`make types` checks it, and tests/typing/test_user_program.py runs it.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax  # pyright: ignore[reportMissingTypeStubs]
from jax import Array

import flowjax as fj

TS = fj.uniform_grid(8)


def array(value: Any) -> Array:
    """As JAX makes it: its own types are partly unknown to a strict checker."""
    return jnp.array(value)  # pyright: ignore[reportUnknownMemberType]


# --- solves ---------------------------------------------------------------------------------------


class Pendulum(eqx.Module):
    length: Array

    def __call__(self, t: Array, x: Array, args: None) -> Array:
        return jnp.stack([x[1], -jnp.sin(x[0]) / self.length])


def spring(t: Array, x: dict[str, Array], stiffness: Array) -> dict[str, Array]:
    return {"place": x["speed"], "speed": -stiffness * x["place"]}


def ralston(field: Any, t0: Array, t1: Array, x: Array, args: Any, dw: None = None) -> Array:
    h = t1 - t0
    k1 = field(t0, x, args)
    k2 = field(t0 + 2 * h / 3, fj.plus(x, (2 * h / 3, k1)), args)
    return fj.plus(x, (h / 4, k1), (3 * h / 4, k2))


def slope_at(field: Any, t: Array, x: Array, args: Any) -> Array:
    return field(t, x, args)


def two_step(
    field: Any, t0: Array, t1: Array, x: Array, args: Any, dw: Any = None, last: Any = None
) -> tuple[Array, Array]:
    slope = field(t0, x, args)
    return x + (t1 - t0) * (3 * slope - last) / 2, slope


def longest(value: Array, t0: Array, t1: Array, x0: Array, x1: Array, dw: Any) -> Array:
    return jnp.maximum(value, jnp.sqrt(jnp.sum(x1**2)))


def energy(x0: Array, field: Pendulum) -> Array:
    end: Array = fj.solve(field, x0, TS, step=fj.rk4, adjoint=fj.Checkpointed(segments=2))
    return jnp.sum(end**2)


def gradient_of(
    function: Callable[[Array, Pendulum], Array],
) -> Callable[[Array, Pendulum], Pendulum]:
    """Also of JAX's types that are partly unknown."""
    return jax.grad(function, 1)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def solves(key: Array) -> None:
    field, x0 = Pendulum(array(1.0)), array([0.5, 0.0])
    fj.solve(spring, {"place": x0, "speed": x0}, TS, array(2.0), step=fj.midpoint)
    fj.solve(field, x0, TS, step=ralston)
    fj.solve(field, x0, TS, step=fj.Stepper(slope_at, two_step), adjoint=fj.Direct())
    path: Array = fj.trajectory(field, x0, [0.0, 0.5, 1.0], step=fj.adams(), every=2)
    end, furthest = fj.fold(field, x0, TS, init=array(0.0), update=longest)
    assert path.shape == (2, 2)
    assert end.shape == x0.shape
    assert furthest.shape == ()
    gradient = gradient_of(energy)(x0, field)
    assert gradient.length.shape == ()

    sde = fj.SDE(drift=lambda t, x, args: -x, diffusion=lambda t, x, args: 0.5)
    increments = fj.brownian_increments(key, TS, x0)
    fj.solve(sde, x0, TS, increments=increments, step=fj.milstein)
    fj.solve(sde, x0, TS, key=key, adjoint=fj.Truncated(last=2))
    fj.solve(sde, x0, TS, key=key, step=fj.reversible_heun, adjoint=fj.Reversible())


# --- models ---------------------------------------------------------------------------------------


class Cosine(fj.Schedule):
    def alpha(self, t: Array) -> Array:
        return jnp.sin(jnp.pi / 2 * t)

    def variance(self, t: Array) -> Array:
        return jnp.cos(jnp.pi / 2 * t) ** 2


def loss(model: fj.models.MLP, x1: Array, key: Array) -> Array:
    return fj.losses.flow_matching(model, x1, key, schedule=Cosine())


def start(key: Array) -> Array:
    return jax.random.normal(key, (2,))


def towards(t: Array, x: Array, label: Array) -> Array:
    return 2.0 * label + 0 * x


def models(key: Array) -> None:
    data = fj.data.moons(key, 64)
    network = fj.models.MLP((2,), width=8, depth=1, key=key)
    adam = optax.adam(1e-3)
    state, losses = fj.training.fit(
        network, loss, data, key, optimizer=adam, steps=2, batch_size=8, ema=0.9
    )
    assert losses.shape == (2,)
    v = fj.velocity(fj.training.averaged(state), Cosine())
    samples: Array = fj.sample(key, v, start, TS, 4, step=fj.ddim)
    noisy: Array = fj.sample(key, fj.with_noise(v, lambda t: 1 - t), start, TS, 4)
    assert samples.shape == noisy.shape == (4, 2)
    prior = fj.Gaussian(array([0.0, 0.0]), 1.0)
    log_p: Array = fj.log_likelihood(array([0.0, 0.0]), v, prior.log_prob, TS)
    assert log_p.shape == ()
    labelled = fj.velocity(towards, fj.CondOT(), predicts="data")
    guided: fj.Velocity = fj.guidance.classifier_free(labelled, 2.0, null=array(0.0))
    ts = fj.log_snr_grid(4, guided.schedule)
    label, sampler = array(1.0), fj.dpmpp_2m
    fj.sample(key, guided, start, ts, 4, args=label, step=sampler)
    mean = fj.estimators.expectation(jnp.sum, key, v, start, TS, 16)
    print(f"{mean.mean:.2f} ± {mean.standard_error:.2f}")


def main() -> None:
    solves(jax.random.key(0))
    models(jax.random.key(1))


if __name__ == "__main__":
    main()
