"""The cipher against its published answers, the normals against the transform they are made by.

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

from flowjax.solver import noise
from flowjax.solver.brownian import brownian_increments
from tests.conftest import enable_x64
from tests.solver.random_checks import (
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

# Digits of the reference.
_DIGITS = 40


def test_the_table_is_the_chebyshev_interpolant_that_its_module_derives():
    """To the 9 digits that are written; the nodes are rounded to float64, the rest is Decimal."""
    with localcontext() as context:
        context.prec = _DIGITS
        low, high = Decimal("0.5").sqrt() - 1, Decimal(2).sqrt() - 1
        count = len(noise._MINUS_LOG_32)
        angles = [math.pi * (2 * i + 1) / (2 * count) for i in range(count)]
        nodes = [(low + high + (high - low) * Decimal(math.cos(a))) / 2 for a in angles]
        divided = [-(1 + f).ln() / f for f in nodes]
        for order in range(1, count):
            for i in range(count - 1, order - 1, -1):
                divided[i] = (divided[i] - divided[i - 1]) / (nodes[i] - nodes[i - order])
        derived = [Decimal(0)] * count
        for i in range(count - 1, -1, -1):  # multiply by f - nodes[i], add divided[i]
            shifted = [Decimal(0), *derived[:-1]]
            derived = [s - nodes[i] * c for s, c in zip(shifted, derived, strict=True)]
            derived[0] += divided[i]
    np.testing.assert_allclose(noise._MINUS_LOG_32, [float(c) for c in derived], rtol=6e-9)


def pairs_of(first, second, dtype):
    """The two normals of each pair of words, as the cipher gives them."""
    z = jax.jit(noise._box_muller, static_argnums=2)(jnp.asarray(first), jnp.asarray(second), dtype)
    assert z.real.dtype == dtype
    return np.asarray(z.real, np.float64), np.asarray(z.imag, np.float64)


def test_float32_pairs_are_the_box_muller_transform_of_their_words():
    """Relative error at most 6e-7 (5 units in the last place), over strata and edges of 2^32."""
    first, second = words_of_all_sizes(32, 2**19)
    u = ((first >> np.uint32(1)).astype(np.float64) + 0.5) / 2.0**31
    angle = ((second << np.uint32(2)) | np.uint32(2)).view(np.int32) * (np.pi / 4 / 2.0**31)
    radius = np.sqrt(-2 * np.log(u))
    turned, opposite = second >= 2**31, second & np.uint32(2**30) != 0
    sign = np.where(opposite, -1.0, 1.0) * radius
    x = sign * np.where(turned, np.sin(angle), np.cos(angle))
    y = sign * np.where(turned, np.cos(angle), np.sin(angle))
    got_x, got_y = pairs_of(first, second, jnp.float32)
    np.testing.assert_allclose(got_x, x, rtol=6e-7)
    np.testing.assert_allclose(got_y, y, rtol=6e-7)
    assert radius.max() > 6.6
    assert radius.min() < 3e-5


def test_float64_pairs_are_the_box_muller_transform_of_their_words(x64):
    """Relative error at most 8 times 2^-53 against 40 digits."""
    first, second = words_of_all_sizes(64, 2**7)
    chosen = np.random.default_rng(5).choice(first.size, 400, replace=False)
    # The smallest and the largest radius, and the smallest angle.
    first = np.concatenate([np.array([0, 2**64 - 1, 5], np.uint64), first[chosen]])
    second = np.concatenate([np.array([7, 2**63, 0], np.uint64), second[chosen]])
    expected = [exact_pair(int(a), int(b)) for a, b in zip(first, second, strict=True)]
    got = zip(*pairs_of(first, second, jnp.float64), strict=True)
    errors = [
        abs(float(Decimal(float(z)) / exact - 1))
        for pair, exact_of_pair in zip(got, expected, strict=True)
        for z, exact in zip(pair, exact_of_pair, strict=True)
    ]
    assert max(errors) < 8 * 2.0**-53


def exact_pair(first, second):
    """The two normals of two 64-bit words, to 40 digits."""
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620")
    with localcontext() as context:
        context.prec = _DIGITS
        u = (Decimal(first >> 1) + Decimal("0.5")) / 2**63
        integer = ((second << 2) | 2) % 2**64
        angle = Decimal(integer - 2**64 if integer >= 2**63 else integer) * pi / 4 / 2**63
        sine, cosine, term = Decimal(0), Decimal(0), Decimal(1)
        for order in range(40):
            signed = -term if order % 4 >= 2 else term
            sine, cosine = (sine + signed, cosine) if order % 2 else (sine, cosine + signed)
            term *= angle / (order + 1)
        x, y = (sine, cosine) if second >= 2**63 else (cosine, sine)
        radius = (-2 * u.ln()).sqrt() * (-1 if second & 2**62 else 1)
        return radius * x, radius * y


def words_of_all_sizes(bits, count):
    """Two words of `bits` bits each: strata of the range and its edges, paired at random.

    The edges are the smallest and the largest words, and those about each power of two.
    """
    unsigned = np.dtype(f"uint{bits}")
    generator = np.random.default_rng(2)
    stratum = 2**bits // count
    strata = np.arange(count, dtype=np.uint64) * np.uint64(stratum)
    strata = strata + generator.integers(0, stratum, count, np.uint64)
    centres = [0, 2**bits, *(2**power for power in range(bits))]
    edges = [(centre + i) % 2**bits for centre in centres for i in range(-50, 50)]
    words = np.unique(np.concatenate([strata, np.array(edges, np.uint64)])).astype(unsigned)
    return words, generator.permutation(words)


# --- many normals, through the public function ----------------------------------------------------


@pytest.fixture(scope="module", params=["float32", "float64"])
def normals(request):
    """10 * 2^20 normals: increments over steps of length one."""
    with enable_x64(request.param == "float64"):
        ts = jnp.arange(129, dtype=request.param)
        like = jnp.zeros(1024, request.param)
        z = jax.vmap(lambda key: brownian_increments(key, ts, like))(keys_of("normals", 80))
        assert z.dtype == request.param
        return np.asarray(z).ravel()


def check_moments(z):
    """Moments 1 to 8, each by the exact standard error of its estimate. False alarm: 5e-6."""
    z = z.astype(np.float64)
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
    uniform = special.ndtr(normals[: 3 * 2**20].astype(np.float64)).reshape(3, -1)
    planted = (2 * uniform.sum(axis=0) - 3, 1.01 * normals)
    arguments = ("planted",) if check is assert_standard_normal else ()
    for wrong in planted:
        with pytest.raises(AssertionError):
            check(wrong, *arguments)


def test_every_bit_of_the_mantissa_is_random(normals):
    """The 8 last bits of 2^20 normals are uniform. False alarm: 5.7e-7."""
    low = normals[: 2**20].view(f"uint{8 * normals.itemsize}").astype(np.uint8)
    chance = stats.chisquare(np.bincount(low, minlength=256)).pvalue
    assert chance > FALSE_ALARM
