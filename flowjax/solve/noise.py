"""Standard normals by counter: the one clever module of the solver.

A normal is a pure function of (key, step, element) and nothing else. It takes three parts:

1. **Bits.** Threefry-2x32 with its full 20 rounds (Salmon et al. 2011): a bijection of the
   64-bit counter (step, element) under the 64-bit key, so distinct counters never collide. The
   rounds are written out, which XLA turns into straight vector code with nothing stored.

2. **A normal from the bits** by the inverse distribution function, exact in both tails to the
   resolution of the bits. The top bit is the sign. The m bits below, the integer k, are the tail
   probability ``p = (k + 1/2) / 2^(m+1)`` in (0, 1/2), and ``x = 1 - 2p`` comes from the
   complement of k: both are rounded from integers, so p keeps its relative precision in the tail
   and x keeps its own in the centre. With ``w = -log(1 - x^2) = -log(2p (1 + x))``,

       |z| = x F(w),     F(w) = Phi^-1(1 - p) / x,

   and F is smooth in w in the centre and in sqrt(w) in the tails (Giles 2010), where the tables
   below hold its Chebyshev interpolants as polynomials on [-1, 1].

3. **The same bits of the result wherever it is compiled.** XLA's own `log` gives other last bits
   in a vectorised loop than in its scalar remainder, and a compiler may contract a product and
   a sum to one rounding in one place and not in another. So the logarithm is written out here
   too, by exponent and polynomial; every sum has one product at most, which leaves one way to
   contract it; and the last operation on a normal, and on a scaled one, is the choice of its sign,
   through which no product can be contracted into what the caller adds it to.

How the loop asks for them decides their speed. XLA on CPU computes elementwise work in a nest of
loops over the shape it is written to, and vectorises the innermost: a last axis of one to three
elements costs ten times what a flat array does. So normals are drawn flat, for a block of steps
at once (`block_length`), and each step slices its own out of the block: the block is an operand
of the inner loop over its steps, which keeps XLA from fusing the drawing into a nest of the
state's shape. A large state with a long last axis is drawn inside its step, where the normals are
consumed as they are made. All of it is the same pure function of (key, step, element).

Derivation of the tables: the Chebyshev interpolant at its own nodes, in 50 digits, of -log(m) on
[sqrt(1/2), sqrt(2)]; of F(w) on [0, 5.5] and of F(s^2) on [sqrt(5.5), sqrt(22.25)] for float32
(relative error 1.2e-7); of F(w) on [0, 6], of F(s^2) on [sqrt(6), 4] and [4, sqrt(44.5)] for
float64 (relative error 5e-16). The tests derive them again.

References:
    Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC11.
    Giles (2010), "Approximating the erfinv function", GPU Computing Gems.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from flowjax.solve.blocks import length_near

# fmt: off
_LOG_32 = (
    -0.0588915178,
    -0.333333088,
    0.0555554816,
    -0.0123489307,
    0.00308739898,
    -0.000811556003,
    0.000225164889,
    -7.99857793e-05,
    2.34633009e-05,
)
_CENTRE_32 = (
    2.21011831,
    0.950221718,
    -0.0538620823,
    -0.0305465433,
    0.0169288806,
    -0.00210534426,
    -0.00162844576,
    0.000800020076,
    3.474324e-05,
    -9.25566405e-05,
)
_TAIL_32 = (
    4.76139832,
    1.689794,
    0.00615902954,
    -0.00456647464,
    0.00268129855,
    -0.00195267259,
    0.00177850767,
    -0.00110537755,
    0.000135948646,
    0.00011451181,
)
_CENTRE_64 = (
    2.2960351246249897,
    1.0251509839604236,
    -0.0730345378704927,
    -0.031928569457172346,
    0.022344528008762823,
    -0.004370048171255895,
    -0.001802123188193517,
    0.0013917531119746031,
    -0.00021979954058139954,
    -0.00015218362021914895,
    9.27604391006412e-05,
    -7.875225308868964e-06,
    -1.3023867393214196e-05,
    6.091606535878976e-06,
    4.231924623418524e-08,
    -1.084707371437863e-06,
    3.8537105790509895e-07,
    6.192122026581517e-08,
    -8.866579942167007e-08,
    1.284307995937556e-08,
    9.900079109210916e-09,
    -2.4698219805437623e-09,
    -4.2319102709554677e-10,
)
_TAIL_64 = (
    4.325373811275841,
    1.1018366435544966,
    0.004815035693813331,
    -0.002644987804779103,
    0.0013864226663450037,
    -0.0007277228350301258,
    0.00031206301011710405,
    -8.526902943501518e-05,
    1.3137230696987282e-06,
    1.1539140569261202e-05,
    -5.616309295746883e-06,
    9.79009148106823e-07,
    2.879831174633332e-07,
    -2.3525531400310866e-07,
    5.966452127710682e-08,
    4.633775113103771e-09,
    -7.953268632044083e-09,
    1.5766770565741046e-09,
    1.3551563596217102e-10,
)
_FAR_TAIL_64 = (
    7.338007016695129,
    1.9077232268164888,
    -0.0007829414988950894,
    -0.00044520529148619207,
    0.000222574760622283,
    -7.519458996983842e-05,
    2.2113917556624494e-05,
    -6.049296922453333e-06,
    1.5957294539622572e-06,
    -4.2994615385707016e-07,
    1.3881053371581432e-07,
    -6.840510773312774e-08,
    4.3474342953832525e-08,
    -2.4877521968403576e-08,
    1.6155187891451105e-08,
    -1.3231705047072059e-08,
    6.303579210716866e-09,
    -2.335086884749931e-10,
    -5.235112640520233e-10,
)
# fmt: on

Word = UInt32[Array, "..."] | np.uint32
Words = tuple[Word, Word]


def threefry2x32(key: Words, counter: Words) -> Words:
    """The block cipher Threefry-2x32 with 20 rounds, elementwise.

    Args:
        key: two uint32 arrays.
        counter: two uint32 arrays of a shape that the key's broadcast to.

    Returns:
        Two uint32 arrays: 64 random bits for each (key, counter).

    References:
        Salmon et al. (2011), section 3; known answers in the authors' Random123 library.
    """
    k0, k1 = key
    schedule = (k0, k1, k0 ^ k1 ^ jnp.uint32(0x1BD11BDA))
    x0, x1 = counter[0] + k0, counter[1] + k1
    for block in range(5):
        for rotation in (13, 15, 26, 6) if block % 2 == 0 else (17, 29, 16, 24):
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << jnp.uint32(rotation)) | (x1 >> jnp.uint32(32 - rotation)))
        x0 = x0 + schedule[(block + 1) % 3]
        x1 = x1 + schedule[(block + 2) % 3] + jnp.uint32(block + 1)
    return x0, x1


def standard_normal(words: Words, dtype: Any) -> Float[Array, "..."]:
    """Standard normals of `dtype`, float32 or float64, from 64 random bits each.

    Args:
        words: two uint32 arrays of one shape. A float32 normal uses the first alone.
        dtype: float32 or float64.
    """
    if dtype == jnp.float64:
        negative, magnitude = _magnitude_64(*words)
    else:
        negative, magnitude = _magnitude_32(words[0])
    return jnp.where(negative, -magnitude, magnitude)


def scaled(scale: Float[Array, ""], z: Float[Array, "..."]) -> Float[Array, "..."]:
    """``scale * z``, rounded to the same bits whatever it is then added to."""
    product = scale * jnp.abs(z)
    return jnp.where(z < 0, -product, product)


def _magnitude_32(word: Word) -> tuple[Array, Array]:
    mask = jnp.uint32(0x7FFFFFFF)
    k = jax.lax.bitcast_convert_type(word & mask, jnp.int32)
    complement = jax.lax.bitcast_convert_type(~word & mask, jnp.int32)
    twice_p = (k.astype(jnp.float32) + 0.5) * 2.0**-31
    x = (complement.astype(jnp.float32) + 0.5) * 2.0**-31
    w = _minus_log_32(twice_p * (1 + x))
    centre = _polynomial(_CENTRE_32, w, 0.0, 5.5)
    tail = _polynomial(_TAIL_32, jnp.sqrt(jnp.maximum(w, 5.5)), math.sqrt(5.5), math.sqrt(22.25))
    return word > mask, x * jnp.where(w < 5.5, centre, tail)


def _magnitude_64(high: Word, low: Word) -> tuple[Array, Array]:
    word = (high.astype(jnp.uint64) << jnp.uint64(32)) | low.astype(jnp.uint64)
    mask = jnp.uint64(0x7FFFFFFFFFFFFFFF)
    k = jax.lax.bitcast_convert_type(word & mask, jnp.int64)
    complement = jax.lax.bitcast_convert_type(~word & mask, jnp.int64)
    twice_p = (k.astype(jnp.float64) + 0.5) * 2.0**-63
    x = (complement.astype(jnp.float64) + 0.5) * 2.0**-63
    w = _minus_log_64(twice_p * (1 + x))
    root = jnp.sqrt(jnp.maximum(w, 6.0))
    centre = _polynomial(_CENTRE_64, w, 0.0, 6.0)
    tail = _polynomial(_TAIL_64, root, math.sqrt(6.0), 4.0)
    far_tail = _polynomial(_FAR_TAIL_64, root, 4.0, math.sqrt(44.5))
    return word > mask, x * jnp.where(w < 6.0, centre, jnp.where(w < 16.0, tail, far_tail))


def _minus_log_32(q: Float[Array, "..."]) -> Float[Array, "..."]:
    """-log(q) of a normal float32: q = 2^e m with m in [sqrt(1/2), sqrt(2))."""
    bits = jax.lax.bitcast_convert_type(q, jnp.int32)
    exponent = (bits - jnp.int32(0x3F3504F3)) >> jnp.int32(23)
    m = jax.lax.bitcast_convert_type(bits - (exponent << jnp.int32(23)), jnp.float32)
    rest = _polynomial(_LOG_32, m, math.sqrt(0.5), math.sqrt(2.0))
    return rest - exponent.astype(jnp.float32) * math.log(2.0)


def _minus_log_64(q: Float[Array, "..."]) -> Float[Array, "..."]:
    """-log(q) of a normal float64; log m = 2 artanh((m-1)/(m+1)), a series in its square."""
    bits = jax.lax.bitcast_convert_type(q, jnp.int64)
    exponent = (bits - jnp.int64(0x3FE6A09E667F3BCD)) >> jnp.int64(52)
    m = jax.lax.bitcast_convert_type(bits - (exponent << jnp.int64(52)), jnp.float64)
    s = (m - 1) / (m + 1)
    square = s * s
    series = jnp.full_like(square, 1 / 23)
    for power in range(21, 1, -2):
        series = series * square + 1 / power
    minus_log_m = -(s + s) - ((s + s) * square) * series
    return minus_log_m - exponent.astype(jnp.float64) * math.log(2.0)


def _polynomial(coefficients: tuple, v: Array, low: float, high: float) -> Float[Array, "..."]:
    """Horner's rule in u = (2v - low - high) / (high - low), which is in [-1, 1]."""
    u = v * (2 / (high - low)) - (high + low) / (high - low)
    result = jnp.full_like(u, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = result * u + coefficient
    return result


def block_length(shapes: list[tuple[int, ...]], steps: int) -> int:
    """For how many steps to draw at once a state of leaves of these shapes; 1: inside the step.

    Measured on CPU: a block wants 128 normals or more to fill the vector lanes, and a few steps to
    spread its own cost over, and to stay in the cache under `vmap` over thousands of samples.
    """
    sizes = [math.prod(shape) for shape in shapes]
    if max(sizes) >= 2**15 and all(shape and shape[-1] >= 32 for shape in shapes):
        return 1
    size = max(1, sum(sizes))
    length = max(128 // size, 4 if size <= 2**13 else 2)
    return length_near(length, steps)
