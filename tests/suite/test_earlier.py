"""Runs are compared with like ones only, and mostly refused before they start."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from compared import FIGURES, SERVER, changed
from pytest_sessions import CHEAP, PytestSession, name_of, run_pytest_sessions, run_tiny

from bertsquad.cluster.address import Address
from bertsquad.loadgen.user_conf import UserConf
from bertsquad.models.zoo import MODELS, find
from bertsquad.results import comparison
from bertsquad.results.comparison import differences
from bertsquad.results.result import SCHEMA_VERSION
from bertsquad.squad.datasets import DATASETS
from bertsquad.squad.datasets import find as find_data
from bertsquad.suite.cases import Case
from bertsquad.suite.earlier import expected
from bertsquad.suite.options import Options
from bertsquad.suite.recording import _can_be_compared


def case(scenario: str = "offline") -> Case:
    return Case(MODELS["minilm"], DATASETS["pocket"], scenario, "cpu", "fp32")


def test_one_machine_is_unlike_a_cluster_before_it_starts() -> None:
    earlier = changed(FIGURES, number_of_nodes=2)
    (sentence,) = differences(expected(case(), Options(), earlier), earlier)
    assert sentence == "number_of_nodes is 1 and was 2"


def conf(**settings: float) -> UserConf:
    return UserConf("some.conf", {"offline": settings}, {"offline": settings}, [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(), []),
        (Options(dataset_size="all"), []),
        (Options(instances=1, threads=1, batch_tokens=384, target_qps=3.0), []),
        (Options(cluster=Address("local:1", 1)), []),
        (Options(cluster=Address("local:2", 2)), ["number_of_nodes"]),
        (Options(cluster=Address("auto"), nodes=3), ["number_of_nodes"]),
        (Options(cluster=Address("auto"), nodes=1), []),
        (Options(cluster=Address("auto")), []),  # only the cluster knows
        (Options(dataset_size=20), ["sample_count", "buffer_size"]),
        (Options(buffer_size=20), ["buffer_size"]),
        (Options(min_duration_s=1.0), ["min_duration_s"]),
        (Options(rules="mlperf"), ["rules", "min_duration_s"]),
        (Options(user_conf=conf()), []),
        (Options(user_conf=conf(target_qps=3.0, min_duration=3000)), []),
        (Options(user_conf=conf(performance_sample_count_override=10)), ["buffer_size"]),
        (Options(min_duration_s=3.0, user_conf=conf(min_duration=5000)), []),
        (Options(user_conf=conf(min_duration=5000)), ["min_duration_s"]),
        (Options(user_conf=conf(performance_issue_same=1)), ["performance_issue_same"]),
        (Options(user_conf=conf(performance_issue_same_index=1)), []),  # of no effect alone
        (Options(user_conf=conf(max_query_count=0)), []),
    ],
)
def test_what_makes_runs_unlike_is_known_before_they_start(
    options: Options, words: list[str]
) -> None:
    found = differences(expected(case(), options, FIGURES), FIGURES)
    assert [sentence.split()[0] for sentence in found] == words


@pytest.mark.parametrize(
    ("options", "source", "found"),
    [
        (Options(), "probe", []),
        (Options(target_qps=40.0), "probe", []),
        (Options(target_qps=10.0), "probe", ["target_qps is 10.0 and was 40.0"]),
        (Options(), "option", ["target_qps is probed and was 40.0"]),
        (Options(target_latency_ms=99.0), "probe", ["target_latency_ms is 99.0 and was 130.0"]),
    ],
)
def test_servers_targets_are_known_before_too(
    options: Options, source: str, found: list[str]
) -> None:
    old = changed(SERVER, target_source=source)
    assert differences(expected(case("server"), options, old), old) == found


def test_other_weights_beside_the_same_graph_are_known_before_as_another_model(
    tmp_path: Path,
) -> None:
    paths = [tiny.model(tmp_path / name / "a.onnx", external=True) for name in ("1", "2")]
    weights = paths[1].with_name("a.onnx.data")
    weights.write_bytes(weights.read_bytes()[::-1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    first, second = (
        expected(replace(case(), model=find(str(path))), Options(), FIGURES) for path in paths
    )
    (found,) = differences(second, {**FIGURES, **first})
    assert found.startswith("model_checksum is ")


def test_a_model_whose_weights_are_missing_is_left_to_its_case(tmp_path: Path) -> None:
    path = tiny.model(tmp_path / "a.onnx", external=True)
    path.with_name("a.onnx.data").unlink()
    known = expected(replace(case(), model=find(str(path))), Options(), FIGURES)
    assert "model_checksum" not in known["provenance"]


@pytest.mark.parametrize(
    ("precisions", "then", "found"),
    [
        (("fp32",), None, []),  # which results had not before there were any
        (("fp32",), 0, []),
        (("fp32",), 5, ["questions_left_out is 0 and was 5"]),
        (("fp32", "int8"), 0, ["questions_left_out is some and was 0"]),
        (("fp32", "int8"), 5, []),
    ],
)
def test_questions_that_calibrate_make_runs_unlike_before_they_start(
    precisions: tuple[str, ...], then: int | None, found: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.jsonl").write_text("{}")
    mine = find_data(str(tmp_path / "mine.jsonl"))
    options = Options(datasets=(mine,), precisions=precisions)
    of_mine = replace(case(), dataset=mine)
    known = expected(of_mine, options, FIGURES)
    old = {**FIGURES, **known, "questions_left_out": then}
    assert differences(expected(of_mine, options, old), old) == found


SAVED = ("-k", "performance", "--benchmark-storage", "../storage")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def saved(folder: Path) -> PytestSession:
    return run_tiny(folder / "first", *SAVED, "--benchmark-save", "first")


@pytest.fixture(scope="module")
def baseline(saved: PytestSession) -> dict[str, Any]:
    assert saved.code == 0, saved.out
    (file,) = (saved.folder.parent / "storage").rglob("0001_first.json")
    document: dict[str, Any] = json.loads(file.read_bytes())
    return document


#: What is compared with a pytest session like the first, by the options that are added to it.
ALIKE = ("", "--instances 1 --threads 1 --batch-tokens 384")


UNLIKE = {
    "--user-conf FOLDER/work.conf": "performance_issue_same is 1 and was 0",
    "--dataset-size 50": "sample_count is 50 and was 60; buffer_size is 50 and was 60",
    "--buffer-size 30 --min-duration-s 0.5": "buffer_size is 30 and was 60; min_duration_s is 0.5",
    "--target-qps 100 -k server": "target_qps is 100.0 and was 200.0",
}


#: What may be wrong with the earlier results themselves.
Edit = Callable[[dict[str, Any]], object]


EDITS: dict[str, tuple[Edit, str]] = {
    "older": (
        lambda i: i.update(schema_version=0),
        f"schema_version is {SCHEMA_VERSION} and was 0",
    ),
    "odd": (lambda i: i.update(dataset_samples="many", sample_count=None), "isn't in the earlier"),
    "foreign": (lambda i: i.clear(), "that is no result of this suite"),
    "data": (lambda i: i["provenance"].update(dataset_checksum="md5:0"), "and was md5:0;"),
    "model": (lambda i: i["provenance"].update(model_checksum="1"), "and was 1;"),
}


@pytest.fixture(scope="module")
def collected(baseline: dict[str, Any], folder: Path) -> dict[str, PytestSession]:
    """Pytest sessions that would compare with the first, and end before anything runs."""
    model = str(tiny.model(folder / "tiny.onnx"))
    storage = ("--benchmark-storage", str(folder / "storage"), "--collect-only")
    usual = [*CHEAP.split(), "--model", model, "-m", "performance", *storage]
    compare = [*usual, "--benchmark-compare=0001"]
    lines = ("*.*.performance_issue_same = 1", "*.*.performance_issue_same_index = 3")
    (folder / "work.conf").write_text("\n".join(lines))
    commands = {
        added: [*compare, *added.replace("FOLDER", str(folder)).split()]
        for added in (*ALIKE, *UNLIKE)
    }
    for name, (edit, _) in EDITS.items():
        document = deepcopy(baseline) | {"machine_info": {"node": "another"}}
        for entry in document["benchmarks"]:
            edit(entry["extra_info"])
        (folder / "storage" / f"edited-{name}.json").write_text(json.dumps(document))
    commands["edited"] = [*usual, "--benchmark-compare=edited"]
    gate = "--benchmark-compare-fail=median:5%"
    commands["nothing named"] = [*usual, gate]
    commands["nothing there"] = [*usual, "--benchmark-compare=0007", gate]
    commands["not these"] = [*compare, gate, "--model=minilm", "-k", "minilm"]
    pytest_sessions = run_pytest_sessions(folder / "collected", list(commands.values()))
    return dict(zip(commands, pytest_sessions, strict=True))


def errors(pytest_session: PytestSession) -> list[str]:
    """The lines of usage error with which a pytest session ended."""
    assert pytest_session.code == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in pytest_session.out + pytest_session.err
    return [line for line in pytest_session.err.splitlines() if line.startswith("ERROR: ")]


@pytest.mark.parametrize("added", ALIKE)
def test_like_runs_are_compared(collected: dict[str, PytestSession], added: str) -> None:
    pytest_session = collected[added]
    assert pytest_session.code == 0, pytest_session.err
    assert "0001_first.json" in pytest_session.err


@pytest.mark.parametrize("added", UNLIKE)
def test_unlike_runs_are_refused_before_they_start_in_a_sentence_for_each_case(
    collected: dict[str, PytestSession], added: str
) -> None:
    refused = errors(collected[added])
    assert len(refused) == (1 if "-k server" in added else 4)
    for part in (name_of("performance", "server"), "0001_first.json", UNLIKE[added]):
        assert part in refused[-1]


@pytest.mark.parametrize("edited", EDITS)
def test_results_of_another_kind_are_refused_before_the_runs(
    collected: dict[str, PytestSession], edited: str
) -> None:
    refused = [line for line in errors(collected["edited"]) if f"edited-{edited}.json" in line]
    assert len(refused) == 4
    for line in refused:
        assert EDITS[edited][1] in line


def test_earlier_results_of_another_machine_may_lie_anywhere(
    collected: dict[str, PytestSession],
) -> None:
    assert "are of another machine" in collected["edited"].err
    assert "are of another machine" not in collected[""].err


@pytest.mark.parametrize("added", ["nothing named", "nothing there", "not these"])
def test_a_gate_with_nothing_to_compare_with_is_refused_before_the_runs(
    collected: dict[str, PytestSession], added: str
) -> None:
    (error,) = errors(collected[added])
    for part in ("nothing to compare with", "storage", "--benchmark-autosave"):
        assert part in error


@pytest.mark.slow
def test_what_shows_only_afterwards_is_refused_once_the_results_are_saved(
    saved: PytestSession, baseline: dict[str, Any], folder: Path
) -> None:
    document = deepcopy(baseline)
    for entry in document["benchmarks"]:
        if entry["group"] == "offline":
            entry["extra_info"]["precision"] = "bf16"
    (folder / "before.json").write_text(json.dumps(document))
    chosen = (*SAVED[2:], "-k", "performance and (offline or server)")
    options = ("--benchmark-compare", str(folder / "before.json"), "--benchmark-save", "second")
    pytest_session = run_tiny(folder / "second", *chosen, *options)
    assert pytest_session.code == pytest.ExitCode.TESTS_FAILED
    (error,) = (line for line in pytest_session.out.splitlines() if line.startswith("ERROR: "))
    assert error.startswith(f"ERROR: {name_of('performance', 'offline')} can't be compared with ")
    assert "precision is fp32 and was bf16" in error
    assert f"{name_of('performance', 'server')} (NOW)" in pytest_session.out
    assert f"{name_of('performance', 'offline')} (NOW)" not in pytest_session.out
    assert {case.outcome for case in pytest_session.cases.values()} == {"passed"}
    (file,) = (folder / "storage").rglob("*_second.json")
    assert len(json.loads(file.read_bytes())["benchmarks"]) == 2


@pytest.mark.slow
def test_a_case_that_the_earlier_results_lack_is_named_and_passes(
    baseline: dict[str, Any], folder: Path
) -> None:
    file = folder / "fewer.json"
    entries = [entry for entry in baseline["benchmarks"] if entry["group"] != "offline"]
    file.write_text(json.dumps(baseline | {"benchmarks": entries}))
    gate = ("--benchmark-compare", str(file), "--benchmark-compare-fail=median:100000%")
    chosen = ("-k", "performance and (offline or server)")
    pytest_session = run_tiny(folder / "fewer", *chosen, *gate)
    assert pytest_session.code == 0, pytest_session.out
    name = name_of("performance", "offline")
    assert f"{name} was compared with nothing: the earlier results lack it" in pytest_session.out


@pytest.mark.parametrize(
    "lost", ["machine_info", "name", "fullname", "extra_info", "stats", "median", "ops"]
)
def test_an_earlier_file_that_lacks_something_is_passed_over(
    baseline: dict[str, Any], lost: str
) -> None:
    assert _can_be_compared(deepcopy(baseline))
    document = deepcopy(baseline)
    entry = document["benchmarks"][-1]
    place = document if lost in document else entry if lost in entry else entry["stats"]
    place[lost] = [lost]
    if lost == "stats":
        entry["stats"] = {}
    assert not _can_be_compared(document)


@pytest.mark.slow
def test_such_a_file_alone_leaves_nothing_to_compare_with(
    baseline: dict[str, Any], folder: Path
) -> None:
    file = folder / "part.json"
    file.write_text(json.dumps({**baseline, "machine_info": None}))
    gate = ("--benchmark-compare", str(file), "--benchmark-compare-fail=median:5%")
    pytest_session = run_tiny(folder / "part", "-k", "performance and offline", *gate)
    assert pytest_session.code == pytest.ExitCode.USAGE_ERROR
    assert "nothing of it is compared" in pytest_session.err
    assert "nothing to compare with" in pytest_session.err
    assert "Traceback" not in pytest_session.out + pytest_session.err


@pytest.mark.slow
def test_a_gate_that_compared_nothing_fails(baseline: dict[str, Any], folder: Path) -> None:
    gate = ("--benchmark-compare=0001", "--benchmark-compare-fail=median:5%")
    pytest_session = run_tiny(folder / "untimed", *SAVED[2:], *gate, "-k", "accuracy and offline")
    assert pytest_session.code == pytest.ExitCode.TESTS_FAILED
    assert (
        "ERROR: --benchmark-compare-fail compared nothing: no case was timed" in pytest_session.out
    )


def test_each_key_that_is_compared_is_in_a_real_result(baseline: dict[str, Any]) -> None:
    for entry in baseline["benchmarks"]:
        info = entry["extra_info"]
        keys = comparison.ALIKE + (comparison.ALIKE_IN_SERVER if "server" in entry["name"] else ())
        for place in keys:
            assert comparison._at(info, place) is not None, place
