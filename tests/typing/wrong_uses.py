# pyright: strict, reportUnnecessaryTypeIgnoreComment=error
"""Wrong uses that a type checker must report: a comment whose error is gone is an error itself.

`make types` checks it; it is not run.
"""

from typing import Any

import jax
from jax import Array

import flowjax as fj

TS, KEY = fj.uniform_grid(8), jax.random.key(0)
SDE = fj.SDE(lambda t, x, args: -x, lambda t, x, args: 1.0)


def without_args(t: Array, x: Array) -> Array:
    return -x


def without_dw(field: Any, t0: Array, t1: Array, x: Array, args: Any) -> Array:
    return x + (t1 - t0) * field(t0, x, args)


def without_increment(value: Array, t0: Array, t1: Array, x0: Array, x1: Array) -> Array:
    return value


def loss_of_a_batch(model: Any, x1: Array) -> Array:
    return x1


# --- solves ---------------------------------------------------------------------------------------

fj.solve(fj.linear_field, 1.0, 20)  # pyright: ignore[reportArgumentType]
fj.solve(fj.linear_field, 1.0)  # pyright: ignore[reportCallIssue]
fj.solve(without_args, 1.0, TS)  # pyright: ignore[reportArgumentType]
fj.solve("linear", 1.0, TS)  # pyright: ignore[reportArgumentType]
fj.solve(fj.linear_field, 1.0, TS, 1.0, step=without_dw)  # pyright: ignore[reportArgumentType]
fj.solve(fj.linear_field, 1.0, TS, 1.0, step="heun")  # pyright: ignore[reportArgumentType]
fj.solve(fj.linear_field, 1.0, TS, 1.0, step=fj.adams)  # pyright: ignore[reportArgumentType]
fj.solve(fj.linear_field, 1.0, TS, 1.0, adjoint="direct")  # pyright: ignore[reportArgumentType]
fj.solve(fj.linear_field, 1.0, TS, 1.0, adjoint=fj.Direct)  # pyright: ignore[reportArgumentType]
fj.solve(fj.linear_field, 1.0, TS, 1.0, steps=20)  # pyright: ignore[reportCallIssue]
fj.solve(SDE, 1.0, TS, key=0)  # pyright: ignore[reportArgumentType]
fj.trajectory(SDE, 1.0, TS, key=KEY, every=0.1)  # pyright: ignore[reportArgumentType]
fj.fold(SDE, 1.0, TS, key=KEY, init=0.0, update=without_increment)  # pyright: ignore[reportArgumentType]
fj.fold(SDE, 1.0, TS, key=KEY, init=0.0)  # pyright: ignore[reportCallIssue]
fj.SDE(without_args, fj.linear_field)  # pyright: ignore[reportArgumentType]
fj.Stepper(without_args, without_dw)  # pyright: ignore[reportArgumentType]

# --- models ---------------------------------------------------------------------------------------

fj.velocity(fj.linear_field, fj.CondOT)  # pyright: ignore[reportArgumentType]
fj.velocity(fj.linear_field, "CondOT")  # pyright: ignore[reportArgumentType]
fj.velocity(without_args, fj.CondOT())  # pyright: ignore[reportArgumentType]
fj.guidance.classifier_free(SDE, 2.0, null=0)  # pyright: ignore[reportArgumentType]
fj.sample(KEY, SDE, fj.CondOT().prior(()).sample, TS)  # pyright: ignore[reportCallIssue]
fj.sample(KEY, SDE, fj.CondOT().prior(()).sample, 20, 4)  # pyright: ignore[reportArgumentType]
fj.sample(KEY, SDE, 0.0, TS, 4)  # pyright: ignore[reportArgumentType]
fj.training.fit(None, loss_of_a_batch, TS, KEY, optimizer=None, steps=1)  # pyright: ignore[reportArgumentType]
