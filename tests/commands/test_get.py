"""`get` prints one figure, and never anything that a script could take for one."""

import json
from pathlib import Path
from typing import Any

import pytest
from made import accuracy, benchmark_json, compliance, performance, provenance

from bertsquad.__main__ import main
from bertsquad.results.result import FAILED

CASE = "minilm-pocket-server-cpu-fp32"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with two nights of a case in all modes."""
    for day in (1, 2):
        night = performance(day=day, qps=30.0 + day, run_time_s=5.0 + day)
        other = accuracy("server", day=day), compliance("server", day=day)
        path = tmp_path / "results" / f"{day}.json"
        benchmark_json(path, night, other[0], compliance=[other[1].as_dict()])
    return tmp_path / "results"


def got(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["get", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize(
    ("key", "printed"),
    [
        ("qps", "32.0"),
        ("f1", "83.5273"),
        ("latency_p99_ms", None),
        ("compliance_responses", "64"),
        ("run_time_s", "7.0"),
        ("loadgen_valid", "true"),
        ("verdict", "passed"),
        ("provenance.cores", "4"),
        ("provenance.versions.python", "3.11.7"),
        ("f1_interval", "[80.4, 86.6]"),
        ("f1_interval.0", "80.4"),
        ("timeline.off_by_us", "1.5"),
    ],
)
def test_a_figure_of_the_newest_run_is_printed_alone(
    results: Path, key: str, printed: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = got(capsys, results, CASE, key)
    assert out.endswith("\n") and out.count("\n") == 1
    if printed is not None:
        assert out == f"{printed}\n"
    else:
        assert float(out) == performance().latency_p99_ms


def test_the_mode_can_be_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert got(capsys, results, CASE, "run_time_s", "--mode", "accuracy") == "12.3\n"


def test_several_places_are_read_as_one(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert got(capsys, results / "2.json", results / "1.json", CASE, "qps") == "32.0\n"


@pytest.mark.parametrize(
    ("case", "key", "sentence"),
    [
        (CASE, "qsp", "near which are qps"),
        (CASE, "core", "near which are provenance.cores"),
        (CASE, "mlperf", "expected keys of result.json"),
        (CASE, "peak_memory_bytes", f"{CASE} has no peak_memory_bytes"),
        (CASE, "provenance.cpu_quota", f"{CASE} has no provenance.cpu_quota"),
        ("minilm-pocket-serve-cpu-fp32", "qps", f"there are {CASE}"),
        ("", "qps", f"got '': there are {CASE}"),
    ],
)
def test_what_is_not_there_is_one_sentence_that_names_what_is_near(
    results: Path, case: str, key: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["get", str(results), case, key]) == 1
    out, err = capsys.readouterr()
    assert out == "" and sentence in err
    assert len(err.splitlines()) == 1 and err.startswith("python -m bertsquad get: ")


def test_a_figure_of_a_mode_that_did_not_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark_json(tmp_path / "a.json", performance())
    assert main(["get", str(tmp_path), CASE, "f1"]) == 1
    assert "has no f1: its runs are of performance" in capsys.readouterr().err
    assert main(["get", str(tmp_path), CASE, "qps", "--mode", "accuracy"]) == 1
    assert capsys.readouterr().out == ""


def test_an_earlier_figure_does_not_stand_in_for_that_of_a_run_that_gave_none(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = {"case": CASE, "mode": "performance", "verdict": FAILED, "reason": "the device is gone"}
    benchmark_json(results / "3.json", failures=[lost])
    assert main(["get", str(results), CASE, "qps"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "the device is gone" in err
    assert got(capsys, results, CASE, "f1") == "83.5273\n"


def test_of_several_machines_it_is_said_whose_figure_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def on(name: str, day: int) -> Any:
        facts = provenance(day, machine=name, machine_id=name)
        return performance(day=day, provenance=facts, qps=10.0 * day)

    benchmark_json(tmp_path / "a.json", on("a", 1))
    benchmark_json(tmp_path / "b.json", on("b", 2))
    assert main(["get", str(tmp_path), CASE, "qps"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == 20.0
    assert err.startswith("of the newest run, on b (") and "there are runs on a (" in err
