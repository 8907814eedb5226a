"""What LoadGen is told to do, and what its logs are understood to say."""

import json
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bertsquad import loadgen
from bertsquad.errors import SuiteError
from bertsquad.loadgen import MODES, RULES, SCENARIOS, Request, Run, Targets

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
    return Request(**{"scenario": scenario, "mode": mode, "rules": "quick", "folder": ""} | others)


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
        made = loadgen.settings(request(scenario, mode, rules=rules, samples=494), targets)
        assert {name: getattr(made, name) for name in SEEDS} == SEEDS, f"run {again}"
        assert made.scenario == getattr(lg.TestScenario, SCENARIOS[scenario].loadgen_name)
        accuracy = mode == "accuracy"
        assert made.mode == (lg.TestMode.AccuracyOnly if accuracy else lg.TestMode.PerformanceOnly)
        assert made.min_duration_ms == (600_000 if rules == "mlperf" else 3_000)
        queries = MLPERF_QUERIES if rules == "mlperf" else loadgen.QUICK_QUERIES
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
    assert loadgen.goal(asked, loadgen.settings(asked, None)) == goal


def test_settings_of_one_run_leave_no_trace_in_the_next(tmp_path: Path) -> None:
    path = conf(tmp_path, "*.*.min_duration = 1234", "bert.Server.target_latency = 20")
    loadgen.settings(request("server", samples=9, user_conf=path, buffer_size=3), None)
    for scenario in SCENARIOS:
        made = loadgen.settings(request(scenario, rules="mlperf", samples=9), None)
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
    made = loadgen.settings(request(scenario, samples=9), targets)
    assert getattr(made, attribute) == expected


def test_server_does_not_wait_for_its_rate_in_accuracy_mode() -> None:
    made = loadgen.settings(request("server", "accuracy", rules="mlperf", samples=10_833), None)
    assert made.server_target_qps >= 10_000


@pytest.mark.parametrize(("buffer", "expected"), [(None, 20), (5, 5), (20, 20), (10_833, 20)])
def test_the_buffer_is_never_larger_than_the_samples_that_are_run(
    buffer: int | None, expected: int
) -> None:
    made = loadgen.settings(request(samples=20, buffer_size=buffer), None)
    assert made.performance_sample_count_override == expected


def test_user_conf_wins_over_the_quick_defaults_and_options_over_user_conf(
    tmp_path: Path,
) -> None:
    path = conf(tmp_path, "*.*.min_duration = 1234", "bert.Offline.min_query_count = 77")
    made = loadgen.settings(request(samples=9, user_conf=path), None)
    assert (made.min_duration_ms, made.min_query_count) == (1234, 77)
    made = loadgen.settings(request(samples=9, user_conf=path, min_duration_s=0.5), None)
    assert (made.min_duration_ms, made.min_query_count) == (500, 77)
    assert {name: getattr(made, name) for name in SEEDS} == SEEDS


def test_user_conf_lines_of_another_scenario_or_model_change_nothing(tmp_path: Path) -> None:
    path = conf(
        tmp_path, "bert.Server.min_duration = 1", "resnet50.*.min_duration = 2", "# a comment", ""
    )
    made = loadgen.settings(request(samples=9, user_conf=path), None)
    assert made.min_duration_ms == 3_000


def test_user_conf_cannot_turn_an_accuracy_run_into_another(tmp_path: Path) -> None:
    path = conf(tmp_path, "*.*.mode = 2")
    made = loadgen.settings(request(mode="accuracy", samples=9, user_conf=path), None)
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
    both = loadgen.given_targets(request(scenario, samples=9, user_conf=path, **given))
    assert of(both) == (3.0, "option")
    of_conf = loadgen.given_targets(request(scenario, samples=9, user_conf=path))
    assert of(of_conf) == (7.5, "user-conf")
    assert loadgen.given_targets(request(scenario, samples=9)) is None
    other = conf(tmp_path, f"bert.{name}.min_duration = 1000", f"resnet50.{name}.{key} = 9")
    assert loadgen.given_targets(request(scenario, samples=9, user_conf=other)) is None


