"""What was measured is kept and told, whatever becomes of the pytest session."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from made import OFFICIAL, node
from pytest_sessions import (
    BENCHMARKS,
    PytestSession,
    command,
    environment,
    name_of,
    outcomes,
    run,
    start,
)

from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.results.result import FAILED, NO_TARGET, PASSED, RESULT, SKIPPED, lists
from bertsquad.results.run_folder import RunFolder
from bertsquad.suite import harness

#: BERT's vocabulary has "the" at this place; no window of SQuAD is without it.
THE = 1996

#: Lets a program write no file of more than so many bytes, as on a disk that is full.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""

needs_limits = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recording")


def json_at(here: Path) -> tuple[str, str]:
    return "--benchmark-json", str(here / "benchmarks.json")


def stored(here: Path) -> tuple[str, str, str]:
    return "--benchmark-storage", str(here / "storage"), "--benchmark-autosave"


@pytest.fixture(scope="module")
def mixed(folder: Path) -> PytestSession:
    """Cases of a model that works, between those of one that fails in every batch."""
    here = folder / "mixed"
    broken = tiny.model(folder / "broken.onnx", raises_on=THE)
    chosen = ("-k", "offline or (singlestream and performance)", "--model", str(broken))
    grouped = ("--benchmark-group-by", "param:case,param:scenario")
    return run(here, *chosen, *grouped, *json_at(here), *stored(here))


#: What `mixed` runs of a model.
RUN = {
    name_of("accuracy", "offline"),
    name_of("performance", "offline"),
    name_of("compliance", "offline"),
    name_of("performance", "singlestream"),
}


def documents(pytest_session: PytestSession) -> Iterator[dict[str, Any]]:
    """The JSON that was asked for, and what went into the storage."""
    yield pytest_session.benchmarks
    (file,) = (pytest_session.folder / "storage").rglob("0001_*.json")
    yield json.loads(file.read_bytes())


@pytest.mark.slow
def test_what_some_cases_fail_in_takes_nothing_from_the_others(mixed: PytestSession) -> None:
    assert mixed.code == pytest.ExitCode.TESTS_FAILED
    found = outcomes(mixed)
    assert {name for name, outcome in found.items() if outcome == "passed"} == RUN
    assert {name for name, outcome in found.items() if outcome == "failure"} == {
        name.replace("tiny", "broken") for name in RUN
    }
    for name in RUN:
        assert mixed.result(name)["verdict"] in (PASSED, NO_TARGET)


def test_the_table_has_a_row_for_every_case(mixed: PytestSession) -> None:
    _, _, shown = mixed.out.rpartition("\ncase ")
    header, *lines = shown.splitlines()
    assert {"F1", "verdict", "TEST01"} <= set(header.split())
    for model in ("tiny", "broken"):
        names = [name.replace("tiny", model) for name in RUN]
        cases = {name.partition("[")[2].rstrip("]") for name in names}
        rows = [line for line in lines if line.split()[0] in cases]
        assert len(rows) == len(cases)


def test_json_and_storage_hold_every_case_results_and_failures(mixed: PytestSession) -> None:
    for document in documents(mixed):
        timed = {entry["name"]: entry["extra_info"] for entry in document["benchmarks"]}
        assert set(timed) == {name for name in RUN if "performance" in name}
        for mode in ("accuracy", "compliance"):
            (result,) = document[mode]
            assert result == mixed.result(name_of(mode, "offline"))
        failures = {(entry["mode"], entry["case"]): entry for entry in document["failures"]}
        assert set(failures) == {
            tuple(name.replace("tiny", "broken").removeprefix("test_").rstrip("]").split("["))
            for name in RUN
        }
        for entry in failures.values():
            assert entry["verdict"] == FAILED
            assert entry["reason"].startswith(f"{entry['case']}: ")
            assert "INVALID_ARGUMENT" in entry["reason"] or "Gather" in entry["reason"]
            assert "Traceback" not in entry["reason"]


def test_a_case_is_told_in_plain_words_that_group_the_figures(mixed: PytestSession) -> None:
    names = ("model", "dataset", "scenario", "device", "precision")
    for document in documents(mixed):
        assert {entry["param"]: entry["params"] for entry in document["benchmarks"]} == {
            case: {"case": case, **dict(zip(names, case.split("-"), strict=True))}
            for case in ("tiny-pocket-offline-cpu-fp32", "tiny-pocket-singlestream-cpu-fp32")
        }
        assert {entry["fullname"] for entry in document["benchmarks"]} == {
            f"benchmarks/test_performance.py::{name}" for name in RUN if "performance" in name
        }
    for scenario in ("offline", "singlestream"):
        group = f"case=tiny-pocket-{scenario}-cpu-fp32 scenario={scenario}"
        assert f" benchmark '{group}': 1 tests " in mixed.out


def test_junit_carries_f1_rate_percentiles_and_verdict(mixed: PytestSession) -> None:
    for name in RUN:
        result, properties = mixed.result(name), mixed.cases[name].properties
        assert properties["verdict"] == result["verdict"]
        assert properties["mlperf_valid"] == "False"
        assert ("f1" in properties) == ("exact_match" in properties) == ("accuracy" in name)
        assert ("loadgen_valid" in properties) == ("accuracy" not in name)
        for key in properties.keys() - {"verdict", "mlperf_valid", "loadgen_valid"}:
            assert float(properties[key]) == result[key]
    offline = mixed.cases[name_of("performance", "offline")].properties
    stream = mixed.cases[name_of("performance", "singlestream")].properties
    assert "qps" in offline.keys() - stream.keys()
    for properties in (offline, stream):
        assert {f"latency_{p}_ms" for p in ("p50", "p90", "p99", "p99_9")} <= properties.keys()


def test_workers_carry_f1_and_failures_into_junit_and_json(folder: Path) -> None:
    here = folder / "parallel"
    broken = tiny.model(folder / "broken.onnx", raises_on=THE)
    options = ("--reference-f1", "2", "--model", str(broken), "-n", "2", *json_at(here))
    pytest_session = run(here, "-k", "offline", *options)
    assert pytest_session.code == pytest.ExitCode.TESTS_FAILED
    name = name_of("accuracy", "offline")
    result, properties = pytest_session.result(name), pytest_session.cases[name].properties
    assert float(properties["f1"]) == result["f1"] > 0
    assert float(properties["f1_target"]) == result["f1_target"] == pytest.approx(1.98)
    assert properties["verdict"] == PASSED
    assert pytest_session.benchmarks["accuracy"] == [result]
    assert [entry["case"] for entry in pytest_session.benchmarks["failures"]] == [
        "broken-pocket-offline-cpu-fp32"
    ]
    skipped = {(entry["mode"], entry["verdict"]) for entry in pytest_session.benchmarks["skipped"]}
    assert skipped == {(mode, SKIPPED) for mode in ("performance", "compliance")}


def test_a_result_says_what_loadgen_was_told(mixed: PytestSession) -> None:
    timed = mixed.result(name_of("performance", "singlestream"))
    assert (timed["buffer_size"], timed["min_duration_s"], timed["min_query_count"]) == (
        60,
        0.2,
        64,
    )
    assert timed["query_count"] >= 64
    accuracy = mixed.result(name_of("accuracy", "offline"))
    assert (accuracy["accuracy_target"], accuracy["reference_f1"]) == (99.0, None)
    assert accuracy["buffer_size"] is accuracy["query_count"] is None


#: What must be the same of a case that is run again.
IDENTITY = (
    "case mode model dataset scenario device precision rules sample_count dataset_samples provider "
    "f1 exact_match question_count f1_target accuracy_target reference_f1 buffer_size "
    "min_duration_s min_query_count target_qps target_latency_ms repeat"
).split()
SETTINGS = "model_checksum dataset_checksum instances threads batch_tokens user_conf seeds".split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "scenario"),
    [("accuracy", "offline"), ("performance", "singlestream"), ("compliance", "offline")],
)
def test_the_line_in_a_result_runs_the_case_again(
    mixed: PytestSession, folder: Path, test: str, scenario: str
) -> None:
    before = mixed.result(name_of(test, scenario))
    words = shlex.split(before["repeat"])
    assert words[0] == "pytest"
    here = folder / f"again-{test}"
    here.mkdir()
    added = ["--output", str(here / "results"), "-p", "no:cacheprovider"]
    done = start(here, BENCHMARKS.parent, [sys.executable, "-m", *words, *added], {})
    assert done.returncode == 0, done.stdout
    after = json.loads((here / "results" / f"{test}-{before['case']}" / RESULT).read_bytes())
    assert {key: after[key] for key in IDENTITY} == {key: before[key] for key in IDENTITY}
    old, new = before["provenance"], after["provenance"]
    assert {key: new[key] for key in SETTINGS} == {key: old[key] for key in SETTINGS}


# A disk that is full.


@needs_limits
def test_a_full_disk_costs_the_file_and_not_the_figures(mixed: PytestSession, folder: Path) -> None:
    """LoadGen's logs have room; the timeline of all queries, the JSON and the storage don't."""
    here = folder / "full"
    chosen = ("-k", "performance", "--min-duration-s", "1")
    words = command(here, *chosen, *json_at(here), *stored(here))
    limited = [sys.executable, "-c", LIMITED, "48000", "-m", "pytest", *words]
    done = start(here, here, limited, {})
    pytest_session = PytestSession(here, done.returncode, done.stdout, done.stderr)
    assert pytest_session.code == pytest.ExitCode.TESTS_FAILED
    offline, stream = (name_of("performance", s) for s in ("offline", "singlestream"))
    assert (outcomes(pytest_session)[offline], outcomes(pytest_session)[stream]) == (
        "passed",
        "failure",
    )
    assert f"{TIMELINE} can't be written (" in pytest_session.cases[stream].message
    assert "--output" in pytest_session.cases[stream].message
    shown = pytest_session.out.partition(" BERT on SQuAD ")[2]
    for scenario, figure in (("offline", "QPS"), ("singlestream", "p90")):
        (row,) = (
            x for x in shown.splitlines() if x.startswith(f"tiny-pocket-{scenario}-cpu-fp32 ")
        )
        assert figure in row
    assert pytest_session.result(stream)["latency_p90_ms"] > 0
    errors = [line for line in pytest_session.out.splitlines() if line.startswith("ERROR: ")]
    for error, flag in zip(errors, ("--benchmark-json", "--benchmark-storage"), strict=True):
        assert "could not be written (" in error
        assert flag in error
    assert not (here / "benchmarks.json").exists()
    assert [path for path in (here / "storage").rglob("*") if path.is_file()] == []


@pytest.mark.slow
@needs_limits
def test_an_earlier_json_stays_whole_where_the_disk_is_full(folder: Path) -> None:
    here = folder / "full-again"
    words = command(here, "-k", "performance and offline", "--benchmark-skip", *json_at(here))
    (here / "benchmarks.json").write_text("{}")
    done = start(here, here, [sys.executable, "-c", LIMITED, "1000", "-m", "pytest", *words], {})
    assert f"ERROR: {here / 'benchmarks.json'} could not be written (" in done.stdout
    assert (here / "benchmarks.json").read_text() == "{}"
    assert list(here.glob(".benchmarks*.json")) == []


@pytest.mark.slow
@pytest.mark.parametrize("asked", [("-k", "nosuchcase"), ("--collect-only",)])
def test_an_earlier_json_stays_where_nothing_was_run(folder: Path, asked: tuple[str, ...]) -> None:
    place = folder / "earlier.json"
    place.write_text('{"benchmarks": ["earlier"]}')
    run(folder / "nothing", *asked, "--benchmark-json", str(place))
    assert place.read_text() == '{"benchmarks": ["earlier"]}'


@needs_limits
def test_a_result_that_cannot_be_written_fails_and_keeps_its_figures(tmp_path: Path) -> None:
    import resource

    result = replace(OFFICIAL, reason="all is well", qps=12.0)
    folder = RunFolder(tmp_path)
    run = folder.begin()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        kept = harness._saved(result, None, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == list(run.iterdir()) == []
    assert kept.run_dir == str(run)
    assert lists([kept])["failures"] == [kept.as_dict()]
    assert (kept.verdict, kept.mlperf_valid, kept.qps) == (FAILED, False, 12.0)
    for part in (f"{tmp_path / RESULT} can't be written (", "--output", "all is well"):
        assert part in kept.reason


#: What the JSON holds of this suite's cases.
LISTS = ("benchmarks", "accuracy", "compliance", "failures", "skipped")


@pytest.mark.parametrize("asked", ["benchmarks.json", "new/place/benchmarks.json"])
def test_the_json_is_written_whole_wherever_it_is_asked_for(folder: Path, asked: str) -> None:
    here = folder / f"asked-{len(asked)}"
    pytest_session = run(here, "-k", "nosuchcase", "--benchmark-json", str(here / asked))
    assert pytest_session.code == pytest.ExitCode.NO_TESTS_COLLECTED
    document = json.loads((here / asked).read_bytes())
    assert {key: document[key] for key in LISTS} == {key: [] for key in LISTS}


def test_a_json_may_go_to_a_device(folder: Path) -> None:
    pytest_session = run(folder / "device", "-k", "nosuchcase", "--benchmark-json", "/dev/stdout")
    assert '"benchmarks": []' in pytest_session.out


def test_a_json_on_standard_output_replaces_no_device(folder: Path) -> None:
    before = Path("/dev/stdout").lstat()
    words = command(folder / "device", "-k", "nosuchcase", "--benchmark-json", "/dev/stdout")
    with (folder / "output.txt").open("w") as output:
        subprocess.run(
            [sys.executable, "-m", "pytest", *words],
            cwd=folder,
            env=environment(folder),
            stdout=output,
            check=False,
        )
    assert Path("/dev/stdout").lstat().st_ino == before.st_ino
    assert '"benchmarks": []' in (folder / "output.txt").read_text()


# What is written about it.

DOCUMENT = BENCHMARKS.parent / "docs" / "results.md"


def documented() -> dict[str, dict[str, list[str]]]:
    """Every table of the document by the heading above it: each key with the row's other cells."""
    tables: dict[str, dict[str, list[str]]] = {}
    heading = ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.strip("# `")
        elif line.startswith("| `"):
            key, *rest = (cell.strip() for cell in line.strip("|").split(" | "))
            tables.setdefault(heading, {})[key.strip("`")] = rest
    return tables


