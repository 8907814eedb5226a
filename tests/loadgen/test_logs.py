"""What LoadGen's logs are understood to say."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs
from bertsquad.loadgen.logs import Run
from bertsquad.scenarios import SCENARIOS

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
    (folder / logs.DETAIL).write_text(text, encoding="utf-8")
    return folder


def test_a_valid_run_is_read_with_the_last_value_of_each_key(tmp_path: Path) -> None:
    text = mllog("result_validity", "INVALID") + "some chatter\n" + performance_log(a=1)
    run = logs.read_run(written(tmp_path, text + mllog("a", 2)))
    assert run.valid
    assert run.invalid_reasons == []
    assert run.values["a"] == 2


def test_a_value_with_a_raw_line_end_in_it_is_read(tmp_path: Path) -> None:
    line = mllog("result_invalid_reason", "TAB").replace("TAB", "Increase\tduration")
    assert logs.read_run(written(tmp_path, line + performance_log())).valid


def test_a_missing_detail_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError) as caught:
        logs.read_run(tmp_path)
    assert str(caught.value) == f"{tmp_path / logs.DETAIL} can't be read: No such file or " + (
        "directory"
    )


@pytest.mark.parametrize("mode", ["PerformanceOnly", "AccuracyOnly"])
def test_a_log_cut_at_a_line_end_is_called_cut_short(tmp_path: Path, mode: str) -> None:
    text = mllog("effective_test_mode", mode) + mllog("result_validity", "VALID")
    with pytest.raises(SuiteError, match=f"{logs.DETAIL} was cut short"):
        logs.read_run(written(tmp_path, text))


def test_an_empty_log_is_called_cut_short(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="cut short"):
        logs.read_run(written(tmp_path, ""))


def test_a_log_cut_anywhere_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    text = performance_log(result_samples_per_second=12.5)
    for size in range(len(text) - 2):
        with pytest.raises(SuiteError, match=logs.DETAIL):
            logs.read_run(written(tmp_path, text[:size]))


@pytest.mark.parametrize(
    "body", ["{", "[]", "1", "null", '"text"', "{}", '{"key": "a"}', '{"key": [], "value": 1}']
)
def test_a_garbled_line_is_called_so(tmp_path: Path, body: str) -> None:
    text = performance_log() + f":::MLLOG {body}\n"
    with pytest.raises(SuiteError, match="is not a whole LoadGen detail log"):
        logs.read_run(written(tmp_path, text))


def test_bytes_that_are_no_text_are_no_traceback(tmp_path: Path) -> None:
    (tmp_path / logs.DETAIL).write_bytes(bytes(range(256)) * 10)
    with pytest.raises(SuiteError, match=logs.DETAIL):
        logs.read_run(tmp_path)


def test_an_accuracy_run_is_whole_without_results(tmp_path: Path) -> None:
    text = mllog("effective_test_mode", "AccuracyOnly") + mllog("power_end", "now")
    assert logs.read_run(written(tmp_path, text)).values["power_end"] == "now"


def test_an_error_that_loadgen_logged_makes_the_run_invalid_and_is_shown(tmp_path: Path) -> None:
    text = mllog("error_runtime", "ran out of queries\n", is_error=True) + performance_log()
    run = logs.read_run(written(tmp_path, text))
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
    run = logs.read_run(written(tmp_path, text))
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
    (cause,) = logs.read_run(written(tmp_path, text)).invalid_causes
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
    (cause,) = logs.read_run(written(tmp_path, text)).invalid_causes
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
    (folder / logs.ACCURACY).write_text(text, encoding="utf-8")
    return folder


def test_logits_are_read_by_sample_with_their_own_lengths_and_the_last_of_repeats(
    tmp_path: Path,
) -> None:
    first, short, last = (np.arange(2 * n).reshape(n, 2) + n for n in (5, 3, 5))
    log = [entry(4, first * 0), entry(1, short), entry(4, last)]
    found = logs.read_accuracy_log(accuracy_log(tmp_path, log))
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
        pytest.param(f'[{{"qsl_idx": {"9" * 5000}, "data": ""}}]', id="a long number"),
    ],
)
def test_a_garbled_accuracy_log_is_called_so(tmp_path: Path, content: str) -> None:
    with pytest.raises(SuiteError, match=f"{logs.ACCURACY} is not a whole LoadGen accuracy"):
        logs.read_accuracy_log(accuracy_log(tmp_path, content))


def test_an_accuracy_log_cut_anywhere_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    text = json.dumps([entry(0, np.zeros((2, 2))), entry(1, np.ones((2, 2)))])
    for size in range(len(text)):
        with pytest.raises(SuiteError, match=logs.ACCURACY):
            logs.read_accuracy_log(accuracy_log(tmp_path, text[:size]))


def test_a_long_accuracy_log_never_stands_in_memory_as_a_whole(tmp_path: Path) -> None:
    one = np.ones((200, 2))
    folder = accuracy_log(tmp_path, [entry(sample, one) for sample in range(4000)])
    tracemalloc.start()
    try:
        found = logs.read_accuracy_log(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 4000
    assert peak < (folder / logs.ACCURACY).stat().st_size


def test_a_missing_accuracy_log_and_one_of_bytes_are_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=f"{logs.ACCURACY} can't be read: No such file"):
        logs.read_accuracy_log(tmp_path)
    (tmp_path / logs.ACCURACY).write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(SuiteError, match=logs.ACCURACY):
        logs.read_accuracy_log(tmp_path)
