"""What the mean is taken of: functions of the end, of a fold or of a path, and antithetic pairs."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flowjax import _check
from flowjax._numerics import wide
from flowjax._types import State
from flowjax.estimators.moments import beside
from flowjax.solver.sde_steps import euler_maruyama
from flowjax.solver.stepper import Stepper, fact
from flowjax.solver.views import fold, solve, trajectory


class End(eqx.Module):
    """The end of a path, with the value of a fold where there is an observer."""

    observer: Any

    def __call__(self, sign: Any, field: Any, x0: Any, ts: Any, args: Any, how: Any) -> tuple:
        """What f is given, of the path whose noise has this sign, or None for 1."""
        if self.observer is None:
            return (solve(field, x0, ts, args, **how),)
        init, update = self.observer
        update = update if sign is None else Signed(sign, update)
        return fold(field, x0, ts, args, init=init, update=update, **how)


class Path(eqx.Module):
    """A path, at some times."""

    every: int = eqx.field(static=True)
    at: tuple[int, ...] | None = eqx.field(static=True)

    def __call__(self, sign: Any, field: Any, x0: Any, ts: Any, args: Any, how: Any) -> tuple:
        """What f is given; the sign is the step's affair alone."""
        return (trajectory(field, x0, ts, args, every=self.every, at=self.at, **how),)


class Functional(eqx.Module):
    """What is kept of a path, or of an antithetic pair: the value of f, and of the controls."""

    f: Callable[..., Any]
    control: tuple[Callable[..., Any], Any] | None
    kept: End | Path
    antithetic: Any

    def __call__(
        self, field_or_sde: Any, start: Callable[..., Any], ts: Any, args: Any, **how: Any
    ) -> tuple[State, State]:
        """The value of f and its controls, or their means over a pair."""
        x0 = start(args)
        if self.antithetic is False:
            return self.values(None, field_or_sde, x0, ts, args, how)
        other = x0
        if self.antithetic is not True:
            other = _check.alike(self.antithetic(x0), x0, "antithetic(x0)")
        starts = jax.tree.map(lambda *pair: jnp.stack(pair), x0, other)

        def one(sign: Any, x0: Any) -> tuple[State, State]:
            signed = {} if how["key"] is None else {"step": _signed_step(sign, how["step"])}
            return self.values(sign, field_or_sde, x0, ts, args, how | signed)

        pair = jax.vmap(one)(jnp.array([1.0, -1.0], jnp.float32), starts)
        return jax.tree.map(lambda leaf: (leaf[0] + leaf[1]) / 2, pair)

    def values(
        self, sign: Any, field_or_sde: Any, x0: Any, ts: Any, args: Any, how: Any
    ) -> tuple[State, State]:
        """The value of f, and the controls beside each leaf of it."""
        kept = self.kept(sign, field_or_sde, x0, ts, args, how)
        value = wide(_check.state(self.f(*kept), "what f returns"))
        if self.control is None:
            return value, beside(value, ())
        g, known = self.control
        control = _check.state(g(*kept), "what g returns")
        return value, beside(value, _check.alike(control, known, "what g returns", of="mu"))


class Signed(eqx.Module):
    """A step, or the update of a fold, of the path with the Brownian increments of this sign."""

    sign: Any
    function: Callable[..., Any]

    def __call__(self, a: Any, b: Any, c: Any, d: Any, e: Any, dw: Any, *memory: Any) -> Any:
        """The function of the signed increment, which is the sixth argument of both kinds."""
        dw = jax.tree.map(lambda dw: self.sign.astype(dw.dtype) * dw, dw)
        return self.function(a, b, c, d, e, dw, *memory)

    noisy = True
    symmetric = property(lambda self: fact(self.function, "symmetric"))
    calls_end = property(lambda self: fact(self.function, "calls_end"))
    one_way = property(lambda self: fact(self.function, "one_way"))
    reads = property(lambda self: fact(self.function, "reads"))


def _signed_step(sign: Any, step: Any) -> Any:
    step = euler_maruyama if step is None else step
    if isinstance(step, Stepper):
        return step._replace(step=Signed(sign, step.step), noisy=True)
    return Signed(sign, step)
