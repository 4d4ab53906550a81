"""A field or SDE, its args, its grid and its Brownian path, as diffrax takes them."""

import math
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
from jaxtyping import Array

from flowjax import _check
from flowjax._types import State
from flowjax.solver.brownian import brownian_increments
from flowjax.solver.field import as_field
from flowjax.solver.sde import SDE, diffusion_of, noise_like


def to_diffrax(
    field_or_sde: Any,
    x0: Any,
    ts: Any,
    args: Any = None,
    *,
    key: Any = None,
    increments: Any = None,
    first_step: int = 0,
    **options: Any,
) -> dict[str, Any]:
    r"""The same problem for `diffrax.diffeqsolve`: terms, Brownian path, state, args and grid.

    $$dX_t = f(t, X_t)\,dt + g(t, X_t)\,dW_t, \qquad
    W_{t_i + u h_i} = W_{t_i} + u\,dW_i, \quad 0 \le u \le 1$$

    The Brownian path is the one that the key names here: over a step of the grid its increment is,
    bit for bit, the one that `solve` uses, and its space-time Levy area the one that a solver of
    `from_diffrax` uses. Within a step it is straight, so that a diffrax solver with steps of its
    own solves the equation of that smoother path; for the limit of small steps `refine` the
    increments first.

    Args:
        field_or_sde: as in `solve`.
        x0: as in `solve`.
        ts: as in `solve`.
        args: as in `solve`.
        key: as in `solve`, for an SDE.
        increments: as in `solve`, in the place of a key.
        first_step: as in `solve`.
        **options: further arguments of `diffrax.diffeqsolve`, which take the place of those made
            here: the solver, and for steps of diffrax's own choice a ``stepsize_controller``.

    Returns:
        Keyword arguments of `diffrax.diffeqsolve`: all it needs but the solver, and the options.

    Raises:
        TypeError: field_or_sde is neither, or a leaf of x0 is not floating.
        ValueError: an SDE has neither key nor increments or both, a field has one of them, or
            increments are unlike the noise; in `diffeqsolve`, a solver asks for Levy areas, and
            increments were given.

    Example:
        >>> import diffrax
        >>> import jax
        >>> import flowjax as fj
        >>> import flowjax.interop
        >>> sde, ts, key = fj.ornstein_uhlenbeck(1.0, 1.0), fj.uniform_grid(50), jax.random.key(0)
        >>> problem = fj.interop.to_diffrax(sde, 1.0, ts, key=key)
        >>> theirs = diffrax.diffeqsolve(solver=diffrax.Euler(), **problem).ys[0]
        >>> bool(abs(theirs - fj.solve(sde, 1.0, ts, key=key)) < 1e-6)
        True

        Steps of its own choice and dense output, of a field that `solve` takes too:

        >>> options = {
        ...     "solver": diffrax.Tsit5(),
        ...     "stepsize_controller": diffrax.PIDController(rtol=1e-4, atol=1e-6),
        ...     "saveat": diffrax.SaveAt(dense=True),
        ... }
        >>> problem = fj.interop.to_diffrax(fj.linear_field, 1.0, ts, 1.0, **options)
        >>> print(f"{diffrax.diffeqsolve(**problem).evaluate(0.5):.3f}")
        0.607

    References:
        Kidger, "On neural differential equations", 2021, arXiv 2202.02435, section 5 (diffrax).
    """
    x0, ts = _check.state(x0), _check.time_grid(ts)
    if not isinstance(field_or_sde, SDE):
        as_field(field_or_sde, "field_or_sde")
        for name, given in (("key", key), ("increments", increments)):
            if given is not None:
                raise ValueError(f"{name} must be left out: a field has no noise.")
        terms = diffrax.ODETerm(field_or_sde)
    else:
        path = brownian_path_of(field_or_sde, x0, ts, key, increments, first_step)
        terms = terms_of(field_or_sde, path)
    return {
        "terms": terms,
        "t0": ts[0],
        "t1": ts[-1],
        "dt0": None,
        "y0": x0,
        "args": args,
        "stepsize_controller": diffrax.StepTo(ts=ts),
        "max_steps": max(ts.shape[0] - 1, 4096),
        **options,
    }


def brownian_path_of(
    sde: SDE, x0: State, ts: Array, key: Any, increments: Any, first_step: int = 0
) -> "GridPath":
    """The Brownian path of a key or of increments, as a path of diffrax."""
    refuse_noise(key, increments)
    like = noise_like(sde, x0)
    if increments is None:
        return GridPath(ts, *brownian_increments(key, ts, (like, like), first_step))
    return GridPath(ts, *checked_increments(increments, like, ts.shape[0] - 1))


def refuse_noise(key: Any, increments: Any) -> None:
    """Refuses anything but one source of noise."""
    if (key is None) == (increments is None):
        raise ValueError("an SDE needs its Brownian path: give key or increments, one of the two.")


