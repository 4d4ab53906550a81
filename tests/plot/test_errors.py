"""Orders are the slopes of the errors, and every error is where it belongs."""

import numpy as np
import pytest

from flowjax import plot

HS = np.array([0.1, 0.025, 0.05])
ERRORS = {"one": 3 * HS, "two": HS**2, "half": 0.1 * HS**0.5}


def named(ax):
    return {text.get_text() for text in ax.get_legend().get_texts()}


def test_the_slopes_are_the_orders():
    (ax,) = plot.convergence_orders(HS, ERRORS).axes
    assert named(ax) == {"one: slope 1.00", "two: slope 2.00", "half: slope 0.50"}
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    order = np.argsort(HS)
    for line, errors in zip(ax.lines[:3], ERRORS.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), HS[order])
        np.testing.assert_array_equal(line.get_ydata(), errors[order])
    # The lines to compare with have the orders as slopes, below their methods.
    for line, slope, name in zip(ax.lines[3:], (0.5, 1, 2), ("half", "one", "two"), strict=True):
        x, y = line.get_data()
        np.testing.assert_allclose(np.diff(np.log(y)) / np.diff(np.log(x)), slope)
        np.testing.assert_allclose(y, ERRORS[name][[1, 0]] / 2)
    assert [text.get_text() for text in ax.texts] == ["order 0.5", "order 1", "order 2"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.025", "0.05", "0.1"]


def test_the_slope_is_that_of_the_least_squares_line():
    errors = np.array([0.5, 0.2, 0.9])
    x, y = np.log(HS) - np.log(HS).mean(), np.log(errors)
    (ax,) = plot.convergence_orders(HS, {"a": errors}, orders=[3]).axes
    assert named(ax) == {f"a: slope {np.sum(x * y) / np.sum(x**2):.2f}"}
    assert [text.get_text() for text in ax.texts] == ["order 3"]


def test_errors_of_zero_have_no_place_and_no_part_in_the_slope():
    (ax,) = plot.convergence_orders(HS, {"a": np.where(HS == 0.05, 0, HS**3)}).axes
    assert named(ax) == {"a: slope 3.00"}
    assert np.isnan(ax.lines[0].get_ydata()).tolist() == [False, True, False]


def test_each_method_may_have_its_own_calls():
    calls = {"one": np.array([10, 20]), "two": np.array([40, 80, 160])}
    errors = {"one": np.array([0.1, 0.05]), "two": [0.1, 0.02, 0.005]}
    (ax,) = plot.error_against_calls(calls, errors).axes
    for line, name in zip(ax.lines, errors, strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_xdata(), calls[name])
        np.testing.assert_array_equal(line.get_ydata(), errors[name])
    assert len({line.get_marker() for line in ax.lines}) == 2
    assert named(ax) == {"one", "two"}


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plot.convergence_orders(HS, HS), "errors must be a mapping from the methods' nam"),
        (lambda: plot.convergence_orders(HS, {}), "errors must be a mapping"),
        (lambda: plot.convergence_orders(HS, {"a": HS[:2]}), r"hs and errors\['a'\] must both hav"),
        (lambda: plot.convergence_orders({"b": HS}, {"a": HS}), "hs must have the names of errors"),
        (lambda: plot.convergence_orders(-HS, {"a": HS}), "hs must be positive and errors"),
        (lambda: plot.convergence_orders(HS, {"a": -HS}), r"errors\['a'\] not negative"),
        (lambda: plot.convergence_orders(HS, {"a": 0 * HS}), "positive at two different steps"),
        (lambda: plot.convergence_orders(HS * 0 + 1, {"a": HS}), "positive at two different steps"),
        (lambda: plot.convergence_orders(HS, {"a": HS}, orders="one"), "orders must hold real num"),
        (lambda: plot.error_against_calls(HS, HS), "errors must be a mapping"),
        (lambda: plot.error_against_calls(0 * HS, {"a": HS}), "calls must be positive"),
        (lambda: plot.error_against_calls([[1, 2]], {"a": [[1, 2]]}), r"both have shape \(n,\)"),
    ],
)
def test_what_has_no_order_is_refused(unchecked, draw, words):
    with pytest.raises((TypeError, ValueError), match=words):
        draw()
