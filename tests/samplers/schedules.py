"""All schedules as one, so that one compiled program serves them all."""

from typing import Any

import jax
from jax import Array

import flowjax as fj

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
