"""What to do about a result that is no plain success, and that it helps when it is done."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given as given_any
from hypothesis import strategies as st
from made import ACCURACY, COMPLIANCE, OFFLINE, SERVER, STREAM, SUBSET

from bertsquad.loadgen import reading, work
from bertsquad.loadgen.logs import Cause
from bertsquad.machine.noise import Disturbance
from bertsquad.models.zoo import find
from bertsquad.results.advice import Advice, advise, steadiness
from bertsquad.results.result import FAILED, NO_TARGET, UNDECIDED, Result
from bertsquad.squad.datasets import DATASETS
from bertsquad.suite.cases import Case, collect
from bertsquad.suite.flags import OPTIONS
from bertsquad.suite.harness import Harness
from bertsquad.suite.options import Options


def cause(kind: str, found: int | None = None, needed: int | None = None) -> Cause:
    return Cause(kind, f"it lacks {kind}", found, needed)


def invalid(result: Result, *causes: Cause) -> Result:
    reason = f"LoadGen calls the run INVALID: {'; '.join(cause.reason for cause in causes)}"
    return replace(result, loadgen_valid=False, reason=reason, invalid_causes=list(causes))


def advice(result: Result) -> Advice:
    (only,) = advise(result)
    return only


KINDS = """latency_bound min_duration min_queries early_stopping max_duration max_query_count
max_async_queries error something_new""".split()
FIELDS = {option.flag: option for option in OPTIONS}
MULTISTREAM = replace(STREAM, scenario="multistream", run_time_s=3.0)


@pytest.mark.parametrize("result", [ACCURACY, OFFLINE, STREAM, COMPLIANCE])
def test_a_plain_success_needs_no_advice(result: Result) -> None:
    assert advise(result) == []


@pytest.mark.parametrize(
    ("result", "options"),
    [
        # Offline's query was prepared for 18.1 samples/s; 1.2 times the 15.767 measured is 18.92.
        (invalid(OFFLINE, cause("min_duration")), ["--target-qps 19"]),
        # The median of 130.7 ms, over 1.2.
        (invalid(STREAM, cause("min_duration")), ["--target-latency-ms 100"]),
        (invalid(MULTISTREAM, cause("min_duration")), ["--target-latency-ms 100"]),
        # 121 queries took 3 s, so 662 take 16.4, and a fifth is left for slower ones.
        (invalid(MULTISTREAM, cause("early_stopping", 121, 662)), ["--min-duration-s 20"]),
        (invalid(MULTISTREAM, cause("min_queries", 121, 662)), ["--min-duration-s 20"]),
        (
            invalid(MULTISTREAM, cause("min_duration"), cause("early_stopping", 121, 662)),
            ["--target-latency-ms 100", "--min-duration-s 20"],
        ),
        # 459 queries at 18.1 a second take 25.4 s.
        (invalid(SERVER, cause("early_stopping", 300, 459)), ["--min-duration-s 31"]),
        (invalid(SERVER, cause("early_stopping", 64, 459)), ["--min-duration-s 31"]),
        (
            invalid(SERVER, cause("early_stopping", 300, 4590)),
            ["--min-duration-s 310", "--target-qps 12"],
        ),
        # 0.7 times what was answered, 15.767 samples/s; more queries at that rate would not help.
        (
            invalid(SERVER, cause("latency_bound"), cause("early_stopping", 300, 459_000)),
            ["--target-qps 11"],
        ),
        (
            invalid(OFFLINE, cause("min_duration"), cause("max_duration"), cause("min_queries")),
            [],
        ),
    ],
)
def test_each_reason_for_invalid_has_the_options_that_cure_it(
    result: Result, options: list[str]
) -> None:
    given = advice(result)
    assert given.matter == result.reason
    assert re.findall(r"--[a-z-]+ [\d.]+", given.cure) == options


@given_any(
    st.sampled_from([OFFLINE, STREAM, MULTISTREAM, SERVER, replace(COMPLIANCE, verdict=FAILED)]),
    st.lists(st.sampled_from(KINDS), unique=True),
    st.integers(0, 10**9),
    st.integers(1, 10**9) | st.none(),
    st.floats(1e-6, 1e9),
)
def test_whatever_was_measured_the_advice_has_options_that_the_suite_takes(
    result: Result, kinds: list[str], found: int, needed: int | None, figure: float
) -> None:
    measured: dict[str, Any] = {"qps": figure, "latency_p50_ms": figure, "run_time_s": figure}
    result = replace(result, target_qps=figure, target_latency_ms=figure, **measured)
    result = invalid(result, *(cause(kind, found, needed) for kind in kinds))
    for given in advise(result):
        assert given.matter
        for flag, value in re.findall(r"(--[a-z-]+) ([\d.e+-]+)", given.cure):
            assert FIELDS[flag].parse(value)


def test_a_target_of_the_users_is_told_where_it_came_from() -> None:
    short = invalid(OFFLINE, cause("min_duration"))
    assert advice(short).cure == "--target-qps 19 makes its query large enough"
    by_option = advice(replace(short, target_source="option")).cure
    assert by_option.endswith("; without that option a probe sets it")
    by_file = advice(replace(short, target_source="user-conf")).cure
    assert by_file.endswith("; the option overrides the user.conf")


@pytest.mark.parametrize("kind", ["max_duration", "max_query_count", "max_async_queries"])
def test_a_run_that_the_user_conf_ended_early_needs_that_line_changed_and_nothing_else(
    kind: str,
) -> None:
    result = invalid(STREAM, cause("min_duration"), cause("early_stopping", 7, 64), cause(kind))
    assert advice(result).cure == f"take {kind} out of the user.conf, or raise it"


#: A run of 3 s and 64 queries at least, which a user.conf that sets nothing lets be.
STREAM_SETTINGS = work.usual("singlestream", "quick")
SHORT = replace(
    STREAM, run_time_s=2.0, query_count=10, buffer_size=40, min_duration_s=0.0, min_query_count=10
)


@pytest.mark.parametrize(
    ("result", "causes", "settings", "cure"),
    [
        # As a short test run is often asked for: LoadGen calls nothing an early end.
        (
            SHORT,
            [cause("early_stopping", 10, 64)],
            {"max_query_count": 10},
            "take max_query_count out of the user.conf, or raise it; then --min-duration-s 16 has "
            "64 queries",
        ),
        # 64 queries take 12.8 s, and a fifth more is left for slower ones.
        (
            SHORT,
            [cause("early_stopping", 10, 64)],
            {"max_duration": 15_000, "max_query_count": 100},
            "take max_duration out of the user.conf, or raise it; then --min-duration-s 16 has 64 "
            "queries",
        ),
        (
            SHORT,
            [cause("early_stopping", 10, 64)],
            {"max_duration": 60_000, "max_query_count": 100},
            "--min-duration-s 16 has 64 queries",
        ),
        # Both at once, as the second would end the run that the first no longer does.
        (
            SHORT,
            [cause("early_stopping", 10, 64), cause("max_query_count")],
            {"max_query_count": 10, "max_duration": 5000},
            "take max_query_count and max_duration out of the user.conf, or raise them; then "
            "--min-duration-s 16 has 64 queries",
        ),
        # Nothing else, where the run goes on until early stopping has what it wants.
        (
            replace(SHORT, min_query_count=64),
            [cause("min_queries"), cause("early_stopping", 10, 64), cause("max_query_count")],
            {"max_query_count": 10},
            "take max_query_count out of the user.conf, or raise it",
        ),
        (
            replace(SHORT, query_count=40, min_query_count=64),
            [cause("min_queries"), cause("early_stopping", 40, 64), cause("min_duration")],
            {"performance_issue_unique": 1},
            "take performance_issue_unique out of the user.conf",
        ),
        (
            replace(OFFLINE, min_duration_s=3.0, buffer_size=20),
            [cause("min_duration")],
            {"performance_issue_unique": 1},
            "take performance_issue_unique out of the user.conf",
        ),
        (
            replace(OFFLINE, min_duration_s=3.0, target_qps=2.0),
            [cause("min_duration")],
            {"performance_issue_unique": 1},
            "take performance_issue_unique out of the user.conf; then --target-qps 19 makes its "
            "query large enough",
        ),
        # They end no Offline run.
        (
            replace(OFFLINE, min_duration_s=3.0),
            [cause("min_duration")],
            {"max_query_count": 1, "max_duration": 1},
            "--target-qps 19 makes its query large enough",
        ),
    ],
)
def test_no_advice_works_against_a_limit_of_the_user_conf(
    result: Result, causes: list[Cause], settings: dict[str, float], cure: str
) -> None:
    ran = invalid(replace(result, settings=STREAM_SETTINGS | settings), *causes)
    assert advise(ran)[0].cure == cure


def test_a_longer_run_is_no_advice_where_the_user_conf_ends_it() -> None:
    halved = course(*[1.25] * 5, *[0.5] * 5)
    ended = replace(
        STREAM, timeline=halved, query_count=100, settings={"max_duration": 20_000}, rules="quick"
    )
    assert "--min-duration-s" not in advise(ended)[-1].cure
    silent = replace(COMPLIANCE, verdict=FAILED, scenario="singlestream", compliance_responses=0)
    cure = advise(replace(silent, settings={"max_query_count": 100}))[0].cure
    assert cure.startswith(
        "take max_query_count out of the user.conf, or raise it; then a longer --min"
    )


def test_a_run_under_settings_of_a_user_conf_says_so_beside_its_figures() -> None:
    settings = work.usual("multistream", "quick")
    assert advise(replace(MULTISTREAM, settings=settings)) == []
    given = advice(replace(MULTISTREAM, settings=settings | {"samples_per_query": 2}))
    assert given.matter == "the user.conf set samples_per_query 2 (usually 8)"
    assert "compare these figures only with those of runs under the same settings" in given.cure


def test_where_no_query_keeps_the_bound_no_lower_rate_is_promised() -> None:
    curve = {"latency": {"percentile": [0.0, 50.0], "ms": [140.21, 300.0]}}
    result = replace(invalid(SERVER, cause("latency_bound")), timeline=curve)
    assert "the fastest query took 150 ms, so no rate keeps 130 ms" in advice(result).cure
    assert "--target-qps" not in advice(result).cure


def test_a_compliance_run_shows_both_what_loadgen_and_what_the_audit_says() -> None:
    first, second = advise(
        replace(
            invalid(COMPLIANCE, cause("min_duration")), verdict=FAILED, reason="TEST01: too slow"
        )
    )
    assert first.matter == "LoadGen calls the run INVALID: it lacks min_duration"
    assert second.matter == "TEST01: too slow"


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"compliance_responses": 0}, "--min-duration-s"),
        ({"compliance_largest_difference": 0.7}, "--device cpu"),
        ({"compliance_speed_ratio": 0.85}, '-k "offline and (performance or compliance)"'),
    ],
)
def test_a_failed_audit_says_what_to_do(changes: dict[str, Any], cure: str) -> None:
    assert cure in advice(replace(COMPLIANCE, verdict=FAILED, reason="TEST01", **changes)).cure


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"precision": "int8"}, "--precision fp32"),
        ({"device": "openvino"}, "--device cpu"),
        ({}, "--reference-f1"),
        ({"f1": 90.0}, ""),  # it reached its target, but its result could not be written
    ],
)
def test_a_missed_f1_says_how_to_find_what_costs_it(changes: dict[str, Any], cure: str) -> None:
    missed = replace(ACCURACY, verdict=FAILED, f1=60.0, reason="F1 60.000 is under the target")
    given = advice(replace(missed, **changes))
    assert given.matter == missed.reason
    assert cure in given.cure
    assert bool(cure) is bool(given.cure)


def test_f1_without_a_target_or_too_little_of_it_says_which_option_helps() -> None:
    assert "--reference-f1" in advice(replace(ACCURACY, verdict=NO_TARGET)).cure
    assert "--dataset-size" in advice(replace(ACCURACY, verdict=UNDECIDED)).cure


def test_a_subset_that_passed_shows_the_bound_it_was_judged_by() -> None:
    assert advice(SUBSET) == Advice(SUBSET.reason)


def test_a_disturbance_is_told_with_its_cure() -> None:
    disturbed = Disturbance("others took 40% of it", "run it again")
    warned = replace(OFFLINE, disturbances=[disturbed], warnings=[str(disturbed)])
    assert advise(warned) == [Advice("others took 40% of it", "run it again")]


def test_a_warning_of_an_older_result_is_told_as_it_is() -> None:
    warned = replace(OFFLINE, warnings=["others took 40% of it: run it again"])
    assert advise(warned) == [Advice("others took 40% of it: run it again")]


def test_what_no_run_of_the_suite_leaves_is_survived() -> None:
    nothing: dict[str, Any] = {"target_qps": None, "target_latency_ms": None}
    for kind in KINDS:
        result = replace(invalid(SERVER, cause(kind, 5, 64)), **nothing)
        assert advice(result).matter == result.reason


def course(*relative_speed: float) -> dict[str, Any]:
    return {"course": {"span_s": 0.1, "samples_per_s": [], "relative_speed": list(relative_speed)}}


def test_a_run_that_slowed_down_on_the_way_says_so() -> None:
    halved = replace(OFFLINE, timeline=course(*[1.25] * 5, *[0.5] * 5))
    given = advice(halved)
    assert "the slowest part of the run calculated at 40% of the fastest's speed" in given.matter
    assert "--min-duration-s 130" in given.cure  # ten times as long as it took
    assert "--min-duration-s" not in advice(replace(halved, rules="mlperf")).cure
    usual = replace(OFFLINE, timeline=course(*[1.0] * 5, *[0.7] * 5))
    assert advise(usual) == []
    # One batch after the other varies less.
    single = replace(usual, scenario="singlestream", timeline=course(*[1.0] * 5, *[0.65] * 5))
    assert "65% of the fastest's" in advice(single).matter
    assert advise(replace(halved, mode="accuracy")) == []


def test_single_spans_that_stand_still_or_out_are_no_wide_spread() -> None:
    assert steadiness([1000.0] * 99 + [1500.0]) == pytest.approx(1000 / 1050)
    assert steadiness([0.0, 1000.0] * 50) == 1.0
    assert steadiness([1000.0, 10.0, 1000.0]) is None
    assert steadiness([]) is None


# Whether it helps: each run is provoked, then run again as advised, as a user would.

Given = Mapping[str, Any]


def run(folder: Path, scenario: str, given: Given) -> Result:
    options = Options(
        models=(find(str(folder / "tiny.onnx")),), devices=("cpu",), output=folder, **given
    )
    (case,) = (case for case in collect(options) if case.scenario == scenario)
    harness = Harness(options)
    try:
        return harness.run(
            Case(case.model, DATASETS["pocket"], scenario, "cpu", "fp32"), "performance"
        )
    finally:
        harness.close()


def missed(result: Result) -> set[str]:
    return {cause.kind for cause in result.invalid_causes}


def as_advised(result: Result, given: Given) -> Given:
    """The options of the first way out that the advice on an INVALID run names."""
    cure = next(one for one in advise(result) if "INVALID" in one.matter).cure
    changed = dict(given)
    if removal := re.search(r"take (.+?) out of the user\.conf(, or raise (it|them))?", cure):
        path = Path(changed.pop("user_conf").file)
        lines = path.read_text(encoding="utf-8").splitlines()
        keys = removal[1].split(" and ")
        kept = [line for line in lines if line.split()[0].rpartition(".")[2] not in keys]
        path.write_text("\n".join(kept), encoding="utf-8")
        if kept:
            changed["user_conf"] = reading.read(path)
        cure = cure.replace(removal[0], "")
    for flag, value in re.findall(r"(--[a-z-]+) ([\d.]+)", cure.partition(", or ")[0]):
        changed[FIELDS[flag].field] = FIELDS[flag].parse(value)
    assert changed != given, cure
    return changed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "kinds", "given", "conf"),
    [
        ("offline", {"min_duration"}, {"target_qps": 300.0, "min_duration_s": 1.0}, ""),
        (
            "singlestream",
            {"min_duration"},
            {"target_latency_ms": 1000.0, "min_duration_s": 1.0},
            "",
        ),
        (
            "multistream",
            {"min_duration", "early_stopping"},
            {"target_latency_ms": 1000.0, "min_duration_s": 1.0},
            "",
        ),
        ("multistream", {"early_stopping"}, {"min_duration_s": 0.3}, ""),
        (
            "singlestream",
            {"early_stopping"},
            {"min_duration_s": 0.03},
            "*.SingleStream.min_query_count = 1",
        ),
        ("server", {"early_stopping"}, {"target_qps": 100.0, "min_duration_s": 1.0}, ""),
        (
            "server",
            {"latency_bound"},
            {"target_qps": 5000.0, "min_duration_s": 2.0},
            "",
        ),
        ("singlestream", {"max_duration"}, {"min_duration_s": 1.0}, "*.*.max_duration = 50"),
        ("server", {"max_query_count"}, {"target_qps": 600.0}, "*.*.max_query_count = 70"),
        ("server", {"max_async_queries"}, {"target_qps": 600.0}, "*.*.max_async_queries = 1"),
        (
            "singlestream",
            {"early_stopping"},
            {},
            "*.*.max_query_count = 10\n*.*.min_query_count = 10\n*.*.min_duration = 0",
        ),
        (
            "singlestream",
            {"early_stopping"},
            {},
            "*.*.max_query_count = 10\n*.*.max_duration = 30\n*.*.min_query_count = 1\n"
            "*.*.min_duration = 40",
        ),
        (
            "multistream",
            {"early_stopping"},
            {},
            "*.*.max_duration = 400\n*.*.min_duration = 200",
        ),
        ("multistream", {"early_stopping"}, {}, "*.*.performance_issue_unique = 1"),
        ("offline", {"min_duration"}, {}, "*.*.performance_issue_unique = 1"),
        ("server", {"early_stopping"}, {"target_qps": 100.0}, "*.*.max_query_count = 3000"),
    ],
)
def test_what_is_advised_cures_the_run(
    tmp_path: Path, scenario: str, kinds: set[str], given: Given, conf: str
) -> None:
    tiny.model(tmp_path / "tiny.onnx", slow=True)
    if conf:
        (tmp_path / "user.conf").write_text(f"{conf}\n", encoding="utf-8")
        given = {**given, "user_conf": reading.read(tmp_path / "user.conf")}
    result = run(tmp_path, scenario, given)
    assert kinds <= missed(result)
    for _ in range(6):  # a busy machine may be slower than it was just before
        given = as_advised(result, given)
        result = run(tmp_path, scenario, given)
        if not kinds & missed(result):
            return
    raise AssertionError((given, result.invalid_reasons))
