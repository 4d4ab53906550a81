"""A residual multilayer perceptron that sees the time and, if asked, a class label."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowjax._check import positive_int, single_key
from flowjax._numerics import computing_dtype

# Angular frequencies pi 2^-1 ... pi 2^4: from a quarter turn over [0, 1], which tells the two
# ends apart, to eight turns.
_FREQUENCIES = np.pi * 2.0 ** np.linspace(-1.0, 4.0, 16)


class MLP(eqx.Module):
    r"""A residual network that is a field: ``model(t, x, args) -> velocity``.

    $$c = \mathrm{silu}(A\,[\cos ft, \sin ft] + e_y), \qquad z_0 = B x$$

    $$z_{k+1} = z_k + D_k\,\mathrm{silu}\big(C_k\,[(1 + \mathrm{scale}_k(c))\,
    z_k / \mathrm{rms}(z_k) + \mathrm{shift}_k(c)]\big), \qquad
    u_t(x, y) = E\,\mathrm{silu}(z_\mathrm{depth})$$

    with affine maps A to E, scale and shift, and a vector e_y for each label y. D starts at zero,
    so that each block starts as the identity.

    Args:
        shape: the shape of one sample, such as ``(8, 8)``.
        width: how many hidden units.
        depth: how many residual blocks.
        num_classes: how many labels, or None for a model without labels. One label more,
            `null` = num_classes, stands for "no label"; train with it on some of the samples if
            the model is to serve unconditionally or under guidance.
        key: one JAX key, for the initial weights. Their dtype is JAX's default float.

    Raises:
        TypeError: a size is not an int, or key is not a JAX key.
        ValueError: a size is below one, or key is a batch of keys.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import flowjax as fj
        >>> model = fj.models.MLP((8, 8), width=32, depth=2, num_classes=10, key=jax.random.key(0))
        >>> x0 = jax.random.normal(jax.random.key(1), (8, 8))
        >>> fj.solve(model, x0, fj.uniform_grid(10), args=3).shape
        (8, 8)
        >>> model.null
        10

    References:
        He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2015,
        arXiv 1512.03385; Peebles, Xie, "Scalable diffusion models with transformers", 2022,
        arXiv 2212.09748, section 3.2 (scale and shift from the condition, zero start).
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    num_classes: int | None = eqx.field(static=True)
    state_layer: eqx.nn.Linear
    time_layer: eqx.nn.Linear
    label_table: Array | None
    blocks: tuple["_Block", ...]
    velocity_layer: eqx.nn.Linear

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        depth: int,
        num_classes: int | None = None,
        *,
        key: Array,
    ):
        if not isinstance(shape, tuple | list):
            raise TypeError(f"shape must be a tuple of ints, such as (8, 8), got {shape!r}.")
        self.shape = tuple(positive_int(size, f"shape[{i}]") for i, size in enumerate(shape))
        width = positive_int(width, "width")
        depth = positive_int(depth, "depth")
        self.num_classes = None if num_classes is None else positive_int(num_classes, "num_classes")
        single_key(key)

        size = int(np.prod(self.shape, dtype=int))
        state_key, time_key, label_key, velocity_key, *block_keys = jax.random.split(key, 4 + depth)
        self.state_layer = eqx.nn.Linear(size, width, key=state_key)
        self.time_layer = eqx.nn.Linear(2 * len(_FREQUENCIES), width, key=time_key)
        self.label_table = (
            None
            if self.num_classes is None
            else jax.random.normal(label_key, (self.num_classes + 1, width))
        )
        self.blocks = tuple(_Block(width, block_key) for block_key in block_keys)
        self.velocity_layer = eqx.nn.Linear(width, size, key=velocity_key)

    @property
    def null(self) -> int | None:
        """The label that stands for "no label": num_classes, or None for a model without labels."""
        return self.num_classes

    def __call__(self, t: ArrayLike, x: ArrayLike, args: Any = None) -> Array:
        """The velocity at time t and state x, for the label ``args``.

        Args:
            t: time, a scalar.
            x: one sample: a floating array of the model's shape.
            args: the label, an integer scalar from 0 to num_classes (`null`); None for a model
                without labels. A JAX array outside of that range cannot raise: it gives NaN.

        Returns:
            The velocity, with x's shape and dtype. It is computed in the weights' dtype.

        Raises:
            TypeError: x is not floating, or the label is missing, not an integer or not wanted.
            ValueError: t is not a scalar, x has another shape, or the label is not a scalar or
                is out of range.
        """
        x = self._state(x)
        if jnp.ndim(t) != 0:
            raise ValueError(
                f"t must be a scalar, got shape {jnp.shape(t)}; for a batch, jax.vmap the model."
            )
        dtype = self.state_layer.weight.dtype

        condition = self.time_layer(_time_features(t).astype(dtype))
        label = self._label(args)
        if self.label_table is not None and label is not None:
            condition = condition + _rows(self.label_table, label)
        condition = jax.nn.silu(condition)

        hidden = self.state_layer(x.astype(dtype).reshape(-1))
        for block in self.blocks:
            hidden = block(hidden, condition)
        velocity = self.velocity_layer(jax.nn.silu(hidden))
        return velocity.reshape(self.shape).astype(x.dtype)

    def _state(self, x: Any) -> Array:
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"x must be a real floating array, got dtype {x.dtype}.")
        if x.shape != self.shape:
            hint = "; for a batch, jax.vmap the model." if x.shape[1:] == self.shape else "."
            raise ValueError(f"x must have the model's shape {self.shape}, got {x.shape}{hint}")
        return x

    def _label(self, args: Any) -> Array | None:
        if self.num_classes is None:
            if args is not None:
                raise TypeError(
                    f"args must be None for a model without labels, got {args!r}; "
                    f"build the model with num_classes to give it labels."
                )
            return None
        wanted = f"args must be an integer label from 0 to {self.num_classes}"
        if args is None:
            raise TypeError(f"{wanted}, got None; {self.num_classes} (model.null) is 'no label'.")
        if not isinstance(args, jax.Array | np.ndarray | np.generic | int):
            raise TypeError(f"{wanted}, got {args!r}.")
        label = jnp.asarray(args)
        if not jnp.issubdtype(label.dtype, jnp.integer):
            raise TypeError(f"{wanted}, got dtype {label.dtype}.")
        if label.ndim != 0:
            raise ValueError(
                f"{wanted}, got shape {label.shape}; for a batch, jax.vmap over states and labels."
            )
        # A Python or NumPy label is known even inside jit.
        if not isinstance(args, jax.Array) and not 0 <= int(args) <= self.num_classes:
            raise ValueError(f"{wanted}, got {int(args)}.")
        return label.astype(jnp.int32)


