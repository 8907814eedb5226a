"""LoadGen's figures as pytest-benchmark's statistics.

pytest-benchmark's table, JSON, comparison and regression gates all read its own statistics, so
those must be LoadGen's figures and not the wall time of a wrapper. LoadGen runs once; then its
latencies are replayed, on a clock that moves by one of them for each round.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bertsquad.loadgen import timeline
from bertsquad.results.result import Result

_now = 0.0


def replay_timer() -> float:
    """The replay's clock, in seconds; pytest-benchmark calls it before and after each round."""
    return _now


def replay(benchmark: Any, seconds: Sequence[float]) -> None:
    """Let the `benchmark` fixture record one round for each of `seconds`, if there are any.

    The test must be marked `@pytest.mark.benchmark(timer=replay_timer)`.
    """
    remaining: Iterator[float] = iter(seconds)

    def one_round() -> None:
        global _now
        # From 0 each time: a sum would lose digits, and only the difference counts. Nothing is left
        # for --benchmark-cprofile, which calls once more than there are rounds.
        _now += next(remaining, 0.0)

    def rewind() -> None:
        global _now
        _now = 0.0

    if seconds:
        benchmark.pedantic(one_round, setup=rewind, rounds=len(seconds), iterations=1)


def query_seconds(result: Result) -> list[float]:
    """The rounds that pytest-benchmark records, in seconds.

    In Offline and Server one round of 1/QPS; in the others a round for each query, or none where
    the run's timeline could not be written, which fails the case.
    """
    if result.qps is not None:
        return [1.0 / result.qps]
    folder = Path(result.run_dir)
    if not (folder / timeline.TIMELINE).is_file():
        return []
    return [float(ns) / 1e9 for ns in timeline.load(folder).latencies_ns]
