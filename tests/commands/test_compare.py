"""`compare` says in a row a figure what B is to A, in the form that somebody needs."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import accuracy, benchmark_json, performance, provenance, run_folder

from bertsquad.__main__ import main

CASE = "minilm-pocket-offline-cpu-fp32"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a folder of --output and a file of the JSON of another machine."""
    monkeypatch.chdir(tmp_path)
    facts = [provenance(day, machine=f"m|{day}", machine_id=str(day)) for day in (1, 2)]
    run_folder(tmp_path / "a", performance("offline", provenance=facts[0]))
    run_folder(tmp_path / "a", accuracy(provenance=facts[0]))
    fast = performance("offline", provenance=facts[1], qps=62.8318, mlperf_metric_value=62.8318)
    benchmark_json(tmp_path / "b.json", fast, accuracy(provenance=facts[1], sample_count=20))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["compare", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_the_table_says_what_is_seen_and_what_differs(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = told(capsys, "a", "b.json")
    rows = [line.split() for line in out.splitlines() if line.startswith(CASE)]
    assert rows[0][1:5] == ["QPS", "31.42", "62.83", "2.000"] and rows[0][-1] == "faster"
    assert rows[1][1] == "F1" and "+0.000" in out and "unlike runs" in out
    assert "sample_count is 20 and was 494" in out
    assert "m|1 (Some CPU, 4 cores)  m|2 (Some CPU, 4 cores)  all" in out
    assert "Intervals of one run each" in out


def test_markdown_holds_the_same(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "a", "b.json", "--format", "md")
    tables = [part for part in out.split("\n\n") if part.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        lines = table.replace(r"\|", "").splitlines()
        assert len({line.count("|") for line in lines}) == 1
    assert r"m\|1" in out and "| faster" in out


def test_csv_and_json_hold_all_digits(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(told(capsys, "a", "b.json", "--format", "csv"))))
    assert [row["key"] for row in rows] == ["qps", "f1"]
    assert float(rows[0]["b"]) == 62.8318 and float(rows[0]["ratio"]) == 62.8318 / 31.4159
    assert rows[1]["ratio"] == "" and rows[1]["unlike"] == "sample_count is 20 and was 494"
    found = json.loads(told(capsys, "a", "b.json", "--format", "json"))
    assert (found["A"], found["B"]) == ("a", "b.json")
    low, high = found["changes"][0]["interval"]
    assert low <= 2 <= high and found["changes"][0]["seen"] == "faster"
    assert math.isclose(low, float(rows[0]["interval_low"]))
    assert {"machine", "git_revision"} <= {fact["fact"] for fact in found["facts"]}


def test_two_precisions_of_one_folder_are_compared(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = CASE.replace("fp32", "int8")
    how = "36 of 49 matrix products quantised, calibrated with the 121 windows of a file"
    facts = provenance(1, machine="m|1", machine_id="1", model_preparation=how)
    made = performance("offline", case=name, precision="int8", provenance=facts)
    run_folder(places / "a", made)
    pair = ("a", "a", "--case-a", "fp32", "--case-b", "int8")
    out = told(capsys, *pair)
    (line,) = [line for line in out.splitlines() if line.startswith("model_preparation")]
    assert "36 of 49 matrix" in line and "…" in line and len(line) <= 100
    assert how in told(capsys, *pair, "--format", "md")
    assert "minilm-pocket-offline-cpu-*" in out and "no case is in A and in B" in out
    assert f"only in A: {CASE} (accuracy)" in out


def test_cases_are_chosen(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder(places / "a", performance(day=3))
    benchmark_json(places / "c.json", performance(day=4), performance("offline", day=4))
    assert CASE not in told(capsys, "a", "c.json", "--case", "server", "--format", "csv")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a", "nowhere"], "nowhere can't be read: No such file"),
        (["a", "a"], "A and B are both a: name two places"),
        (["a", "../{here}/a"], "A and B are both a: name two places"),
        (["a", "a", "--case-a", "off", "--case-b", "off"], "or two cases of one with --case-a"),
        (["a", "b.json", "--case-b", "server"], "expected cases whose names contain 'server'"),
        (["a", "copy"], "A and B hold the same runs"),
        (["a", "half.json"], "half.json is cut short or damaged"),
        (["a", "other.json"], "no case in common"),
        (["a", "empty"], "empty: expected results of this suite"),
        (["a", "b.json", "--case", "server"], "expected cases whose names contain 'server'"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    places: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (places / "half.json").write_text('{"schema_version": 1', "utf-8")
    (places / "empty").mkdir()
    for kind in ("performance", "accuracy"):
        copy = places / "copy" / f"{kind}.json"
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((places / "a" / f"{kind}-{CASE}" / "result.json").read_bytes())
    benchmark_json(places / "other.json", performance("singlestream"))
    assert main(["compare", *(one.format(here=places.name) for one in arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and sentence in err
    assert len(err.splitlines()) == 1 and err.startswith("python -m bertsquad compare: ")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_read_is_compared_and_shown(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    some: Any = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9)
    value = some | st.lists(some, max_size=3) | st.sampled_from([1e18, 1e-9, 0.0, 10**18])
    value |= st.dictionaries(st.text(max_size=3), some, max_size=2)
    made = [performance("singlestream", query_count=640), performance(), accuracy()]
    first = data.draw(st.sampled_from(made))
    document: Any = first.as_dict()
    curves = [document["timeline"]["latency"], document["timeline"]["course"]]
    parts = [document, document["provenance"], *curves]
    for _ in range(3):
        part = data.draw(st.sampled_from(parts))
        key = data.draw(st.sampled_from(sorted(part)))
        inner = part[key]
        if isinstance(inner, list) and inner and data.draw(st.booleans()):
            inner[data.draw(st.integers(0, len(inner) - 1))] = data.draw(value)
        elif key not in ("case", "mode"):
            part[key] = data.draw(value)
    folder = tmp_path_factory.mktemp("fuzzed")
    odd = folder / "odd.json"
    odd.write_text(json.dumps(document), "utf-8")
    later = run_folder(folder, type(first)(**first.as_dict() | {"provenance": provenance(9)}))
    for form in ("table", "md", "csv", "json"):
        for places in ((odd, later), (later, odd)):
            assert main(["compare", *map(str, places), "--format", form]) in (0, 1)
    for form in ("table", "md", "csv", "jsonl"):
        assert main(["show", str(odd), "--format", form]) in (0, 1)
    assert main(["get", str(odd), first.case, "qps"]) in (0, 1)
