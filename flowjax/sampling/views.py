"""What is kept of many samples: their ends, their paths, or both ends."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jax.sharding import Sharding

from flowjax import _check
from flowjax._types import AdjointLike, Field, KeyArray, TimesLike
from flowjax.sampling.chunks import drawn
from flowjax.solver.adjoints import Checkpointed
from flowjax.solver.sde import SDE
from flowjax.solver.stepper import Method
from flowjax.solver.views import indices_of, solve, trajectory


def sample(
    key: KeyArray,
    field_or_sde: Field | SDE,
    init: Callable[..., Any],
    ts: TimesLike,
    num: int,
    *,
    args: Any = None,
    args_axes: Any = None,
    step: Method | None = None,
    adjoint: AdjointLike = Checkpointed(),
    batch_size: int | None = None,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> Any:
    r"""Draws samples of a flow or diffusion model, one solve with a key of its own for each.

    $$X^{(i)}_{t_0} \sim p_\mathrm{init}, \qquad
    dX^{(i)}_t = u_t(X^{(i)}_t)\,dt + g\,dW^{(i)}_t, \qquad i = 0, \dots, \mathrm{num} - 1$$

    independent of each other, and X at ts[-1] is what is returned. Sample i is

    ```
    init_key, path_key = jax.random.split(jax.random.fold_in(key, i))
    solve(field_or_sde, init(init_key), ts, args, step=step, key=path_key)
    ```

    where the path key is left out if there is no noise, and a key that is not Threefry's has been
    made into one.

    Sample i is a function of (key, i) alone. Its start and its noise are the same bits whatever
    num, batch_size, progress and the number of devices are. What a field or a step computes from
    them may differ in the last bits, because the compiler sums matrix products in another order,
    and contracts products and sums differently, for another size of the batch.

    Args:
        key: one JAX key.
        field_or_sde: a field ``(t, x, args) -> dx`` or an `SDE`, as in `solve`. A network that
            predicts the data or the noise goes through `velocity` first.
        init: draws the initial state of one sample, ``init(key) -> x0``, such as
            ``schedule.prior(shape).sample``. One that requires a second argument, ``init(key, args)
            -> x0``, is given the sample's own args. The key is a typed Threefry key whatever the
            kind of `key`.
        ts: (n + 1,) times, as in `solve`. They do not decrease where the field or the step belongs
            to a schedule: t = 0 is noise.
        num: how many samples, a static positive int.
        args: passed on to the field, the same for all samples but for `args_axes`. Arrays and
            Python floats are traced, anything else is static, as in `solve`.
        args_axes: which axis of the leaves of args is one of samples, such as labels: None for
            what all share, an int, or a pytree of those that is a prefix of args, as the in_axes
            of `jax.vmap`. Sample i is given entry i.
        step: the method, as in `solve`.
        adjoint: how the loop is differentiated, as in `solve`.
        batch_size: at most how many samples are solved at once, in equal chunks one after the
            other; bounds the memory. Default: all of them.
        sharding: how the samples are spread over devices, such as
            ``NamedSharding(mesh, PartitionSpec("samples"))``. They are drawn spread by their
            leading axis, and laid out by further ones at the end. On a mesh with explicit axes
            the field is left to the compiler all the same, and gradients want `jax.set_mesh`.
        progress: show a bar (tqdm) of samples, which advances with each chunk.

    Returns:
        The samples, with the structure of one state, each leaf of shape (num, *leaf.shape).

    Raises:
        TypeError: key is not a key, init is not callable, num or batch_size is not a static
            int, or sharding is not a `jax.sharding.Sharding`.
        ValueError: key is a batch of keys, num or batch_size is below one, or it does not divide
            evenly over the sharding; args_axes is no prefix of args, or a leaf has another number
            of entries than num; ts decreases under a schedule (where it is not traced).
            `solve` raises for the rest.
        ImportError: progress is asked for and tqdm is not installed.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> sde = fj.ornstein_uhlenbeck(theta=1.0, sigma=1.0)
        >>> init = lambda key: jax.random.normal(key, (2,))
        >>> ts = fj.uniform_grid(50)
        >>> few = fj.sample(jax.random.key(0), sde, init, ts, 10)
        >>> many = fj.sample(jax.random.key(0), sde, init, ts, 100, batch_size=32)
        >>> many.shape, bool(jnp.all(many[:10] == few))
        ((100, 2), True)

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, sections 2.1 and 2.2.
    """
    options = (args, args_axes, step, adjoint, batch_size, sharding, progress)
    return drawn(_end, key, field_or_sde, init, ts, num, *options)


def sample_paths(
    key: KeyArray,
    field_or_sde: Field | SDE,
    init: Callable[..., Any],
    ts: TimesLike,
    num: int,
    *,
    every: int = 1,
    at: Any = None,
    args: Any = None,
    args_axes: Any = None,
    step: Method | None = None,
    adjoint: AdjointLike = Checkpointed(),
    batch_size: int | None = None,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> Any:
    r"""Draws samples as `sample` does, and returns their whole paths, as `trajectory` does.

    $$\big(X^{(i)}_{t_0},\; X^{(i)}_{t_k},\; X^{(i)}_{t_{2k}},\; \dots\big), \quad
    i = 0, \dots, \mathrm{num} - 1 \qquad (k = \text{every})$$

    Sample i is the one that `sample` draws by the same key.

    Args:
        key: as in `sample`.
        field_or_sde: as in `sample`.
        init: as in `sample`.
        ts: as in `sample`.
        num: as in `sample`.
        every: as in `trajectory`.
        at: as in `trajectory`.
        args: as in `sample`.
        args_axes: as in `sample`.
        step: as in `sample`.
        adjoint: as in `sample`.
        batch_size: as in `sample`.
        sharding: as in `sample`.
        progress: as in `sample`.

    Returns:
        X at ts[::every], each leaf of shape (num, n // every + 1, *leaf.shape). With `at`, X at
        ts[at], of (num, len(at), *leaf.shape).

    Raises:
        TypeError, ValueError, ImportError: as `sample` and `trajectory`.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> sde, init = fj.ornstein_uhlenbeck(1.0, 1.0), lambda key: jax.random.normal(key, (2,))
        >>> fj.sample_paths(jax.random.key(0), sde, init, fj.uniform_grid(50), 10, every=25).shape
        (10, 3, 2)

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, sections 2.1 and 2.2.
    """
    view = _Path(_check.positive_int(every, "every"), indices_of(at, every, ts))
    options = (args, args_axes, step, adjoint, batch_size, sharding, progress)
    return drawn(view, key, field_or_sde, init, ts, num, *options)


def sample_pairs(
    key: KeyArray,
    field_or_sde: Field | SDE,
    init: Callable[..., Any],
    ts: TimesLike,
    num: int,
    *,
    args: Any = None,
    args_axes: Any = None,
    step: Method | None = None,
    adjoint: AdjointLike = Checkpointed(),
    batch_size: int | None = None,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> tuple[Any, Any]:
    r"""Draws samples as `sample` does, and returns where each began too, as reflow wants it.

    $$\big(X^{(i)}_{t_0},\; X^{(i)}_{t_n}\big), \qquad i = 0, \dots, \mathrm{num} - 1$$

    Args:
        key: as in `sample`.
        field_or_sde: as in `sample`.
        init: as in `sample`.
        ts: as in `sample`.
        num: as in `sample`.
        args: as in `sample`.
        args_axes: as in `sample`.
        step: as in `sample`.
        adjoint: as in `sample`.
        batch_size: as in `sample`.
        sharding: as in `sample`.
        progress: as in `sample`.

    Returns:
        X at ts[0] and at ts[-1], each leaf of shape (num, *leaf.shape).

    Raises:
        TypeError, ValueError, ImportError: as `sample`.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> init, ts = lambda key: jax.random.normal(key, (2,)), fj.uniform_grid(1)
        >>> x0, x1 = fj.sample_pairs(jax.random.key(0), fj.linear_field, init, ts, 3, args=0.5)
        >>> bool(jax.numpy.allclose(x1, x0 / 2))
        True

    References:
        Liu, Gong, Liu, "Flow straight and fast: learning to generate and transfer data with
        rectified flow", 2022, arXiv 2209.03003, Algorithm 1.
    """
    options = (args, args_axes, step, adjoint, batch_size, sharding, progress)
    return drawn(_both_ends, key, field_or_sde, init, ts, num, *options)


def _end(field_or_sde: Any, start: Callable[..., Any], ts: Any, args: Any, **how: Any) -> Any:
    return solve(field_or_sde, start(args), ts, args, **how)


def _both_ends(field_or_sde: Any, start: Callable[..., Any], ts: Any, args: Any, **how: Any) -> Any:
    x0 = start(args)
    return x0, solve(field_or_sde, x0, ts, args, **how)


class _Path(eqx.Module):
    every: int = eqx.field(static=True)
    at: tuple[int, ...] | None = eqx.field(static=True)

    def __call__(
        self, field_or_sde: Any, start: Callable[..., Any], ts: Any, args: Any, **how: Any
    ) -> Any:
        kept = {"every": self.every, "at": self.at}
        return trajectory(field_or_sde, start(args), ts, args, **kept, **how)