def checked_increments(increments: Any, like: State, steps: int) -> tuple[State, State | None]:
    """The increments as arrays, and the others of the pair that makes Levy areas, if they are one.

    They are refused unless they are like the noise, for each of the steps.
    """
    pair = increments, None
    if jax.tree.structure(increments) == jax.tree.structure((like, like)):
        pair = increments
    for part in pair:
        if part is None:
            continue
        for name, got, want in _check.paired(part, like, "increments", "the noise's"):
            if jnp.shape(got) != (steps, *want.shape):
                raise ValueError(
                    f"{name} must have shape {(steps, *want.shape)}, that of the noise for each of "
                    f"the {steps} steps, got {jnp.shape(got)}."
                )
    dw, other = (jax.tree.map(jnp.asarray, part) for part in pair)
    return dw, other


def terms_of(sde: SDE, path: diffrax.AbstractPath) -> diffrax.MultiTerm:
    """The drift, and the diffusion on a path, as diffrax's solvers take them."""
    noise = diffrax.ControlTerm(Operator(sde), path)
    return diffrax.MultiTerm(diffrax.ODETerm(sde.drift), noise)


def area_of(other: State) -> State:
    """The space-time Levy area that the increment of an independent motion makes."""
    return jax.tree.map(lambda leaf: leaf / math.sqrt(12), other)


def with_area(dt: Any, dw: State, area: State) -> diffrax.SpaceTimeLevyArea:
    """An increment with its space-time Levy area, as diffrax's solvers take them."""
    dt = jax.tree.map(lambda leaf: jnp.asarray(dt, leaf.dtype), dw)
    return diffrax.SpaceTimeLevyArea(dt=dt, W=dw, H=area)


class GridPath(diffrax.AbstractBrownianPath):
    """A Brownian path given by its increments over the steps of a grid, straight within a step.

    Its space-time Levy areas are those of whole steps, made of the increments of `other`; over
    other intervals they are not determined, and NaN.
    """

    t0: Any
    t1: Any
    ts: Array
    increments: Any
    other: Any
    values: Any
    levy_area: ClassVar[Any] = diffrax.SpaceTimeLevyArea

    def __init__(self, ts: Array, increments: Any, other: Any = None):
        self.t0, self.t1, self.ts, self.increments = ts[0], ts[-1], ts, increments
        self.other = other
        self.values = jax.tree.map(
            lambda dw: jnp.concatenate([jnp.zeros_like(dw[:1]), jnp.cumsum(dw, axis=0)]), increments
        )

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        """The increment from t0 to t1, or from the start to t0."""
        if t1 is None:
            return self._between(self.ts[0], t0)[0]
        dw, step, whole = self._between(t0, t1)
        if not use_levy:
            return dw
        if self.other is None:
            raise ValueError(
                "solver asks for the Levy area of each step, which increments do not determine: "
                "give key in their place."
            )
        area = jax.tree.map(lambda leaf: jnp.where(whole, leaf[step], jnp.nan), self.other)
        return with_area(t1 - t0, dw, area_of(area))

    def _between(self, t0: Any, t1: Any) -> tuple[State, Array, Array]:
        """The increment, the step in which it begins, and whether it is that of the step."""
        ts, last = self.ts, self.ts.shape[0] - 2
        t0, t1 = jnp.asarray(t0, ts.dtype), jnp.asarray(t1, ts.dtype)
        first = jnp.clip(jnp.searchsorted(ts, t0, side="right") - 1, 0, last)
        end = jnp.clip(jnp.searchsorted(ts, t1, side="left") - 1, first, last)
        before = (t0 - ts[first]) / (ts[first + 1] - ts[first])
        after = (ts[end + 1] - t1) / (ts[end + 1] - ts[end])

        def on_leaf(dw: Array, w: Array) -> Array:
            parts = [part.astype(dw.dtype) for part in (before, after)]
            # A step of the grid has its own increment, to the last bit.
            within = dw[first] * (1 - parts[0] - parts[1])
            ends = parts[0] * dw[first] + parts[1] * dw[end]
            return jnp.where(first == end, within, w[end + 1] - w[first] - ends)

        whole = (first == end) & (before == 0) & (after == 0)
        return jax.tree.map(on_leaf, self.increments, self.values), first, whole


class Operator(eqx.Module):
    """The diffusion of an SDE as an operator of lineax, from the noise to the state."""

    sde: SDE

    def __call__(self, t: Any, x: Any, args: Any) -> lineax.AbstractLinearOperator:
        """The operator at x."""
        g = diffusion_of(self.sde, t, x, args)
        if isinstance(g, lineax.AbstractLinearOperator):
            return g
        if self.sde.noise is None:
            return lineax.DiagonalLinearOperator(g)
        like = noise_like(self.sde, x)
        leaves, structure = jax.tree.flatten(x)
        shapes, of_noise = jax.tree.flatten(like)
        rows = [
            jax.tree.unflatten(
                of_noise,
                [
                    jnp.zeros((*leaf.shape, *shape.shape), leaf.dtype) if part is None else part
                    for part, shape in zip(row, shapes, strict=True)
                ],
            )
            for leaf, row in zip(leaves, g.rows, strict=True)
        ]
        matrix = jax.tree.unflatten(structure, rows)
        return lineax.PyTreeLinearOperator(matrix, jax.eval_shape(lambda: x))
