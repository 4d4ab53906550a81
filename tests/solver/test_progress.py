"""A bar of steps from inside the compiled loop: it counts them, and changes nothing."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj

KEY = jax.random.key(2)
TS = fj.uniform_grid(60)
SDE = fj.SDE(lambda t, x, args: -x, lambda t, x, args: 0.1 + x)
X0 = jnp.array([0.5, -1.0])


def end(x0, **how):
    return fj.solve(SDE, x0, TS, key=KEY, **how)


def path(x0, **how):
    return fj.trajectory(SDE, x0, TS, key=KEY, every=7, **how)


def at(x0, **how):
    return fj.trajectory(SDE, x0, TS, key=KEY, at=[3, 4, 31], **how)


def fold(x0, **how):
    mean = fj.observers.mean()
    return fj.fold(SDE, x0, TS, key=KEY, init=mean.init, update=mean.update, **how)


def batch(x0, **how):
    return jax.vmap(lambda x, key: fj.solve(SDE, x, TS, key=key, **how))(
        x0, jax.random.split(KEY, 2)
    )


def gradient(x0, **how):
    return jax.grad(lambda x0: jnp.sum(end(x0, adjoint=fj.Checkpointed(5), **how)))(x0)


def backward(x0, **how):
    options = {"step": fj.reversible_heun, "adjoint": fj.Reversible()} | how
    return jax.grad(lambda x0: jnp.sum(end(x0, **options)))(x0)


def tangent(x0, **how):
    return jax.jvp(lambda x0: end(x0, **how), (x0,), (x0,))


def late(x0, **how):
    return end(x0, first_step=2**31 - 1, **how)


CASES = [end, path, at, fold, batch, gradient, backward, tangent, late]


@pytest.mark.parametrize("jitted", [False, True], ids=["", "jit"])
@pytest.mark.parametrize("view", CASES, ids=lambda view: view.__name__)
@pytest.mark.thin(4)
def test_the_bar_counts_each_step_once_and_changes_nothing(view, jitted, capsys):
    def shown(x0):
        return view(x0, progress=True)

    got = jax.block_until_ready((jax.jit(shown) if jitted else shown)(X0))
    jax.effects_barrier()
    bars = capsys.readouterr().err
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, view(X0))
    # How far it came, at each time that it was drawn: up, to the end, of one bar.
    total = {path: 56, at: 31}.get(view, 60)
    drawn = [tuple(map(int, pair)) for pair in re.findall(r"(\d+)/(\d+) ", bars)]
    assert bars.count("solving: 100%") == 1, bars
    assert drawn[0] == (0, total)
    assert drawn == sorted(drawn)
    assert drawn[-1] == (total, total)
    assert capsys.readouterr().err == ""


def test_a_second_solve_has_a_bar_of_its_own(capsys):
    for _ in range(2):
        jax.block_until_ready(end(X0, progress=True))
    jax.effects_barrier()
    assert capsys.readouterr().err.count("solving: 100%") == 2


@pytest.mark.parametrize("view", [end, path, fold, gradient], ids=lambda view: view.__name__)
def test_without_a_bar_nothing_of_it_is_in_the_program(view):
    assert "callback" not in str(jax.make_jaxpr(view)(X0))
    assert "callback" in str(jax.make_jaxpr(lambda x0: view(x0, progress=True))(X0))


@pytest.mark.parametrize("progress", [1, None, "yes", jnp.array(True)])
def test_what_is_no_bool_is_refused(unchecked, progress):
    with pytest.raises(TypeError, match="progress must be True or False, got"):
        end(X0, progress=progress)