class _Block(eqx.Module):
    modulation: eqx.nn.Linear
    first: eqx.nn.Linear
    second: eqx.nn.Linear

    def __init__(self, width: int, key: Array):
        modulation_key, first_key, second_key = jax.random.split(key, 3)
        self.modulation = eqx.nn.Linear(width, 2 * width, key=modulation_key)
        self.first = eqx.nn.Linear(width, width, key=first_key)
        self.second = jax.tree.map(jnp.zeros_like, eqx.nn.Linear(width, width, key=second_key))

    def __call__(self, hidden: Array, condition: Array) -> Array:
        scale, shift = jnp.split(self.modulation(condition), 2)
        normal = hidden * jax.lax.rsqrt(jnp.mean(hidden**2) + 1e-6)
        return hidden + self.second(jax.nn.silu(self.first((1 + scale) * normal + shift)))


def _time_features(t: ArrayLike) -> Array:
    t = jnp.asarray(t)
    floating = jnp.issubdtype(t.dtype, jnp.floating)
    dtype = computing_dtype(t.dtype) if floating else jnp.float32
    angles = jnp.asarray(_FREQUENCIES, dtype) * t.astype(dtype)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])


def _rows(table: Array, index: Array) -> Array:
    """``table[index]``, NaN where the index is out of range or negative."""
    index = jnp.where(index < 0, len(table), index)
    return table.at[index].get(mode="fill", fill_value=jnp.nan)
