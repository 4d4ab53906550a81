"""How contenders are timed: in one process, interleaved, in rounds.

Each round takes one sample of every contender, in an order drawn anew. A sample is a few calls in
a row, enough to be seen by the clock, each waited for. A contender that has used up its share of
the time sits out further rounds, so a slow one costs little; one of which a single call takes half
of the time of the case, or eight times that of the floor and a tenth of the time of the case, is
timed in that call alone. The floor takes part in all rounds, which end when it has used up half
of the time.

The ratio of two contenders is the median over rounds of the ratio within a round: what slows the
machine down for a while slows both. The floor is entered twice, and how far its second entry is
from 1, or how uncertain that is, is the noise level.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

AGAIN = " again"
_FEW_ROUNDS = 2


class Settings(NamedTuple):
    """How much time is spent.

    Args:
        name: "short" or "full".
        seconds: for one case, without compiling; slow contenders may exceed it.
        min_rounds: of every contender; of those that take twice the floor's time, two.
        max_rounds: of every contender.
        sample_seconds: a sample lasts at least this long.
        compile_rounds: how many first calls are timed, at least.
        process_rounds: how many times each number of devices is started.
        slow_ones: whether a contender takes part of which one call takes many seconds: diffrax's
            tree on a batch of keys.
    """

    name: str
    seconds: float
    min_rounds: int
    max_rounds: int
    sample_seconds: float
    compile_rounds: int
    process_rounds: int
    slow_ones: bool = True


SHORT = Settings("short", 2.5, 3, 100, 2e-3, 2, 1, slow_ones=False)
FULL = Settings("full", 15.0, 7, 400, 10e-3, 7, 5)


class Spread(NamedTuple):
    """Median, interquartile range and minimum of the samples, in their unit."""

    median: float
    iqr: float
    min: float
    samples: int


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    floor: str,
    settings: Settings,
    known: Mapping[str, float] | None = None,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of one call in each round, by contender; NaN in the rounds that it sat out.

    `floor` is timed a second time under its name and AGAIN. All calls are taken to be warm. `known`
    may hold the seconds of a call that was made before, for calls that are too slow to repeat.
    """
    calls = {**calls, floor + AGAIN: calls[floor]}
    known = known or {}
    first = {
        name: known[name] if name in known else _timed(call, 1, clock)
        for name, call in calls.items()
    }
    repeats = {name: _repeats(seconds, settings) for name, seconds in first.items()}
    share = settings.seconds / len(calls)
    fast = [
        name
        for name in calls
        if first[name] <= settings.seconds * (0.5 if first[name] < 8 * first[floor] else 0.1)
    ]
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = np.random.default_rng(seed)
    # Who is slower than the floor by more than any noise is timed less often.
    least = {
        name: settings.min_rounds if first[name] < 2 * first[floor] else _FEW_ROUNDS
        for name in fast
    }
    for taken in range(settings.max_rounds):
        within = [
            name
            for name in fast
            if taken < least[name] or (taken + 1) * repeats[name] * first[name] <= share
        ]
        active = {floor, floor + AGAIN, *within}
        # The floor alone is not worth a round, nor is a floor that takes half of the time.
        spent = 2 * taken * repeats[floor] * first[floor]
        enough = len(active) == 2 or spent > settings.seconds / 2
        if taken >= settings.min_rounds and enough:
            break
        for name in order.permutation(list(calls)):
            sample = _timed(calls[name], repeats[name], clock) if name in active else math.nan
            samples[name].append(sample)
    for name in calls:
        if math.isnan(samples[name][0]):
            samples[name][0] = first[name]
    return samples


def spread(samples: Sequence[float]) -> Spread:
    """Of the samples that were taken."""
    taken = np.asarray([sample for sample in samples if not math.isnan(sample)])
    low, median, high = np.percentile(taken, (25, 50, 75))
    return Spread(float(median), float(high - low), float(taken.min()), len(taken))


def paired_ratio(samples: Sequence[float], floor: Sequence[float]) -> float:
    """The median over rounds of sample / floor, over the rounds in which both were taken."""
    return float(np.nanmedian(np.asarray(samples) / np.asarray(floor)))


def noise_level(again: Sequence[float], floor: Sequence[float]) -> float:
    """What a ratio to the floor may be off by, from the floor's second entry and its first.

    The larger of the distance from 1 of their ratio, and of the uncertainty of that ratio: about
    the standard error of the median, which is 0.93 IQR / sqrt(rounds) for normal samples.
    """
    ratios = np.asarray(again) / np.asarray(floor)
    low, median, high = np.percentile(ratios, (25, 50, 75))
    return float(max(abs(median - 1), 0.93 * (high - low) / math.sqrt(len(ratios))))


def _repeats(seconds: float, settings: Settings) -> int:
    return max(1, math.ceil(settings.sample_seconds / max(seconds, 1e-7)))


def _timed(call: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats
