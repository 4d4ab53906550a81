"""Brownian motion named by a key: a path is a pure function of (key, step, element)."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flowjax import _check
from flowjax._numerics import computing_dtype
from flowjax._types import KeyArray, State, StateLike
from flowjax.solver.compiled import Static, prepared, unpacked
from flowjax.solver.door import as_precise, first_index
from flowjax.solver.noise import Words, normal_pairs, opaque, scaled, threefry2x32, whole_vectors
from flowjax.solver.times import check_times, indices_within

# The counter under which a caller's key is enciphered into the key of its Brownian path, "flow"
# and "jax" in ASCII. jax.random counts from zero, so it never reaches it: whatever the caller
# draws from the same key is independent of the path.
_DOMAIN = (0x666C6F77, 0x006A6178)
# And that under which the key of a path is enciphered into those of its bridges, "brdg": a path has
# fewer steps than this.
_BRIDGES = 0x62726467


def brownian_increments(key: KeyArray, ts: Any, like: StateLike, first_step: Any = 0) -> State:
    r"""The increments of the Brownian path that `key` names, over the grid `ts`.

    $$dW_i = W_{t_{i+1}} - W_{t_i} \sim N(0, (t_{i+1} - t_i) I)$$

    independent over steps, elements and leaves. These are exactly the increments that
    ``solve(..., key=key)`` uses. Increment i of element j is a function of (key, i, j) alone,
    bit for bit: no batch, compilation, rematerialisation or device layout changes it. (On a
    processor without fused multiply-add, with XLA's fast math or at its optimisation level 0, the
    last bits of some increments are others.)

    Args:
        key: one JAX key, typed or old style, of any implementation (typed and old keys with the
            same words name the same path). It is enciphered first, so that numbers the caller
            draws from it with `jax.random` are independent of the path.
        ts: (n + 1,) non-decreasing times; differentiable.
        like: a pytree of arrays (or `jax.ShapeDtypeStruct`) with the structure, shapes and dtypes
            of the noise, which are the state's where it multiplies elementwise.
        first_step: the number of the first step in the path, as in `solve`: a key names one path
            on one grid, of which this is the part from ts[0] on.

    Returns:
        The structure of `like`, each leaf of shape (n, *leaf.shape) and its dtype.

    Raises:
        TypeError: if `key` is not a key, or a leaf of `like` is not real floating.
        ValueError: if `key` is a batch of keys, `ts` is no grid or decreases, or `first_step` is
            not an int from 0 to 2^31 - 1.

    Example:
        >>> import jax, jax.numpy as jnp, flowjax as fj
        >>> dw = fj.brownian_increments(jax.random.key(0), fj.uniform_grid(8), jnp.zeros(3))
        >>> dw.shape
        (8, 3)

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, section 2.2.
        Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", SC11.
    """
    _check.single_key(key)
    ts = _check.time_grid(ts)
    check_times(ts, None, None, drawn=True)
    like = _check.shapes_of(like, "like")
    first = first_index(first_step)
    run, arrays = prepared(_increments, key, as_precise(ts, like), like, first)
    return run(arrays)


def brownian_path(key: KeyArray, ts: Any, like: StateLike, first_step: Any = 0) -> State:
    r"""The Brownian path that `key` names, at the times of `ts`.

    $$W_{t_0} = 0, \qquad W_{t_{i+1}} = W_{t_i} + dW_i$$

    Args:
        key: one JAX key.
        ts: (n + 1,) non-decreasing times.
        like: a pytree of arrays with the structure, shapes and dtypes of the noise.
        first_step: as in `brownian_increments`.

    Returns:
        The structure of `like`, each leaf of shape (n + 1, *leaf.shape), zero at ts[0].

    Raises:
        TypeError, ValueError: as `brownian_increments`.

    Example:
        >>> import jax, jax.numpy as jnp, flowjax as fj
        >>> w = fj.brownian_path(jax.random.key(0), fj.uniform_grid(8), jnp.zeros(()))
        >>> float(w[0]), w.shape
        (0.0, (9,))

    References:
        Holderrieth, Erives, "An introduction to flow matching and diffusion models" (MIT
        6.S184), 2025, arXiv 2506.02070, section 2.2.
    """
    return jax.tree.map(
        lambda dw: jnp.concatenate([jnp.zeros_like(dw[:1]), jnp.cumsum(dw, axis=0)]),
        brownian_increments(key, ts, like, first_step),
    )


def coarsen(increments: StateLike, k: Any) -> State:
    r"""The same Brownian path on every k-th time, or on some of them: sums of its increments.

    $$dW'_j = \sum_{i = jk}^{(j+1)k - 1} dW_i$$

    which are the increments of the path over ``ts[::k]``, or over ``ts[k]`` for indices k.

    Args:
        increments: a pytree of arrays of shape (n, ...), as from `brownian_increments`.
        k: a static positive int that divides n; or indices of times, static ints from 0 to n that
            increase, at least two, such as those of `grid_through`.

    Returns:
        The same structure, each leaf of shape (n // k, ...), or (len(k) - 1, ...).

    Raises:
        TypeError: if k is neither a static int nor such indices.
        ValueError: if k is less than 1 or does not divide n, or indices do not increase within the
            path.

    Example:
        >>> import jax, jax.numpy as jnp, flowjax as fj
        >>> ts = fj.uniform_grid(8)
        >>> fine = fj.brownian_increments(jax.random.key(0), ts, jnp.zeros(3))
        >>> fj.coarsen(fine, 4).shape, fj.coarsen(fine, [0, 1, 5]).shape
        ((2, 3), (2, 3))

    References:
        Higham (2001), "An algorithmic introduction to numerical simulation of stochastic
        differential equations", SIAM Review 43, section 4.
    """
    _check.shapes_of(increments, "increments")
    if np.ndim(k) == 1:
        return _over(increments, k)
    k = _check.positive_int(k, "k")
    for name, leaf in _check.leaves_with_names(increments, "increments"):
        if jnp.ndim(leaf) == 0 or jnp.shape(leaf)[0] % k:
            raise ValueError(
                f"{name} must have a leading axis of increments that k = {k} divides, "
                f"got shape {jnp.shape(leaf)}."
            )
    return jax.tree.map(
        lambda dw: jnp.sum(jnp.reshape(dw, (dw.shape[0] // k, k, *dw.shape[1:])), axis=1),
        increments,
    )


def _over(increments: StateLike, indices: Any) -> State:
    """The increments over the times of some indices."""
    leaves = _check.leaves_with_names(increments, "increments")
    counts = {jnp.shape(leaf)[:1] for _, leaf in leaves}
    if len(counts) != 1 or () in counts:
        raise ValueError(
            f"increments must have one leading axis of steps in all leaves, got {sorted(counts)}."
        )
    (n,) = counts.pop()
    places = indices_within(indices, n, "k")
    if len(places) < 2:
        raise ValueError(f"k must be at least two indices, got {indices!r}.")
    which = np.repeat(np.arange(len(places) - 1), np.diff(places))
    return jax.tree.map(
        lambda dw: jax.ops.segment_sum(
            jnp.asarray(dw)[places[0] : places[-1]], which, len(places) - 1, True
        ),
        increments,
    )


def refine(increments: StateLike, ts: Any, key: KeyArray) -> State:
    r"""The same Brownian path on twice as many steps: each is halved by a Brownian bridge.

    $$dW'_{2i} = \tfrac12 dW_i + \tfrac12 \sqrt{h_i}\,\xi_i, \qquad
    dW'_{2i+1} = \tfrac12 dW_i - \tfrac12 \sqrt{h_i}\,\xi_i, \qquad \xi_i \sim N(0, I)$$

    with $h_i = t_{i+1} - t_i$: given the path at the times of ts, its law at the middles between
    them. ``coarsen(refine(dw, ts, key), 2)`` is dw, to rounding.

    Args:
        increments: a pytree of arrays of shape (n, ...), as from `brownian_increments`.
        ts: (n + 1,) non-decreasing times, over which they are.
        key: one JAX key, which names the bridges. It may be that of the increments, and the same
            for further refinements: bridges are numbered apart from paths, and by the level n.

    Returns:
        The same structure, each leaf of shape (2 n, ...), over the grid in which
        ``(ts[i] + ts[i + 1]) / 2`` stands between ts[i] and ts[i + 1].

    Raises:
        TypeError: if a leaf is not real floating, or `key` is not a key.
        ValueError: if `ts` is no grid or decreases, `key` is a batch of keys, or the leading axis
            of a leaf is not the number of steps of ts.

    Example:
        >>> import jax, jax.numpy as jnp, flowjax as fj
        >>> ts, keys = fj.uniform_grid(4), jax.random.split(jax.random.key(0))
        >>> dw = fj.brownian_increments(keys[0], ts, jnp.zeros(3))
        >>> finer = fj.refine(dw, ts, keys[1])
        >>> finer.shape, bool(jnp.allclose(fj.coarsen(finer, 2), dw, atol=1e-6))
        ((8, 3), True)

    References:
        Levy (1948), "Processus stochastiques et mouvement brownien"; Glasserman (2003), "Monte
        Carlo Methods in Financial Engineering", section 3.1.
    """
    increments = _check.state(increments, "increments")
    ts = _check.time_grid(ts)
    n = ts.shape[0] - 1
    for name, leaf in _check.leaves_with_names(increments, "increments"):
        if leaf.ndim == 0 or leaf.shape[0] != n:
            raise ValueError(
                f"{name} must have a leading axis of the {n} steps of ts, got shape {leaf.shape}."
            )
    like = jax.tree.map(lambda dw: jax.ShapeDtypeStruct(dw.shape[1:], dw.dtype), increments)
    _check.single_key(key)
    words = threefry2x32(path_key(key), (jnp.uint32(_BRIDGES), jnp.uint32(n)))
    own_key = jax.random.wrap_key_data(jnp.stack(words), impl="threefry2x32")
    bridges = brownian_increments(own_key, ts, like)

    def halves(dw: Array, bridge: Array) -> Array:
        first, second = (dw + bridge) / 2, (dw - bridge) / 2
        return jnp.stack([first, second], axis=1).reshape(2 * n, *dw.shape[1:])

    return jax.tree.map(halves, increments, bridges)


def path_key(key: KeyArray) -> Words:
    """The key of the path: the caller's key words, enciphered under a counter of flowjax's own."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = (jax.random.key_data(key) if typed else jnp.asarray(key)).reshape(-1)
    words = opaque(words)
    path = (words[0], words[1])
    # Implementations with longer keys (rbg: four words) chain the rest through the cipher.
    for i in range(2, len(words), 2):
        path = threefry2x32(path, (words[i], words[i + 1]))
    return threefry2x32(path, (jnp.uint32(_DOMAIN[0]), jnp.uint32(_DOMAIN[1])))


class Drawn(NamedTuple):
    """Standard normals of consecutive pairs of steps: flat complex arrays, one a run of leaves."""

    first_pair: Array
    runs: list[Array]


def draw(path: Words, first_step: Array, steps: int, like: StateLike, from_even: bool) -> Drawn:
    """The standard normals of `steps` steps from `first_step` on.

    They come in pairs, of steps 2i and 2i + 1. Where the first step is not known to be even, the
    steps may take one pair more. Elements are numbered through all leaves; those of consecutive
    leaves of one precision are drawn at once, which compiles once.
    """
    runs = _runs(like)
    pairs = -(-steps // 2) if from_even else steps // 2 + 1
    count = pairs * sum(size for _, size, _ in runs)
    if isinstance(count, int) and count >= 2**31:
        raise ValueError(f"at most 2^32 normals can be drawn at once, got {steps} steps of them.")
    first_pair = first_step // jnp.uint32(2)
    drawn, first_element = [], 0
    for dtype, size, _ in runs:
        row = jnp.uint32(max(size, 1))
        index = jax.lax.iota(jnp.uint32, whole_vectors(pairs * size))
        pair, element = first_pair + index // row, jnp.uint32(first_element) + index % row
        drawn.append(normal_pairs(path, pair, element, dtype))
        first_element += size
    return Drawn(first_pair, drawn)


def _runs(like: StateLike) -> list[tuple[Any, Any, list[Any]]]:
    """Consecutive leaves that are computed in one dtype: that, their size in all, the leaves."""
    leaves = jax.tree.leaves(like)
    groups = itertools.groupby(leaves, lambda leaf: computing_dtype(leaf.dtype))
    runs = [(dtype, list(run)) for dtype, run in groups]
    return [(dtype, sum(leaf.size for leaf in run), run) for dtype, run in runs]


def root_of_step(t0: Array, t1: Array) -> Array:
    """The standard deviation of an increment, the square root of t1 - t0."""
    h = t1 - t0
    # The derivative of the root is infinite where a time is repeated; there the increment is zero.
    return jnp.where(h == 0, 0.0, jnp.sqrt(jnp.where(h == 0, 1.0, h)))


def increment(drawn: Drawn, step: Array, root: Array, like: StateLike) -> State:
    """The increment of step number `step`, of standard deviation `root`, from what was drawn."""
    row, odd = step // jnp.uint32(2) - drawn.first_pair, step % jnp.uint32(2) == 1
    dw = []
    for pairs, (dtype, size, leaves) in zip(drawn.runs, _runs(like), strict=True):
        start = row * jnp.uint32(size)
        for leaf in leaves:
            own = jax.lax.dynamic_slice(pairs, (start,), (leaf.size,))
            z = jnp.where(odd, jnp.imag(own), jnp.real(own)).reshape(leaf.shape)
            dw.append(scaled(root.astype(dtype), z).astype(leaf.dtype))
            start = start + jnp.uint32(leaf.size)
    return jax.tree.unflatten(jax.tree.structure(like), dw)


def step_numbers(first: Any, steps: int) -> Array:
    """The numbers of so many steps, of which the first is a `First`, or 0 for None."""
    numbers = jax.lax.iota(jnp.uint32, steps)
    return numbers if first is None else numbers + jnp.asarray(first.index, jnp.uint32)


def _increments(static: Static, arrays: list[Array]) -> State:
    key, ts, like, first = unpacked(static, arrays)
    steps = ts.shape[0] - 1
    numbers = step_numbers(first, steps)
    drawn = draw(path_key(key), numbers[0], steps, like, first is None or first.even)

    # One step at a time, as the loop does: a single product over all steps would be fused with the
    # drawing into a nest of loops of the state's shape; see `flowjax.solver.noise`.
    def one(_: None, step_and_root: tuple[Array, Array]) -> tuple[None, State]:
        return None, increment(drawn, *step_and_root, like)

    roots = root_of_step(ts[:-1], ts[1:])
    return jax.lax.scan(one, None, (numbers, roots))[1]
