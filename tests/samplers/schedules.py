"""All schedules as one, so that one compiled program serves them all."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import flowjax as fj
from flowjax.schedules.point import PathPoint, path_at

SCHEDULES = {
    "CondOT": fj.CondOT(),
    "Trigonometric": fj.Trigonometric(),
    "VariancePreserving": fj.VariancePreserving(),
    "VarianceExploding": fj.VarianceExploding(0.1, 10.0),
    "SquareRoot": fj.SquareRoot(),
    "Polynomial": fj.Polynomial(2.0),
    "EDM": fj.EDM(5.0),
}


class OneOf(fj.Schedule):
    """The schedule of a number, which may be traced."""

    index: Any
    schedules: tuple = tuple(SCHEDULES.values())

    def _one(self, function, t) -> Any:
        branches = [lambda t, s=schedule: function(s, t) for schedule in self.schedules]
        return jax.lax.switch(self.index, branches, t)

    def alpha(self, t) -> Array:
        return self(t)[0]

    def sigma(self, t) -> Array:
        return self(t)[1]

    def __call__(self, t) -> tuple[Array, Array]:
        return self._one(lambda schedule, t: schedule(t), t)

    def rates(self, t) -> tuple[Array, Array]:
        return self._one(lambda schedule, t: schedule.rates(t), t)

    def variance(self, t) -> Array:
        return self._one(lambda schedule, t: schedule.variance(t), t)

    def half_variance_rate(self, t) -> Array:
        return self._one(lambda schedule, t: schedule.half_variance_rate(t), t)

    def log_snr(self, t) -> Array:
        return self._one(lambda schedule, t: schedule.log_snr(t), t)

    def time_at(self, log_snr) -> Array:
        return self._one(lambda schedule, log_snr: schedule.time_at(log_snr), log_snr)


class AtTimes(fj.Schedule):
    """A schedule by a table of its path at the times of a grid: cheap to compile, one for all."""

    times: Array
    path: PathPoint

    def _row(self, t) -> PathPoint:
        row = jnp.argmin(jnp.abs(self.times - t))
        return PathPoint(*(column[row] for column in self.path))

    def alpha(self, t) -> Array:
        return self._row(t).alpha

    def sigma(self, t) -> Array:
        return self._row(t).sigma

    def __call__(self, t) -> tuple[Array, Array]:
        return self.alpha(t), self.sigma(t)

    def rates(self, t) -> tuple[Array, Array]:
        row = self._row(t)
        return row.alpha_rate, row.sigma_rate

    def variance(self, t) -> Array:
        return self._row(t).variance

    def half_variance_rate(self, t) -> Array:
        return self._row(t).half_variance_rate


@functools.cache
def _tabulate():
    return jax.jit(jax.vmap(path_at, (None, 0, None)), static_argnums=2)


def at_times(cases) -> AtTimes:
    """The tables of pairs (a schedule, the times of a grid), stacked."""
    rows = [_tabulate()(schedule, jnp.asarray(ts), jnp.float64) for schedule, ts in cases]
    path = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    return AtTimes(jnp.stack([jnp.asarray(ts) for _, ts in cases]), path)
