"""Results compared with those of the nights before: a storage, a second run, whole nights."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
from made import accuracy, benchmark_json, performance, run_folder
from pytest_sessions import (
    PytestSession,
    Reported,
    name_of,
    run_pytest,
    run_pytest_sessions,
    run_tiny,
)

from bertsquad.errors import BoundUnattainable, SuiteError, Unavailable
from bertsquad.loadgen.logs import Cause
from bertsquad.machine import provenance
from bertsquad.models.zoo import MODELS
from bertsquad.results import gate
from bertsquad.results.result import RESULT, Result
from bertsquad.squad.datasets import DATASETS
from bertsquad.suite.cases import Case
from bertsquad.suite.earlier import expected
from bertsquad.suite.gate import Gate, storage_folder
from bertsquad.suite.options import Options

TIMED, SCORED = name_of("performance", "offline"), name_of("accuracy", "offline")


# One case, whose runs are replayed.


@pytest.fixture
def said() -> list[str]:
    return []


def storage(folder: Path, *qps: float) -> Path:
    """A storage with one file a night."""
    for day, figure in enumerate(qps, 1):
        file = benchmark_json(
            folder / f"{day:04}_gate.json", performance("offline", day, qps=figure)
        )
        os.utime(file, (day, day))
    return folder


def runs(tmp_path: Path, *qps: float) -> Callable[[], Result]:
    """A case that is run, each time with another figure; its folder is as the suite leaves it."""
    left = list(qps)
    made = performance("offline", 28)
    place = run_folder(tmp_path / "results", made)

    def run_once() -> Result:
        return replace(made, qps=left.pop(0), run_dir=str(place))

    return run_once


def test_a_miss_is_run_again_and_the_second_run_counts(tmp_path: Path, said: list[str]) -> None:
    before = storage(tmp_path / "storage", *[100.0] * 10)
    result = Gate(5.0, False, before, said.append).run(runs(tmp_path, 90.0, 99.0))
    assert result.qps == 99.0
    assert result.failure is None
    assert result.gate is not None
    assert (result.gate.verdict, result.gate.first_value) == (gate.PASSED, 90.0)
    (line,) = said
    assert "QPS 90 is 10.0 % under the median of 10 good runs, 100 (band 5.0 %)" in line
    assert line.endswith("it is run again")
    kept = json.loads((Path(result.run_dir) / RESULT).read_bytes())
    assert (kept["qps"], kept["gate"]["verdict"]) == (99.0, "passed")


def test_what_misses_twice_fails_and_says_both_figures(tmp_path: Path, said: list[str]) -> None:
    before = storage(tmp_path / "storage", *[100.0] * 10)
    result = Gate(5.0, False, before, said.append).run(runs(tmp_path, 90.0, 89.0))
    assert result.failure == (
        "gate: QPS 89 is 11.0 % under the median of 10 good runs, 100 (band 5.0 %); run again "
        "after 90"
    )
    assert len(said) == 1


def test_what_hits_or_is_accepted_runs_once(tmp_path: Path, said: list[str]) -> None:
    before = storage(tmp_path / "storage", *[100.0] * 10)
    assert Gate(5.0, False, before, said.append).run(runs(tmp_path / "a", 97.0)).failure is None
    accepted = Gate(5.0, True, before, said.append).run(runs(tmp_path / "b", 50.0))
    assert accepted.gate is not None
    assert accepted.gate.verdict == gate.ACCEPTED
    assert accepted.failure is None
    assert said == []


def test_a_file_that_cannot_be_read_is_told_and_left_out(tmp_path: Path, said: list[str]) -> None:
    before = storage(tmp_path / "storage", *[100.0] * 10)
    (before / "0011_gate.json").write_text('{"benchmarks": [', "utf-8")
    (before / "0012_other.json").write_text('{"benchmarks": []}', "utf-8")
    found = Gate(5.0, False, before, said.append).run(runs(tmp_path, 99.0)).gate
    assert found is not None
    assert found.runs == 10
    (line,) = said
    assert "the gate leaves a file of the history out: " in line
    assert "0011_gate.json is cut short or damaged" in line


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (BoundUnattainable("no rate keeps the bound"), "no rate keeps the bound"),
        (Unavailable("the device has gone", "device"), "the device has gone"),
        (OSError(errno.ENOSPC, "No space left on device"), "a file: No space left"),
    ],
)
def test_a_miss_stays_one_where_the_second_run_gives_no_result(
    error: Exception, why: str, tmp_path: Path, said: list[str]
) -> None:
    before = storage(tmp_path / "storage", *[100.0] * 10)
    attempts: list[Callable[[], Result]] = [runs(tmp_path, 90.0), partial(raise_, error)]
    result = Gate(5.0, False, before, said.append).run(lambda: attempts.pop(0)())
    assert result.qps == 90.0
    assert result.failure is not None
    assert f"(band 5.0 %); run again, which gave no result: {why}" in result.failure
    kept = json.loads((Path(result.run_dir) / RESULT).read_bytes())
    assert kept["gate"]["reason"] == result.failure


def raise_(error: Exception) -> Result:
    raise error


def test_figures_stay_where_the_verdict_cannot_be_written(tmp_path: Path, said: list[str]) -> None:
    before = storage(tmp_path / "storage", *[100.0] * 10)
    once = runs(tmp_path, 99.0)
    (tmp_path / "file").touch()

    def run_once() -> Result:
        return replace(once(), run_dir=str(tmp_path / "file" / "folder"))

    result = Gate(5.0, False, before, said.append).run(run_once)
    assert result.qps == 99.0
    assert result.failure is not None
    assert "result.json can't be written" in result.failure
    assert "what was measured stands in the table" in result.failure


def test_a_night_counts_once_however_many_copies_of_its_file_there_are(
    tmp_path: Path, said: list[str]
) -> None:
    before = storage(tmp_path / "storage", 100.0, 100.0, 100.0)
    shutil.copytree(before, before / "copy")
    (before / "0004_gate.json").symlink_to(tmp_path / "nowhere")
    found = Gate(5.0, False, before, said.append).run(runs(tmp_path, 99.0)).gate
    assert found is not None
    assert found.runs == 3
    (line,) = said
    assert "0004_gate.json" in line


def test_a_night_of_long_ago_counts_though_many_other_cases_ran_since(
    tmp_path: Path, said: list[str]
) -> None:
    before = storage(tmp_path / "storage", *[100.0] * 3)
    for number in range(150):
        benchmark_json(
            before / "others" / f"{number}.json", performance("singlestream", timeline={})
        )
    found = Gate(5.0, False, before, said.append).run(runs(tmp_path, 99.0)).gate
    assert found is not None
    assert found.runs == 3


def test_a_storage_without_results_is_told(tmp_path: Path, said: list[str]) -> None:
    result = Gate(5.0, False, tmp_path / "moved", said.append).run(runs(tmp_path, 99.0))
    assert result.gate is not None
    assert result.gate.verdict == gate.NO_BASELINE
    assert said == [f"the gate found no earlier results in {tmp_path / 'moved'}"]


def test_runs_that_kept_a_bound_are_counted_where_they_were_here_alike_and_good(
    tmp_path: Path, said: list[str]
) -> None:
    options = Options(target_latency_ms=40.0)
    case = Case(MODELS["minilm"], DATASETS["pocket"], "server", "cpu", "fp32")
    made = performance("server")
    known = dict(expected(case, options, vars(made)))
    facts_of_this_machine = provenance.facts({})
    here = {key: facts_of_this_machine[key] for key in ("machine", "machine_id", "cpu", "cores")}
    facts = made.provenance | known.pop("provenance") | here
    kept = replace(made, **known | {"target_qps": 33.0}, provenance=facts)
    missed = [Cause("latency_bound", "p99 over the bound")]
    changes: list[dict[str, Any]] = [
        {},
        {},
        {"target_latency_ms": 130.0},
        {"invalid_causes": missed},
        {"provenance": facts | {"machine_id": "another"}},
    ]
    for day, change in enumerate(changes, 1):
        at = {"started_at": f"2026-11-{day:02}T02:00:00+00:00"}
        one = replace(kept, **change)
        one = replace(one, provenance=one.provenance | at)
        benchmark_json(tmp_path / f"{day}.json", one)
    assert Gate(5.0, False, tmp_path, said.append).lost(case, options) == 2
    assert Gate(5.0, True, tmp_path, said.append).lost(case, options) == 0  # accepted


def test_f1_has_a_history_too(tmp_path: Path, said: list[str]) -> None:
    for day in range(1, 6):
        benchmark_json(tmp_path / "storage" / f"untimed_{day}.json", accuracy(day=day))
    made = accuracy(day=28, f1=83.0)
    place = run_folder(tmp_path / "results", made)
    found = Gate(5.0, False, tmp_path / "storage", said.append).run(
        lambda: replace(made, run_dir=str(place))
    )
    assert found.failure is not None
    assert "F1 83 is 0.5 points under" in found.failure


def test_a_storage_that_is_no_folder_of_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="give a folder with --benchmark-storage"):
        storage_folder("elasticsearch+http://localhost:9200")
    (tmp_path / "file").touch()
    with pytest.raises(SuiteError, match="can't be read"):
        storage_folder(str(tmp_path / "file"))
    assert storage_folder(f"file://{tmp_path}") == tmp_path


# The same for real. Others work on this machine too, so the history is changed by much, and what
# disturbed its runs is taken out.


def let_have_been(times: float, storage: Path) -> None:
    """Change the figures of the storage's timed runs by a factor."""
    for file in storage.rglob("*.json"):
        document = json.loads(file.read_bytes())
        for entry in document["benchmarks"]:
            entry["extra_info"]["disturbances"] = []
            entry["extra_info"]["qps"] *= times
        file.write_text(json.dumps(document), "utf-8")


