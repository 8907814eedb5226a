"""The header, the table and the remarks of a session, as the terminal shows them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bertsquad.cases import collect
from bertsquad.models import MODELS
from bertsquad.options import Options
from bertsquad.results import FAILED, NO_TARGET, PASSED, Result
from bertsquad.summary import COLUMNS, header, remarks, table, workload

ACCURACY = Result(
    case="minilm-pocket-offline-cpu-fp32",
    mode="accuracy",
    model="minilm",
    dataset="pocket",
    scenario="offline",
    device="cpu",
    precision="fp32",
    rules="quick",
    sample_count=494,
    dataset_samples=494,
    run_dir="results",
    provider="CPUExecutionProvider",
    verdict=PASSED,
    reason="F1 83.527 reaches the target",
    run_time_s=12.34,
    f1=83.5273,
    exact_match=71.4894,
    f1_target=82.6921,
    question_count=470,
    provenance={"model_preparation": "as it is"},
)
SUBSET = replace(
    ACCURACY,
    sample_count=20,
    question_count=17,
    f1_upper_bound=100.0,
    reason="subset: F1 91.176 is not under the target",
)
OFFLINE = replace(
    ACCURACY,
    mode="performance",
    reason="LoadGen calls the run VALID",
    qps=15.767,
    latency_p50_ms=900.0,
    latency_p90_ms=1000.0,
    latency_p99_ms=1100.0,
    target_qps=18.1,
    target_source="probe",
    loadgen_valid=True,
    f1=None,
    exact_match=None,
    f1_target=None,
    question_count=None,
)
STREAM = replace(
    OFFLINE,
    case="minilm-pocket-singlestream-cpu-fp32",
    scenario="singlestream",
    qps=None,
    latency_p50_ms=130.7,
    latency_p90_ms=196.9,
    latency_p99_ms=277.7,
    target_qps=None,
    target_latency_ms=49.6,
)
SERVER = replace(
    OFFLINE,
    case="minilm-pocket-server-cpu-fp32",
    scenario="server",
    latency_p99_ms=None,
    target_latency_ms=130.0,
    target_source="option",
    loadgen_valid=False,
    invalid_reasons=["the latency bound was not kept", "run under --rules quick"],
)
COMPLIANCE = replace(
    OFFLINE,
    mode="compliance",
    reason="TEST01 passes",
    compliance_responses=400,
    compliance_largest_difference=3e-6,
    compliance_speed_ratio=0.9876,
)


def rows(*results: Result) -> list[dict[str, str]]:
    """The table's cells by column; every cell must start where its column's name does."""
    lines = table([result.as_dict() for result in results])
    starts = [lines[0].index(column) for column in COLUMNS]
    found = []
    for line in lines[1:]:
        assert all(line[start - 2 : start] == "  " for start in starts[1:])
        ends = [*starts[1:], len(line)]
        cells = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        found.append(dict(zip(COLUMNS, cells, strict=True)))
    return found


def test_the_table_is_aligned_whatever_is_in_it() -> None:
    found = rows(ACCURACY, SUBSET, OFFLINE, STREAM, SERVER, COMPLIANCE)
    assert [row["mode"] for row in found] == ["accuracy"] * 2 + ["performance"] * 3 + ["compliance"]
    assert {row["provider"] for row in found} == {"CPU"}
    assert {row["time"] for row in found} == {"12.3 s"}


def test_an_accuracy_row_shows_f1_target_and_verdict() -> None:
    (row,) = rows(ACCURACY)
    assert row["F1 / QPS / p90"] == "F1 83.527, EM 71.489"
    assert row["target"] == "F1 82.692"
    assert row["verdict"] == "passed (470 questions)"


def test_a_subset_and_a_missing_target_say_so() -> None:
    subset, without = rows(SUBSET, replace(ACCURACY, f1_target=None, verdict=NO_TARGET))
    assert subset["verdict"] == "passed (subset, 17 questions)"
    assert (without["target"], without["verdict"]) == ("-", "no target (470 questions)")


def test_a_performance_row_shows_the_scenarios_own_figure_and_whose_target_it_was() -> None:
    offline, stream, server = rows(OFFLINE, STREAM, SERVER)
    assert offline["F1 / QPS / p90"] == "15.77 QPS"
    assert offline["target"] == "18.10 QPS (probe)"
    assert offline["p50/p90/p99 ms"] == "-"
    assert stream["F1 / QPS / p90"] == "p90 196.90 ms"
    assert stream["target"] == "49.6 ms (probe)"
    assert stream["p50/p90/p99 ms"] == "130.7/196.9/277.7"
    assert server["target"] == "18.10 QPS, 130.0 ms (option)"
    assert server["p50/p90/p99 ms"] == "900.0/1000.0/-"
    assert [row["verdict"] for row in (offline, stream, server)] == ["VALID", "VALID", "INVALID"]


def test_a_compliance_row_shows_what_was_compared() -> None:
    (row,) = rows(COMPLIANCE)
    assert row["F1 / QPS / p90"] == "400 responses, off by 3e-06 at most"
    assert row["verdict"] == "passed (TEST01, speed x 0.988)"


def lines_below(*results: Result) -> list[str]:
    return remarks([result.as_dict() for result in results])


def test_below_the_table_stands_why_a_result_is_no_plain_success() -> None:
    failed = replace(ACCURACY, verdict=FAILED, reason="F1 60.000 is under the target")
    assert lines_below(failed)[0] == f"{ACCURACY.case}: F1 60.000 is under the target"
    assert lines_below(SUBSET)[0] == f"{ACCURACY.case}: {SUBSET.reason}"
    assert lines_below(SERVER)[0] == (f"{SERVER.case}: {SERVER.reason}")


def test_plain_successes_get_one_remark_that_they_are_not_mlperfs() -> None:
    (line,) = lines_below(ACCURACY, OFFLINE, STREAM)
    assert line.startswith("Not valid MLPerf results")
    assert lines_below(replace(OFFLINE, mlperf_valid=True)) == []


def test_the_header_says_what_is_under_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTSQUAD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    text = "\n".join(header(Options(rules="mlperf", output=tmp_path / "out")))
    for part in (
        "onnxruntime",
        "mlcommons-loadgen",
        "cores; GPU: ",
        "model minilm: ",
        "model bert_large: MLPerf's BERT-large, fp32, 1.34 GB",
        "data set pocket: ",
        "data set squad: SQuAD v1.1 dev set, 10,570 questions",
        "rules: mlperf",
        *(str(tmp_path / name) for name in ("data", "cache", "out")),
    ):
        assert part in text


def test_the_header_leaves_out_what_was_not_asked_for() -> None:
    text = "\n".join(header(Options(models=(MODELS["minilm"],))))
    assert "bert_large" not in text
    assert "squad:" not in text


def test_the_workload_counts_the_cases_and_tells_seconds_from_minutes() -> None:
    quick = Options(models=(MODELS["minilm"],), devices=("cpu",))
    mlperf = replace(quick, rules="mlperf")
    cases = [(case, "performance") for case in collect(quick)]
    assert re.match(r"1 cases to run, about \d\d? s on this machine", workload(cases[:1], quick))
    assert re.match(r"4 cases to run, about 4\d min on this machine", workload(cases, mlperf))


def test_a_model_that_had_to_be_padded_is_remarked_upon() -> None:
    note = "needs 384 tokens always, so every sample is padded"
    padded = replace(ACCURACY, provenance={"model_preparation": note})
    assert any("minilm: run padded" in line for line in lines_below(padded))
    assert not any("run padded" in line for line in lines_below(ACCURACY))


def test_a_case_that_failed_without_a_result_has_a_row_too() -> None:
    died = {"case": "minilm-pocket-server-cpu-fp32", "mode": "performance"}
    lines = table([ACCURACY.as_dict(), {**died, "verdict": FAILED, "reason": "it was killed"}])
    assert lines[2].split()[0] == died["case"]
    assert lines[2].endswith("failed")


def test_a_model_whose_cached_copy_was_damaged_is_told() -> None:
    note = "as it is (rebuilt, since the cached copy was damaged)"
    rebuilt = replace(ACCURACY, provenance={"model_preparation": note})
    assert f"minilm: {note}" in remarks([rebuilt.as_dict()])
    assert not any("rebuilt" in line for line in remarks([ACCURACY.as_dict()]))


def test_what_disturbed_a_run_is_told_beside_it() -> None:
    disturbed = replace(OFFLINE, warnings=["other processes used 40% of the CPU"])
    lines = remarks([disturbed.as_dict()])
    assert (
        "minilm-pocket-offline-cpu-fp32, performance: other processes used 40% of the CPU" in lines
    )
