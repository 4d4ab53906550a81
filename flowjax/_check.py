"""Refusing bad input when it is traced, in words that name the argument.

Nothing here leaves an operation in a compiled program: every check reads shapes, dtypes
and structures, never values, but for the checks of a grid, which look at concrete times only.
"""

import inspect
import numbers
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PyTree

from flowjax._numerics import computing_dtype

# What a leaf of a state may be: real floating point, of 16 bits or more.
_BIG_ENOUGH = 16


def positive_int(value: Any, name: str) -> int:
    """`value` as an int, refused unless it is a static int of at least one."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be a static positive int, got a traced value of shape {value.shape}; "
            f"under jit, mark the argument as static or make it a Python int."
        )
    if not is_int(value):
        raise TypeError(f"{name} must be a static positive int, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be a static positive int, got {value}.")
    return int(value)


def count(value: Any, limit: int, name: str, limit_name: str) -> int:
    """A number of steps of an adjoint: a static int from 1 to the limit."""
    if not (is_int(value) and 1 <= value <= limit):
        raise ValueError(
            f"{name} must be a static int from 1 to {limit_name} = {limit}, got {value!r}."
        )
    return int(value)


def is_int(value: Any) -> bool:
    """Whether a value is a static int."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def at_most(value: int, limit: int, name: str, limit_name: str) -> int:
    """`value`, refused if it is above `limit`."""
    if value > limit:
        raise ValueError(f"{name} must be at most {limit_name} = {limit}, got {value}.")
    return value


def leaves_with_names(tree: PyTree, name: str) -> list[tuple[str, Any]]:
    """The leaves of `tree`, each with a name such as ``x0['position'][1]``."""
    return [
        (name + jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    ]


def state(x0: PyTree, name: str = "x0") -> PyTree[Array]:
    """`x0` with every leaf a real floating array; Python floats become arrays."""
    # An explicit dtype also drops the weak type of a Python float, which a loop cannot carry.
    return jax.tree.map(
        lambda leaf, like: jnp.asarray(leaf, dtype=like.dtype), x0, shapes_of(x0, name)
    )


def shapes_of(x0: PyTree, name: str) -> PyTree[jax.ShapeDtypeStruct]:
    """The shapes and dtypes of a state, refused unless every leaf is real floating."""
    leaves = leaves_with_names(x0, name)
    if not leaves:
        raise ValueError(f"{name} must hold at least one array, got a pytree without leaves.")
    for leaf_name, leaf in leaves:
        if not hasattr(leaf, "dtype") and not isinstance(leaf, (float, int, complex)):
            raise TypeError(
                f"{leaf_name} must be a real floating array, got {type(leaf).__name__}."
            )
        dtype = getattr(leaf, "dtype", None) or jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits < _BIG_ENOUGH:
            advice = "convert it first, for example with .astype(jnp.float32)"
            if jnp.issubdtype(dtype, jnp.complexfloating):
                advice = "split it into its real and its imaginary part, a state of two leaves"
            raise TypeError(
                f"{leaf_name} must be a real floating array, got dtype {dtype}; {advice}."
            )
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(getattr(leaf, "shape", ()), jnp.result_type(leaf)), x0
    )


def concrete(compute: Callable[[], Any]) -> Any:
    """The arrays that `compute` returns, computed under `jit` too; None if they are traced."""
    try:
        with jax.ensure_compile_time_eval():
            values = compute()
    # Older versions of JAX raise for what newer ones trace.
    except jax.errors.UnexpectedTracerError:
        return None
    return None if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values)) else values


def as_times(ts: Any) -> Array:
    """`ts` as an array; one of NumPy's is concrete also under `jit`, and can be looked at."""
    if isinstance(ts, (list, tuple)) and not any(isinstance(t, Tracer) for t in ts):
        try:
            ts = np.asarray(ts)
        except ValueError as error:
            raise TypeError(f"ts must be a grid of times, got {ts!r}.") from error
    if not isinstance(ts, np.ndarray):
        if is_int(ts):
            raise TypeError(
                f"ts must be a grid of times, got {ts!r}: for {ts} steps from 0 to 1 write "
                f"fj.uniform_grid({ts})."
            )
        if not isinstance(ts, (jax.Array, np.generic, float, list, tuple)):
            raise TypeError(f"ts must be a grid of times such as fj.uniform_grid(20), got {ts!r}.")
        try:
            return jnp.asarray(ts)
        except (TypeError, ValueError) as error:
            raise TypeError(f"ts must be a grid of times, got {ts!r}.") from error
    if ts.dtype.kind not in "biufc":
        raise TypeError(f"ts must be a grid of times, got {ts!r}.")
    # Not jnp.asarray, which compiles a program here, under `jit`.
    with jax.ensure_compile_time_eval():
        array = jax.device_put(ts)
    if np.any((np.diff(ts) != 0) & (np.diff(np.asarray(array)) == 0)):
        raise ValueError(
            f"ts has neighbours that are one time in {array.dtype}: take fewer steps, measure time "
            f"from nearer by, or turn on jax_enable_x64."
        )
    return array


