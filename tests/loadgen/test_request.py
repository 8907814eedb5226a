"""What LoadGen is told to do."""

from pathlib import Path
from typing import Any

import mlperf_loadgen as lg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bertsquad.errors import SuiteError
from bertsquad.loadgen import run, user_conf
from bertsquad.loadgen.request import Request, Targets, given_targets, server_bound_ms
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


def request(scenario: str = "offline", mode: str = "performance", **others: Any) -> Request:
    given = {"scenario": scenario, "mode": mode, "rules": "quick", "folder": ""} | others
    if path := others.get("user_conf"):
        given["conf"] = user_conf.read_user_conf(Path(path)).of(scenario)
    return Request(**given)


def conf(folder: Path, *lines: str) -> str:
    path = folder / "user.conf"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


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


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_targets_come_from_the_option_then_user_conf_then_the_probe(
    tmp_path: Path, scenario: str
) -> None:
    name = SCENARIOS[scenario].loadgen_name
    rate = scenario in ("offline", "server")
    key, option = ("target_qps", "target_qps") if rate else ("target_latency", "target_latency_ms")
    path = conf(tmp_path, f"bert.{name}.{key} = 7.5")

    def of(targets: Targets | None) -> tuple[float | None, str]:
        assert targets is not None
        return (targets.qps if rate else targets.latency_ms), targets.source

    given: dict[str, Any] = {option: 3.0}
    both = given_targets(request(scenario, samples=9, user_conf=path, **given))
    assert of(both) == (3.0, "option")
    of_conf = given_targets(request(scenario, samples=9, user_conf=path))
    assert of(of_conf) == (7.5, "user-conf")
    assert given_targets(request(scenario, samples=9)) is None
    other = conf(tmp_path, f"bert.{name}.min_duration = 1000", f"resnet50.{name}.{key} = 9")
    assert given_targets(request(scenario, samples=9, user_conf=other)) is None


def test_a_target_that_the_scenario_does_not_have_leaves_the_probe_its_work() -> None:
    assert given_targets(request("offline", samples=9, target_latency_ms=5.0)) is None
    assert given_targets(request("singlestream", samples=9, target_qps=5.0)) is None
    assert given_targets(request("server", samples=9, target_latency_ms=5.0)) is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["bert.Server.target_qps = 5", "*.Server.target_qps = 7"], 5.0),
        (["*.Server.target_qps = 7", "bert.Server.target_qps = 5"], 5.0),
        (["*.Server.target_qps = 7", "bert.*.target_qps = 5"], 7.0),
        (["*.*.target_qps = 8", "bert.*.target_qps = 5"], 5.0),
        (["*.*.target_qps = 8"], 8.0),
    ],
)
def test_the_line_that_loadgen_itself_would_follow_is_followed(
    tmp_path: Path, lines: list[str], expected: float
) -> None:
    path = conf(tmp_path, *lines)
    own = lg.TestSettings()
    own.FromConfig(path, "bert", "Server", 2)
    assert own.server_target_qps == expected
    asked = request("server", samples=9, user_conf=path)
    assert given_targets(asked) == Targets(expected, 130.0, "user-conf")


def test_the_server_bound_is_mlperfs_unless_the_user_gave_one(tmp_path: Path) -> None:
    path = conf(tmp_path, "bert.Server.target_latency = 50")
    assert server_bound_ms(request("server", samples=9)) == 130.0
    assert server_bound_ms(request("server", samples=9, user_conf=path)) == 50.0
    asked = request("server", samples=9, user_conf=path, target_latency_ms=20.0)
    assert server_bound_ms(asked) == 20.0


def test_user_conf_is_read_past_comments_blanks_and_other_models(tmp_path: Path) -> None:
    path = conf(
        tmp_path,
        "# the machine in the corner",
        "",
        "bert.Offline.target_qps = 12.5  # measured",
        "*.Server.target_latency = 100",
        "bert.*.min_duration = 60000",
        "resnet50.Offline.target_qps = 99",
    )
    assert user_conf.read_user_conf(Path(path)).settings == {
        ("bert", "Offline", "target_qps"): 12.5,
        ("*", "Server", "target_latency"): 100,
        ("bert", "*", "min_duration"): 60000,
    }


@pytest.mark.parametrize(
    "line",
    [
        "target_qps = 5",
        "bert.Offline.target_qps",
        "bert.Offline.target_qps: 5",
        "bert.Offline.target_qps = ",
        "bert.Offlin.target_qps = 5",
        "bert.offline.target_qps = 5",
        "bert.Offline.target_qps = 5 6",
        "[bert]",
    ],
)
def test_a_line_that_loadgen_would_not_understand_is_named(tmp_path: Path, line: str) -> None:
    path = conf(tmp_path, "# first", "*.*.min_duration = 1000", line)
    with pytest.raises(SuiteError) as caught:
        user_conf.read_user_conf(Path(path))
    message = str(caught.value)
    assert f"{path}, line 3: " in message
    assert repr(line.strip()) in message


@pytest.mark.parametrize(
    "line",
    [
        "bert.Server.target_qps = fast",  # given_targets raises ValueError later
        "bert.Server.target_qps = 0",
        "bert.Server.target_qps = -5",
        "bert.Server.target_qps = nan",
        "*.*.min_duration = soon",  # LoadGen passes over it
        "*.*.min_duration = 1e3",  # LoadGen reads 1
    ],
)
def test_a_value_that_is_no_number_loadgen_reads_is_named(tmp_path: Path, line: str) -> None:
    path = conf(tmp_path, line)
    with pytest.raises(SuiteError, match="line 1"):
        user_conf.read_user_conf(Path(path))


@pytest.mark.parametrize("equals", ["=", " =", "= "])
def test_a_line_without_blanks_which_loadgen_would_pass_over_is_refused(
    tmp_path: Path, equals: str
) -> None:
    path = conf(tmp_path, f"bert.Offline.min_query_count{equals}77")
    with pytest.raises(SuiteError, match="line 1"):
        user_conf.read_user_conf(Path(path))


def test_a_key_that_loadgen_does_not_know_is_named(tmp_path: Path) -> None:
    path = conf(tmp_path, "bert.Offline.target_qp = 5")
    with pytest.raises(SuiteError, match="line 1: LoadGen knows no key 'target_qp'"):
        user_conf.read_user_conf(Path(path))


def test_a_user_conf_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"nowhere\.conf can't be read"):
        user_conf.read_user_conf(tmp_path / "nowhere.conf")
    with pytest.raises(SuiteError, match="can't be read"):
        user_conf.read_user_conf(tmp_path)
    (tmp_path / "binary.conf").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SuiteError, match=r"binary\.conf can't be read"):
        user_conf.read_user_conf(tmp_path / "binary.conf")


@given(text=st.text(max_size=80))
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_text_is_read_as_a_user_conf_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        user_conf.read_user_conf(path)
    except SuiteError as error:
        assert "any.conf" in str(error)
