"""The work that all contenders do: fields, sizes, and what the right answer is.

Time runs from 0 to 1 in equal steps, and everything is float32. A field is written once, in
operators that JAX, torch and NumPy share, so the oracle is a float64 loop in NumPy over the same
formula.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

SEED = 20
THETA = 0.7
SIGMA = 0.5

# Shape of the state and number of steps; in the vmapped cases, how many keys.
NOISE_SHAPES = (((1,), 1000), ((2,), 1000), ((64, 2), 1000), ((4096, 2), 1000), ((64, 3072), 100))
# Elements of a state, motions that drive it through a matrix, steps, and keys.
MATRICES = ((2, 8, 1000, 4096), (64, 64, 1000, 64), (512, 512, 200, None))
KEYS = {(1,): 4096, (2,): 4096, (64, 2): 64, (4096, 2): 2, (64, 3072): 2}


class Problem(NamedTuple):
    """One piece of work.

    Args:
        name: what it is called in the table.
        make_field: ``silu -> field``, with ``field(t, x, args) -> dx``.
        x0: the initial state.
        args: what is differentiated besides x0.
        steps: how many steps.
        flops: the arithmetic of one field call and one step.
        keys: how many samples, each with a key of its own, or None for a single key (SDEs only).
        matrix: the diffusion, of an SDE whose noise is not that of each element.
    """

    name: str
    make_field: Callable[[Callable], Callable]
    x0: np.ndarray
    args: Any
    steps: int
    flops: int
    keys: int | None = None
    matrix: np.ndarray | None = None

    @property
    def motions(self) -> tuple[int, ...]:
        """The shape of the noise: the state's, where it multiplies elementwise."""
        return self.x0.shape if self.matrix is None else self.matrix.shape[1:]

    @property
    def field(self) -> Callable:
        """The field for JAX."""
        return self.make_field(jax.nn.silu)

    @property
    def ts(self) -> np.ndarray:
        """The (n + 1,) times."""
        return np.linspace(0, 1, self.steps + 1, dtype=np.float32)

    def work(self, passes: int = 1) -> dict[str, int]:
        """Arithmetic and traffic of `passes` sweeps: each step reads and writes the state."""
        samples = self.keys or 1
        return {
            "flops": passes * samples * self.steps * self.flops,
            "bytes": passes * samples * self.steps * 2 * self.x0.nbytes,
        }


def linear(shape: tuple[int, ...], steps: int, keys: int | None = None) -> Problem:
    """dx = -theta x, on a state of `shape`."""
    kind = "scalar linear" if shape == () else "linear"
    x0 = np.random.default_rng(SEED).uniform(0.5, 1.5, shape).astype(np.float32)
    return Problem(
        _name(kind, shape, steps),
        _linear,
        np.asarray(x0, np.float32),
        np.float32(THETA),
        steps,
        flops=4 * x0.size,
        keys=keys,
    )


def mlp(batch: int, steps: int, width: int = 128, depth: int = 3) -> Problem:
    """A perceptron with `depth` hidden layers that sees the time, on a state (batch, 2)."""
    random = np.random.default_rng(SEED)
    sizes = [3, *[width] * depth, 2]
    args = [
        tuple(
            (scale * random.standard_normal(shape)).astype(np.float32)
            for scale, shape in ((fan_in**-0.5, (fan_in, fan_out)), (0.1, (1, fan_out)))
        )
        for fan_in, fan_out in itertools.pairwise(sizes)
    ]
    x0 = random.standard_normal((batch, 2)).astype(np.float32)
    flops = batch * (2 * sum(a * b for a, b in itertools.pairwise(sizes)) + 4)
    return Problem(_name(f"MLP {depth}x{width}", (batch, 2), steps), _mlp, x0, args, steps, flops)


def forward_problems() -> list[Problem]:
    """Euler's method; their gradients are taken too."""
    return [linear((), 1000), linear((4096, 2), 1000), mlp(256, 200), mlp(4096, 50)]


def noise_problems(vmapped: bool) -> list[Problem]:
    """Euler-Maruyama on a linear drift, with one key or a batch of them."""
    problems = []
    for shape, steps in NOISE_SHAPES:
        keys = KEYS[shape] if vmapped else None
        name = _name(f"{keys} keys" if vmapped else "one key", shape, steps)
        problems.append(linear(shape, steps, keys)._replace(name=name))
    return problems


def matrix_problems() -> list[Problem]:
    """The same, driven by a matrix of orthogonal rows: the moments are those of SIGMA."""
    problems = []
    for elements, motions, steps, keys in MATRICES:
        square = np.random.default_rng(SEED).standard_normal((motions, motions))
        rows = np.float32(SIGMA * np.linalg.qr(square)[0][:elements])
        samples = "one key" if keys is None else f"{keys} keys"
        name = f"matrix {rows.shape}, {samples}, n={steps}"
        problem = linear((elements,), steps, keys)
        flops = problem.flops + 2 * rows.size
        problems.append(problem._replace(name=name, matrix=rows, flops=flops))
    return problems


def end_state(problem: Problem, x0: np.ndarray | None = None, args: Any = None) -> np.ndarray:
    """X at time 1 by Euler's method, in a NumPy float64 loop."""
    field = problem.make_field(lambda a: a / (1 + np.exp(-a)))
    x = np.asarray(problem.x0 if x0 is None else x0, np.float64)
    args = _float64(problem.args if args is None else args)
    for i in range(problem.steps):
        x = x + field(i / problem.steps, x, args) / problem.steps
    return x


def slope(problem: Problem, direction: Any, epsilon: float = 1e-5) -> float:
    """The derivative of the sum of squares of X at 1 along a direction in (x0, args).

    A central difference in float64, whose error is near 1e-9.
    """

    def loss(sign: int) -> float:
        x0, args = jax.tree.map(
            lambda leaf, v: np.asarray(leaf, np.float64) + sign * epsilon * v,
            (problem.x0, problem.args),
            direction,
        )
        return float(np.sum(end_state(problem, x0, args) ** 2))

    return (loss(1) - loss(-1)) / (2 * epsilon)


def moments(problem: Problem) -> tuple[np.ndarray, float]:
    """Mean and variance of X at 1 by Euler-Maruyama, for constant noise on the linear drift."""
    n = problem.steps
    r = 1 - THETA / n
    return problem.x0 * r**n, SIGMA**2 / n * (1 - r ** (2 * n)) / (1 - r**2)


def _linear(silu: Callable) -> Callable:
    del silu
    return lambda t, x, args: -args * x


def _mlp(silu: Callable) -> Callable:
    def field(t: Any, x: Any, args: Sequence) -> Any:
        # The first layer acts on (x, t): the last row of its weights is that of t.
        (weights, bias), *hidden, (last, last_bias) = args
        h = silu(x @ weights[:2] + t * weights[2:] + bias)
        for weights, bias in hidden:
            h = silu(h @ weights + bias)
        return h @ last + last_bias

    return field


def _float64(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def _name(kind: str, shape: tuple[int, ...], steps: int) -> str:
    size = "" if shape == () else f" {shape}".replace(",)", ")")
    return f"{kind}{size}, n={steps}"
