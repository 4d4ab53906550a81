"""The raw random words of flowjax's noise, as bytes on the standard output, without an end.

``python tools/random_stream.py path | dieharder -g 200 -d 0`` runs a test of the dieharder battery
on them; ``tools/dieharder.sh`` runs all of them. The order of the words is

- ``path``: one Brownian path of a state of 4096 elements, pair of steps after pair of steps;
- ``keys``: the first pair of steps of a state of two elements, one key after the other; the keys
  are those that ``jax.random.fold_in`` makes of one.
"""

import sys

import jax
import jax.numpy as jnp

from flowjax.solver.brownian import path_key
from flowjax.solver.noise import Words, threefry2x32

_WORDS = 2**22


def along_a_path(block: jax.Array) -> jax.Array:
    """The words of one key: 512 pairs of steps of 4096 elements."""
    index = jnp.arange(_WORDS // 2, dtype=jnp.uint32)
    pair = block * jnp.uint32(_WORDS // 2 // 4096) + index // jnp.uint32(4096)
    return _in_turn(threefry2x32(path_key(jax.random.key(0)), (pair, index % jnp.uint32(4096))))


def across_keys(block: jax.Array) -> jax.Array:
    """The words of the first pair of steps of 2^20 keys, two elements each."""
    sample = block * jnp.uint32(_WORDS // 4) + jnp.arange(_WORDS // 4, dtype=jnp.uint32)
    keys = jax.vmap(lambda i: path_key(jax.random.fold_in(jax.random.key(0), i)))(sample)
    keys = (jnp.asarray(keys[0])[:, None], jnp.asarray(keys[1])[:, None])
    element = jnp.broadcast_to(jnp.arange(2, dtype=jnp.uint32), (_WORDS // 4, 2))
    return _in_turn(threefry2x32(keys, (jnp.zeros_like(element), element)))


def _in_turn(words: Words) -> jax.Array:
    return jnp.stack(words, axis=-1).reshape(-1)


def main(order: str) -> None:
    """Writes blocks of words until the reader has had enough."""
    words = jax.jit({"path": along_a_path, "keys": across_keys}[order])
    block = 0
    try:
        while True:
            sys.stdout.buffer.write(jax.device_get(words(jnp.uint32(block))).tobytes())
            block += 1
    except BrokenPipeError:
        sys.stderr.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
