"""The velocity of a flow, which knows its schedule and the model it is made of."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from flowjax import _check
from flowjax._numerics import inside, widest
from flowjax._types import Domain, Field, State
from flowjax.fields.predictions import (
    PREDICTIONS,
    check_name,
    converted,
    missing_at,
    on_leaves,
    refuse_time,
)
from flowjax.schedules.point import path_at
from flowjax.schedules.schedule import Schedule, ScheduleLike, checked_schedule
from flowjax.solver.door import described, refuse_coupled
from flowjax.solver.field import as_field, output_of


def velocity(
    model: Field, schedule: ScheduleLike, predicts: str = "velocity", coupled: bool = False
) -> "Velocity":
    r"""The velocity field of a model that predicts any of the five.

    $$u_t(x) = \dot\alpha D + \dot\sigma E$$

    with D and E from the model's output at (t, x); see `convert`, also for the ends of a schedule,
    where a prediction may not determine the velocity: a model of the noise or the score says
    nothing of it where alpha is 0, so start its grid after t = 0 there. `solve` refuses what is
    wrong in this where it sees the times; where it does not, the value is NaN.

    Args:
        model: a callable `(t, x, args)` with an output like x, such as a network.
        schedule: the one it was trained under, such as `fj.CondOT()`.
        predicts: what it predicts: "velocity", "data", "noise", "score" or "v".
        coupled: whether it was trained on coupled pairs: X_0 is not independent of X_1, as in
            minibatch optimal transport or reflow, or not standard normal. Its flow is what it is;
            but its score does not follow from it, so what needs the score is refused: `with_noise`
            and the samplers that draw noise.

    Returns:
        A `Velocity`. It keeps the arrays of the model and of the schedule as leaves, so one can
        differentiate with respect to them, and new values compile nothing.

    Raises:
        TypeError: the model is not callable or is a `Velocity` or a drift already, schedule is not
            a schedule, or coupled is neither True nor False.
        ValueError: predicts is none of the five names or not what the model is known to give, the
            model was made for another schedule, or a model of the score is said to be coupled.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> def model(t, x, args):  # all data at 3
        ...     return jnp.full_like(x, 3.0)
        >>> v = fj.velocity(model, fj.CondOT(), predicts="data")
        >>> float(v(0.5, jnp.array(1.0), None))
        4.0

    References:
        Lipman et al., "Flow matching guide and code", 2024, arXiv 2412.06264, section 4.
    """
    check_name(predicts, "predicts")
    checked_schedule(schedule)
    own = _own_schedule(model, schedule, predicts)
    if not isinstance(coupled, bool):
        raise TypeError(f"coupled must be True or False, got {coupled!r}.")
    if coupled and predicts == "score":
        raise ValueError(
            "coupled must be False for a model of the score: of coupled pairs the score does not "
            "determine the velocity."
        )
    domain = _domain(schedule, predicts, "velocity")
    pair_domain = _pair_domain(model, schedule, predicts)
    if coupled and predicts == "data" and missing_at(1.0, schedule, "data", "score"):
        unknown = "of coupled pairs, data alone says nothing of the noise at t = 1, where sigma = 0"
        domain, pair_domain = (part._replace(at_end=unknown) for part in (domain, pair_domain))
    return Velocity(model, own, predicts, coupled, domain, pair_domain)


class Velocity(eqx.Module):
    r"""The velocity of a flow: a field `(t, x, args) -> u` that knows its schedule and its model.

    $$u_t(x) = \dot\alpha\,D + \dot\sigma\,E, \qquad D = E[x_1 \mid x_t = x], \quad
    E = E[x_0 \mid x_t = x]$$

    `fj.velocity` and `target.velocity` make it. It is the one owner of a schedule: what needs one
    (samplers, noise, guidance) reads it here, and reads what the model predicts directly, by
    `data_and_noise`.

    Args:
        model: the model inside, `(t, x, args)` with an output like x.
        own_schedule: the one it was trained under; None if the model says it itself, as that of a
            target does. Read it as `.schedule`.
        predicts: what it predicts.
        coupled: whether it was trained on coupled pairs, and so has no score.
        domain: where the velocity is determined; see `velocity`.
        pair_domain: where the data and the noise are.

    Raises:
        TypeError: it is not made by one of the two.

    Example:
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> v = fj.velocity(lambda t, x, args: jnp.full_like(x, 3.0), fj.CondOT(), "data")
        >>> data, noise = v.data_and_noise(0.5, jnp.array(1.0), None)
        >>> float(data), float(noise)  # 1 = 0.5 * 3 - 0.5 * 1
        (3.0, -1.0)
        >>> doubled = v.with_model(lambda t, x, args: 2 * v.model(t, x, args))
        >>> doubled.schedule, float(doubled(0.5, jnp.array(1.0), None))
        (CondOT(), 10.0)

    References:
        Lipman et al., "Flow matching guide and code", 2024, arXiv 2412.06264, section 4.
    """

    gives = "velocity"
    model: Callable[..., Any]
    own_schedule: Any
    predicts: str = eqx.field(static=True)
    coupled: bool = eqx.field(static=True)
    domain: Domain = eqx.field(static=True)
    pair_domain: Domain = eqx.field(static=True)

    def __check_init__(self):
        domains = isinstance(self.domain, Domain) and isinstance(self.pair_domain, Domain)
        if not domains or self.predicts not in PREDICTIONS:
            raise TypeError(
                "a Velocity is made by fj.velocity(model, schedule, predicts=...) or by "
                "target.velocity(schedule)."
            )

    @property
    def schedule(self) -> Any:
        """The schedule that the model was trained under."""
        return self.model.schedule if self.own_schedule is None else self.own_schedule  # pyright: ignore

    def __call__(self, t: ArrayLike, x: Any, args: Any) -> Any:
        """The velocity u at time t and state x, `alpha' D + sigma' E`."""
        refuse_time(t, self.domain.why)
        path, x, value = self.prediction(t, x, args)
        return on_leaves(partial(converted, self.predicts, "velocity"), path, x, value)

    def data_and_noise(self, t: ArrayLike, x: Any, args: Any) -> tuple[State, State]:
        """The data D and the noise E that are expected where the state at t is x.

        A model may know them itself, by a method of this name; else they follow from what it
        predicts.

        Args:
            t: time, a scalar.
            x: the state, one sample.
            args: passed on to the model.

        Returns:
            D and E, each like x: `x = alpha D + sigma E` and `u = alpha' D + sigma' E`.
        """
        refuse_time(t, self.pair_domain.why)
        known = getattr(self.model, "data_and_noise", None)
        if known is not None:
            return known(t, x, args)
        return self.pair(*self.prediction(t, x, args))

    def score(self, t: ArrayLike, x: Any, args: Any) -> State:
        """The score of the marginal, `-E / sigma`; NaN where it is not determined, as at sigma = 0.

        Args:
            t: time, a scalar.
            x: the state, one sample.
            args: passed on to the model.

        Returns:
            The score, like x.

        Raises:
            ValueError: the velocity is one of coupled pairs, t leaves [0, 1], or the velocity does
                not determine the score at t (where t is not traced).
        """
        if self.coupled:
            refuse_coupled("score")
        refuse_time(t, lambda end: missing_at(end, self.schedule, self.predicts, "score"))
        path, x, value = self.prediction(t, x, args)
        return on_leaves(partial(converted, self.predicts, "score"), path, x, value)

    def with_model(self, model: Callable[..., Any]) -> "Velocity":
        """The same with another model inside, which predicts the same; as guidance does.

        Args:
            model: a callable `(t, x, args)`, often one that calls `self.model`.

        Returns:
            The velocity.

        Raises:
            TypeError: the model is not callable or is a `Velocity` or a drift already.
            ValueError: the model is known to give another prediction, or was made for another
                schedule.
        """
        schedule, predicts, pair_domain = self.schedule, self.predicts, self.pair_domain
        own = _own_schedule(model, schedule, predicts)
        if _knows_pair(model) != _knows_pair(self.model):
            pair_domain = _pair_domain(model, schedule, predicts)
        return Velocity(model, own, predicts, self.coupled, self.domain, pair_domain)

    def prediction(self, t: ArrayLike, x: Any, args: Any) -> tuple[Any, State, State]:
        """The schedule at t, the state, and the model's output there."""
        x, t = _check.state(x, "x"), inside(t) if isinstance(t, Tracer) else t
        value = output_of(
            *(self.model, t, x, args),
            lambda value: _check.alike(value, x, "the model's output"),
            "model",
        )
        path = path_at(self.schedule, t, widest(x))
        if self.coupled and self.predicts == "data":
            # Of pairs that are independent the noise is zero on average where sigma is zero.
            value = jax.tree.map(lambda leaf: jnp.where(path.sigma == 0, jnp.nan, leaf), value)
        return path, x, value

    def pair(self, path: Any, x: State, value: State) -> tuple[State, State]:
        """The data and the noise, from what `prediction` returns."""
        data = on_leaves(partial(converted, self.predicts, "data"), path, x, value)
        return data, on_leaves(partial(converted, self.predicts, "noise"), path, x, value)


