"""The benchmark's own logic: how it pairs, judges, records and compares. Nothing is timed here."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import check, contenders, problems, record, report, summary, verify
from benchmarks.compiled import equations
from benchmarks.record import counted, document, results_of, timed
from benchmarks.targets import TARGETS, TOLERANCES, Target, outcomes
from benchmarks.timing import AGAIN, Settings, interleaved, noise_level, paired_ratio, spread

SETTINGS = Settings("test", 10.0, 3, 20, 0.0, 1, 1)
ABOUT = {
    "machine": {"kind": "cpu-2-cores"},
    "versions": {"jax": "1"},
    "commit": "c0ffee",
    "date": "2000-01-01",
    "settings": SETTINGS._asdict(),
    "seed": 0,
}


class Machine:
    """A clock, and calls that take the time they are told to, slower and slower."""

    def __init__(self, drift=0.0):
        self.now, self.drift = 0.0, drift

    def clock(self):
        return self.now

    def call(self, seconds):
        def run():
            self.now += seconds * (1 + self.drift * self.now)

        return run


def result(ratio=1.0, noise_factor=1.0, case="scalar linear, n=1000", metric="time"):
    samples = {
        "scan": [1.0, 1.0, 1.0],
        "scan" + AGAIN: [noise_factor] * 3,
        "flowjax": [ratio] * 3,
        "diffrax constant": [2.0] * 3,
    }
    return timed("forward", case, samples, ("scan",), metric)


# --- timing ---------------------------------------------------------------------------------------


def test_the_floor_is_timed_twice_in_each_round():
    machine = Machine()
    calls = {"scan": machine.call(0.01), "flowjax": machine.call(0.02)}
    samples = interleaved(calls, "scan", SETTINGS, clock=machine.clock)
    assert set(samples) == {"scan", "scan" + AGAIN, "flowjax"}
    assert len(samples["scan"]) == len(samples["scan" + AGAIN]) == SETTINGS.max_rounds
    np.testing.assert_allclose(samples["scan" + AGAIN], 0.01, rtol=1e-9)


def test_paired_ratios_cancel_a_machine_that_slows_down():
    machine = Machine(drift=1.0)
    calls = {"scan": machine.call(0.01), "flowjax": machine.call(0.02)}
    samples = interleaved(calls, "scan", SETTINGS, clock=machine.clock)
    slowed_by = samples["scan"][-1] / samples["scan"][0]
    ratio = paired_ratio(samples["flowjax"], samples["scan"])
    assert slowed_by > 1.5
    assert ratio == pytest.approx(2, rel=0.05)
    # The ratio to the first round alone, which is not paired, is far off.
    assert np.median(samples["flowjax"]) / samples["scan"][0] > 2.2


def test_a_contender_over_its_share_sits_out_while_the_floor_goes_on():
    machine = Machine()
    calls = {
        "scan": machine.call(0.01),
        "slow": machine.call(1.0),
        "very slow": machine.call(6.0),
        "flowjax": machine.call(0.02),
    }
    samples = interleaved(calls, "scan", SETTINGS, clock=machine.clock)
    taken = {name: sum(not math.isnan(s) for s in one) for name, one in samples.items()}
    assert taken["slow"] == 2
    assert taken["very slow"] == 1
    assert taken["scan"] == taken["scan" + AGAIN] == taken["flowjax"] == SETTINGS.max_rounds
    assert paired_ratio(samples["very slow"], samples["scan"]) == pytest.approx(600)


def test_a_slow_floor_takes_half_of_the_time_and_its_rounds():
    machine = Machine()
    calls = {"scan": machine.call(0.3), "flowjax": machine.call(0.01)}
    samples = interleaved(calls, "scan", SETTINGS, clock=machine.clock)
    # Of 10 seconds the floor's two entries take 5 in 9 rounds.
    assert len(samples["scan"]) == len(samples["flowjax"]) == 9
    calls["scan"] = machine.call(3.0)
    samples = interleaved(calls, "scan", SETTINGS, clock=machine.clock)
    assert len(samples["scan"]) == SETTINGS.min_rounds


def test_a_sample_of_a_short_call_lasts_as_long_as_is_asked():
    machine = Machine()
    count = [0]
    run = machine.call(0.001)

    def counted_call():
        count[0] += 1
        run()

    settings = SETTINGS._replace(sample_seconds=0.05, max_rounds=4)
    samples = interleaved({"scan": counted_call}, "scan", settings, clock=machine.clock)
    rounds = len(samples["scan"])
    assert count[0] == 2 * (1 + 50 * rounds)
    np.testing.assert_allclose(samples["scan"], 0.001)


def test_spread_leaves_out_the_rounds_that_were_sat_out():
    taken = spread([4.0, math.nan, 1.0, 2.0, 3.0, math.nan])
    assert taken == (2.5, 1.5, 1.0, 4)


def test_the_noise_level_is_the_offset_or_the_uncertainty_of_the_second_floor():
    assert noise_level([1.1] * 9, [1.0] * 9) == pytest.approx(0.1)
    assert noise_level([0.5, 1.0, 1.5, 1.0], [1.0] * 4) == pytest.approx(0.93 * 0.25 / 2)


# --- targets --------------------------------------------------------------------------------------


def test_ratios_are_to_the_fastest_of_the_floors():
    samples = {
        "split": [4.0] * 3,
        "split" + AGAIN: [4.4] * 3,
        "first": [2.0] * 3,
        "flowjax": [1.0] * 3,
    }
    made = timed("noise", "one key (1), n=1000", samples, ("split", "first"))
    assert made.ratios == pytest.approx({"split": 2.0, "first": 1.0, "flowjax": 0.5})
    assert made.noise == pytest.approx(0.1)


def test_an_outcome_is_relative_to_the_best_of_those_the_target_names():
    target = Target("forward", "*", "time", ("diffrax constant", "absent"), 0.6)
    (outcome,) = outcomes(result(1.0), [target])
    assert outcome.value == pytest.approx(0.5)
    assert outcome.verdict == "PASS"


@pytest.mark.parametrize(
    ("ratio", "noise_factor", "verdict"),
    [(1.05, 1.0, "PASS"), (1.08, 1.1, "tie"), (1.08, 1.0, "short"), (1.3, 1.1, "short")],
)
def test_a_verdict_is_pass_tie_or_short(ratio, noise_factor, verdict):
    target = Target("forward", "*", "time", ("scan",), 1.05)
    (outcome,) = outcomes(result(ratio, noise_factor), [target])
    assert outcome.verdict == verdict


def test_a_target_without_its_contenders_says_nothing():
    target = Target("forward", "*", "time", ("torchdiffeq",), 1.0)
    assert outcomes(result(), [target]) == []
    other = Target("forward", "*", "time", ("scan",), 1.0, "flowjax Reversible")
    assert outcomes(result(), [other]) == []


def test_a_target_without_a_reference_bounds_the_value_itself():
    made = counted("scale", "n", "growth", "", {"scan": 2.0, "flowjax": 3.0}, ("scan",))
    (outcome,) = outcomes(made, [Target("scale", "*", "growth", (), 1.0)])
    assert outcome.value == 3.0


def test_every_target_speaks_of_something_that_is_measured():
    measured = results_of(record.read(summary.RESULTS))
    for target in TARGETS:
        assert target.metric in TOLERANCES
        assert any(outcomes(result, [target]) for result in measured), target


def test_the_noise_targets_tell_the_small_states_from_the_large():
    for problem in problems.noise_problems(vmapped=True):
        values = dict.fromkeys((*contenders.IDIOMS, "flowjax", "diffrax tree"), 1.0)
        made = counted("noise", problem.name, "time", "", values, contenders.IDIOMS)
        bounds = sorted(outcome.target.at_most for outcome in outcomes(made))
        small = problem.x0.size <= 2
        assert bounds == pytest.approx([1 / 20, 1 / 10, 1.0] if small else [1 / 20, 1 / 3])


# --- the document ---------------------------------------------------------------------------------


def test_a_document_comes_back_from_json_as_it_was():
    before = [result(1.02, 1.01), counted("gradient", "x", "bytes", "B", {"scan": 2.0}, ("scan",))]
    text = json.dumps(document(before, ABOUT), allow_nan=False)
    assert results_of(json.loads(text)) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.update(schema=0), "schema must be"),
        (lambda d: d.pop("machine"), "machine is missing"),
        (lambda d: d["cases"][0].pop("metric"), r"cases\[0\] is malformed"),
        (lambda d: d["cases"][0]["contenders"]["scan"].pop("median"), r"cases\[0\] is malformed"),
        (lambda d: d["cases"][0]["contenders"].pop("scan"), "no values of the floor"),
    ],
)
def test_a_damaged_document_is_refused(damage, message):
    made = document([result()], ABOUT)
    damage(made)
    with pytest.raises(ValueError, match=message):
        results_of(made)


def test_the_table_shows_ratio_target_and_verdict():
    text = report.table([result(1.2)])
    (line,) = [line for line in text.splitlines() if line.startswith("scalar linear")]
    assert "1.2 <= 1.05 short" in line
    assert "0.6 <= 1 PASS" in line
    assert "1 of 2 targets reached" in report.summary([result(1.2)])


# --- the comparison -------------------------------------------------------------------------------


def test_a_ratio_within_the_tolerance_is_no_regression():
    tolerance = TOLERANCES["time"]
    changes = check.compare([result(1 + 0.99 * tolerance)], [result(1.0)])
    assert changes
    assert not any(change.worse for change in changes)


def test_a_ratio_beyond_the_tolerance_is_a_regression():
    tolerance = TOLERANCES["time"]
    changes = check.compare([result(1 + 1.01 * tolerance)], [result(1.0)])
    assert all(change.worse for change in changes)


def test_the_noise_of_both_runs_widens_the_tolerance():
    ratio = 1.25 * 1.15
    assert any(change.worse for change in check.compare([result(ratio)], [result(1.0)]))
    noisy = check.compare([result(ratio, 1.1)], [result(1.0, 1.1)])
    assert not any(change.worse for change in noisy)


def test_times_are_never_compared():
    slow = result(1.0)
    values = {name: one._replace(median=1000 * one.median) for name, one in slow.values.items()}
    changes = check.compare([slow._replace(values=values)], [result(1.0)])
    assert not any(change.worse for change in changes)


def test_a_case_that_is_missing_is_a_regression_and_a_new_one_is_not():
    new = result(case="another")
    changes = check.compare([new], [result()])
    assert all(change.worse and change.after is None for change in changes)
    assert not any(change.worse for change in check.compare([result(), new], [result()]))


def test_a_contender_that_was_timed_once_in_either_run_is_not_compared_with():
    def run(peer):
        samples = {"scan": [1.0] * 3, "scan" + AGAIN: [1.0] * 3, "flowjax": [1.0] * 3}
        return timed("noise", "one key (1)", {**samples, "diffrax tree": peer}, ("scan",))

    often, once = [100.0] * 3, [30.0, math.nan, math.nan]
    assert any(change.worse for change in check.compare([run([30.0] * 3)], [run(often)]))
    for new, old in ((once, often), ([30.0] * 3, [100.0, math.nan, math.nan])):
        changes = check.compare([run(new)], [run(old)])
        assert [change.what.split(", ")[-1] for change in changes] == ["flowjax over the floor"]
        assert not any(change.worse for change in changes)


@pytest.mark.parametrize(("ratio", "status"), [(1.0, 0), (2.0, 1)])
def test_the_command_exits_with_what_it_found(tmp_path, capsys, ratio, status):
    record.write(tmp_path / "old.json", document([result(1.0)], ABOUT))
    record.write(tmp_path / "new.json", document([result(ratio)], ABOUT))
    arguments = [str(tmp_path / "new.json"), "--baseline", str(tmp_path / "old.json")]
    assert check.main(arguments) == status
    assert ("worse:" in capsys.readouterr().out) == bool(status)


@pytest.mark.parametrize(("anew", "status"), [([1.0], 0), ([2.0, 1.0], 0), ([2.0, 2.0], 1)])
def test_what_is_worse_is_timed_anew_and_has_to_be_worse_each_time(
    tmp_path, monkeypatch, anew, status
):
    record.write(tmp_path / "old.json", document([result(1.0)], ABOUT))
    record.write(tmp_path / "new.json", document([result(2.0)], ABOUT))
    asked = []

    def run(command, **_):
        assert command[2:6] == ["--rows", "forward", "--case", "scalar linear, n=1000"]
        asked.append(command)
        record.write(command[-1], document([result(anew[len(asked) - 1])], ABOUT))

    monkeypatch.setattr(check.subprocess, "run", run)
    old, new = (str(tmp_path / f"{name}.json") for name in ("old", "new"))
    assert check.main([new, "--baseline", old, "--again", "2"]) == status
    assert len(asked) == len(anew)


def test_what_is_not_there_at_all_is_worse_and_not_timed_anew(tmp_path, monkeypatch):
    record.write(tmp_path / "old.json", document([result(1.0)], ABOUT))
    record.write(tmp_path / "new.json", document([result(1.0, case="another")], ABOUT))
    monkeypatch.setattr(check.subprocess, "run", lambda *_, **__: pytest.fail("timed anew"))
    old, new = (str(tmp_path / f"{name}.json") for name in ("old", "new"))
    assert check.main([new, "--baseline", old, "--again", "2"]) == 1


def test_peers_that_are_not_installed_here_or_were_not_there_are_left_out():
    with_peer, values = result(), dict(result().values)
    del values["diffrax constant"]
    ratios = {name: ratio for name, ratio in with_peer.ratios.items() if name in values}
    without = with_peer._replace(values=values, ratios=ratios)
    for new, old in ((without, with_peer), (with_peer, without)):
        changes = check.compare([new], [old])
        assert [change.what.split(", ")[-1] for change in changes] == [
            "flowjax over the floor",
            "flowjax over scan",
        ]
        assert not any(change.worse for change in changes)


def test_devices_that_were_started_once_each_are_compared():
    samples = {"1": [1.0], "1" + AGAIN: [1.0], "2": [1.0]}
    slower = {**samples, "2": [2.0]}
    old, new = (
        timed("scale", "devices", one, ("1",), "time per unit") for one in (samples, slower)
    )
    assert any(change.worse for change in check.compare([new], [old]))


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("README.md", summary.three),
        ("docs/performance.md", summary.bounds),
        ("docs/adjoints.md", summary.adjoints),
    ],
)
def test_the_documentation_shows_the_tables_of_the_committed_results(page, table):
    results = results_of(record.read(summary.RESULTS))
    assert table(results) in (check.ROOT / page).read_text()


def test_the_readme_shows_five_figures():
    header, _, *rows = summary.three(results_of(record.read(summary.RESULTS))).splitlines()
    assert header == "| | measured | to reach |"
    assert len(rows) == 5


# --- that contenders do the same work -------------------------------------------------------------


def test_a_wrong_end_state_is_refused():
    problem = problems.linear((3,), 100)
    right = problems.end_state(problem).astype(np.float32)
    verify.end_states(problem, {"right": right})
    # Heun's method: as good an answer, but other work.
    h = problems.THETA / problem.steps
    heun = (problem.x0 * (1 - h + h**2 / 2) ** problem.steps).astype(np.float32)
    with pytest.raises(AssertionError, match="heun: off by"):
        verify.end_states(problem, {"heun": heun})
    with pytest.raises(AssertionError, match="shapes and dtypes"):
        verify.end_states(problem, {"wide": right.astype(np.float64)})


def test_a_wrong_gradient_is_refused():
    problem = problems.mlp(batch=8, steps=5, width=4)
    function = contenders.gradient(problem)["scan"]
    right = jax.tree.map(np.asarray, jax.jit(function)(problem.x0, problem.args))
    verify.gradients(problem, {"scan": right, "other": right}, "scan")
    half = jax.tree.map(lambda leaf: leaf / np.float32(2), right)
    with pytest.raises(AssertionError, match="half: off by"):
        verify.gradients(problem, {"scan": right, "half": half}, "scan")
    with pytest.raises(AssertionError, match="along a line"):
        verify.gradients(problem, {"scan": half}, "scan")


@pytest.mark.parametrize(
    ("scale", "repeat", "message"),
    [
        (1.0, False, None),
        (math.sqrt(1.1), False, "variance"),
        (1.0, True, "come again|variance|mean"),
    ],
)
def test_wrong_statistics_of_the_noise_are_refused(scale, repeat, message):
    problem = problems.linear((2,), 100, keys=5000)
    mean, variance = problems.moments(problem)
    z = np.random.default_rng(7).standard_normal((5000, 2))
    z = np.broadcast_to(z[:1], z.shape) if repeat else z
    draw = (mean + scale * np.sqrt(variance) * z).astype(np.float32)
    if message is None:
        verify.statistics(problem, "right", [draw])
    else:
        with pytest.raises(AssertionError, match=message):
            verify.statistics(problem, "wrong", [draw])


def test_the_moments_are_those_of_the_recursion():
    problem = problems.linear((2,), 50)
    mean, variance = problem.x0.astype(np.float64), 0.0
    h = 1 / problem.steps
    for _ in range(problem.steps):
        mean = mean - h * problems.THETA * mean
        variance = (1 - h * problems.THETA) ** 2 * variance + problems.SIGMA**2 * h
    expected_mean, expected_variance = problems.moments(problem)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-6)
    assert variance == pytest.approx(expected_variance, rel=1e-12)


def test_equations_are_counted_inside_loops():
    def double(x):
        return x + x

    def loop(x):
        return jax.lax.scan(lambda x, _: (double(double(x)), None), x, None, length=5)[0]

    assert equations(double, jnp.ones(2)) == 1
    assert equations(loop, jnp.ones(2)) == 3
    assert equations(jax.jit(loop), jnp.ones(2)) == 4
