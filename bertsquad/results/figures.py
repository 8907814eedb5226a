"""The figure by which a result is judged, and those that stand beside it."""

from dataclasses import dataclass

from bertsquad.results.result import LATENCIES, Result
from bertsquad.scenarios import SCENARIOS

#: The percentile of Server's latencies that must keep the bound, in per cent (MLPerf's rules).
SERVER_PERCENTILE = 99.0


@dataclass(frozen=True)
class Figure:
    """A figure of a result: the field it stands in, and how people write it."""

    key: str
    name: str
    unit: str
    value: float | None
    higher_is_better: bool = False

    def __str__(self) -> str:
        """As `31.27 QPS`, `p90 34.10 ms` or `F1 83.527`; a dash where it has no value."""
        return self.told()

    def told(self, margin: float | None = None) -> str:
        """The figure with its name or unit, and how far it may be off, as `31.27 ± 0.40 QPS`."""
        number = self.number(margin)
        if self.value is None:
            return number
        if self.unit == "samples/s":
            return f"{number} QPS"
        return f"{self.name} {number} ms" if self.unit == "ms" else f"{self.name} {number}"

    def number(self, margin: float | None = None) -> str:
        """The value alone, as `83.527` or `91.176 ± 13.2`; a dash where there is none."""
        if self.value is None:
            return "-"
        digits = 3 if self.unit == "%" else 2 if abs(self.value) < 100 else 1
        text = f"{self.value:.{digits}f}"
        if margin is None:
            return text
        return f"{text} ± {margin:.{1 if self.unit == '%' else digits}f}"


def judged(result: Result) -> Figure | None:
    """The figure by which MLPerf judges a result; None for a compliance run, which has none.

    That is F1 of an accuracy run, samples a second in Offline and Server, and in the streams
    LoadGen's early-stopping estimate of a percentile, which is above the plain percentile.
    """
    if result.mode == "accuracy":
        return Figure("f1", "F1", "%", result.f1, higher_is_better=True)
    if result.mode != "performance":
        return None
    percentile = SCENARIOS[result.scenario].percentile
    if percentile is None:
        return Figure("qps", "QPS", "samples/s", result.qps, higher_is_better=True)
    return Figure("mlperf_metric_value", f"p{percentile}", "ms", result.mlperf_metric_value)


def plain(result: Result) -> Figure | None:
    """The plain percentile of the latencies beside the judged figure.

    In the streams it is that which the judged figure estimates, in Server the one that must keep
    the bound; None for other results.
    """
    if result.mode != "performance" or result.scenario == "offline":
        return None
    percentile = SCENARIOS[result.scenario].percentile or SERVER_PERCENTILE
    key = dict(LATENCIES)[percentile]
    return Figure(key, f"p{percentile:g}", "ms", getattr(result, key))


def f1_margin(result: Result) -> float | None:
    """How far a subset's F1 may be from that of the whole data set, in per cent points.

    Half of its 95 % interval; None where all samples were run, or too few questions to tell.
    """
    if result.whole or result.f1 is None or result.f1_interval is None:
        return None
    low, high = result.f1_interval  # of which one may have been cut at 0 or 100
    return max(result.f1 - low, high - result.f1)