def time_grid(ts: Any) -> Array:
    """`ts` as a floating array of at least two times, of at least 32 bits."""
    array = as_times(ts)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"ts must be a 1-D floating array of at least 2 times, got dtype {array.dtype}."
        )
    if array.ndim != 1 or array.shape[0] < 2:
        raise ValueError(
            f"ts must be a 1-D floating array of at least 2 times, got shape {array.shape}."
        )
    dtype = computing_dtype(array.dtype)
    if isinstance(array, Tracer):
        return array.astype(dtype)
    # Times that can be looked at remain so under `jit`.
    with jax.ensure_compile_time_eval():
        return array.astype(dtype)


def single_key(key: Any, name: str = "key") -> None:
    """Refuses whatever is not one JAX key."""
    wanted = f"{name} must be one JAX key, such as jax.random.key(0)"
    if not isinstance(key, (jax.Array, np.ndarray)):
        raise TypeError(f"{wanted}, got {key!r}.")
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        batch = key.shape
    elif key.dtype == jnp.uint32 and key.ndim > 0 and key.shape[-1] in (2, 4):
        batch = key.shape[:-1]
    else:
        raise TypeError(f"{wanted}, got an array of dtype {key.dtype} and shape {key.shape}.")
    if batch:
        raise ValueError(
            f"{wanted}, got a batch of keys of shape {batch}: one key names one path. "
            f"For one path per key, use jax.vmap over the keys (or flowjax.sample)."
        )


def alike(
    out: PyTree, x: PyTree, name: str, *, steps: Any = (), exact: bool = True, of: str = "the state"
) -> PyTree[Array]:
    """`out` as arrays, refused if it differs from the state in structure, shape or dtype.

    With `steps` there is one such for each of them, on a leading axis. Any real dtype will do, and
    is made the state's, unless `exact`.
    """
    for leaf_name, got, want in paired(out, x, name, f"{of}'s"):
        if not isinstance(got, (jax.Array, np.ndarray, np.generic, int, float, complex)):
            raise TypeError(f"{leaf_name} must be a real array like the state's, got {got!r}.")
        # A weakly typed result (a Python float) takes the state's dtype, as it does in JAX.
        weak = isinstance(got, float) or getattr(got, "weak_type", False) or not exact
        fits = jnp.result_type(got) == want.dtype or (weak and is_floating(got))
        if jnp.shape(got) != (*steps, *want.shape) or not fits:
            dtype = f"dtype {want.dtype}" if exact else "a real dtype"
            each = f" (one for each of the {steps[0]} steps)" if steps else ""
            raise ValueError(
                f"{leaf_name} must have shape {(*steps, *want.shape)} and {dtype} like {of}"
                f"{each}, got shape {jnp.shape(got)} and dtype {jnp.result_type(got)}."
            )
    return jax.tree.map(lambda got, want: jnp.asarray(got, want.dtype), out, x)


def samples(data: PyTree, name: str, least: int = 1) -> int:
    """How many samples arrays hold along one leading axis, refused unless all hold as many."""
    leaves = leaves_with_names(data, name)
    if not leaves:
        raise ValueError(f"{name} must hold at least one array, got a pytree without leaves.")
    for leaf_name, leaf in leaves:
        if leaf.ndim == 0:
            raise ValueError(f"{leaf_name} must have a leading axis of samples, got a scalar.")
    counts = {leaf_name: leaf.shape[0] for leaf_name, leaf in leaves}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{name} must have one number of samples in all leaves, got {counts}.")
    held = leaves[0][1].shape[0]
    if held < least:
        wanted = "one sample" if least == 1 else f"{least} samples"
        raise ValueError(f"{name} must hold at least {wanted}, got {held or 'none'}.")
    return held


