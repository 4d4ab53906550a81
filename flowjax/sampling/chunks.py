"""Many samples: one key each, in chunks, over devices."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from flowjax import _check
from flowjax._devices import typed
from flowjax.solver.compiled import Static, prepared, unpacked
from flowjax.solver.door import check_pair, is_shown, traced
from flowjax.solver.progress import moved, opened
from flowjax.solver.sde import SDE
from flowjax.solver.stepper import needs_noise
from flowjax.solver.times import check_from_noise, check_times


@runtime_checkable
class Reduction(Protocol):
    """What becomes of the samples where they are not returned: a pytree with three functions."""

    def summary(self, kept: Any, taken: Array) -> Any:
        """That of a chunk, on the leading axis, of the samples where `taken`, (size,) of bool."""

    def merged(self, a: Any, b: Any) -> Any:
        """The summary of what two are of. One of zeros changes nothing."""

    def result(self, total: Any) -> Any:
        """What is returned, of the summary of all samples."""


def drawn(
    view: Callable[..., Any],
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
    reduction: Reduction | None = None,
) -> Any:
    """What is kept of the samples, by `sample` and its sisters, or a summary of it.

    Of each sample is kept ``view(field_or_sde, start, ts, args, step=, key=, adjoint=)``, where
    ``start(args)`` is its initial state. The view is a pytree, or a function that lives on.
    """
    _check.single_key(key)
    with_args = takes_args(init)
    num = _check.positive_int(num, "num")
    size = num if batch_size is None else min(_check.positive_int(batch_size, "batch_size"), num)
    ts = _check.time_grid(ts)
    check_pair(field_or_sde, step)
    is_sde = isinstance(field_or_sde, SDE)
    noisy = is_sde if step is None else needs_noise(step, is_sde)
    check_from_noise(ts, field_or_sde)
    check_times(ts, field_or_sde, step, drawn=noisy)
    axes, shown = _axes_of(args, args_axes, num), is_shown(progress)
    args = traced(args)

    layout = None if sharding is None else automatic(sharding, num, size)
    shards = 1 if layout is None else size // layout.shard_shape((size,))[0]
    chunks = -(-num // size)
    # Chunks of equal size, of which the last few samples may be in excess, compile once.
    size = -(-num // (chunks * shards)) * shards
    how = (step, adjoint, noisy, with_args, layout)
    problem = _Samples(threefry(key), field_or_sde, init, ts, args, axes, view, *how)
    arrays, static = eqx.partition(problem, eqx.is_array)
    counts = (num, size, chunks, shown)

    def draw(arrays: Any) -> Any:
        run, arrays = prepared(_all_chunks, eqx.combine(arrays, static), reduction, *counts)
        return run(arrays)

    if layout is None:
        return draw(arrays)
    if reduction is not None and isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, PartitionSpec())
    if has_explicit_axes(sharding):
        return jax.sharding.auto_axes(draw, out_sharding=sharding)(arrays)
    return draw(arrays) if reduction else jax.device_put(draw(arrays), sharding)


def takes_args(init: Any) -> bool:
    """Whether the function that draws X_0 takes args too; refused if it is none."""
    form = "key -> x0 or (key, args) -> x0 of one sample, such as fj.Gaussian(...).sample"
    with_args = callable(init) and not _check.binds(init, 1) and _check.binds(init, 2)
    _check.function(init, "init", form, takes=1 + with_args)
    return with_args


def keys_of(key: Array, index: Array) -> tuple[Array, Array]:
    """The keys of the start and of the path of the sample of one index."""
    init_key, path_key = jax.random.split(jax.random.fold_in(key, index))
    return init_key, path_key


def drawn_start(init: Callable[..., Any], key: Array, args: Any, with_args: bool) -> Any:
    """The initial state of one sample."""
    return _check.state(init(key, args) if with_args else init(key), "init(key)")


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
    axes = jax.tree.leaves(spread, is_leaf=is_none)
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
    return tuple(None if axis is None else int(axis) for axis in axes)


class _Samples(eqx.Module):
    """What all chunks have in common."""

    key: Array
    field_or_sde: Any
    init: Callable[..., Any]
    ts: Array
    args: Any
    axes: tuple[int | None, ...] = eqx.field(static=True)
    view: Callable[..., Any]
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
        init_key, path_key = keys_of(self.key, index)

        def start(args: Any) -> Any:
            return drawn_start(self.init, init_key, args, self.with_args)

        path_key = path_key if self.noisy else None
        how = {"step": self.step, "key": path_key, "adjoint": self.adjoint}
        return self.view(self.field_or_sde, start, self.ts, args, **how)

    def spread(self, tree: Any) -> Any:
        """`tree` with its leading axis laid out over the devices."""
        if self.layout is None:
            return tree
        return jax.lax.with_sharding_constraint(tree, self.layout)


def _all_chunks(static: Static, arrays: list[Any]) -> Any:
    problem, reduction, num, size, chunks, shown = unpacked(static, arrays)
    firsts = size * jnp.arange(chunks, dtype=jnp.uint32)
    if shown:
        firsts = firsts + opened(num, "sampling", "sample")

    def chunk(first: Array) -> Any:
        samples = problem.chunk(first, size)
        if shown:
            moved(jnp.minimum(first + size, num), samples)
        return samples

    if reduction is not None:
        return reduction.result(_reduced(reduction, chunk, firsts, num, size))
    if chunks == 1:
        samples = chunk(firsts[0])
        return problem.spread(jax.tree.map(lambda leaf: leaf[:num], samples))
    samples = jax.lax.map(chunk, firsts)
    return problem.spread(
        jax.tree.map(lambda leaf: leaf.reshape(chunks * size, *leaf.shape[2:])[:num], samples)
    )


def _reduced(
    reduction: Reduction, chunk: Callable[[Array], Any], firsts: Array, num: int, size: int
) -> Any:
    """The summary of all chunks, of which one is held at a time, also when differentiated."""

    def summary(first: Array) -> Any:
        taken = first + jnp.arange(size, dtype=jnp.uint32) < num
        return reduction.summary(chunk(first), taken)

    if len(firsts) == 1:
        return summary(firsts[0])

    def merged(total: Any, first: Array) -> Any:
        return reduction.merged(total, jax.checkpoint(summary, prevent_cse=False)(first))

    shapes = jax.eval_shape(summary, firsts[0])
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    nothing = typed(lambda total: merged(total, firsts[0]), nothing)
    return jax.lax.scan(lambda total, first: (merged(total, first), None), nothing, firsts)[0]


def threefry(key: Any) -> Array:
    """A typed Threefry key with the words of `key`.

    The bits that other kinds of keys give under `jax.vmap` depend on the batch.
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if typed else jnp.asarray(key)
    threefry = jax.random.wrap_key_data(words[:2], impl="threefry2x32")
    for i in range(2, words.size):
        threefry = jax.random.fold_in(threefry, words[i])
    return threefry


def has_explicit_axes(sharding: Any) -> bool:
    """Whether the mesh of a sharding is another than that which `automatic` makes of it."""
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, Mesh):
        return False
    return sharding.mesh != Mesh(sharding.mesh.devices, sharding.mesh.axis_names)


def automatic(sharding: Any, num: int, size: int) -> Sharding:
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
