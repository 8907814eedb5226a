"""Results are read back from wherever they lie, and what can't be read is named."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from counted import calls
from hypothesis import given
from hypothesis import strategies as st
from made import (
    GATED,
    LOSS,
    REFERENCE,
    accuracy,
    benchmark_json,
    compliance,
    nights,
    node,
    on_nodes,
    performance,
    provenance,
    run_folder,
)

from bertsquad.errors import SuiteError
from bertsquad.loadgen.logs import Cause
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.results import archive
from bertsquad.results.reference import Difference
from bertsquad.results.result import RESULT, Result

NOW = datetime(2026, 11, 30, tzinfo=UTC)
PYTEST_SESSION = (accuracy("server"), performance("server"))


def read(*sources: Path) -> list[tuple[str, str]]:
    return [(one.mode, one.case) for one in archive.read(sources).series]


EXPECTED = [(one.mode, one.case) for one in PYTEST_SESSION]


def test_a_run_folder_and_a_folder_of_them_are_read(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path / "results", result) for result in PYTEST_SESSION]
    assert read(folders[1]) == EXPECTED[1:]
    assert read(*folders) == read(tmp_path / "results") == read(tmp_path) == EXPECTED
    assert read(folders[0] / RESULT) == EXPECTED[:1]


def test_json_of_a_pytest_session_is_read_with_its_accuracy_cases(tmp_path: Path) -> None:
    file = benchmark_json(tmp_path / "out.json", *PYTEST_SESSION)
    assert read(file) == read(tmp_path) == EXPECTED


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    file = benchmark_json(tmp_path / "out.json", *PYTEST_SESSION)
    found = [one.newest.as_dict() for one in archive.read([file]).series]
    assert json.dumps(found) == json.dumps([result.as_dict() for result in PYTEST_SESSION])


def test_pytest_benchmarks_storage_is_a_history_whose_newest_run_leads(tmp_path: Path) -> None:
    for day in (3, 1, 2):
        run = performance(day=day, qps=30.0 + day)
        benchmark_json(tmp_path / ".benchmarks" / "Linux" / f"000{4 - day}_x.json", run)
    (series,) = archive.read([tmp_path / ".benchmarks"]).series
    assert [run.qps for run in series.runs] == [31, 32, 33]
    assert series.newest.qps == 33
    assert series.alike == series.runs


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_count": 20},
        {"rules": "mlperf"},
        {"settings": {"performance_issue_same": 1}},
        {"provenance": provenance(2, model_checksum="cc")},
        {"provenance": provenance(2, dataset_checksum="cc")},
    ],
    ids=["size", "rules", "settings", "model", "data set"],
)
def test_runs_unlike_the_newest_are_told_apart(changes: dict[str, Any], tmp_path: Path) -> None:
    runs = [performance(day=1), performance(day=2, **changes), performance(day=3)]
    for number, run in enumerate(runs):
        run_folder(tmp_path / str(number), run)
    (series,) = archive.read([tmp_path]).series
    assert len(series.runs) == 3
    assert series.alike == (series.runs[0], series.runs[2])


def test_each_file_and_each_run_is_work_once(tmp_path: Path) -> None:
    for number, result in enumerate(nights(1, 80)):
        run_folder(tmp_path / f"{number // 20}" / f"night{number}", result)
        benchmark_json(tmp_path / f"{number // 20}" / f"{number}.json", result)
    quarters = sorted(tmp_path.iterdir())
    one, two, four = (calls(partial(archive.read, quarters[:count])) for count in (1, 2, 4))
    assert four - two < 2.5 * (two - one)
    (series,) = archive.read([tmp_path]).series
    assert len(series.runs) == 80
    assert calls(lambda: (series.alike, series.alike)) < 80 * 250


def test_the_cases_of_a_name_are_all_that_is_left_and_the_others_are_counted() -> None:
    lost = [
        archive.Lost(case, "accuracy", "failed", "no GPU", "out.json", NOW)
        for case in ("model000-pocket-offline-cuda-fp16", "x-y-offline-cuda-fp16")
    ]
    whole = archive.Archive(list(nights(4, 2)), lost, ["x.json is empty"])
    found = whole.of("model000")
    assert {one.case for one in found.results} == {
        f"model000-pocket-{scenario}-cpu-fp32" for scenario in ("offline", "server")
    }
    assert found.missing == lost[:1]
    assert found.left_out == ["x.json is empty", "3 cases without 'model000' in the name"]
    assert whole.of("") == whole
    with pytest.raises(SuiteError, match=r"'model9', found model000-.* and 1 more: give a part"):
        whole.of("model9")


def test_a_run_that_was_named_twice_is_one_run(tmp_path: Path) -> None:
    for result in PYTEST_SESSION:
        run_folder(tmp_path / "results", result)
    file = benchmark_json(tmp_path / "out.json", *PYTEST_SESSION)
    found = archive.read([file, tmp_path, tmp_path / "results"])
    assert len(found.results) == len(PYTEST_SESSION)


def test_times_of_other_zones_and_of_none_are_ordered(tmp_path: Path) -> None:
    for number, time in enumerate(
        ["2026-11-03T03:00:00+04:00", "2026-11-02T21:00:00", "2026-11-02T22:00:00Z"]
    ):
        run = performance(qps=float(number), provenance=provenance(started_at=time))
        run_folder(tmp_path / str(number), run)
    (series,) = archive.read([tmp_path]).series
    assert [run.qps for run in series.runs] == [1, 2, 0]


def test_the_cases_stand_in_the_order_of_a_pytest_session(tmp_path: Path) -> None:
    for made in (compliance, performance, accuracy):
        for scenario in ("server", "offline"):
            run_folder(tmp_path, made(scenario))
    assert [(mode, case.split("-")[2]) for mode, case in read(tmp_path)] == [
        *[(mode, "offline") for mode in ("accuracy", "performance", "compliance")],
        *[(mode, "server") for mode in ("accuracy", "performance", "compliance")],
    ]


def test_a_run_that_was_broken_off_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "performance-minilm-pocket-server-cpu-fp32"
    folder.mkdir()
    (folder / TIMELINE).write_bytes(b"")
    for source in (folder, tmp_path):
        (missing,) = archive.read([source]).missing
        assert (missing.mode, missing.case) == ("performance", "minilm-pocket-server-cpu-fp32")
        assert "broken off" in missing.reason
        assert missing.source == str(folder)


@pytest.mark.parametrize("verdict", ["failed", "skipped"])
def test_a_case_without_a_result_is_told_once_and_until_it_has_one(
    tmp_path: Path, verdict: str
) -> None:
    run = performance("server", day=2)
    lost = {"case": run.case, "mode": run.mode, "verdict": verdict, "reason": "it took too long"}
    for day in (1, 3):
        for name in ("out", "stored"):  # one pytest session, kept twice
            benchmark_json(
                tmp_path / f"night{day}" / f"{name}.json",
                failures=[lost],
                datetime=f"2026-11-0{day}T08:00:00+00:00",
            )
    run_folder(tmp_path / "night2", run)
    first, second, third = (tmp_path / f"night{day}" for day in (1, 2, 3))
    assert archive.read([first, second]).missing == []
    (missing,) = archive.read([first, second, third]).missing
    assert (missing.verdict, missing.at.day) == (verdict, 3)


def test_cases_that_failed_without_a_result_are_kept_from_every_list(tmp_path: Path) -> None:
    failed = {"case": "a-b", "mode": "accuracy", "verdict": "failed", "reason": "no such file"}
    other = failed | {"case": "c-d", "mode": "performance"}
    file = benchmark_json(
        tmp_path / "out.json",
        PYTEST_SESSION[1],
        accuracy=[failed, PYTEST_SESSION[0].as_dict()],
        compliance=[compliance().as_dict()],
        failures=[failed, other, PYTEST_SESSION[1].as_dict()],
        skipped=[failed | {"case": "e-f", "verdict": "skipped"}],
    )
    found = archive.read([file])
    assert [(one.case, one.mode, one.verdict) for one in found.missing] == [
        ("a-b", "accuracy", "failed"),
        ("c-d", "performance", "failed"),
        ("e-f", "accuracy", "skipped"),
    ]
    assert len(found.series) == 3


def test_keys_of_a_later_version_are_ignored_and_missing_ones_have_their_defaults(
    tmp_path: Path,
) -> None:
    document = performance().as_dict() | {"new_key": {"deep": [1]}}
    del document["timeline"], document["padding_share"], document["latency_p99_9_ms"]
    (tmp_path / RESULT).write_text(json.dumps(document), "utf-8")
    (result,) = archive.read([tmp_path]).results
    assert (result.timeline, result.padding_share, result.latency_p99_9_ms) == ({}, None, None)


# Bad input.

GOOD = json.dumps(performance().as_dict())
BAD = {
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "truncated": (GOOD[: len(GOOD) // 2].encode(), "cut short or damaged"),
    "binary": (b"\x00\xff\x93NUMPY", "no JSON"),
    "text": (b"not json at all", "no JSON"),
    "list": (b"[1, 2]", "no result of this suite"),
    "number": (b"12", "no result of this suite"),
    "object": (b'{"name": "left-pad"}', "no result of this suite"),
    "other benchmarks": (b'{"benchmarks": [{"extra_info": {}}]}', "no results of this suite"),
    "broken benchmarks": (b'{"benchmarks": 3}', "no result of this suite"),
    "too deep": (b"[" * 100_000 + b"]" * 100_000, "cut short or damaged"),
    "other version": (json.dumps(json.loads(GOOD) | {"schema_version": 99}).encode(), "version 99"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_ends_in_a_sentence_with_its_name(name: str, tmp_path: Path) -> None:
    content, said = BAD[name]
    file = tmp_path / RESULT
    file.write_bytes(content)
    with pytest.raises(SuiteError) as caught:
        archive.read([file])
    assert str(file) in str(caught.value)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"nowhere\.json can't be read: No such file"):
        archive.read([tmp_path / "nowhere.json"])
    with pytest.raises(SuiteError, match=f"{tmp_path.name}: expected results .* found none"):
        archive.read([tmp_path])


def test_a_bad_file_in_a_folder_is_left_out_and_named_and_foreign_ones_are_not(
    tmp_path: Path,
) -> None:
    run_folder(tmp_path, PYTEST_SESSION[0])
    bad = run_folder(tmp_path, PYTEST_SESSION[1]) / RESULT
    bad.write_bytes(BAD["truncated"][0])
    (tmp_path / "package.json").write_bytes(BAD["object"][0])
    (tmp_path / "performance-x").mkdir()  # as a run leaves it that died before its first answer
    (tmp_path / "performance-x" / "mlperf_log_accuracy.json").write_bytes(b"[")
    found = archive.read([tmp_path])
    assert [one.mode for one in found.series] == ["accuracy"]
    (left_out,) = found.left_out
    assert left_out.startswith(f"{bad} is cut short")


def test_a_folder_of_bad_files_alone_says_what_is_wrong_with_one(tmp_path: Path) -> None:
    (tmp_path / RESULT).write_bytes(b"")
    with pytest.raises(SuiteError, match=f"{RESULT} is empty"):
        archive.read([tmp_path])


@pytest.mark.parametrize(
    ("result", "key", "value"),
    [
        (performance(), "qps", "fast"),
        (performance(), "qps", float("nan")),
        (performance(), "qps", 10**400),
        (performance(), "qps", -1.0),
        (performance(), "qps", 5e-324),
        (performance(), "target_qps", 0.0),
        (performance(), "run_time_s", 0.0),
        (performance(), "latency_p50_ms", 1e19),
        (accuracy(), "f1_interval", [float("nan"), 1.0]),
        (performance(), "sample_count", 1.5),
        (performance(), "sample_count", True),
        (performance(), "loadgen_valid", None),
        (performance(), "loadgen_valid", 1),
        (performance(), "warnings", "none"),
        (performance(), "invalid_reasons", [1]),
        (performance(), "settings", {"samples_per_query": "two"}),
        (performance(), "settings", {"samples_per_query": True}),
        (performance(), "settings", {"max_duration": -1}),
        (performance(), "settings", {"max_duration": float("nan")}),
        (performance(), "settings", {"target_latency_percentile": 100}),
        (performance(), "settings", {"target_latency_percentile": 0}),
        (performance(), "mode", "speed"),
        (performance(), "scenario", "batch"),
        (performance(), "provenance", {}),
        (performance(), "provenance", provenance(started_at="yesterday")),
        (performance(), "provenance", provenance(started_at="0001-01-01T00:00:00+23:59")),
        (performance(), "timeline", {"latency": {"percentile": [1.0], "ms": []}}),
        (performance(), "timeline", {"latency": {"percentile": [100.0], "ms": [1.0]}}),
        (performance(), "timeline", {"course": [1]}),
        (performance(), "timeline", {"batches": [{"samples": 1}]}),
        (performance(), "timeline", {"course": {"samples_per_s": [1.0], "tokens_per_s": [1.0]}}),
        (accuracy(), "f1", [83.5]),
        (accuracy(), "f1", None),
        (accuracy(), "f1_interval", [1.0]),
        (accuracy(), "question_count", None),
        (accuracy(), "f1_no_answer", -1.0),
        (accuracy(), "null_threshold", float("nan")),
        (accuracy(), "answers", {"predictions.json": 1}),
        (compliance(), "compliance_responses", None),
        (on_nodes(performance()), "number_of_nodes", 3),
        (performance(), "number_of_nodes", 0),
        (on_nodes(performance()), "nodes", [{"node": "10.0.0.1"}, {}]),
        (on_nodes(performance()), "nodes", [vars(node(share=float("nan")))] * 2),
        (on_nodes(performance()), "nodes", [vars(node(samples=-1))] * 2),
        (on_nodes(performance()), "nodes", [vars(node(samples_per_s=[1.0]))] * 2),
        (on_nodes(performance()), "nodes", [vars(node(samples_per_s=[-1.0]))] * 2),
        (on_nodes(performance()), "nodes", [vars(node(gpus="none"))] * 2),
        (performance(), "nodes_lost", [{"node": "a", "second": float("inf"), "cause": "b"}]),
        (performance(), "nodes_lost", [{"node": "a", "second": "one", "cause": "b"}]),
        (performance(), "gate", vars(replace(GATED, baseline=float("nan")))),
        (performance(), "gate", vars(replace(GATED, baseline=-1.0))),
        (performance(), "gate", vars(replace(GATED, runs=-1))),
        (performance(), "gate", vars(replace(GATED, change=float("inf")))),
        (accuracy(), "reference", asdict(replace(REFERENCE, source="nobody"))),
        (accuracy(), "reference", asdict(replace(REFERENCE, f1=float("nan")))),
        (accuracy(), "reference", asdict(replace(REFERENCE, half_width=-1.0))),
        (
            accuracy(),
            "reference",
            asdict(replace(REFERENCE, first=[Difference("a", 1.0, float("inf"))])),
        ),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_named_with_the_file(
    result: Result, key: str, value: Any, tmp_path: Path
) -> None:
    file = run_folder(tmp_path, result) / RESULT
    document = result.as_dict() | {key: value}
    file.write_text(json.dumps(document), "utf-8")
    with pytest.raises(SuiteError) as caught:
        archive.read([file])
    file_name, _, problem = str(caught.value).partition(" is damaged: ")
    assert file_name == str(file)
    assert result.case in problem
    assert key in problem
    assert len(problem) < 400


def test_what_the_gate_and_a_reference_said_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = accuracy(reference=REFERENCE, gate=GATED)
    assert archive.read([run_folder(tmp_path, made)]).results == [made]


def test_a_result_of_before_there_were_clusters_is_of_one_node(tmp_path: Path) -> None:
    document = performance().as_dict()
    for key in ("nodes", "number_of_nodes", "nodes_lost"):
        del document[key]
    file = run_folder(tmp_path, performance()) / RESULT
    file.write_text(json.dumps(document), "utf-8")
    assert archive.read([file]).results == [performance()]


def test_what_the_nodes_of_a_cluster_did_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = on_nodes(performance(), 3, nodes_lost=[LOSS])
    assert archive.read([run_folder(tmp_path, result)]).results == [result]


def test_a_field_that_is_missing_is_told(tmp_path: Path) -> None:
    file = run_folder(tmp_path, performance()) / RESULT
    document = performance().as_dict()
    del document["provider"]
    file.write_text(json.dumps(document), "utf-8")
    with pytest.raises(SuiteError, match="provider is missing"):
        archive.read([file])


def test_a_null_threshold_may_be_negative(tmp_path: Path) -> None:
    result = accuracy(
        null_threshold=-3.5, best_null_threshold=-1.0, f1_no_answer=0.0, no_answer_count=0
    )
    run_folder(tmp_path, result)
    assert archive.read([tmp_path]).results == [result]


def test_a_negative_count_of_queries_is_told(tmp_path: Path) -> None:
    cause = Cause("early_stopping", "too few", -5, 64)
    file = run_folder(tmp_path, performance(invalid_causes=[cause])) / RESULT
    with pytest.raises(SuiteError, match="found is -5"):
        archive.read([file])


@pytest.mark.parametrize(
    ("said", "note", "padded_to", "rebuilt"),
    [
        ("as it is", "as it is", None, None),
        ("as it is (rebuilt, since the cached copy was older)", "as it is", None, "older"),
        (
            "needs 384 tokens always, so every sample is padded (rebuilt, since the cached copy "
            "was damaged)",
            "needs 384 tokens always, so every sample is padded",
            384,
            "damaged",
        ),
    ],
)
def test_what_older_results_say_of_their_model_in_words_is_read_too(
    tmp_path: Path, said: str, note: str, padded_to: int | None, rebuilt: str | None
) -> None:
    facts = provenance(model_preparation=said)
    del facts["model_padded_to"], facts["model_rebuilt"]
    run_folder(tmp_path, accuracy(provenance=facts))
    (read,) = archive.read([tmp_path]).results
    assert read.provenance["model_preparation"] == note
    assert read.provenance["model_padded_to"] == padded_to
    assert read.provenance["model_rebuilt"] == rebuilt


def test_a_part_of_a_field_that_is_missing_is_told(tmp_path: Path) -> None:
    file = run_folder(tmp_path, performance()) / RESULT
    document = performance(loadgen_valid=False).as_dict() | {"invalid_causes": [{"kind": "error"}]}
    file.write_text(json.dumps(document), "utf-8")
    with pytest.raises(SuiteError, match="invalid_causes reason is missing") as caught:
        archive.read([file])
    assert str(file) in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@given(data=st.data())
def test_whatever_stands_in_a_file_is_read_or_told_in_a_sentence(
    folder: Path, data: st.DataObject
) -> None:
    file = folder / "fuzzed.json"
    document: Any = data.draw(st.sampled_from([accuracy(), performance(), compliance()])).as_dict()
    for _ in range(data.draw(st.integers(1, 3))):
        place = document
        while True:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and data.draw(st.booleans()):
                place = place[key]
                continue
            place[key] = data.draw(JSON)
            break
    file.write_text(json.dumps(document), "utf-8")
    try:
        archive.read([file])
    except SuiteError as error:
        assert str(file) in str(error)
        assert "\n" not in str(error)


def test_credentials_that_an_older_version_wrote_are_not_shown_again(tmp_path: Path) -> None:
    document = performance().as_dict()
    mirror = "https://someone:hunter2@mirror.invalid/files"
    document["provenance"] |= {"command": f"pytest {mirror}", "environment": {"A": [mirror]}}
    lost = {"case": "a", "mode": "accuracy", "reason": f"{mirror}: 404", "verdict": "skipped"}
    file = tmp_path / "benchmarks.json"
    whole = {"benchmarks": [], "accuracy": [document], "skipped": [lost]}
    file.write_text(json.dumps(whole), "utf-8")
    found = archive.read([file])
    assert "hunter2" not in repr(found)
    assert repr(found).count("https://***@mirror.invalid/files") == 3


def test_runs_of_different_machines_are_never_one_series(tmp_path: Path) -> None:
    facts = [{"machine": name, "machine_id": name} for name in "abab"] + [{}, {"cores": 8}]
    for day, fact in enumerate(facts, 1):
        benchmark_json(tmp_path / f"{day}.json", performance(provenance=provenance(day, **fact)))
    found = archive.read([tmp_path])
    days = [[run.provenance["started_at"][8:10] for run in series.runs] for series in found.series]
    assert sorted(days) == [["01", "03"], ["02", "04"], ["05"], ["06"]]
    assert len(found.machines) == 4


def test_a_broken_off_run_is_of_the_machine_whose_runs_lie_beside_it(tmp_path: Path) -> None:
    for name in "ab":
        facts = provenance(machine=name, machine_id=name)
        run_folder(tmp_path / name, performance(provenance=facts))
    (tmp_path / "a" / "accuracy-x").mkdir()
    (tmp_path / "a" / "accuracy-x" / TIMELINE).touch()
    (tmp_path / "c" / "accuracy-x").mkdir(parents=True)
    (tmp_path / "c" / "accuracy-x" / TIMELINE).touch()
    found = archive.read([tmp_path])
    assert {one.machine and one.machine.name for one in found.missing} == {"a", None}


def test_a_later_run_on_another_machine_does_not_hide_a_failure(tmp_path: Path) -> None:
    def on(name: str, day: int, **changes: Any) -> Result:
        return performance(provenance=provenance(day, machine=name, machine_id=name), **changes)

    lost = {"case": on("a", 1).case, "mode": "performance", "verdict": "failed", "reason": "gone"}
    other = on("a", 2, case="another")
    benchmark_json(tmp_path / "2.json", other, failures=[lost], datetime="2026-11-02T03:00:00")
    benchmark_json(tmp_path / "3.json", on("b", 3))
    assert [one.reason for one in archive.read([tmp_path]).missing] == ["gone"]
    benchmark_json(tmp_path / "4.json", on("a", 4))
    assert archive.read([tmp_path]).missing == []
