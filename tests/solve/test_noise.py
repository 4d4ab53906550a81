"""The cipher against its published answers, the normals against the inverse distribution function.

Only this file knows how the normals are made; that they name a Brownian path is in
test_brownian.py.
"""

import math
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from flowjax.solve import brownian_increments, noise
from tests.solve.random_checks import (
    FALSE_ALARM,
    assert_near,
    assert_standard_normal,
    key_of,
    keys_of,
)

# --- the cipher -----------------------------------------------------------------------------------


def encipher(key, counter):
    words = noise.threefry2x32(
        tuple(jnp.asarray(word, jnp.uint32) for word in key),
        tuple(jnp.asarray(word, jnp.uint32) for word in counter),
    )
    return tuple(np.asarray(word) for word in words)


@pytest.mark.parametrize(
    ("key", "counter", "answer"),
    [
        ((0x0, 0x0), (0x0, 0x0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_the_cipher_gives_the_published_known_answers(key, counter, answer):
    """The file kat_vectors of Random123, the library of Salmon et al. (2011)."""
    assert encipher(key, counter) == answer


def test_the_cipher_is_the_one_of_jax_bit_for_bit():
    """Public relations: fold_in enciphers (0, data), and bits xors the words of (0, position)."""
    keys = jax.random.split(key_of("cipher"), 1000)
    words = np.asarray(jax.random.key_data(keys)).T
    data = np.random.default_rng(0).integers(0, 2**32, 1000, np.uint32)

    folded = np.asarray(jax.random.key_data(jax.vmap(jax.random.fold_in)(keys, data)))
    np.testing.assert_array_equal(np.stack(encipher(words, (np.zeros_like(data), data)), 1), folded)

    position = np.arange(1000, dtype=np.uint32)
    first, second = encipher(words[:, :1], (np.zeros_like(position), position))
    with jax.threefry_partitionable(True):
        bits = jax.random.bits(keys[0], (1000,), jnp.uint32)
    np.testing.assert_array_equal(first ^ second, bits)


def test_the_cipher_follows_its_paper_on_random_blocks():
    """Sections 3 and 4 of Salmon et al. with Python's integers, for keys and counters at large."""

    def rotate(word, by):
        return (word << by | word >> (32 - by)) % 2**32

    def reference(key, counter):
        schedule = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
        left, right = ((c + k) % 2**32 for c, k in zip(counter, key, strict=True))
        for i in range(20):
            left = (left + right) % 2**32
            right = rotate(right, (13, 15, 26, 6, 17, 29, 16, 24)[i % 8]) ^ left
            if i % 4 == 3:
                s = i // 4 + 1
                left = (left + schedule[s % 3]) % 2**32
                right = (right + schedule[(s + 1) % 3] + s) % 2**32
        return left, right

    blocks = np.random.default_rng(1).integers(0, 2**32, (4, 100), np.uint32)
    expected = [reference(block[:2], block[2:]) for block in blocks.T.tolist()]
    np.testing.assert_array_equal(np.stack(encipher(blocks[:2], blocks[2:]), 1), expected)


# --- the normals from the bits --------------------------------------------------------------------

# Digits of the reference; the smallest tail probability is 2^-65.
_DIGITS = 60


def upper_tail(z):
    """1 - Phi(z) and the density at z >= 0, by the series of all positive terms.

    Phi(z) = 1/2 + phi(z) (z + z^3/3 + z^5/(3 5) + ...); Abramowitz and Stegun 26.2.11.
    """
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620")
    density = (-z * z / 2).exp() / (2 * pi).sqrt()
    term = total = z
    odd = 3
    while term > total * Decimal(10) ** -_DIGITS:
        term *= z * z / odd
        total += term
        odd += 2
    return Decimal(1) / 2 - density * total, density


def upper_quantile(p):
    """The z >= 0 with 1 - Phi(z) = p, for a Decimal p, by Newton's method from SciPy's."""
    z = Decimal(-float(special.ndtri(float(p))))
    for _ in range(3):
        tail, density = upper_tail(z)
        z += (tail - p) / density
    return z


def interpolant(function, low, high, count):
    """Coefficients in u in [-1, 1] of the interpolant of `function` at `count` Chebyshev nodes.

    The nodes are rounded to float64, which moves an interpolant by a rounding of its own error.
    """
    nodes = [Decimal(math.cos(math.pi * (2 * i + 1) / (2 * count))) for i in range(count)]
    divided = [function((u * (high - low) + high + low) / 2) for u in nodes]
    for order in range(1, count):
        for i in range(count - 1, order - 1, -1):
            divided[i] = (divided[i] - divided[i - 1]) / (nodes[i] - nodes[i - order])
    coefficients = [Decimal(0)] * count
    for i in range(count - 1, -1, -1):  # multiply by u - nodes[i], add divided[i]
        shifted = [Decimal(0), *coefficients[:-1]]
        coefficients = [s - nodes[i] * c for s, c in zip(shifted, coefficients, strict=True)]
        coefficients[0] += divided[i]
    return coefficients


def ratio(w):
    """F(w) = Phi^-1(1 - p) / x with w = -log(4 p (1 - p)) and x = 1 - 2 p."""
    x = (1 - (-w).exp()).sqrt()
    return upper_quantile((1 - x) / 2) / x


def root(value):
    return Decimal(value).sqrt()


@pytest.mark.parametrize(
    ("table", "function", "low", "high"),
    [
        ("_LOG_32", lambda m: -m.ln(), root("0.5"), root("2")),
        ("_CENTRE_32", ratio, Decimal(0), Decimal("5.5")),
        ("_TAIL_32", lambda s: ratio(s * s), root("5.5"), root("22.25")),
        ("_CENTRE_64", ratio, Decimal(0), Decimal(6)),
        ("_TAIL_64", lambda s: ratio(s * s), root("6"), Decimal(4)),
        ("_FAR_TAIL_64", lambda s: ratio(s * s), Decimal(4), root("44.5")),
    ],
)
def test_a_table_is_the_chebyshev_interpolant_that_its_module_derives(table, function, low, high):
    """To the 9 digits written for float32; for float64 to a few units in the last place.

    What is left of the latter is the rounding of the nodes in `interpolant`.
    """
    coefficients = getattr(noise, table)
    with localcontext() as context:
        context.prec = _DIGITS + 20
        derived = interpolant(function, low, high, len(coefficients))
    tolerance = 6e-9 if table.endswith("32") else 2e-15
    np.testing.assert_allclose(coefficients, [float(c) for c in derived], rtol=tolerance)


def stratified_words(bits, count):
    """Words of `bits` bits: one from each of `count` strata, and the edges of the range.

    The edges are the words of the smallest and the largest tail probabilities of either sign, and
    those about each power of two.
    """
    stratum = 2**bits // count
    offset = np.random.default_rng(2).integers(0, stratum, count, np.uint64)
    strata = np.arange(count, dtype=np.uint64) * np.uint64(stratum) + offset
    centres = [0, 2**bits, *(2**power for power in range(bits))]
    edges = [(centre + i) % 2**bits for centre in centres for i in range(-100, 100)]
    return np.unique(np.concatenate([strata, np.array(edges, np.uint64)]))


def normals_of(words, dtype):
    """Standard normals of 64-bit words; a float32 normal comes from the upper half."""
    upper, lower = (words >> np.uint64(32)).astype(np.uint32), words.astype(np.uint32)
    z = jax.jit(noise.standard_normal, static_argnums=1)((upper, lower), dtype)
    assert z.dtype == dtype
    return np.asarray(z, np.float64)


def test_float32_normals_are_the_quantiles_of_their_words():
    """Relative error at most 4e-7 (3.4 units in the last place), over strata and edges of 2^32."""
    words = stratified_words(32, 2**20)
    sign = np.where(words >= 2**31, -1.0, 1.0)
    k = (words % 2**31).astype(np.float64)
    expected = -sign * special.ndtri((k + 0.5) / 2**32)
    z = normals_of(words << np.uint64(32), jnp.float32)
    np.testing.assert_allclose(z, expected, rtol=4e-7)
    assert expected.max() > 6.3
    assert np.abs(expected).min() < 1e-9


def test_float32_normals_do_not_depend_on_the_second_word():
    words = np.random.default_rng(3).integers(0, 2**64, 1000, np.uint64)
    changed = words ^ np.uint64(0xFFFFFFFF)
    np.testing.assert_array_equal(normals_of(words, jnp.float32), normals_of(changed, jnp.float32))


def test_float64_normals_are_the_quantiles_of_their_words(x64):
    """Relative error at most 2e-15 against SciPy, whose own error is a good part of it."""
    words = stratified_words(64, 2**17)
    sign = np.where(words >= np.uint64(2**63), -1.0, 1.0)
    k = words % np.uint64(2**63)
    p = (k.astype(np.float64) + 0.5) / 2.0**64
    x = ((np.uint64(2**63 - 1) - k).astype(np.float64) + 0.5) / 2.0**63
    # Close to the median 1 - 2p is what float64 holds, elsewhere p.
    expected = sign * np.where(p < 0.25, -special.ndtri(p), np.sqrt(2) * special.erfinv(x))
    np.testing.assert_allclose(normals_of(words, jnp.float64), expected, rtol=2e-15)
    assert expected.max() > 9.1
    assert np.abs(expected).min() < 1e-18


def test_float64_normals_are_exact_to_five_roundings(x64):
    """Against 60 digits, from the smallest probability to the largest: 5 times 2^-53."""
    k = np.unique(np.geomspace(1, 2**63 - 2048, 100).astype(np.uint64))
    k = np.concatenate([np.uint64([0]), k, np.uint64(2**63 - 1) - k[:-1:3], [np.uint64(2**63 - 1)]])
    z = normals_of(k, jnp.float64)
    with localcontext() as context:
        context.prec = _DIGITS + 20
        exact = [upper_quantile((Decimal(int(i)) + Decimal("0.5")) / 2**64) for i in k]
        error = [float(Decimal(float(got)) / want - 1) for got, want in zip(z, exact, strict=True)]
    assert np.max(np.abs(error)) < 5 * 2.0**-53


# --- many normals, through the public function ----------------------------------------------------


@pytest.fixture(scope="module")
def normals():
    """2^23 normals: increments over steps of length one."""
    ts = jnp.arange(129, dtype=jnp.float32)
    draw = jax.vmap(lambda key: brownian_increments(key, ts, jnp.zeros(1024)))
    z = draw(keys_of("normals", 64))
    return np.asarray(z, np.float64).ravel()


def check_moments(z):
    """Moments 1 to 8, each by the exact standard error of its estimate. False alarm: 5e-6."""
    power = np.ones_like(z)
    for order in range(1, 9):
        power *= z
        moment, second = (_normal_moment(m) for m in (order, 2 * order))
        error = math.sqrt((second - moment**2) / z.size)
        assert_near(power.mean(), moment, error, f"moment {order}")


def _normal_moment(order):
    return math.prod(range(1, order, 2)) if order % 2 == 0 else 0


def check_tails(z):
    """Counts beyond one to five sigma on either side, as binomial numbers. False alarm: 6e-6."""
    for sigma in range(1, 6):
        for side in (-1, 1):
            law = stats.binom(z.size, special.ndtr(-sigma))
            count = np.count_nonzero(side * z > sigma)
            chance = 2 * min(law.cdf(count), law.sf(count - 1))
            if not chance > FALSE_ALARM:
                raise AssertionError(f"{count} of {z.size} beyond {side * sigma}: {chance:.2g}")


def test_many_normals_have_the_moments_of_the_normal_law(normals):
    check_moments(normals)


def test_many_normals_have_the_tails_of_the_normal_law(normals):
    check_tails(normals)


def test_many_normals_pass_the_kolmogorov_smirnov_test(normals):
    """False alarm: 5.7e-7."""
    assert_standard_normal(normals, "increments over steps of one")


@pytest.mark.parametrize("check", [check_moments, check_tails, assert_standard_normal])
def test_a_wrong_law_is_caught(check, normals):
    """A sum of three uniforms (its tails end at three), and a standard deviation off by 1 %."""
    uniform = special.ndtr(normals[: 3 * 2**20]).reshape(3, -1)
    planted = (2 * uniform.sum(axis=0) - 3, 1.01 * normals)
    arguments = ("planted",) if check is assert_standard_normal else ()
    for wrong in planted:
        with pytest.raises(AssertionError):
            check(wrong, *arguments)


def test_every_bit_of_the_mantissa_is_random(normals):
    """The 8 last bits of 2^20 float32 normals are uniform. False alarm: 5.7e-7."""
    low = normals[: 2**20].astype(np.float32).view(np.uint32) & np.uint32(0xFF)
    chance = stats.chisquare(np.bincount(low, minlength=256)).pvalue
    assert chance > FALSE_ALARM
