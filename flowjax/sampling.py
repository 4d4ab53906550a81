"""Many samples: one key each, in chunks, over devices; their ends, their paths, or both ends."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from flowjax import _check
from flowjax._progress import progress_bar
from flowjax.solver.adjoints import Checkpointed
from flowjax.solver.compiled import Static, prepared, unpacked
from flowjax.solver.door import check_from_noise, check_pair, check_times, traced
from flowjax.solver.sde import SDE
from flowjax.solver.stepper import needs_noise
from flowjax.solver.views import indices_of, solve, trajectory


def sample(
    key: Any,
    field_or_sde: Any,
    init: Callable[..., Any],
    ts: Any,
    num: int,
    *,
    args: Any = None,
    args_axes: Any = None,
    step: Any = None,
    adjoint: Any = Checkpointed(),
    batch_size: int | None = None,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> Any:
    """Draws samples of a flow or diffusion model, one solve with a key of its own for each.

    Sample i is

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
            ``schedule.prior(shape).sample``, or ``init(key, args) -> x0``, with the sample's own
            args. It is given a typed Threefry key whatever the kind of `key`.
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
        The samples: the structure of one state, each leaf of shape (num, *leaf.shape).

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
        6.S184), 2025, arXiv 2506.02070, Algorithms 1 and 2.
    """
    options = (args, args_axes, step, adjoint, batch_size, sharding, progress)
    return _drawn(_END, key, field_or_sde, init, ts, num, *options)


def sample_paths(
    key: Any,
    field_or_sde: Any,
    init: Callable[..., Any],
    ts: Any,
    num: int,
    *,
    every: int = 1,
    at: Any = None,
    args: Any = None,
    args_axes: Any = None,
    step: Any = None,
    adjoint: Any = Checkpointed(),
    batch_size: int | None = None,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> Any:
    """Draws samples as `sample` does, and returns their whole paths, as `trajectory` does.

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
        X at ts[::every] or ts[at]: each leaf has shape (num, n // every + 1, *leaf.shape).

    Raises:
        TypeError, ValueError, ImportError: as `sample` and `trajectory`.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> sde, init = fj.ornstein_uhlenbeck(1.0, 1.0), lambda key: jax.random.normal(key, (2,))
        >>> fj.sample_paths(jax.random.key(0), sde, init, fj.uniform_grid(50), 10, every=25).shape
        (10, 3, 2)
    """
    view = ("path", _check.positive_int(every, "every"), indices_of(at, every, ts))
    options = (args, args_axes, step, adjoint, batch_size, sharding, progress)
    return _drawn(view, key, field_or_sde, init, ts, num, *options)


def sample_pairs(
    key: Any,
    field_or_sde: Any,
    init: Callable[..., Any],
    ts: Any,
    num: int,
    *,
    args: Any = None,
    args_axes: Any = None,
    step: Any = None,
    adjoint: Any = Checkpointed(),
    batch_size: int | None = None,
    sharding: Sharding | None = None,
    progress: bool = False,
) -> tuple[Any, Any]:
    """Draws samples as `sample` does, and returns where each began too, as reflow wants it.

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
        X at ts[0] and at ts[-1]: each leaf has shape (num, *leaf.shape).

    Raises:
        TypeError, ValueError, ImportError: as `sample`.

    Example:
        >>> import jax
        >>> import flowjax as fj
        >>> init, ts = lambda key: jax.random.normal(key, (2,)), fj.uniform_grid(1)
        >>> x0, x1 = fj.sample_pairs(jax.random.key(0), fj.linear_field, init, ts, 3, args=0.5)
        >>> bool((x1 == x0 / 2).all())
        True

    References:
        Liu, Gong, Liu, "Flow straight and fast: learning to generate and transfer data with
        rectified flow", 2022, arXiv 2209.03003, Algorithm 1.
    """
    options = (args, args_axes, step, adjoint, batch_size, sharding, progress)
    return _drawn(_PAIR, key, field_or_sde, init, ts, num, *options)


# What is kept of each sample: its end, its path at some times, or both ends.
_END, _PAIR = ("end",), ("pair",)


def _drawn(
    view: tuple,
    key: Any,
    field_or_sde: Any,
    init: Any,
    ts: Any,
    num: int,
    args: Any,
    args_axes: Any,
    step: Any,
    adjoint: Any,
    batch_size: int | None,
    sharding: Sharding | None,
    progress: bool,
) -> Any:
    _check.single_key(key)
    form = "key -> x0 of one sample, such as fj.Gaussian(...).sample, or (key, args) -> x0"
    with_args = callable(init) and not _check.binds(init, 1) and _check.binds(init, 2)
    _check.function(init, "init", form, takes=1 + with_args)
    num = _check.positive_int(num, "num")
    size = num if batch_size is None else min(_check.positive_int(batch_size, "batch_size"), num)
    ts = _check.time_grid(ts)
    check_pair(field_or_sde, step)
    is_sde = isinstance(field_or_sde, SDE)
    noisy = is_sde if step is None else needs_noise(step, is_sde)
    check_from_noise(ts, field_or_sde)
    check_times(ts, field_or_sde, step, drawn=noisy)
    axes = _axes_of(args, args_axes, num)
    args = traced(args)

    layout = None if sharding is None else _automatic(sharding, num, size)
    shards = 1 if layout is None else size // layout.shard_shape((size,))[0]
    chunks = -(-num // size)
    # Chunks of equal size, of which the last few samples may be in excess, compile once.
    size = -(-num // (chunks * shards)) * shards
    how = (step, adjoint, noisy, with_args, layout)
    problem = _Samples(_threefry(key), field_or_sde, init, ts, args, axes, view, *how)
    arrays, static = eqx.partition(problem, eqx.is_array)

    def draw(arrays: Any) -> Any:
        problem = eqx.combine(arrays, static)
        if progress:
            return _one_by_one(problem, num, size, chunks)
        return _compiled(_all_chunks, problem, num, size, chunks)

    if layout is None:
        return draw(arrays)
    if isinstance(sharding, NamedSharding) and sharding.mesh != getattr(layout, "mesh", None):
        return jax.sharding.auto_axes(draw, out_sharding=sharding)(arrays)
    return jax.device_put(draw(arrays), sharding)


def _axes_of(args: Any, args_axes: Any, num: int) -> tuple[int | None, ...]:
    """For each leaf of args, which of its axes is one of samples; None for what they share."""

    def is_none(value: Any) -> bool:
        return value is None

    wanted = "args_axes must be None, an int or a pytree of those that is a prefix of args"
    try:
        spread = jax.tree.map(
            lambda axis, part: [axis] * len(jax.tree.leaves(part)), args_axes, args, is_leaf=is_none
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{wanted}, got {args_axes!r}.") from error
    axes = tuple(jax.tree.leaves(spread, is_leaf=is_none))
    named = _check.leaves_with_names(args, "args")
    for (name, leaf), axis in zip(named, axes, strict=True):
        if axis is None:
            continue
        if not _check.is_int(axis):
            raise TypeError(f"{wanted}, got {args_axes!r}.")
        shape = jnp.shape(leaf)
        if not -len(shape) <= axis < len(shape) or shape[axis] != num:
            raise ValueError(
                f"{name} must have num = {num} entries along its axis {axis}, one for each sample, "
                f"got shape {shape}."
            )
    return axes


class _Samples(eqx.Module):
    """What all chunks have in common."""

    key: Array
    field_or_sde: Any
    init: Callable[[Array], Any]
    ts: Array
    args: Any
    axes: tuple[int | None, ...] = eqx.field(static=True)
    view: tuple = eqx.field(static=True)
    step: Any
    adjoint: Any
    noisy: bool
    with_args: bool
    layout: Sharding | None

    def chunk(self, first: Array, size: int) -> Any:
        """The samples first, ..., first + size - 1."""
        indices = self.spread(first + jnp.arange(size, dtype=jnp.uint32))
        leaves, structure = jax.tree.flatten(self.args)
        # Those in excess are thrown away; any entry will do for them.
        leaves = [
            leaf
            if axis is None
            else jnp.moveaxis(jnp.take(leaf, indices, axis, mode="clip"), axis, 0)
            for leaf, axis in zip(leaves, self.axes, strict=True)
        ]
        mapped = [None if axis is None else 0 for axis in self.axes]

        def one(index: Array, leaves: list[Any]) -> Any:
            return self.one(index, jax.tree.unflatten(structure, leaves))

        return self.spread(jax.vmap(one, (0, mapped))(indices, leaves))

    def one(self, index: Array, args: Any) -> Any:
        """What is kept of the sample of one index."""
        init_key, path_key = jax.random.split(jax.random.fold_in(self.key, index))
        x0 = self.init(init_key, args) if self.with_args else self.init(init_key)
        x0 = _check.state(x0, "init(key)")
        path_key = path_key if self.noisy else None
        how = {"step": self.step, "key": path_key, "adjoint": self.adjoint}
        if self.view[0] == "path":
            every, at = self.view[1:]
            return trajectory(self.field_or_sde, x0, self.ts, args, every=every, at=at, **how)
        x1 = solve(self.field_or_sde, x0, self.ts, args, **how)
        return (x0, x1) if self.view == _PAIR else x1

    def spread(self, tree: Any) -> Any:
        """`tree` with its leading axis laid out over the devices."""
        if self.layout is None:
            return tree
        return jax.lax.with_sharding_constraint(tree, self.layout)


def _compiled(function: Callable, *arguments: Any) -> Any:
    run, arrays = prepared(function, *arguments)
    return run(arrays)


def _all_chunks(static: Static, arrays: list[Any]) -> Any:
    problem, num, size, chunks = unpacked(static, arrays)
    if chunks == 1:
        samples = problem.chunk(jnp.uint32(0), size)
        return problem.spread(jax.tree.map(lambda leaf: leaf[:num], samples))
    firsts = size * jnp.arange(chunks, dtype=jnp.uint32)
    samples = jax.lax.map(lambda first: problem.chunk(first, size), firsts)
    return problem.spread(
        jax.tree.map(lambda leaf: leaf.reshape(chunks * size, *leaf.shape[2:])[:num], samples)
    )


def _one_by_one(problem: _Samples, num: int, size: int, chunks: int) -> Any:
    samples = []
    with progress_bar(num, "sampling", "sample") as bar:
        for i in range(chunks):
            chunk = _compiled(_chunk, problem, jnp.uint32(i * size), size)
            samples.append(jax.block_until_ready(chunk))
            bar.update(min(size, num - i * size))
    return _compiled(_joined, problem, samples, num)


def _chunk(static: Static, arrays: list[Any]) -> Any:
    problem, first, size = unpacked(static, arrays)
    return problem.chunk(first, size)


def _joined(static: Static, arrays: list[Any]) -> Any:
    problem, samples, num = unpacked(static, arrays)
    return problem.spread(jax.tree.map(lambda *parts: jnp.concatenate(parts)[:num], *samples))


def _threefry(key: Any) -> Array:
    """A typed Threefry key with the words of `key`.

    The bits that other kinds of keys give under `jax.vmap` depend on the batch.
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if typed else jnp.asarray(key)
    threefry = jax.random.wrap_key_data(words[:2], impl="threefry2x32")
    for i in range(2, words.size):
        threefry = jax.random.fold_in(threefry, words[i])
    return threefry


def _automatic(sharding: Any, num: int, size: int) -> Sharding:
    """What `sharding` says of the samples' axis, left to the compiler as a constraint in jit is."""
    if not isinstance(sharding, Sharding):
        raise TypeError(f"sharding must be a jax.sharding.Sharding, got {sharding!r}.")
    layout = sharding
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        mesh = Mesh(sharding.mesh.devices, sharding.mesh.axis_names)
        layout = NamedSharding(mesh, PartitionSpec(*sharding.spec[:1]))
    for name, value in (("num", num), ("batch_size", size)):
        try:
            layout.shard_shape((value,))
        except ValueError as error:
            raise ValueError(
                f"{name} must divide evenly over the devices of {sharding}, got {value}."
            ) from error
    return layout
