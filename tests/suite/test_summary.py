"""The last screen of a pytest session, in a terminal as a user has it."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny
from pytest_sessions import CHEAP, environment
from terminals import Terminal, shown

from bertsquad.scenarios import SCENARIOS
from bertsquad.suite.flags import OPTIONS

ROOT = Path(__file__).resolve().parents[2]

#: A model that reaches no such F1, on data whose whole is run.
FAILING = ("--reference-f1", "100", "-k", "offline and accuracy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("summary")


def pytest_session(folder: Path, name: str, *arguments: str) -> tuple[int, Terminal]:
    """What `pytest benchmarks` shows in 80 columns and 24 rows, called in the checkout."""
    places = ("-p", "no:cacheprovider", "--output", str(folder / name))
    words = [sys.executable, "-m", "pytest", "benchmarks", *places, *arguments]
    return shown(words, ROOT, environment(folder))


def of_tiny(folder: Path, name: str, *arguments: str) -> tuple[int, Terminal]:
    model = folder / "tiny.onnx"
    given = ("--model", str(model if model.exists() else tiny.model(model)))
    return pytest_session(folder, name, *CHEAP.split(), *given, *arguments)


def test_the_answer_is_within_the_last_lines_of_the_screen(folder: Path) -> None:
    case, chosen = "minilm-pocket-offline-cpu-fp32", ("-k", "offline and accuracy")
    status, terminal = pytest_session(folder, "bundled", *chosen, "--dataset-size", "20")
    assert status == 0, terminal.text
    result = json.loads((folder / "bundled" / f"accuracy-{case}" / "result.json").read_bytes())
    header, row, count = terminal.text.splitlines()[-3:]
    assert header.split() == ["case", "F1", "verdict"]
    assert re.fullmatch(rf"{case}  {result['f1']:.3f} ± \d+\.\d  passed", row)
    assert re.match(r"=+ 1 passed, \d+ skipped, .*=+$", count)
    (said,) = (line for line in terminal.lines if "model.onnx (1.34 GB) is not in" in line)
    assert "cases not run" in said


@pytest.mark.slow
def test_many_cases_are_a_row_each_and_pytest_benchmark_draws_no_table(folder: Path) -> None:
    json_file = folder / "many.json"
    repeated = ("--count", "2") if find_spec("pytest_repeat") else ()
    chosen = ("-k", "not compliance", "--benchmark-json", str(json_file), *repeated)
    status, terminal = of_tiny(folder, "many", *chosen)
    assert status == 0, terminal.text
    assert sum(line.startswith("Wrote benchmark data in") for line in terminal.lines) == 1
    assert len(json.loads(json_file.read_bytes())["benchmarks"]) == (8 if repeated else 4)
    assert not any("Outliers" in line for line in terminal.lines)
    assert max(map(len, terminal.lines)) <= 80
    header, common, *found = terminal.text.splitlines()[-7:-1]
    assert header.split()[:4] == ["case", "F1", "MLPerf", "judges"]
    assert common == "tiny-pocket-*-cpu-fp32:"
    assert [line.split()[0] for line in found] == list(SCENARIOS)
    if repeated:
        assert re.search(r"  p90 \d+\.\d+ ± \d+\.\d+ ms +p90 \d", found[1])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["here", "xdist"])
def test_a_failure_is_told_where_it_happened_and_beside_its_cure_and_not_a_third_time(
    folder: Path, workers: tuple[str, ...]
) -> None:
    status, terminal = of_tiny(folder, "failing", *FAILING, *workers)
    assert status == pytest.ExitCode.TESTS_FAILED
    told = "".join("".join(terminal.lines).split())  # as it may be broken anywhere
    assert told.count("isunderthetargetof99.000") == 2
    assert told.count("FAILEDbenchmarks/test_accuracy.py::test_accuracy[") == 1
    assert terminal.text.splitlines()[-2].split()[0::4] == [
        "tiny-pocket-offline-cpu-fp32",
        "failed",
    ]


@pytest.mark.slow
def test_a_skip_that_pytest_tells_is_not_told_again(folder: Path) -> None:
    """As it is with -ra; performance needs the plugin that is off here."""
    chosen = ("-k", "offline and performance", "-p", "no:benchmark")
    for asked in ((), ("-ra",)):
        status, terminal = of_tiny(folder, "skipping", *chosen, *asked)
        assert status == 0
        told = "".join("".join(terminal.lines).split())  # as it may be broken anywhere
        assert told.count("performancecasesarerecordedbypytest-benchmark,whichisoff") == 1
        assert ("SKIPPED[1]" in told) == bool(asked)


def test_tables_of_pytest_benchmark_are_drawn_for_those_who_ask(folder: Path) -> None:
    asked = ("--benchmark-columns", "min,max", "-k", "offline and performance")
    status, terminal = of_tiny(folder, "asked", *asked)
    assert status == 0, terminal.text
    lines = terminal.lines
    drawn = next(n for n, line in enumerate(lines) if "benchmark 'offline': 1 tests" in line)
    assert drawn < next(n for n, line in enumerate(lines) if " BERT on SQuAD " in line)
    assert lines[-2].startswith("tiny-pocket-offline-cpu-fp32  ")


def test_the_options_stand_together_and_early_in_the_help() -> None:
    words = [sys.executable, "-m", "pytest", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    groups = re.split(r"^(?=\S.*:$)", done.stdout, flags=re.MULTILINE)
    names = [group.partition(":")[0] for group in groups if group.partition("\n")[0].endswith(":")]
    place = names.index("BERT on SQuAD under LoadGen")
    assert names[place - 1] == "general"  # pytest's own first options, before which nothing can be
    (ours,) = (group for group in groups if group.startswith(names[place]))
    assert re.findall(r"^  (--[\w-]+)", ours, re.MULTILINE) == [one.flag for one in OPTIONS]