def elements(x: PyTree[Array], name: str) -> int:
    """How many numbers a state holds, refused if that is none."""
    total = sum(leaf.size for leaf in jax.tree.leaves(x))
    if total == 0:
        raise ValueError(f"{name} must hold at least one number, got only arrays of size zero.")
    return total


def function(value: Any, name: str, form: str = "(t, x, args)", takes: int = 3) -> Any:
    """The function itself, refused unless it can be called with so many arguments."""
    wanted = f"{name} must be a function {form}"
    if isinstance(value, type) or not callable(value):
        raise TypeError(f"{wanted}, got {value!r}.")
    if not binds(value, takes):
        raise TypeError(f"{wanted}, got one of {inspect.signature(value)}: {value!r}.")
    return value


def binds(function: Callable[..., Any], takes: int) -> bool:
    """Whether a function can be called with so many arguments, as far as that can be seen."""
    try:
        inspect.signature(function).bind(*range(takes))
    except (TypeError, ValueError) as error:
        return isinstance(error, ValueError)  # there is none, as of some functions written in C
    return True


def returned_scalar(value: Any, name: str) -> Any:
    """What the function `name` returned, refused unless it is one real floating number."""
    number = isinstance(value, (float, np.generic, np.ndarray, jax.Array))
    if not number or jnp.shape(value) != () or not is_floating(value):
        got = eqx.tree_pformat(value)
        raise TypeError(f"{name} must return a real floating scalar, got {got}.")
    return value


def is_leaf(value: Any) -> bool:
    return jax.tree.structure(value) == jax.tree.structure(0.0)


def is_real(value: Any) -> bool:
    dtype = getattr(value, "dtype", None) or jnp.result_type(value)
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer))


def is_floating(value: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(value), jnp.floating))


def paired(
    tree: PyTree, x: PyTree, name: str, like: str = "the state's"
) -> list[tuple[str, Any, Any]]:
    """Name, leaf and the state's leaf; refused if the structures differ."""
    got, want = jax.tree.structure(tree), jax.tree.structure(x)
    if got != want:
        raise ValueError(f"{name} must have {like} structure {want}, got {got}.")
    named = leaves_with_names(tree, name)
    return [(*pair, leaf) for pair, leaf in zip(named, jax.tree.leaves(x), strict=True)]


def number(value: Any, name: str) -> Any:
    """A real number as a Python float, or an array of shape () as it is."""
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        is_number = is_real(value)
    else:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number:
        raise TypeError(f"{name} must be a real number, got {value!r}.")
    if jnp.shape(value) != ():
        raise ValueError(f"{name} must be one number, got an array of shape {jnp.shape(value)}.")
    if isinstance(value, (np.ndarray, jax.Array)):
        return value if jnp.issubdtype(value.dtype, jnp.floating) else jnp.asarray(value, float)
    return float(value)


def require(holds: Any, *values: Any, message: str) -> None:
    """Refuses numbers for which `holds` is false; those that are traced are not looked at."""
    if any(isinstance(value, Tracer) for value in values):
        return
    numbers = [float(value) for value in values]
    if not holds(*numbers):
        raise ValueError(f"{message}, got {', '.join(map(str, numbers))}.")


def static_number(value: Any, name: str) -> float:
    """A real number, or an array of shape () that is not traced, as a float."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"{name} must be a static number, got a traced value of shape {value.shape}; under "
            f"jit, mark the argument as static."
        )
    if isinstance(value, (np.ndarray, jax.Array)) and value.shape == ():
        value = np.asarray(value)[()]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a static number, such as a float, got {value!r}.")
    return float(value)


def real(value: Any, name: str) -> Array:
    """`value` as a real floating array; integers become the default float dtype."""
    wanted = f"{name} must be a real number or array"
    if value is None:
        raise TypeError(f"{wanted}, got None.")
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{wanted}, got {value!r}.") from error
    if jnp.issubdtype(array.dtype, jnp.integer):
        return array.astype(float)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{wanted}, got dtype {array.dtype}.")
    return array


def time(t: Any, name: str = "t") -> Array:
    """Times, or what they are a function of, as a floating array of at least 32 bits."""
    array = real(t, name)
    return array.astype(computing_dtype(array.dtype))


def scalar_time(t: Any) -> Array:
    """One time, as `time` has it."""
    t = time(t)
    if t.ndim != 0:
        raise ValueError(f"t must be a scalar, got shape {t.shape}; use jax.vmap over many times.")
    return t
