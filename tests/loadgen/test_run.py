"""LoadGen's settings are what the rules, the options and the user.conf say."""

from pathlib import Path

import mlperf_loadgen as lg
import pytest
from requested import conf, request

from bertsquad.loadgen import run
from bertsquad.loadgen.request import Targets
from bertsquad.rules import QUICK_QUERIES, RULES
from bertsquad.scenarios import MODES, SCENARIOS

# mlperf.conf, as LoadGen 6.0.17 has it compiled in.
SEEDS = {
    "qsl_rng_seed": 2085463073848966840,
    "sample_index_rng_seed": 2747215439041700203,
    "schedule_rng_seed": 16159082839903944936,
}


MLPERF_QUERIES = {"offline": 10_833, "singlestream": 100, "multistream": 662, "server": 100}


OWN_TARGETS = {
    "offline": Targets(50.0, None, "probe"),
    "singlestream": Targets(None, 20.0, "probe"),
    "multistream": Targets(None, 160.0, "probe"),
    "server": Targets(40.0, 130.0, "probe"),
}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_run_has_mlperf_seeds_bounds_and_the_lengths_of_its_rules(
    scenario: str, mode: str, rules: str
) -> None:
    targets = OWN_TARGETS[scenario] if mode == "performance" else None
    for again in range(3):
        made = run.settings_for(request(scenario, mode, rules=rules, samples=494), targets)
        assert {name: getattr(made, name) for name in SEEDS} == SEEDS, f"run {again}"
        assert made.scenario == getattr(lg.TestScenario, SCENARIOS[scenario].loadgen_name)
        accuracy = mode == "accuracy"
        assert made.mode == (lg.TestMode.AccuracyOnly if accuracy else lg.TestMode.PerformanceOnly)
        assert made.min_duration_ms == (600_000 if rules == "mlperf" else 3_000)
        queries = MLPERF_QUERIES if rules == "mlperf" else QUICK_QUERIES
        assert made.min_query_count == queries[scenario]
        assert (made.max_duration_ms, made.max_query_count) == (0, 0)
        assert made.performance_sample_count_override == 494
        assert made.server_target_latency_ns == 130_000_000
        assert made.server_target_latency_percentile == 0.99
        assert made.single_stream_target_latency_percentile == 0.9
        assert made.multi_stream_target_latency_percentile == 0.99
        assert made.multi_stream_samples_per_query == 8


@pytest.mark.parametrize(
    ("scenario", "mode", "rules", "goal"),
    [
        ("offline", "accuracy", "mlperf", (494, None)),
        ("server", "accuracy", "quick", (494, None)),
        ("multistream", "accuracy", "quick", (496, None)),  # its last query is filled up
        ("offline", "performance", "quick", (None, None)),
        ("singlestream", "performance", "quick", (64, 3)),
        ("multistream", "compliance", "mlperf", (662 * 8, 600)),
        ("server", "performance", "mlperf", (100, 600)),
    ],
)
def test_what_a_run_is_done_with_is_known_before(
    scenario: str, mode: str, rules: str, goal: tuple[int | None, float | None]
) -> None:
    asked = request(scenario, mode, rules=rules, samples=494)
    assert run.goal(asked, run.settings_for(asked, None)) == goal


def test_settings_of_one_run_leave_no_trace_in_the_next(tmp_path: Path) -> None:
    path = conf(tmp_path, "*.*.min_duration = 1234", "bert.Server.target_latency = 20")
    run.settings_for(request("server", samples=9, user_conf=path, buffer_size=3), None)
    for scenario in SCENARIOS:
        made = run.settings_for(request(scenario, rules="mlperf", samples=9), None)
        assert made.min_duration_ms == 600_000
        assert made.server_target_latency_ns == 130_000_000
        assert made.performance_sample_count_override == 9


@pytest.mark.parametrize(
    ("scenario", "attribute", "expected"),
    [
        ("offline", "offline_expected_qps", 50.0),
        ("server", "server_target_qps", 40.0),
        ("server", "server_target_latency_ns", 90_000_000),
        ("singlestream", "single_stream_expected_latency_ns", 20_500_000),
        ("multistream", "multi_stream_expected_latency_ns", 160_000_000),
    ],
)
def test_targets_reach_loadgen_in_its_own_units(
    scenario: str, attribute: str, expected: float
) -> None:
    targets = {
        "offline": Targets(50.0, None, "option"),
        "server": Targets(40.0, 90.0, "option"),
        "singlestream": Targets(None, 20.5, "option"),
        "multistream": Targets(None, 160.0, "option"),
    }[scenario]
    made = run.settings_for(request(scenario, samples=9), targets)
    assert getattr(made, attribute) == expected


def test_server_does_not_wait_for_its_rate_in_accuracy_mode() -> None:
    made = run.settings_for(request("server", "accuracy", rules="mlperf", samples=10_833), None)
    assert made.server_target_qps >= 10_000


@pytest.mark.parametrize(("buffer", "expected"), [(None, 20), (5, 5), (20, 20), (10_833, 20)])
def test_the_buffer_is_never_larger_than_the_samples_that_are_run(
    buffer: int | None, expected: int
) -> None:
    made = run.settings_for(request(samples=20, buffer_size=buffer), None)
    assert made.performance_sample_count_override == expected


def test_user_conf_wins_over_the_quick_defaults_and_options_over_user_conf(
    tmp_path: Path,
) -> None:
    path = conf(tmp_path, "*.*.min_duration = 1234", "bert.Offline.min_query_count = 77")
    made = run.settings_for(request(samples=9, user_conf=path), None)
    assert (made.min_duration_ms, made.min_query_count) == (1234, 77)
    made = run.settings_for(request(samples=9, user_conf=path, min_duration_s=0.5), None)
    assert (made.min_duration_ms, made.min_query_count) == (500, 77)
    assert {name: getattr(made, name) for name in SEEDS} == SEEDS


def test_user_conf_lines_of_another_scenario_or_model_change_nothing(tmp_path: Path) -> None:
    path = conf(
        tmp_path, "bert.Server.min_duration = 1", "resnet50.*.min_duration = 2", "# a comment", ""
    )
    made = run.settings_for(request(samples=9, user_conf=path), None)
    assert made.min_duration_ms == 3_000


def test_user_conf_cannot_turn_an_accuracy_run_into_another(tmp_path: Path) -> None:
    path = conf(tmp_path, "*.*.mode = 2")
    made = run.settings_for(request(mode="accuracy", samples=9, user_conf=path), None)
    assert made.mode == lg.TestMode.AccuracyOnly
