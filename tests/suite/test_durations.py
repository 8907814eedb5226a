"""How long cases took is kept, and the next estimate is what they took."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made import performance
from pytest_sessions import run_tiny

from bertsquad.assets import cleaning
from bertsquad.assets.cache import PREPARED, TIMES, cache_folder
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.models.zoo import MODELS
from bertsquad.results.result import Result
from bertsquad.squad.datasets import DATASETS
from bertsquad.suite.cases import Case
from bertsquad.suite.durations import MOST, NAME, Course, Stopwatch, read
from bertsquad.suite.header import estimate_s, workload
from bertsquad.suite.options import Options

CASE = Case(MODELS["minilm"], DATASETS["pocket"], "offline", "cpu", "fp32")
SERVER = replace(CASE, scenario="server")
LARGE = Case(MODELS["bert_large"], DATASETS["squad"], "offline", "cpu", "fp32")
QUICK = Options()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BERTSQUAD_DATA", str(tmp_path / "data"))
    return cache_folder()


def run_once() -> Result:
    return performance("offline")


def timed(*cases: tuple[Case, str], run: Callable[[], Result] = run_once) -> dict[str, float]:
    """What is kept after these cases have run."""
    stopwatch = Stopwatch(QUICK)
    for case, mode in cases:
        stopwatch.run(case, mode, run)
    stopwatch.save()
    return dict(read())


def said_s(line: str) -> float:
    """The seconds that an estimate says."""
    found = re.search(r"about (\d+) (s|min) on", line)
    assert found is not None, line
    return int(found[1]) * (60 if found[2] == "min" else 1)


def test_what_a_case_took_is_its_next_estimate() -> None:
    chosen = [(CASE, "accuracy"), (SERVER, "performance")]
    known = timed(*chosen)
    assert len(known) == 2
    slow = dict.fromkeys(known, 100.0)
    assert said_s(workload(chosen, QUICK, slow)) == pytest.approx(200, abs=30)
    assert said_s(workload(chosen, QUICK, known)) == 0
    assert said_s(workload(chosen, QUICK)) > 5


@pytest.mark.parametrize(
    "other",
    [
        Options(rules="mlperf"),
        Options(dataset_size=20),
        Options(min_duration_s=9.0),
        Options(instances=1),
        Options(target_qps=3.0),
    ],
)
def test_what_was_asked_for_otherwise_has_another_estimate(other: Options) -> None:
    known = timed((CASE, "performance"))
    assert workload([(CASE, "performance")], other, known) == workload(
        [(CASE, "performance")], other
    )


def test_a_case_that_starts_a_worker_is_kept_apart_from_one_that_finds_it() -> None:
    course = Course(QUICK)
    first, second = course.next(CASE, "accuracy"), course.next(CASE, "performance")
    assert "with a new worker" in first.key
    assert "with a new worker" not in second.key
    assert Course(QUICK).next(CASE, "performance") != second


def test_compliance_makes_the_runs_that_are_missing_and_they_count_once() -> None:
    course = Course(QUICK)
    course.next(CASE, "accuracy")
    assert course.next(CASE, "compliance").modes == ("performance", "compliance")
    assert course.next(CASE, "compliance").modes == ("compliance",)
    alone = [(CASE, "compliance")]
    each = [(CASE, mode) for mode in ("accuracy", "performance", "compliance")]
    assert (
        workload(alone, QUICK).partition("about")[2] == workload(each, QUICK).partition("about")[2]
    )
    total = sum(estimate_s(CASE, mode, QUICK) for _, mode in each)
    assert said_s(workload(alone, QUICK)) == pytest.approx(total, abs=1)


def test_a_case_without_its_files_is_known_to_skip_until_they_are_there(tmp_path: Path) -> None:
    def unavailable() -> Result:
        raise Unavailable("model.onnx is not here", "model")

    stopwatch = Stopwatch(QUICK)
    with pytest.raises(Unavailable):
        stopwatch.run(LARGE, "accuracy", unavailable)
    stopwatch.save()
    chosen = [(LARGE, "accuracy")]
    assert said_s(workload(chosen, QUICK, read())) == 0
    for name in (LARGE.model.file, LARGE.dataset.file):
        assert name is not None
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).touch()
    assert said_s(workload(chosen, QUICK, read())) > 5


def test_what_is_made_once_is_no_part_of_the_next_estimate(cache: Path) -> None:
    def make() -> Result:
        (cache / PREPARED).mkdir(parents=True)
        (cache / PREPARED / "model.onnx").touch()
        return run_once()

    assert timed((CASE, "accuracy"), run=make) == {}
    os.utime(cache / PREPARED / "model.onnx", (1, 1))
    assert len(timed((CASE, "accuracy"))) == 1


def test_only_the_newest_are_kept(cache: Path) -> None:
    file = cache / TIMES / NAME
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({f"old {n}": 1.0 for n in range(MOST)}))
    known = timed((CASE, "accuracy"))
    assert len(known) == MOST
    assert "old 0" not in known
    assert f"old {MOST - 1}" in known


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"a": "b"}', b'{"a": -1}', b'{"a": 1e999}', b"\xff\x00"]
)
def test_a_damaged_file_is_as_none_and_is_written_anew(cache: Path, content: bytes) -> None:
    file = cache / TIMES / NAME
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert read() == {}
    assert len(timed((CASE, "accuracy"))) == 1


def test_where_nothing_can_be_kept_nothing_is_said(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / TIMES).touch()  # so that it can be no folder
    assert timed((CASE, "accuracy")) == {}


def test_a_case_that_fails_says_how_long_it_takes_to_fail() -> None:
    def failing() -> Result:
        raise SuiteError("no")

    stopwatch = Stopwatch(QUICK)
    with pytest.raises(SuiteError):
        stopwatch.run(CASE, "accuracy", failing)
    stopwatch.save()
    assert len(read()) == 1


def test_clean_removes_what_was_kept(cache: Path) -> None:
    timed((CASE, "accuracy"))
    done = cleaning.clean_cache()
    assert cache / TIMES / NAME in done.removed
    assert done.stayed == []
    assert not (cache / TIMES).exists()


@pytest.mark.slow
def test_the_estimate_of_a_real_pytest_session_comes_from_the_one_before(tmp_path: Path) -> None:
    chosen = ("-k", "offline or server")
    for _ in range(2):  # the first makes what the others find
        assert run_tiny(tmp_path / "here", *chosen).code == 0
    file = tmp_path / "cache" / "derived" / TIMES / NAME
    kept = json.loads(file.read_bytes())
    assert len(kept) == 6
    file.write_text(json.dumps(dict.fromkeys(kept, 1000.0)))
    last = run_tiny(tmp_path / "here", *chosen)
    assert "6 cases to run, about 100 min on this machine" in last.out
    assert all(value < 999 for value in json.loads(file.read_bytes()).values())


@pytest.mark.slow
def test_cases_that_share_the_machine_with_others_are_not_timed(tmp_path: Path) -> None:
    for _ in range(2):
        assert run_tiny(tmp_path / "here", "-n", "1", "-k", "offline and accuracy").code == 0
    assert not (tmp_path / "cache" / "derived" / TIMES).exists()