def test_a_target_that_the_scenario_does_not_have_leaves_the_probe_its_work() -> None:
    assert loadgen.given_targets(request("offline", samples=9, target_latency_ms=5.0)) is None
    assert loadgen.given_targets(request("singlestream", samples=9, target_qps=5.0)) is None
    assert loadgen.given_targets(request("server", samples=9, target_latency_ms=5.0)) is None


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
    asked = Request("server", "performance", "quick", "", 9, user_conf=path)
    assert loadgen.given_targets(asked) == Targets(expected, 130.0, "user-conf")


def test_the_server_bound_is_mlperfs_unless_the_user_gave_one(tmp_path: Path) -> None:
    path = conf(tmp_path, "bert.Server.target_latency = 50")
    assert loadgen.server_bound_ms(request("server", samples=9)) == 130.0
    assert loadgen.server_bound_ms(request("server", samples=9, user_conf=path)) == 50.0
    asked = request("server", samples=9, user_conf=path, target_latency_ms=20.0)
    assert loadgen.server_bound_ms(asked) == 20.0


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
    assert loadgen.read_user_conf(Path(path)) == {
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
        loadgen.read_user_conf(Path(path))
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
        loadgen.read_user_conf(Path(path))


@pytest.mark.parametrize("equals", ["=", " =", "= "])
def test_a_line_without_blanks_which_loadgen_would_pass_over_is_refused(
    tmp_path: Path, equals: str
) -> None:
    path = conf(tmp_path, f"bert.Offline.min_query_count{equals}77")
    with pytest.raises(SuiteError, match="line 1"):
        loadgen.read_user_conf(Path(path))


def test_a_key_that_loadgen_does_not_know_is_named(tmp_path: Path) -> None:
    path = conf(tmp_path, "bert.Offline.target_qp = 5")
    with pytest.raises(SuiteError, match="line 1: LoadGen knows no key 'target_qp'"):
        loadgen.read_user_conf(Path(path))


def test_a_user_conf_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"nowhere\.conf can't be read"):
        loadgen.read_user_conf(tmp_path / "nowhere.conf")
    with pytest.raises(SuiteError, match="can't be read"):
        loadgen.read_user_conf(tmp_path)
    (tmp_path / "binary.conf").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SuiteError, match=r"binary\.conf can't be read"):
        loadgen.read_user_conf(tmp_path / "binary.conf")


@given(text=st.text(max_size=80))
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_text_is_read_as_a_user_conf_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        loadgen.read_user_conf(path)
    except SuiteError as error:
        assert "any.conf" in str(error)


# A detail log, written as LoadGen writes it.


def mllog(key: str, value: object, is_error: bool = False) -> str:
    record = {
        "key": key,
        "value": value,
        "time_ms": 1.5,
        "namespace": "mlperf::logging",
        "event_type": "POINT_IN_TIME",
        "metadata": {"is_error": is_error, "is_warning": False, "file": "x.cc", "line_no": 1},
    }
    return f":::MLLOG {json.dumps(record)}\n"


def performance_log(**values: object) -> str:
    told = {
        "effective_test_mode": "PerformanceOnly",
        "power_end": "now",
        "result_validity": "VALID",
        **values,
        "num_errors": 0,
    }
    return "".join(mllog(key, value) for key, value in told.items())


def written(folder: Path, text: str) -> Path:
    (folder / loadgen.DETAIL).write_text(text, encoding="utf-8")
    return folder


def test_a_valid_run_is_read_with_the_last_value_of_each_key(tmp_path: Path) -> None:
    text = mllog("result_validity", "INVALID") + "some chatter\n" + performance_log(a=1)
    run = loadgen.read_run(written(tmp_path, text + mllog("a", 2)))
    assert run.valid
    assert run.invalid_reasons == []
    assert run.values["a"] == 2


def test_a_value_with_a_raw_line_end_in_it_is_read(tmp_path: Path) -> None:
    line = mllog("result_invalid_reason", "TAB").replace("TAB", "Increase\tduration")
    assert loadgen.read_run(written(tmp_path, line + performance_log())).valid


def test_a_missing_detail_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError) as caught:
        loadgen.read_run(tmp_path)
    assert str(caught.value) == f"{tmp_path / loadgen.DETAIL} can't be read: No such file or " + (
        "directory"
    )


