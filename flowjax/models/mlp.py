"""A residual multilayer perceptron that sees the time and, if asked, a class label."""

import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowjax._check import positive_int, scalar_time, single_key, state

# Angular frequencies pi 2^-1 ... pi 2^4: from a quarter turn over [0, 1], which tells the two
# ends apart, to eight turns.
_FREQUENCIES = np.pi * 2.0 ** np.linspace(-1.0, 4.0, 16)


class MLP(eqx.Module):
    r"""A residual network of the form of a field, ``model(t, x, args)``, with an output like x.

    $$c = \mathrm{silu}(A\,[\cos ft, \sin ft] + e_y), \qquad z_0 = B x$$

    $$z_{k+1} = z_k + D_k\,\mathrm{silu}\big(C_k\,[(1 + \mathrm{scale}_k(c))\,
    z_k / \mathrm{rms}(z_k) + \mathrm{shift}_k(c)]\big), \qquad
    f(t, x, y) = E\,\mathrm{silu}(z_\mathrm{depth})$$

    with affine maps A to E, scale and shift, and a vector e_y for each label y. D starts at zero,
    so that each block starts as the identity; the other maps start uniform within
    `1 / sqrt(inputs)` of zero, and e_y as standard normals.

    What it predicts is what it is trained for: a velocity, as it stands, or any other prediction
    in `fj.velocity(model, schedule, predicts)`.

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
    state_layer: "_Affine"
    time_layer: "_Affine"
    label_table: Array | None
    blocks: tuple["_Block", ...]
    output_layer: "_Affine"

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

        self.state_layer, self.time_layer, self.label_table, self.blocks, self.output_layer = (
            _initial(key, math.prod(self.shape), width, depth, self.num_classes)
        )

    @property
    def null(self) -> int | None:
        """The label that stands for "no label": num_classes, or None for a model without labels."""
        return self.num_classes

    def __call__(self, t: Any, x: Any, args: Any = None) -> Array:
        """The prediction at time t and state x, for the label ``args``.

        Args:
            t: time, a scalar.
            x: one sample: a floating array of the model's shape.
            args: the label, an integer scalar from 0 to num_classes (`null`); None for a model
                without labels. A JAX array outside of that range cannot raise: it gives NaN.

        Returns:
            The prediction, with x's shape and dtype. It is computed in the weights' dtype.

        Raises:
            TypeError: x is not floating, or the label is missing, not an integer or not wanted.
            ValueError: t is not a scalar, x has another shape, or the label is not a scalar or
                is out of range.
        """
        t, x = scalar_time(t), state(x, "x")
        if getattr(x, "shape", None) != self.shape:
            raise ValueError(
                f"x must be an array of the model's shape {self.shape}, got "
                f"{eqx.tree_pformat(x)}; for a batch, jax.vmap the model."
            )
        dtype = self.state_layer.weight.dtype

        angles = jnp.asarray(_FREQUENCIES, t.dtype) * t
        features = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])
        condition = self.time_layer(features.astype(dtype))
        label = self._label(args)
        if self.label_table is not None and label is not None:
            condition = condition + _rows(self.label_table, label)
        condition = jax.nn.silu(condition)

        hidden = self.state_layer(x.astype(dtype).reshape(-1))
        for block in self.blocks:
            hidden = block(hidden, condition)
        output = self.output_layer(jax.nn.silu(hidden))
        return output.reshape(self.shape).astype(x.dtype)

    def _label(self, args: Any) -> Array | None:
        if self.num_classes is None:
            if args is not None:
                raise TypeError(
                    f"args must be None for a model without labels, got {args!r}; "
                    f"build the model with num_classes to give it labels."
                )
            return None
        wanted = f"args must be an integer label from 0 to {self.num_classes}"
        number = isinstance(args, jax.Array | np.ndarray | np.generic | int)
        if not number or not jnp.issubdtype(jnp.result_type(args), jnp.integer):
            got = eqx.tree_pformat(args)
            raise TypeError(f"{wanted} (model.null, for no label), got {got}.")
        label = jnp.asarray(args)
        if label.ndim != 0:
            raise ValueError(
                f"{wanted}, got shape {label.shape}; for a batch, jax.vmap over states and labels."
            )
        # A Python or NumPy label is known even inside jit.
        if not isinstance(args, jax.Array) and not 0 <= int(args) <= self.num_classes:
            raise ValueError(f"{wanted}, got {int(args)}.")
        return label.astype(jnp.int32)


class _Affine(eqx.Module):
    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        # The rows of a batch of batches, as guidance makes one, stay the rows of the product.
        return x @ self.weight.T + self.bias


class _Block(eqx.Module):
    modulation: _Affine
    first: _Affine
    second: _Affine

    def __call__(self, hidden: Array, condition: Array) -> Array:
        scale, shift = jnp.split(self.modulation(condition), 2)
        normal = hidden * jax.lax.rsqrt(jnp.mean(hidden**2) + 1e-6)
        return hidden + self.second(jax.nn.silu(self.first((1 + scale) * normal + shift)))


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _initial(key: Array, size: int, width: int, depth: int, num_classes: int | None) -> tuple:
    """The parts of a new network, from one draw: to compile one for each shape takes seconds."""
    map_key, label_key = jax.random.split(key)
    ends = [(size, width), (2 * len(_FREQUENCIES), width), (width, size)]
    sizes = ends + depth * [(width, 2 * width), (width, width)]
    total = sum((inputs + 1) * outputs for inputs, outputs in sizes)
    draw, maps = jax.random.uniform(map_key, (total,), minval=-1, maxval=1), []
    for inputs, outputs in sizes:
        rows = draw[: (inputs + 1) * outputs].reshape(outputs, -1) / math.sqrt(inputs)
        draw = draw[rows.size :]
        maps.append(_Affine(rows[:, 1:], rows[:, 0]))
    state_layer, time_layer, output_layer, *inner = maps
    blocks = tuple(
        _Block(modulation, first, _Affine(jnp.zeros((width, width)), jnp.zeros(width)))
        for modulation, first in zip(inner[::2], inner[1::2], strict=True)
    )
    table = None
    if num_classes is not None:
        table = jax.random.normal(label_key, (num_classes + 1, width))
    return state_layer, time_layer, table, blocks, output_layer


def _rows(table: Array, index: Array) -> Array:
    """``table[index]``, NaN where the index is out of range or negative."""
    index = jnp.where(index < 0, len(table), index)
    return table.at[index].get(mode="fill", fill_value=jnp.nan)
