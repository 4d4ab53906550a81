"""Standard normals by counter: the one clever module of the solver.

Normals come in pairs: the pair (i, element) of a path is for steps 2i and 2i + 1, a pure function
of (key, i, element) and nothing else. It takes three parts:

1. **Bits.** Threefry-2x32 with its full 20 rounds (Salmon et al. 2011): a bijection of the
   64-bit counter (pair, element) under the 64-bit key, so distinct counters never collide. The
   rounds are written out, which XLA turns into straight vector code with nothing stored.

2. **Two normals from the bits** by Box and Muller's transform: with u and v uniform on (0, 1),

       r = sqrt(-2 log u),    (r cos(2 pi v), r sin(2 pi v))

   are two independent standard normals, exactly. The first word gives u = (k + 1/2) / 2^m, k its
   leading m bits (31 for float32, 63 for float64), which reaches |z| = sqrt(2 (m + 1) log 2), 6.7
   and 9.4. Near u = 1, where the logarithm vanishes, it is computed from 1 - u = (k' + 1/2) / 2^m,
   with k' the complement of k: both are rounded from integers, so that r keeps its relative
   precision at both ends. The top two bits of the second word are the quadrant, the rest an angle
   in (-pi/4, pi/4), where sine and cosine are short Taylor series.

3. **The same bits of the result wherever it is compiled.** XLA's own `log`, `sin` and `cos` give
   other last bits in a vectorised loop than in its scalar remainder, and a compiler may contract a
   product and a sum to one rounding in one place and not in another. So they are written out
   here; every sum has one product at most, which leaves one way to contract it; and the last
   operation on a normal, and on a scaled one, is the choice of its sign, through which no
   product can be contracted into what the caller adds it to. Where a compiler contracts nothing
   (no fused multiply-add, optimisation level 0) the last bits are others.

A pair is the real and the imaginary part of one complex number. XLA on CPU repeats what two
results have in common for each of them, which for two arrays would be all of the cipher; a complex
array is one result. It makes a normal cost half a cipher, 2.4 times as fast as one normal from
each cipher block by the inverse distribution function.

How the loop asks for them decides their speed too. XLA on CPU computes elementwise work in a nest
of loops over the shape it is written to, and vectorises the innermost: a last axis of one to three
elements costs ten times what a flat array does. So normals are drawn flat, for a block of steps at
once (`block_length`), and each step slices its own out of the block: the block is an operand of the
inner loop over its steps, which keeps XLA from fusing the drawing into a nest of the state's
shape. All of it is the same pure function of (key, step, element), whatever the blocks.

Derivation of the table: the Chebyshev interpolant of -log(1 + f) / f at its own nodes on
[sqrt(1/2) - 1, sqrt(2) - 1], in powers of f; relative error 6e-8. The tests derive it again.

References:
    Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC11.
    Box, Muller (1958), "A note on the generation of random normal deviates", Ann. Math. Stat. 29.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, UInt32

from flowjax.solver.blocks import length_near

_MINUS_LOG_32 = (
    -0.999999974,
    0.499999964,
    -0.333341933,
    0.250013522,
    -0.199559334,
    0.165779929,
    -0.149774013,
    0.142692582,
    -0.0853331308,
)

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


def normal_pairs(path: Words, pair: Word, element: Word, dtype: Any) -> Complex[Array, "..."]:
    """The standard normals of steps 2 * pair (real part) and 2 * pair + 1 (imaginary part).

    Args:
        path: the two words of the path's key.
        pair: uint32, less than 2^31.
        element: uint32, of the same shape.
        dtype: of the normals, float32 or float64.

    Returns:
        A complex array of that precision.
    """
    words = threefry2x32(path, (pair, element))
    if dtype == jnp.float64:
        second = threefry2x32(path, (pair | jnp.uint32(1 << 31), element))
        words = _joined(*words), _joined(*second)
    return _box_muller(*words, dtype)


def scaled(scale: Float[Array, ""], z: Float[Array, "..."]) -> Float[Array, "..."]:
    """``scale * z``, rounded to the same bits whatever it is then added to."""
    return _with_sign(z < 0, scale * jnp.abs(z))


def _box_muller(first: Any, second: Any, dtype: Any) -> Complex[Array, "..."]:
    """Two normals of `dtype` from two words of its width."""
    bits = jnp.finfo(dtype).bits
    unsigned, signed = first.dtype.type, jnp.dtype(f"int{bits}").type
    radius = _radius(jax.lax.bitcast_convert_type(first >> unsigned(1), signed), dtype)

    angle = jax.lax.bitcast_convert_type((second << unsigned(2)) | unsigned(2), signed)
    a = angle.astype(dtype) * (math.pi / 4 * 2.0 ** (1 - bits))
    terms = 5 if bits == 32 else 10
    square = a * a
    sine = a * _power_series(
        [1 / math.factorial(2 * i + 1) * (-1) ** i for i in range(terms)], square
    )
    cosine = _power_series([1 / math.factorial(2 * i) * (-1) ** i for i in range(terms)], square)

    turned, opposite = second >> unsigned(bits - 1) != 0, second & unsigned(1 << (bits - 2)) != 0
    x, y = jnp.where(turned, sine, cosine), jnp.where(turned, cosine, sine)
    return jax.lax.complex(
        _with_sign((x < 0) ^ opposite, radius * jnp.abs(x)),
        _with_sign((y < 0) ^ opposite, radius * jnp.abs(y)),
    )


def _radius(k: Array, dtype: Any) -> Float[Array, "..."]:
    """sqrt(-2 log u) for u = (k + 1/2) / 2^m, where m is the number of bits of the integer k."""
    bits, digits = jnp.finfo(dtype).bits, jnp.finfo(dtype).nmant
    signed = k.dtype.type
    u = (k.astype(dtype) + 0.5) * 2.0 ** (1 - bits)
    one_minus_u = ((k ^ signed(jnp.iinfo(signed).max)).astype(dtype) + 0.5) * 2.0 ** (1 - bits)
    # u = 2^exponent (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
    u = jax.lax.bitcast_convert_type(u, signed)
    root_half = np.asarray(math.sqrt(0.5), dtype).view(signed)
    exponent = (u - root_half) >> signed(digits)
    f = jax.lax.bitcast_convert_type(u - (exponent << signed(digits)), dtype) - 1
    f = jnp.where(exponent == 0, -one_minus_u, f)
    if bits == 32:
        minus_log = f * _power_series(_MINUS_LOG_32, f)
    else:
        # log(1 + f) = 2 artanh(s), a series in s^2.
        s = f / (2 + f)
        square = s * s
        odd = _power_series([1 / (2 * i + 3) for i in range(11)], square)
        minus_log = -(s + s) - ((s + s) * square) * odd
    # The choice keeps the product from being contracted into a sum that has one already.
    minus_log = minus_log + jnp.where(exponent == 0, 0.0, exponent.astype(dtype) * -math.log(2.0))
    return jnp.sqrt(minus_log + minus_log)


def _power_series(coefficients: Sequence[float], v: Array) -> Float[Array, "..."]:
    """The polynomial with these coefficients, the constant one first, by Horner's rule."""
    result = jnp.full_like(v, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = result * v + coefficient
    return result


def _with_sign(negative: Array, magnitude: Array) -> Float[Array, "..."]:
    return jnp.where(negative, -magnitude, magnitude)


def _joined(upper: Word, lower: Word) -> Array:
    return (upper.astype(jnp.uint64) << jnp.uint64(32)) | lower.astype(jnp.uint64)


def opaque(words: UInt32[Array, " words"]) -> UInt32[Array, " words"]:
    """The same words, which the compiler does not know even where they are constants.

    LLVM unrolls a loop over few normals, and what it knows it computes itself, without contracting
    a product and a sum as its code does. XLA hands scalar constants to LLVM, and so it does an
    arithmetic progression, as any two words are; another array it keeps in memory.
    """
    padded = jax.lax.optimization_barrier(jax.lax.pad(words, jnp.uint32(0x666C6F77), [(0, 2, 0)]))
    return padded[: words.size]


def whole_vectors(count: Any) -> Any:
    """How many normals to draw at once where `count` are needed.

    The next multiple of 8, or of 16 from 512 on, where LLVM unrolls more. What is left over from
    whole vectors goes through a second, scalar loop: it takes 5 to 60 percent of the time of a
    block of few steps under `vmap`, and its cipher four times as long to compile as all the rest.
    """
    unit = 8 if isinstance(count, int) and count < 512 else 16
    return -(-count // unit) * unit


def block_length(shapes: list[tuple[Any, ...]], steps: int) -> int:
    """For how many steps to draw at once a state of leaves of these shapes: 4 to 256, or all.

    Measured on CPU: some thousand pairs hide what a block costs by itself, more than 64
    pairs of steps gain nothing and take memory under `vmap`, and a block of one pair of steps is
    half as fast as one of two to five.
    """
    size = max(1, sum(math.prod(shape) for shape in shapes))
    # Of a symbolic size (`jax.export`), which may be large, the fewest.
    pairs = min(max(8192 // size, 3), 64) if isinstance(size, int) else 3
    return min(2 * length_near(pairs, -(-steps // 2)), steps)