def _own_schedule(model: Any, schedule: Any, predicts: str) -> Any:
    """The schedule of a model, or None where the model has it; refused if they do not fit."""
    gives = getattr(type(as_field(model, "model", "(t, x, args)")), "gives", predicts)
    if isinstance(model, Velocity) or gives not in PREDICTIONS:
        raise TypeError(
            f"model must be a function (t, x, args) that predicts one of "
            f"{', '.join(PREDICTIONS)}, got {described(model)}, which is to be taken as it is."
        )
    if gives != predicts:
        raise ValueError(f"predicts must be {gives!r}, which this model gives, got {predicts!r}.")
    made_for = getattr(model, "schedule", None)
    if not isinstance(made_for, Schedule):
        return schedule
    same = same_schedule(made_for, schedule)
    if same is None:
        return schedule
    if not same:
        raise ValueError(
            f"schedule must be the one that this model was made for, {made_for}, got {schedule}."
        )
    return None


def same_schedule(one: Any, other: Any) -> bool | None:
    """Whether two schedules are equal; None if they are traced, so that it cannot be said."""
    if one is other:
        return True
    same = eqx.tree_equal(*(jax.tree.map(_number, schedule) for schedule in (one, other)))
    return None if isinstance(same, Tracer) else bool(same)


def _knows_pair(model: Any) -> bool:
    """Whether a model tells the data and the noise itself."""
    return hasattr(model, "data_and_noise")


def _pair_domain(model: Any, schedule: Any, predicts: str) -> Domain:
    return Domain() if _knows_pair(model) else _domain(schedule, predicts, "data", "noise")


def _number(leaf: Any) -> Any:
    """A number of a schedule in float32, of whatever kind it is, to be compared."""
    numbers = (float, np.generic, np.ndarray, jax.Array)
    known = isinstance(leaf, numbers) and not isinstance(leaf, Tracer)
    return np.asarray(leaf, np.float32) if known else leaf


def _domain(schedule: Any, predicts: str, *targets: str) -> Domain:
    def why(t: float) -> str:
        reasons = (missing_at(t, schedule, predicts, target) for target in targets)
        return next(filter(None, reasons), "")

    return Domain.of(why)
