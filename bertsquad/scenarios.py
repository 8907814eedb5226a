"""LoadGen's scenarios, and the modes in which the suite runs them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """A LoadGen scenario: its name there and the key of its official metric.

    With `has_rate` the metric is a rate in samples/s, otherwise a latency in nanoseconds, the early
    stopping estimate of the `percentile` (in per cent).
    """

    name: str
    loadgen_name: str
    metric: str
    has_rate: bool
    samples_per_query: int = 1
    percentile: int | None = None

    @property
    def one_at_a_time(self) -> bool:
        """Whether LoadGen waits for the answer to a query before it sends the next one."""
        return not self.has_rate


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("offline", "Offline", "result_samples_per_second", True),
        Scenario("singlestream", "SingleStream", "early_stopping_latency_ss", False, 1, 90),
        Scenario("multistream", "MultiStream", "early_stopping_latency_ms", False, 8, 99),
        Scenario("server", "Server", "result_completed_samples_per_sec", True),
    )
}
MODES = ("accuracy", "performance", "compliance")
