"""Row guidance: seconds of a guided sample of the digits, beside an unguided one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import flowjax as fj
from benchmarks.record import Result, timed
from benchmarks.rows import Case, Say
from benchmarks.timing import Settings, interleaved

PLAIN, TWO_CALLS = "not guided", "two calls"
_SCALE, _STEPS = 2.0, 18


def cases() -> list[Case]:
    """The cases of this row: the digits' network, and one whose weights do not fit the cache."""
    works = ((256, 1), (256, 64), (1024, 1))
    return [Case("guidance", _name(*work), partial(_guidance, *work)) for work in works]


def _name(width: int, num: int) -> str:
    return f"digits, MLP 3 x {width}, {num} {'sample' if num == 1 else 'samples'}"


class _TwoCalls(eqx.Module):
    """Classifier-free guidance as one writes it."""

    model: Any
    null: int

    def __call__(self, t: Any, x: Any, args: Any) -> Any:
        without, conditional = self.model(t, x, self.null), self.model(t, x, args)
        return without + _SCALE * (conditional - without)


def _guidance(width: int, num: int, settings: Settings, say: Say) -> list[Result]:
    say("compiling")
    # The network of examples/edm_digits.py, as it is before it is trained.
    path, keys = fj.CondOT(), jax.random.split(jax.random.key(0))
    network = fj.models.MLP((8, 8), width, 3, num_classes=10, key=keys[0])
    v = fj.velocity(fj.precondition(_moved(network), path, 0.38), path, predicts="data")
    null, ts = 10, fj.karras_grid(_STEPS, path)
    x0 = jax.random.normal(keys[1], (num, 8, 8))
    labels = jnp.arange(num, dtype=jnp.int32) % 10
    fields = {
        PLAIN: v,
        TWO_CALLS: v.with_model(_TwoCalls(v.model, null)),
        "flowjax": fj.guidance.classifier_free(v, _SCALE, null),
        "cfg_zero": fj.guidance.cfg_zero(v, _SCALE, null),
    }
    calls = {name: _call(field, x0, labels, ts) for name, field in fields.items()}
    np.testing.assert_allclose(calls["flowjax"](), calls[TWO_CALLS](), rtol=1e-3, atol=1e-3)
    if np.allclose(calls["flowjax"](), calls[PLAIN](), atol=1e-2):
        raise AssertionError("guidance changes nothing")
    say("timing")
    samples = interleaved(calls, PLAIN, settings)
    return [timed("guidance", _name(width, num), samples, (PLAIN,))]


def _moved(network: Any) -> Any:
    """The network off its start, where each block is the identity and no label is seen."""
    leaves, structure = jax.tree.flatten(network)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        leaf + 0.05 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, moved)


def _call(field: Any, x0: jax.Array, labels: jax.Array, ts: jax.Array) -> Callable[[], Any]:
    def solve(x: jax.Array, label: jax.Array) -> jax.Array:
        return fj.solve(field, x, ts, label, step=fj.ddim)

    if len(x0) == 1:
        compiled, inputs = jax.jit(solve), (x0[0], labels[0])
    else:
        compiled, inputs = jax.jit(jax.vmap(solve)), (x0, labels)
    run = compiled.lower(*inputs).compile()
    return lambda: jax.block_until_ready(run(*inputs))
