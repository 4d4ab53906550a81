"""Row training: seconds of a step of training, and of pairing a batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import linear_sum_assignment

import flowjax as fj
from benchmarks import torch_contenders
from benchmarks.contenders import FLOOR
from benchmarks.record import Result, timed
from benchmarks.rows import Case, Say
from benchmarks.timing import Settings, interleaved

LOOP = "loop"


class Work(NamedTuple):
    """A network and a batch.

    Args:
        width: of three hidden layers.
        batch: how many samples a step sees.
        steps: of one call.
    """

    width: int
    batch: int
    steps: int


SMALL, LARGE = Work(64, 256, 1000), Work(1024, 1024, 10)


def cases() -> list[Case]:
    """The cases of this row."""
    return [
        *(
            Case(
                "training",
                f"a step, MLP 3 x {work.width}, batch {work.batch}",
                partial(_step, work),
            )
            for work in (SMALL, LARGE)
        ),
        *(
            Case("training", f"pairs of {batch}, in {dimension}", partial(_pairs, batch, dimension))
            for batch, dimension in ((256, 2), (1024, 784))
        ),
    ]


class Network(eqx.Module):
    """torchcfm's network: t as one more input, SELU."""

    layers: eqx.nn.MLP

    def __init__(self, width: int, key: jax.Array):
        self.layers = eqx.nn.MLP(3, 2, width, 3, jax.nn.selu, key=key)

    def __call__(self, t: Any, x: Any, args: Any = None) -> Any:
        return self.layers(jnp.append(x, t))


def _step(work: Work, settings: Settings, say: Say) -> list[Result]:
    say("compiling")
    key = jax.random.key(0)
    data = fj.data.moons(key, 4096)
    calls = {**_by_hand(work, key, data), "flowjax": _flowjax(work, key, data)}
    calls |= torch_contenders.training(work.width, work.batch, work.steps, np.asarray(data))
    losses = {name: float(np.mean(run())) for name, run in calls.items()}
    if not all(0 < loss < 20 for loss in losses.values()):
        raise AssertionError(f"the losses are not those of one task: {losses}")
    say("timing")
    name = f"a step, MLP 3 x {work.width}, batch {work.batch}"
    return [timed("training", name, interleaved(calls, FLOOR, settings), (FLOOR,))]


def _by_hand(work: Work, key: jax.Array, data: jax.Array) -> dict[str, Callable[[], Any]]:
    """What one writes: a scan over all steps, and a Python loop over a compiled step."""
    optimizer = optax.adam(1e-3)
    model = Network(work.width, key)
    arrays, static = eqx.partition(model, eqx.is_array)
    start = (arrays, optimizer.init(arrays), key)

    def loss(arrays: Any, x1: Any, key: jax.Array) -> jax.Array:
        network = eqx.combine(arrays, static)
        time_key, noise_key = jax.random.split(key)
        t = jax.random.uniform(time_key, (work.batch, 1))
        x0 = jax.random.normal(noise_key, x1.shape)
        given = jax.vmap(network)(t[:, 0], (1 - t) * x0 + t * x1)
        return jnp.mean((given - (x1 - x0)) ** 2)

    def step(carry: Any, data: jax.Array) -> Any:
        arrays, state, key = carry
        key, index_key, loss_key = jax.random.split(key, 3)
        x1 = data[jax.random.randint(index_key, (work.batch,), 0, len(data))]
        value, gradient = jax.value_and_grad(loss)(arrays, x1, loss_key)
        updates, state = optimizer.update(gradient, state, arrays)
        return (optax.apply_updates(arrays, updates), state, key), value

    @jax.jit
    def scanned(carry: Any, data: jax.Array) -> Any:
        return jax.lax.scan(lambda carry, _: step(carry, data), carry, None, work.steps)

    one = jax.jit(step)

    def loop() -> Any:
        carry, losses = start, []
        for _ in range(work.steps):
            carry, value = one(carry, data)
            losses.append(value)
        return jax.block_until_ready(jnp.stack(losses))

    return {FLOOR: lambda: jax.block_until_ready(scanned(start, data))[1], LOOP: loop}


def _loss(model: Network, x1: jax.Array, key: jax.Array) -> jax.Array:
    return fj.losses.flow_matching(model, x1, key)


def _flowjax(work: Work, key: jax.Array, data: jax.Array) -> Callable[[], Any]:
    how = {"optimizer": optax.adam(1e-3), "batch_size": work.batch, "steps": work.steps}
    network = Network(work.width, key)
    return lambda: fj.training.fit(network, _loss, data, key, **how)[1]


def _pairs(batch: int, dimension: int, settings: Settings, say: Say) -> list[Result]:
    say("drawing")
    keys = jax.random.split(jax.random.key(0), 3)
    x0 = jax.random.normal(keys[0], (batch, dimension))
    centres = 5 * jax.random.normal(keys[1], (10, dimension))
    x1 = centres[jnp.arange(batch) % 10] + jax.random.normal(keys[2], (batch, dimension))
    cost = np.asarray(((x0[:, None] - x1[None]) ** 2).sum(-1), np.float64)

    def scipy() -> Any:
        rows, columns = linear_sum_assignment(cost)
        return cost[rows, columns].sum()

    def flowjax() -> Any:
        return jax.block_until_ready(fj.couplings.exact(keys[0], x0, x1))

    optax_solves = jax.jit(optax.assignment.hungarian_algorithm)
    calls = {"SciPy": scipy, "flowjax": flowjax}
    calls["optax"] = lambda: jax.block_until_ready(optax_solves(cost.astype(np.float32)))
    if torch_contenders.ot is not None:
        weights = np.full(batch, 1 / batch)
        calls["POT"] = lambda: (
            batch * np.sum(torch_contenders.ot.emd(weights, weights, cost) * cost)
        )
    pairs = flowjax()
    total = float(((pairs.x0 - pairs.x1) ** 2).sum())
    np.testing.assert_allclose(total, scipy(), rtol=1e-5)
    say("timing")
    name = f"pairs of {batch}, in {dimension}"
    return [timed("training", name, interleaved(calls, "SciPy", settings), ("SciPy",))]
