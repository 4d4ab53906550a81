"""Models with a condition, whose five predictions are written out twice: in JAX and in NumPy."""

import re

import jax.numpy as jnp
import numpy as np

import flowjax as fj

PREDICTIONS = ("velocity", "data", "noise", "score", "v")
SCHEDULES = (fj.CondOT(), fj.Trigonometric(), fj.VariancePreserving())
X, T = np.array([0.5, -2.0, 1.2]), 0.4
NULL, LABEL = np.float64(0.3), np.float64(-0.8)


def level(schedule, t=T):
    """alpha, sigma and their rates, as floats."""
    return tuple(map(float, (*schedule(np.float64(t)), *schedule.rates(np.float64(t)))))


def predicted(predicts, levels, x, data):
    """A prediction of the expected data, by the definition of each."""
    a, s, a_rate, s_rate = levels
    noise = (x - a * data) / s
    return {
        "velocity": a_rate * data + s_rate * noise,
        "data": data,
        "noise": noise,
        "score": -noise / s,
        "v": a * noise - s * data,
    }[predicts]


def data_of(numpy, t, x, label):
    """Some data that are expected, which change with everything and not in a line."""
    return label + numpy.tanh(2 * label * x + t)


def model(schedule, predicts):
    def call(t, x, label):
        levels = (*schedule(t), *schedule.rates(t))
        return predicted(predicts, levels, x, data_of(jnp, t, x, label))

    return fj.velocity(call, schedule, predicts)


def outputs(schedule, predicts, t=T, x=X):
    """The model's outputs in NumPy: without and with the label."""
    levels = level(schedule, t)
    return [predicted(predicts, levels, x, data_of(np, t, x, label)) for label in (NULL, LABEL)]


def velocity_of(predicts, levels, x, value):
    """The velocity of a prediction."""
    a, s, a_rate, s_rate = levels
    data = {
        "velocity": lambda: (s * value - s_rate * x) / (a_rate * s - a * s_rate),
        "data": lambda: value,
        "noise": lambda: (x - s * value) / a,
        "score": lambda: (x + s**2 * value) / a,
        "v": lambda: (a * x - s * value) / (a**2 + s**2),
    }[predicts]()
    return predicted("velocity", levels, x, data)


def count(jaxpr, primitive):
    """How often a primitive stands in a program, loops and branches counted once."""
    return len(re.findall(rf"= {primitive}\b", str(jaxpr)))
