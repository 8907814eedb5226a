"""The table and the remarks below it, as the terminal shows them."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import ACCURACY, COMPLIANCE, LOSS, OFFLINE, SERVER, STREAM, SUBSET, on_nodes

from bertsquad.machine.noise import Disturbance
from bertsquad.results.guessing import Doubt
from bertsquad.results.result import FAILED, NO_TARGET, SKIPPED, UNDECIDED, Missing, Result
from bertsquad.results.table import COLUMNS, lines, remarks, table


def rows(*results: Result) -> list[dict[str, str]]:
    """The table's cells by column; every cell must start where its column's name does."""
    lines = table(results)
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
    assert row["result"] == "F1 83.527, EM 71.489"
    assert row["target"] == "F1 82.692"
    assert row["verdict"] == "passed (470 questions)"


def test_a_subset_and_a_missing_target_say_so() -> None:
    subset, without = rows(SUBSET, replace(ACCURACY, f1_target=None, verdict=NO_TARGET))
    assert subset["verdict"] == "passed (subset, 17 questions)"
    assert (without["target"], without["verdict"]) == ("-", "no target (470 questions)")


def test_questions_without_an_answer_are_counted() -> None:
    (row,) = rows(replace(ACCURACY, no_answer_count=200))
    assert row["verdict"] == "passed (470 questions, 200 without an answer)"


def test_what_is_odd_about_the_answers_is_told_below_the_table() -> None:
    odd = Doubt("F1 1.6 on the first 200 questions is about what guessing gives", "look at it")
    others = [replace(ACCURACY, case=name, doubt=odd, warnings=[str(odd)]) for name in "ab"]
    lines = remarks(others)
    for name in "ab":
        assert f"{name}, accuracy: {odd.matter}" in lines
    assert lines.count("  -> look at it") == 1


def test_a_performance_row_shows_the_scenarios_own_figure_and_whose_target_it_was() -> None:
    offline, stream, server = rows(OFFLINE, STREAM, SERVER)
    assert offline["result"] == "15.77 QPS"
    assert offline["target"] == "18.10 QPS (probe)"
    assert offline["p50/p90/p99 ms"] == "-"
    assert stream["result"] == "p90 196.90 ms"
    assert stream["target"] == "49.6 ms (probe)"
    assert stream["p50/p90/p99 ms"] == "130.7/196.9/277.7"
    assert server["target"] == "18.10 QPS, 130.0 ms (option)"
    assert server["p50/p90/p99 ms"] == "900.0/1000.0/-"
    assert [row["verdict"] for row in (offline, stream, server)] == ["VALID", "VALID", "INVALID"]


def test_a_compliance_row_shows_what_was_compared() -> None:
    row, invalid = rows(COMPLIANCE, replace(COMPLIANCE, loadgen_valid=False))
    assert invalid["verdict"] == "passed (TEST01, speed x 0.988, INVALID)"
    assert row["result"] == "400 responses, off by 3e-06 at most"
    assert row["verdict"] == "passed (TEST01, speed x 0.988)"


def lines_below(*results: Result) -> list[str]:
    return remarks(results)


def test_multistream_shows_the_percentile_that_mlperf_judges_it_by() -> None:
    (row,) = rows(replace(STREAM, scenario="multistream"))
    assert row["result"] == "p99 277.70 ms"


def test_a_run_without_figures_shows_dashes() -> None:
    nothing: dict[str, Any] = {
        "latency_p50_ms": None,
        "latency_p90_ms": None,
        "latency_p99_ms": None,
    }
    stream, offline = rows(replace(STREAM, **nothing), replace(OFFLINE, qps=None))
    assert (stream["result"], stream["p50/p90/p99 ms"]) == ("p90 - ms", "-/-/-")
    assert offline["result"] == "- QPS"


def test_a_valid_run_that_failed_all_the_same_says_both() -> None:
    (row,) = rows(replace(OFFLINE, verdict=FAILED, reason="result.json could not be written"))
    assert row["verdict"] == "VALID, failed"


def test_where_the_table_does_not_fit_every_result_has_two_lines_that_do() -> None:
    results = [ACCURACY, SUBSET, OFFLINE, STREAM, SERVER]
    narrow = table(results, 80)
    assert len(narrow) == 2 * len(results)
    assert max(map(len, narrow)) <= 100
    assert narrow[6:8] == [
        "minilm-pocket-singlestream-cpu-fp32  performance  VALID",
        "    p90 196.90 ms, target 49.6 ms (probe), p50/p90/p99 130.7/196.9/277.7 ms, 12.3 s, CPU",
    ]
    assert narrow[4:6] == [
        "minilm-pocket-offline-cpu-fp32  performance  VALID",
        "    15.77 QPS, target 18.10 QPS (probe), 12.3 s, CPU",
    ]
    assert table(results, 200) == table(results)


@pytest.mark.parametrize("width", [80, 200])
def test_lines_are_coloured_by_their_verdict(width: int) -> None:
    failed = replace(ACCURACY, verdict=FAILED, reason="F1 is under the target")
    undecided = replace(ACCURACY, verdict=UNDECIDED)
    shown = lines([OFFLINE, failed, SERVER, undecided], width)
    found = ["".join(markup) for line, markup in shown if line.startswith("minilm-pocket-")]
    assert found[:4] == ["", "red", "yellow", "yellow"]
    assert not any(found[4:])  # what is said below


def test_below_the_table_stands_what_is_no_plain_success_and_what_to_do_about_it() -> None:
    failed = replace(ACCURACY, verdict=FAILED, f1=60.0, reason="F1 60.000 is under the target")
    told = lines_below(SERVER, failed)
    assert told[0] == f"{ACCURACY.case}, accuracy: F1 60.000 is under the target"
    assert told[1].startswith("  -> ")
    assert told[2] == f"{SERVER.case}, performance: {SERVER.reason}"
    assert told[3].startswith("  -> --target-qps 11 lowers the rate")
    assert f"{SUBSET.case}, accuracy: {SUBSET.reason}" in lines_below(SUBSET)


def test_results_with_the_same_cure_share_its_line() -> None:
    busy = [Disturbance("other processes used 40% of the CPU", "run it again")]
    told = lines_below(*(replace(one, disturbances=busy) for one in (OFFLINE, STREAM)))
    assert told[:3] == [
        f"{OFFLINE.case}, performance: other processes used 40% of the CPU",
        f"{STREAM.case}, performance: other processes used 40% of the CPU",
        "  -> run it again",
    ]


def test_what_is_the_same_of_many_cases_is_one_line_that_counts_them() -> None:
    def below(count: int) -> list[str]:
        return lines_below(*(replace(SERVER, case=f"case{n}") for n in range(count)))[:-2]

    few, many = below(5), below(1_000)
    assert [line.partition(",")[0] for line in few if line.startswith("case")] == [
        f"case{n}" for n in range(5)
    ]
    (line,) = [line for line in many if line.startswith("case")]
    first = "case0, performance; case1, performance; case2, performance and 997 more: "
    assert line.startswith(first)
    assert line.removeprefix(first) == few[0].partition(": ")[2]
    assert many[1:] == few[5:]


def test_a_subset_is_told_once_for_its_data_set_with_the_option_that_runs_all() -> None:
    told = lines_below(SUBSET, replace(OFFLINE, sample_count=20), replace(STREAM, sample_count=20))
    place = told.index("pocket: a subset, 20 of 494 samples")
    assert told[place + 1] == "  -> --dataset-size all runs them all"
    assert sum("--dataset-size" in line for line in told) == 1


def test_plain_successes_get_one_remark_that_they_are_not_mlperfs() -> None:
    remark, cure = lines_below(ACCURACY, OFFLINE, STREAM)
    assert remark.startswith("Not valid MLPerf results")
    assert cure.startswith("  -> --rules mlperf")
    assert lines_below(replace(OFFLINE, mlperf_valid=True)) == []
    (remark,) = lines_below(replace(OFFLINE, rules="mlperf"))
    assert remark.startswith("Not valid MLPerf results")


def test_what_was_not_run_is_counted_by_its_reason_below_the_table() -> None:
    gpu = "cuda: no NVIDIA GPU with a driver was found"
    rows = [Missing(f"minilm-pocket-{s}-cuda-fp32", "accuracy", SKIPPED, gpu) for s in "ab"]
    why = "130 ms can't be kept"
    alone = Missing("minilm-pocket-server-cpu-fp32", "accuracy", SKIPPED, why)
    told = [line for line, _ in lines([OFFLINE, *rows, alone])]
    assert [line for line in told if "not run" in line] == [
        f"2 cases not run: {gpu}",
        "minilm-pocket-server-cpu-fp32, accuracy: not run: 130 ms can't be kept",
    ]
    assert [line for line, _ in lines(rows)] == [f"2 cases not run: {gpu}"]


def test_the_last_line_is_the_command_that_makes_a_page_of_what_was_written(
    tmp_path: Path,
) -> None:
    result = replace(OFFLINE, run_dir=str(tmp_path / "with blanks" / "performance-x"))
    assert not any("report" in line for line, _ in lines([result]))
    Path(result.run_dir).mkdir(parents=True)
    result.save()
    *_, (last, _) = lines([result, OFFLINE])
    command = shlex.split(last.partition(": ")[2])
    assert command[:4] == ["python", "-m", "bertsquad", "report"]
    assert command[4:] == [str(tmp_path / "with blanks"), "-o", "report.html"]


def test_a_model_that_had_to_be_padded_is_remarked_upon() -> None:
    padded = replace(ACCURACY, provenance={"model_padded_to": 384})
    assert any("minilm: run padded" in line for line in lines_below(padded))
    assert not any("run padded" in line for line in lines_below(ACCURACY))


def test_a_case_that_failed_without_a_result_has_a_row_too() -> None:
    died = Missing("minilm-pocket-server-cpu-fp32", "performance", FAILED, "it was killed")
    lines = table([ACCURACY, died])
    assert lines[2].split()[0] == died.case
    assert lines[2].endswith("failed")


def test_a_model_whose_cached_copy_was_damaged_is_told() -> None:
    facts = {"model_preparation": "as it is", "model_rebuilt": "damaged"}
    rebuilt = replace(ACCURACY, provenance=facts)
    told = "minilm: as it is (rebuilt, since the cached copy was damaged)"
    assert told in remarks([rebuilt])
    assert not any("rebuilt" in line for line in remarks([ACCURACY]))


def test_a_run_on_a_cluster_shows_how_many_nodes_it_had() -> None:
    two, one, none = rows(on_nodes(OFFLINE), on_nodes(OFFLINE, 1), OFFLINE)
    assert (two["provider"], one["provider"]) == ("CPU, 2 nodes", "CPU, 1 node")
    assert none["provider"] == "CPU"


def test_a_timed_run_that_lost_a_node_is_failed_beside_loadgens_word_with_a_cure() -> None:
    reason = f"{LOSS}; so this is no figure of 2 nodes (what)"
    lost = on_nodes(OFFLINE, verdict=FAILED, reason=reason, nodes_lost=[LOSS])
    audited = on_nodes(COMPLIANCE, verdict=FAILED, reason=reason, nodes_lost=[LOSS])
    shown = rows(lost, audited)
    assert shown[0]["verdict"] == "VALID, failed"
    assert shown[1]["verdict"].startswith("failed")
    for result in (lost, audited):
        said = remarks([result])
        assert f"{result.case}, {result.mode}: {reason}" in said
        assert any(line.startswith("  -> ") and "join" in line for line in said)
    invalid = replace(
        lost, loadgen_valid=False, invalid_causes=SERVER.invalid_causes, rules="mlperf"
    )
    both = "\n".join(remarks([invalid]))
    assert "the latency bound was not kept" in both and LOSS.cause in both