@dataclass(frozen=True)
class Night:
    """A pytest session that has ended, with what it left, which the next one overwrites."""

    ended: PytestSession
    cases: dict[str, Reported]
    document: dict[str, Any]
    result: dict[str, Any]


NIGHTS = {
    # How fast the runs before are said to have been, and what else is given.
    "first": (1.0, ()),
    "quick": (0.1, ()),
    "slow": (100.0, ()),
    "slow again": (1.0, ()),
    "accepted": (1.0, ("--gate-accept",)),
    "after": (0.1, ()),
}


@pytest.fixture(scope="module")
def storage_of_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "storage"


@pytest.fixture(scope="module")
def nights(storage_of_nights: Path) -> dict[str, Night]:
    chosen = ("-k", "offline and not compliance", "--benchmark-json", "benchmarks.json")
    given = ("--gate", "--benchmark-storage", str(storage_of_nights))
    done = {}
    for name, (times, more) in NIGHTS.items():
        let_have_been(times, storage_of_nights)
        ended = run_tiny(storage_of_nights.parent / "here", *chosen, *given, *more)
        done[name] = Night(ended, ended.cases, ended.benchmarks, ended.result(TIMED))
    return done


def verdicts(nights: dict[str, Night]) -> dict[str, str]:
    return {name: night.result["gate"]["verdict"] for name, night in nights.items()}