def real(pytest_session: PytestSession) -> list[dict[str, Any]]:
    return [pytest_session.result(name) for name in RUN]


def test_every_key_of_a_result_is_documented_and_no_other(mixed: PytestSession) -> None:
    tables = documented()
    for result in real(mixed):
        assert set(tables["A result"]) == set(result)
        for part in ("provenance", "timeline"):
            assert set(tables[part]) == set(result[part])
    assert set(tables["The JSON"]) == mixed.benchmarks.keys() - {
        *("machine_info", "commit_info", "benchmarks", "datetime", "version")
    }


def test_every_key_of_a_node_is_documented_with_its_type_and_no_other() -> None:
    found = json.loads(json.dumps(asdict(node(cpu_quota=2.0, peak_memory_bytes=10**9))))
    table = documented()["nodes"]
    assert table.keys() == found.keys()
    for key, (kind, *_) in table.items():
        assert isinstance(found[key], TYPES.get(kind, list)), key


TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "object": dict,
}


def test_documented_types_and_what_is_never_null_hold(mixed: PytestSession) -> None:
    tables = documented()
    for result in real(mixed):
        for heading, found in (
            ("A result", result),
            ("provenance", result["provenance"]),
            ("timeline", result["timeline"]),
        ):
            for key, (kind, _, null) in tables[heading].items():
                value = found[key]
                assert value is not None or null != "never", key
                if value is not None:
                    assert isinstance(value, TYPES.get(kind, list)), key
                if null == "accuracy" or null.endswith(", accuracy"):
                    assert value is None or result["mode"] != "accuracy", key
                if null.startswith("accuracy, performance"):
                    assert value is None or result["mode"] == "compliance", key
                if null.endswith("performance, compliance"):
                    assert value is None or result["mode"] == "accuracy", key


def test_every_file_of_a_run_folder_is_documented(mixed: PytestSession) -> None:
    names = {path.name for path in mixed.folder.glob("results/*/*")}
    assert names == set(documented()["The run folder"])


def test_what_junit_shows_is_documented(mixed: PytestSession) -> None:
    text = DOCUMENT.read_text(encoding="utf-8").partition("`--junitxml` has")[2]
    named = set(text.partition("; also under")[0].split("`")[1::2])
    shown = {key for case in mixed.cases.values() for key in case.properties}
    assert shown <= named
    # The model has no reference, and the data set is none of SQuAD v2.0.
    assert named - shown <= {"f1_target", "f1_has_answer", "f1_no_answer"}
