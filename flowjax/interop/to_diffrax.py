"""A field or SDE, its args, its grid and its Brownian path, as diffrax takes them."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from flowjax import _check
from flowjax._numerics import computing_dtype
from flowjax._types import State
from flowjax.interop.grid_path import GridPath
from flowjax.solver.brownian import brownian_increments
from flowjax.solver.door import as_increments, as_precise, first_of_path
from flowjax.solver.field import as_field
from flowjax.solver.outputs import checked
from flowjax.solver.sde import SDE, diffusion_of, noise_like


def to_diffrax(
    field_or_sde: Any,
    x0: Any,
    ts: Any,
    args: Any = None,
    *,
    key: Any = None,
    increments: Any = None,
    first_step: Any = 0,
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

    The fields see what they see in `solve`: the state in the dtypes of x0, and the time in its
    precision. Diffrax itself carries a state of at least the precision of the times, so that a
    narrower one comes back wider than `solve` returns it, and nearer by its rounding.

    Args:
        field_or_sde: as in `solve`.
        x0: as in `solve`.
        ts: as in `solve`, strictly increasing or, with increments or for a field, decreasing.
        args: as in `solve`.
        key: as in `solve`, for an SDE.
        increments: as in `solve`, in the place of a key.
        first_step: as in `solve`.
        **options: further arguments of `diffrax.diffeqsolve`, which take the place of those made
            here: the solver, and for steps of diffrax's own choice a ``stepsize_controller``.

    Returns:
        The keyword arguments of `diffrax.diffeqsolve`, all it needs but the solver, and options.

    Raises:
        TypeError: field_or_sde is neither, or a leaf of x0 is not floating.
        ValueError: an SDE has neither key nor increments or both, a field has one of them,
            increments are unlike the noise, first_step is no step of a path or there is no key, or
            ts repeats a time or turns, unless a field is given a stepsize_controller, or decreases
            where increments are a pair; in
            `diffeqsolve`, a solver asks for Levy areas, and increments were given or the solver in
            the options needs none.

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
    x0 = _check.state(x0)
    ts = as_precise(_check.time_grid(ts), x0)
    first = first_of_path(first_step, key)
    if isinstance(field_or_sde, SDE) or "stepsize_controller" not in options:
        _refuse_grid(ts)
    like = _check.shapes_of(x0, "x0")
    if not isinstance(field_or_sde, SDE):
        as_field(field_or_sde, "field_or_sde")
        for name, given in (("key", key), ("increments", increments)):
            if given is not None:
                raise ValueError(f"{name} must be left out: a field has no noise.")
        terms: Any = diffrax.ODETerm(_Seen(checked(field_or_sde, like), like))
    else:
        # Without a solver it is not known whether it needs areas.
        area = "solver" not in options or needs_area(options["solver"])
        path = _brownian_path(field_or_sde, x0, ts, key, increments, first, area)
        sde = checked(field_or_sde, like)
        sde = SDE(_Seen(sde.drift, like), _Seen(sde.diffusion, like), sde.noise)
        terms = terms_of(sde, path)
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


def _refuse_grid(ts: Array) -> None:
    """Refuses times that the steps of diffrax cannot go through, where they are known."""
    if isinstance(ts, Tracer):
        return
    steps = np.diff(np.asarray(ts))
    if not ((steps > 0).all() or (steps < 0).all()):
        what = "a time that is repeated" if (steps == 0).any() else "times that turn"
        raise ValueError(
            f"ts must increase, or decrease, at each step for diffrax, whose steps have a length "
            f"and go one way, got {what}."
        )


def _brownian_path(
    sde: SDE, x0: State, ts: Array, key: Any, increments: Any, first: Any, area: bool
) -> GridPath:
    """The Brownian path of a key or of increments, as a path of diffrax."""
    refuse_noise(key, increments)
    like = noise_like(sde, x0)
    if increments is not None:
        dw, other = checked_increments(increments, like, ts.shape[0] - 1, sde)
        # By NumPy: of a known grid too, JAX's own arithmetic is traced inside jit.
        known = None if isinstance(ts, Tracer) else np.asarray(ts)
        if other is not None and known is not None and known[-1] < known[0]:
            raise ValueError(
                "ts must increase where increments are a pair: the solvers of diffrax that take "
                "Levy areas do not go back in time."
            )
        return GridPath(ts, dw, other)
    if area:
        return GridPath(ts, *brownian_increments(key, ts, (like, like), first or 0))
    return GridPath(ts, brownian_increments(key, ts, like, first or 0))


def refuse_noise(key: Any, increments: Any) -> None:
    """Refuses anything but one source of noise."""
    if (key is None) == (increments is None):
        raise ValueError("an SDE needs its Brownian path: give key or increments, one of the two.")


def checked_increments(
    increments: Any, like: State, steps: int, sde: SDE
) -> tuple[State, State | None]:
    """The increments as arrays, and the others of the pair that makes Levy areas, if they are one.

    They are refused as `solve` refuses them.
    """
    if jax.tree.structure(increments) == jax.tree.structure((like, like)):
        return as_increments(increments, (like, like), steps, sde)
    return as_increments(increments, like, steps, sde), None


def needs_area(solver: Any) -> bool:
    """Whether a solver of diffrax takes the space-time Levy area of each step."""
    return levy_area_of(solver) == "SpaceTimeLevyArea"


def levy_area_of(solver: Any) -> str:
    """What a solver of diffrax takes of the noise, in its words."""
    area = getattr(solver, "minimal_levy_area", None)
    return "" if area is None else area.__name__.removeprefix("Abstract")


def terms_of(sde: SDE, path: diffrax.AbstractPath) -> diffrax.MultiTerm:
    """The drift, and the diffusion on a path, as diffrax's solvers take them."""
    noise = diffrax.ControlTerm(Operator(sde), path)
    return diffrax.MultiTerm(diffrax.ODETerm(sde.drift), noise)


class _Seen(eqx.Module):
    """A field that is given the state as diffrax carries it, and takes it as `solve` carries it."""

    field: Any
    like: Any

    def __call__(self, t: Any, x: State, args: Any) -> Any:
        x = jax.tree.map(lambda leaf, like: leaf.astype(computing_dtype(like.dtype)), x, self.like)
        return self.field(t, x, args)


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
