"""The model inside a guided velocity, which knows the velocity that it was made of."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx

from flowjax import _check
from flowjax._types import State
from flowjax.fields.velocity import Velocity


class Guided(eqx.Module):
    """A model that transforms the one inside a velocity, and predicts the same."""

    velocity: eqx.AbstractVar[Velocity]

    @abc.abstractmethod
    def both(self, t: Any, x: Any, args: Any) -> tuple[State, State]:
        """The guided output, and the one that is guided; the model is called no more for both."""

    def __call__(self, t: Any, x: Any, args: Any) -> State:
        """The guided output."""
        return self.both(t, x, args)[0]

    @property
    def schedule(self) -> Any:
        """That of the velocity, which has it once."""
        return self.velocity.schedule


def output(model: Callable[..., Any], t: Any, x: Any, args: Any) -> State:
    """What a model returns, refused if it is unlike x."""
    return _check.alike(model(t, x, args), x, "the model's output")
