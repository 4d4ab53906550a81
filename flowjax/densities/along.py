"""Path densities as observers: what `fold` computes along a path without storing it."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from flowjax._numerics import widest
from flowjax._types import State
from flowjax.densities.door import gaussian_step
from flowjax.densities.transitions import Transition, transition
from flowjax.densities.transitions import kl as kl_of
from flowjax.densities.transitions import log_prob as log_prob_of
from flowjax.densities.transitions import log_ratio as log_ratio_of
from flowjax.observers import Observer
from flowjax.solver.outputs import checked


def log_prob(sde: Any, args: Any = None, *, step: Any = None) -> Observer:
    """The log density of the path that a fold goes along, given where it begins."""
    return Observer(zero, LogProb(Law(sde, gaussian_step(sde, step), args)))


def log_ratio(sde_p: Any, sde_q: Any, args: Any = None, *, step: Any = None) -> Observer:
    """The log of the ratio of the densities that two SDEs of one noise give the path."""
    step = gaussian_step(sde_p, gaussian_step(sde_q, step, "sde_q"), "sde_p")
    return Observer(zero, LogRatio(Law(sde_p, step, args), Law(sde_q, step, args)))


def kl(sde_q: Any, sde_p: Any, args: Any = None, *, step: Any = None) -> Observer:
    """The divergence KL(Q || P) of the laws of the path, if it is averaged over paths of Q."""
    step = gaussian_step(sde_p, gaussian_step(sde_q, step, "sde_q"), "sde_p")
    return Observer(zero, KL(Law(sde_q, step, args), Law(sde_p, step, args)))


def zero(x0: State) -> Array:
    """Zero in the dtype of a log density."""
    return jnp.zeros((), widest(x0))


class Law(eqx.Module):
    """The law of each step of an SDE."""

    sde: Any
    step: Any
    args: Any
    like: Any = None

    def __call__(self, t0: Any, t1: Any, x: State) -> Transition:
        """That of the state at t1, given x at t0."""
        field = checked(self.sde, x if self.like is None else self.like)
        return transition(field, self.step, t0, t1, x, self.args)


class LogProb(eqx.Module):
    """What `log_prob` adds up."""

    law: Law

    def of_step(self, t0: Any, t1: Any, x0: State, x1: State) -> Array:
        return log_prob_of(self.law(t0, t1, x0), x1)

    def __call__(self, value: Array, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Array:
        return value + self.of_step(t0, t1, x0, x1)


class LogRatio(eqx.Module):
    p: Law
    q: Law

    def __call__(self, value: Array, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Array:
        return value + log_ratio_of(self.p(t0, t1, x0), self.q(t0, t1, x0), x1)


class KL(eqx.Module):
    q: Law
    p: Law

    def __call__(self, value: Array, t0: Any, t1: Any, x0: State, x1: State, dw: Any) -> Array:
        return value + kl_of(self.q(t0, t1, x0), self.p(t0, t1, x0), x0)