@pytest.mark.parametrize("mode", ["PerformanceOnly", "AccuracyOnly"])
def test_a_log_cut_at_a_line_end_is_called_cut_short(tmp_path: Path, mode: str) -> None:
    text = mllog("effective_test_mode", mode) + mllog("result_validity", "VALID")
    with pytest.raises(SuiteError, match=f"{loadgen.DETAIL} was cut short"):
        loadgen.read_run(written(tmp_path, text))


def test_an_empty_log_is_called_cut_short(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="cut short"):
        loadgen.read_run(written(tmp_path, ""))


def test_a_log_cut_anywhere_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    text = performance_log(result_samples_per_second=12.5)
    for size in range(len(text) - 2):
        with pytest.raises(SuiteError, match=loadgen.DETAIL):
            loadgen.read_run(written(tmp_path, text[:size]))


@pytest.mark.parametrize(
    "body", ["{", "[]", "1", "null", '"text"', "{}", '{"key": "a"}', '{"key": [], "value": 1}']
)
def test_a_garbled_line_is_called_so(tmp_path: Path, body: str) -> None:
    text = performance_log() + f":::MLLOG {body}\n"
    with pytest.raises(SuiteError, match="is not a whole LoadGen detail log"):
        loadgen.read_run(written(tmp_path, text))


def test_bytes_that_are_no_text_are_no_traceback(tmp_path: Path) -> None:
    (tmp_path / loadgen.DETAIL).write_bytes(bytes(range(256)) * 10)
    with pytest.raises(SuiteError, match=loadgen.DETAIL):
        loadgen.read_run(tmp_path)


def test_an_accuracy_run_is_whole_without_results(tmp_path: Path) -> None:
    text = mllog("effective_test_mode", "AccuracyOnly") + mllog("power_end", "now")
    assert loadgen.read_run(written(tmp_path, text)).values["power_end"] == "now"


def test_an_error_that_loadgen_logged_makes_the_run_invalid_and_is_shown(tmp_path: Path) -> None:
    text = mllog("error_runtime", "ran out of queries\n", is_error=True) + performance_log()
    run = loadgen.read_run(written(tmp_path, text))
    assert not run.valid
    assert run.invalid_reasons == ["LoadGen: ran out of queries"]


@pytest.mark.parametrize(
    ("values", "reasons"),
    [
        ({"result_perf_constraints_met": False}, ["the latency bound was not kept"]),
        (
            {"result_min_duration_met": False},
            ["the run was shorter than the minimum duration"],
        ),
        (
            {"result_min_queries_met": False},
            ["the run had fewer queries than the minimum"],
        ),
        (
            {"early_stopping_met": False, "early_stopping_result": " * Too\n   few queries. "},
            ["early stopping: Too few queries."],
        ),
        ({"result_invalid_reason": " Increase the target. "}, ["Increase the target."]),
        (
            {"result_min_duration_met": False, "result_invalid_reason": "Increase it."},
            ["the run was shorter than the minimum duration"],
        ),
        ({"result_min_queries_met": True, "early_stopping_met": True}, []),
    ],
)
def test_an_invalid_run_says_why(
    tmp_path: Path, values: dict[str, object], reasons: list[str]
) -> None:
    text = performance_log(**{"result_validity": "INVALID"} | values)
    run = loadgen.read_run(written(tmp_path, text))
    assert not run.valid
    assert run.invalid_reasons == reasons