@pytest.mark.slow
def test_a_slower_run_fails_every_night_until_it_is_accepted(nights: dict[str, Night]) -> None:
    assert verdicts(nights) == {
        "first": gate.NO_BASELINE,
        "quick": gate.PASSED,
        "slow": gate.FAILED,
        "slow again": gate.FAILED,
        "accepted": gate.ACCEPTED,
        "after": gate.PASSED,
    }
    codes = {name: night.ended.code for name, night in nights.items()}
    assert codes == {name: int(name.startswith("slow")) for name in NIGHTS}
    assert nights["slow"].result["gate"]["runs"] == 2
    assert nights["slow again"].result["gate"]["runs"] == 2
    assert nights["after"].result["gate"]["runs"] == 1


def test_what_fails_was_run_twice_and_is_told_everywhere(nights: dict[str, Night]) -> None:
    night = nights["slow"]
    reason = night.result["gate"]["reason"]
    assert "under the median of 2 good runs" in reason
    assert f"run again after {night.result['gate']['first_value']:.5g}" in reason
    assert reason in night.cases[TIMED].message
    assert night.cases[TIMED].properties["gate"] == "failed"
    assert float(night.cases[TIMED].properties["gate_change"]) < -90
    (failure,) = night.document["failures"]
    assert failure["gate"] == night.result["gate"]
    assert night.ended.err.count("it is run again") == 1
    told = night.ended.out.replace("\n", " ")
    assert "take it as the new baseline with --gate-accept" in told
    assert "Traceback" not in night.ended.out + night.ended.err


