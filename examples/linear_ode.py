"""A linear ODE by Euler's method, beside its closed form.

    dx/dt = -theta x,     x(t) = x_0 exp(-theta t)

Euler's method on n steps ends at x_0 (1 - theta / n)^n. Its error is of the predicted size, and
halves when the step does. The script prints both, draws a path and the field of a plane, and exits
with an error if the error does not halve.

    python examples/linear_ode.py pictures
"""

import itertools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import flowjax as fj
from flowjax import plot

THETA, X0 = 2.0, jnp.linspace(-2.0, 2.0, 9)


def main(out="out", step=fj.euler):
    print("Linear ODE dx/dt = -2 x by Euler's method, at t = 1\n")
    print("   steps   largest error   first-order theory   error ratio")
    exact, errors = fj.linear_flow(1.0, X0, THETA), []
    for n in (100, 200, 400):
        x1 = fj.solve(fj.linear_field, X0, fj.uniform_grid(n), args=THETA, step=step)
        errors.append(float(jnp.max(jnp.abs(x1 - exact))))
        # The leading term of x_0 (exp(-theta) - (1 - theta/n)^n), greatest at |x_0| = 2.
        theory = 2.0 * THETA**2 / (2 * n) * np.exp(-THETA)
        ratio = f"{errors[-2] / errors[-1]:.3f}" if len(errors) > 1 else ""
        print(f"   {n:5}   {errors[-1]:13.2e}   {theory:18.2e}   {ratio:>11}")

    figure = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    draw(*figure.subplots(1, 2))
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{out}/linear_ode.png")
    print(f"\nPicture: {out}/linear_ode.png\n")
    if not all(1.9 < coarse / fine < 2.1 for coarse, fine in itertools.pairwise(errors)):
        sys.exit("FAILED: Euler's error does not halve with the step")


def draw(left, right):
    """Nine paths beside the closed form, and a field of the plane with three of its paths."""
    ts = fj.uniform_grid(20)
    plot.trajectories(
        ts,
        fj.trajectory(fj.linear_field, X0, ts, args=THETA).T,
        exact=jax.vmap(fj.linear_flow, in_axes=(0, None, None))(ts, X0, THETA).T,
        ax=left,
        title="dx/dt = −2x: Euler with 20 steps and the closed form",
    )
    rates, corners = jnp.array([1.0, 3.0]), jnp.array([[2.0, 2.0], [-1.0, 2.0], [-2.0, -1.0]])
    ts = fj.uniform_grid(100, 0.0, 2.0)
    plot.vector_field(
        fj.linear_field,
        args=rates,
        paths=jax.vmap(lambda x: fj.trajectory(fj.linear_field, x, ts, args=rates))(corners),
        ax=right,
        title="the field (−x₁, −3x₂) and three of its trajectories",
    )


if __name__ == "__main__":
    main(*sys.argv[1:2])