@pytest.mark.parametrize(
    ("said", "needed"),
    [
        (" * Only processed 121 queries.\n * Need to process at least 662 queries for it.", 662),
        (" * Processed 121 queries.\n * Would need to run at least 338 more queries,\n with", 459),
    ],
)
def test_early_stopping_tells_how_many_queries_it_had_and_needs(
    tmp_path: Path, said: str, needed: int
) -> None:
    values = {"early_stopping_met": False, "early_stopping_result": said}
    text = performance_log(result_validity="INVALID", result_query_count=121, **values)
    (cause,) = loadgen.read_run(written(tmp_path, text)).invalid_causes
    assert (cause.kind, cause.found, cause.needed) == ("early_stopping", 121, needed)
    assert cause.reason == (
        f"early stopping: 121 queries were processed, {needed} or more are needed"
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("Ending early: Ran out of generated queries to issue before", "min_duration"),
        ("IssueQueryThread 0 Ending early: Max test duration reached.", "max_duration"),
        ("IssueQueryThread 0 Ending early: Max query count reached.", "max_query_count"),
        ("IssueQueryThread 0 Ending early: Too many outstanding queries.", "max_async_queries"),
        ("Performance_issue_unique and performance_issue_same, both", "error"),
    ],
)
def test_an_error_of_loadgens_tells_what_ended_the_run(
    tmp_path: Path, error: str, kind: str
) -> None:
    text = mllog("error_runtime", error, is_error=True) + performance_log()
    (cause,) = loadgen.read_run(written(tmp_path, text)).invalid_causes
    assert (cause.kind, cause.reason) == (kind, f"LoadGen: {error}")


def test_metrics_are_samples_a_second_or_milliseconds() -> None:
    run = Run(
        Path(),
        {
            "result_samples_per_second": 12.5,
            "result_completed_samples_per_sec": 7,
            "early_stopping_latency_ss": 1_500_000,
            "early_stopping_latency_ms": 0,
            "result_99.00_percentile_latency_ns": 2_500_000,
        },
        (),
    )
    assert run.metric(SCENARIOS["offline"]) == 12.5
    assert run.metric(SCENARIOS["server"]) == 7.0
    assert run.metric(SCENARIOS["singlestream"]) == 1.5
    assert run.metric(SCENARIOS["multistream"]) is None
    assert run.latency_ms(99) == 2.5
    assert run.latency_ms(50) is None
    assert Run(Path(), {}, ()).metric(SCENARIOS["offline"]) is None


def entry(sample: int, logits: np.ndarray[Any, Any]) -> dict[str, object]:
    data = logits.astype(np.float32).tobytes().hex().upper()
    return {"seq_id": sample, "qsl_idx": sample, "data": data}


def accuracy_log(folder: Path, content: object) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / loadgen.ACCURACY).write_text(text, encoding="utf-8")
    return folder


def test_logits_are_read_by_sample_with_their_own_lengths_and_the_last_of_repeats(
    tmp_path: Path,
) -> None:
    first, short, last = (np.arange(2 * n).reshape(n, 2) + n for n in (5, 3, 5))
    log = [entry(4, first * 0), entry(1, short), entry(4, last)]
    found = loadgen.read_accuracy_log(accuracy_log(tmp_path, log))
    assert sorted(found) == [1, 4]
    assert (found[4] == last).all()
    assert found[1].shape == (3, 2)
    assert found[1].dtype == np.float32


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "null",
        "1",
        '{"qsl_idx": 1}',
        "[1]",
        "[null]",
        "[{}]",
        '[{"qsl_idx": 1}]',
        '[{"qsl_idx": "x", "data": ""}]',
        '[{"qsl_idx": null, "data": ""}]',
        '[{"qsl_idx": 1, "data": 5}]',
        '[{"qsl_idx": 1, "data": "no hex"}]',
        '[{"qsl_idx": 1, "data": "0000"}]',
        '[{"qsl_idx": 1, "data": "00000000"}]',
    ],
)
def test_a_garbled_accuracy_log_is_called_so(tmp_path: Path, content: str) -> None:
    with pytest.raises(SuiteError, match=f"{loadgen.ACCURACY} is not a whole LoadGen accuracy"):
        loadgen.read_accuracy_log(accuracy_log(tmp_path, content))


def test_an_accuracy_log_cut_anywhere_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    text = json.dumps([entry(0, np.zeros((2, 2))), entry(1, np.ones((2, 2)))])
    for size in range(len(text)):
        with pytest.raises(SuiteError, match=loadgen.ACCURACY):
            loadgen.read_accuracy_log(accuracy_log(tmp_path, text[:size]))


def test_a_missing_accuracy_log_and_one_of_bytes_are_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=f"{loadgen.ACCURACY} can't be read: No such file"):
        loadgen.read_accuracy_log(tmp_path)
    (tmp_path / loadgen.ACCURACY).write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(SuiteError, match=loadgen.ACCURACY):
        loadgen.read_accuracy_log(tmp_path)
