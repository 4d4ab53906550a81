"""The row quality of the benchmark: its targets' maps, and how errors are taken from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from benchmarks import diffusers_contenders as peer
from benchmarks.known_maps import known_maps
from benchmarks.rows import quality

MAPS = {one.name: one for one in known_maps()}
every_map = pytest.mark.parametrize("name", MAPS)


def silent(text):
    """Says nothing of what is going on."""


@every_map
@pytest.mark.thin(2)
def test_data_and_noise_are_expected_where_flowjax_expects_them(name, x64):
    one, schedule, t = MAPS[name], fj.CondOT(), 0.6
    target = fj.GaussianMixture(*map(jnp.asarray, (one.weights, one.means, one.stds)))
    x = one.states(np.arctan2(0.6, 0.4)) * np.hypot(0.6, 0.4)
    velocity = jax.vmap(lambda x: target.velocity(schedule)(t, x, None))(jnp.asarray(x))
    for found, prediction in zip(one.expected(x, 0.6, 0.4), ("data", "noise"), strict=True):
        known = fj.convert(
            velocity, t, jnp.asarray(x), schedule, source="velocity", target=prediction
        )
        np.testing.assert_allclose(found, known, rtol=1e-10, atol=1e-10)


@every_map
@pytest.mark.parametrize("angle", [0.3, 1.0, 1.5])
def test_states_move_with_the_velocity_of_the_flow(name, angle):
    """The central difference errs by h^2 times the third derivative, some 1e3 at the most here."""
    one, h = MAPS[name], 1e-5
    alpha, sigma = np.sin(angle), np.cos(angle)
    data, noise = one.expected(one.states(angle), alpha, sigma)
    moved = (one.states(angle + h) - one.states(angle - h)) / (2 * h)
    np.testing.assert_allclose(moved, sigma * data - alpha * noise, rtol=1e-5, atol=1e-5)


@every_map
def test_states_begin_at_the_noise(name):
    np.testing.assert_allclose(MAPS[name].states(0.0), MAPS[name].noise, atol=1e-12)


@pytest.mark.parametrize("name", ["mixture (1)", "Gaussian (12)"])
def test_the_solved_flow_is_the_map_where_that_is_known_in_closed_form(name):
    one = MAPS[name]
    for angle in (0.01, 0.8, np.pi / 2):
        solved = one._flow(angle).reshape(one.noise.shape)
        np.testing.assert_allclose(solved, one.states(angle), rtol=1e-7, atol=1e-7)


def test_eulers_error_is_that_of_a_loop_in_float64(monkeypatch):
    monkeypatch.setattr(quality, "METHODS", {"Euler": quality.METHODS["Euler"]})
    found = quality.errors([], silent)
    for (name, calls), contenders in found.items():
        one, x = MAPS[name], MAPS[name].noise
        for t in np.arange(calls) / calls:
            data, noise = one.expected(x, t, 1 - t)
            x = x + (data - noise) / calls
        error = np.mean(np.abs(x - one.states(np.pi / 2)))
        np.testing.assert_allclose(contenders["Euler"]["uniform_grid"], error, rtol=1e-3)


def test_the_entry_of_flowjax_is_its_best_and_each_contender_brings_its_best():
    choices = {
        "Euler": {"a": 8.0},
        "flowjax adams": {"a": 2.0, "b": 1.0},
        "flowjax unipc": {"a": 0.5, "b": 3.0},
        "diffusers": {"a": 4.0, "b": 1.0},
    }
    result = quality._result("target", 5, choices)
    ratios = {one: 8 * ratio for one, ratio in result.ratios.items()}
    assert ratios == {
        "Euler": 8.0,
        "flowjax adams": 1.0,
        "flowjax unipc": 0.5,
        "diffusers": 1.0,
        "flowjax": 0.5,
    }


def test_settings_are_told_apart_by_name_and_the_short_list_is_part_of_the_long_one():
    every, short = (list(map(str, peer.settings(every))) for every in (True, False))
    assert len(set(every)) == len(every)
    assert sorted(short) == sorted(peer._BEST)


def test_a_scheduler_of_diffusers_comes_to_the_known_ends_and_is_refused_a_late_start():
    pytest.importorskip("diffusers")
    pytest.importorskip("torch")
    maps = list(MAPS.values())
    arguments = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    ends = peer.end_states(peer.Setting("UniPCMultistep", arguments), 200, maps)
    assert ends is not None
    for one, end in zip(maps, ends, strict=True):
        np.testing.assert_allclose(np.mean(np.abs(end - one.states(np.pi / 2))), 0, atol=1e-3)
    late = peer.Setting("UniPCMultistep", {"use_karras_sigmas": True, "sigma_max": 0.5})
    assert peer.end_states(late, 5, maps) is None
