"""`show` gives each run a row, in the form that somebody needs."""

import csv
import io
import json
from pathlib import Path

import pytest
from made import accuracy, benchmark_json, performance, run_folder

from bertsquad.__main__ import main
from bertsquad.results.result import FAILED

CASE = "minilm-pocket-server-cpu-fp32"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with a case of three nights, and one that failed without a result."""
    for day in (1, 2, 3):
        night = performance(day=day, qps=30.0 + day, mlperf_metric_value=30.0 + day)
        benchmark_json(tmp_path / "results" / f"{day}.json", night, accuracy(day=day))
    lost = {"case": CASE, "mode": "compliance", "verdict": FAILED, "reason": "a, b|c"}
    benchmark_json(tmp_path / "results" / "4.json", failures=[lost])
    return tmp_path / "results"


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["show", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_the_table_has_a_row_a_run_oldest_first(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, *lines = shown(capsys, results).splitlines()
    assert head.split()[:2] == ["case", "mode"]
    assert len(lines) == 7
    timed = [line for line in lines if CASE in line and "performance" in line]
    assert [line.partition(" QPS")[0].split()[-1] for line in timed] == ["31.00", "32.00", "33.00"]
    assert all("2026-11-0" in line and "VALID" in line for line in timed)
    assert "failed" in lines[-1]


def test_markdown_has_the_same_rows(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, results, "--format", "md").splitlines()
    assert len(lines) == 9 and all(line[0] == line[-1] == "|" for line in lines)


def test_csv_has_the_keys_of_a_result_as_columns(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(csv.DictReader(io.StringIO(shown(capsys, results, "--format", "csv"))))
    assert len(rows) == 7
    timed = [row for row in rows if row["mode"] == "performance"]
    assert [float(row["qps"]) for row in timed] == [31, 32, 33]
    assert {row["f1"] for row in timed} == {""}
    assert {row["provenance.cores"] for row in timed} == {"4"}
    assert rows[-1]["reason"] == "a, b|c"


def test_jsonl_has_a_result_a_line_without_what_plots_are_drawn_from(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [json.loads(line) for line in shown(capsys, results, "--format", "jsonl").splitlines()]
    (first,) = [one for one in found if one.get("qps") == 31.0]
    expected = performance(day=1, qps=31.0, mlperf_metric_value=31.0).as_dict()
    assert "timeline" not in first
    del expected["timeline"]
    assert first == json.loads(json.dumps(expected))


@pytest.mark.parametrize("form", ["table", "md", "csv", "jsonl"])
def test_columns_are_chosen_in_every_form(
    results: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = "mode,qps,provenance.versions.numpy"
    out = shown(capsys, results, "--format", form, "--columns", keys, "--case", "offline")
    lines = out.splitlines()
    if form == "jsonl":
        assert [json.loads(line) for line in lines] == [
            {"mode": "accuracy", "qps": None, "provenance.versions.numpy": "2.4.6"}
        ] * 3
    else:
        assert [word for word in keys.split(",") if word in lines[0]] == keys.split(",")
        assert sum("accuracy" in line for line in lines) == 3


def test_what_could_not_be_read_is_said_beside_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(tmp_path, performance())
    (tmp_path / "half.json").write_text('{"schema_version": 1', "utf-8")
    assert main(["show", str(tmp_path), "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert err.startswith("left out: ") and "half.json is cut short" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere can't be read: No such file"),
        (["."], "expected results of this suite"),
        (["results", "--columns", "qps,cpus"], "expected keys of result.json"),
        (["results", "--case", "bert_large"], "expected cases whose names contain 'bert_large'"),
        (["results/half.txt"], "half.txt is cut short or damaged"),
        (["results/my.txt"], "my.txt is no JSON"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments != ["."]:
        run_folder(tmp_path / "results", performance())
        (tmp_path / "results" / "half.txt").write_text('{"schema_version": 1', "utf-8")
        (tmp_path / "results" / "my.txt").write_text("mine", "utf-8")
    assert main(["show", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and sentence in err
    assert len(err.splitlines()) == 1 and err.startswith("python -m bertsquad show: ")


def test_another_format_is_a_usage_error(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["show", str(results), "--format", "xml"])
    assert caught.value.code == 2
    assert "invalid choice: 'xml'" in capsys.readouterr().err