def test_f1_passes_the_gate_each_night_to_the_digit(nights: dict[str, Night]) -> None:
    for name, night in nights.items():
        (result,) = night.document["accuracy"]
        if name == "first":
            assert result["gate"]["verdict"] == gate.NO_BASELINE
        elif name == "accepted":
            assert result["gate"]["verdict"] == gate.ACCEPTED
        else:
            assert (result["gate"]["verdict"], result["gate"]["change"]) == (gate.PASSED, 0.0)


def test_each_night_is_saved_with_its_verdicts(
    nights: dict[str, Night], storage_of_nights: Path
) -> None:
    files = sorted(storage_of_nights.rglob("*.json"))
    assert [file.name for file in files] == [f"{n:04}_gate.json" for n in range(1, len(nights) + 1)]
    for file, verdict in zip(files, verdicts(nights).values(), strict=True):
        (entry,) = json.loads(file.read_bytes())["benchmarks"]
        assert entry["extra_info"]["gate"]["verdict"] == verdict


@pytest.mark.slow
def test_accuracy_alone_has_a_history_also_under_n(storage_of_nights: Path) -> None:
    folder = storage_of_nights.parent
    given = ("-k", "offline and accuracy", "--gate", "--benchmark-storage", str(folder / "alone"))
    for more in ((), ("-n", "1"), ()):
        last = run_tiny(folder / "scored", *given, *more)
        assert last.code == 0, last.out
    assert last.result(SCORED)["gate"]["runs"] == 2
    names = [file.name for file in (folder / "alone").rglob("*.json")]
    assert len(names) == 3
    assert all(name.startswith("untimed_") for name in names)


@pytest.mark.slow
def test_a_bound_that_no_rate_keeps_any_more_is_a_loss_and_no_skip(tmp_path: Path) -> None:
    asked = (
        *("-k", "server and performance", "--dataset", "pocket", "--device", "cpu"),
        *("--dataset-size", "60", "--min-duration-s", "0.2", "--gate"),
        *("--model", str(tiny.model(tmp_path / "tiny.onnx")), "--benchmark-storage"),
    )
    never = ("--target-latency-ms", "0.000001")

    def night(storage: str, *more: str) -> PytestSession:
        return run_pytest(tmp_path / storage, *asked, str(tmp_path / storage / "storage"), *more)

    assert night("before", "--target-latency-ms", "1000").code == 0
    for file in (tmp_path / "before" / "storage").rglob("*.json"):
        document = json.loads(file.read_bytes())
        good = {"target_latency_ms": 1e-6, "disturbances": [], "invalid_causes": []}
        document["benchmarks"][0]["extra_info"] |= good
        file.write_text(json.dumps(document), "utf-8")
    lost, first = night("before", *never), night("nothing", *never)
    assert lost.code == pytest.ExitCode.TESTS_FAILED
    (case,) = lost.cases.values()
    assert "gate: 1 good run kept the bound: a long query takes" in case.message
    assert "can't be kept at any rate" in case.message
    assert "Traceback" not in lost.out + lost.err
    assert {one.outcome for one in first.cases.values()} == {"skipped"}
    assert first.code == 0
    assert night("before", *never, "--gate-accept").code == 0


def test_a_gate_that_cannot_work_is_refused_before_anything_runs(tmp_path: Path) -> None:
    commands = {
        "--gate: expected per cent above 0": ["--gate", "benchmarks"],
        "--gate-accept is for --gate": ["--gate-accept"],
        "--gate reads earlier results from files": [
            *("--gate", "--benchmark-storage", "elasticsearch+http://localhost:9/a/b")
        ],
        "--gate needs pytest-benchmark": ["--gate", "-p", "no:benchmark"],
        "--gate keeps what pytest-benchmark times": ["--gate", "--benchmark-disable"],
    }
    done = run_pytest_sessions(tmp_path / "here", list(commands.values()))
    for said, ended in zip(commands, done, strict=True):
        assert ended.code == pytest.ExitCode.USAGE_ERROR
        assert said in ended.err
        assert "Traceback" not in ended.out + ended.err
