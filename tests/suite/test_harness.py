"""What a case leaves behind and what it finds again, and whose its folder is meanwhile."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from loopback import LoopbackServer, entry, isolate, register
from pytest_sessions import PytestSession, command, environment, name_of, outcomes, run

from bertsquad.__main__ import main
from bertsquad.assets import registry
from bertsquad.console import Progress
from bertsquad.errors import BoundUnattainable, SuiteError, Unavailable
from bertsquad.loadgen import logs
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.models import zoo
from bertsquad.models.zoo import find
from bertsquad.progress import Step
from bertsquad.results.document import result_in
from bertsquad.results.result import RESULT, Result
from bertsquad.results.run_folder import UNFINISHED, owned
from bertsquad.squad import datasets
from bertsquad.squad.datasets import DATASETS
from bertsquad.suite.cases import Case
from bertsquad.suite.harness import Harness
from bertsquad.suite.nodes import Nodes
from bertsquad.suite.options import Options
from bertsquad.worker.handle import WorkerDied

CASE = "minilm-pocket-server-cpu-fp32"

FAMILIES = Path(__file__).parents[1] / "families"


def options(output: Path, **others: Any) -> Options:
    return Options(output=output, dataset_size=20, **{"min_duration_s": 0.1, **others})


def case(model: Path) -> Case:
    known = replace(zoo.MODELS["minilm"], file=None, path=model, reference_f1={})
    return Case(known, DATASETS["pocket"], "server", "cpu", "fp32")


class AtRunning(Progress):
    """Does something when LoadGen's run has begun."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act = act

    def show(self, step: Step) -> None:
        if step.name == "running":
            self.act()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("harness")


@pytest.fixture
def earlier(cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output folder in which a performance run of a tiny model lies already."""
    monkeypatch.setenv("BERTSQUAD_CACHE", str(cached / "cache"))
    file = tiny.model(tmp_path / "tiny.onnx")
    harness = Harness(options(tmp_path / "results"))
    try:
        harness.run(case(file), "performance")
    finally:
        harness.close()
    return tmp_path / "results"


Failure = tuple[type[BaseException], dict[str, Any], Mapping[str, Any]]

#: What ends a run without a result: the error, what is asked for, and what is wrong with the model.
FAILURES: dict[str, Failure] = {
    "a target beyond what LoadGen can hold": (SuiteError, {"target_qps": 1e12}, {}),
    "a bound that no rate keeps": (BoundUnattainable, {"target_latency_ms": 1e-6}, {}),
    "a model that can't be read": (SuiteError, {}, {"outputs": ("one", "two")}),
    "a model that fails in its first batch": (SuiteError, {}, {"raises_on": 1996}),
}


@pytest.mark.parametrize("why", FAILURES)
def test_what_never_comes_to_a_run_leaves_the_earlier_result(earlier: Path, why: str) -> None:
    folder = earlier / f"performance-{CASE}"
    before = contents(folder)
    error, asked, wrong = FAILURES[why]
    file = tiny.model(earlier.parent / "tiny.onnx", **wrong)
    harness = Harness(options(earlier, **asked))
    with pytest.raises(error):
        harness.run(case(file), "performance")
    harness.close()
    assert contents(folder) == before
    assert result_in(folder).run_dir == str(folder)
    assert [path.name for path in earlier.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("how", "error"), [("Ctrl-C", KeyboardInterrupt), ("a killed worker", WorkerDied)]
)
def test_a_run_that_is_broken_off_keeps_its_pieces_beside_the_earlier_result(
    earlier: Path, how: str, error: type[BaseException]
) -> None:
    folder, pieces = (earlier / f"performance-{CASE}{end}" for end in ("", UNFINISHED))
    before = contents(folder)

    def end() -> None:
        while not (pieces / logs.DETAIL).exists():
            time.sleep(0.01)
        if how == "Ctrl-C":
            raise KeyboardInterrupt
        assert harness._worker is not None
        harness._worker[1]._process.kill()

    harness = Harness(options(earlier, min_duration_s=20.0), progress=AtRunning(end))
    with pytest.raises(error):
        harness.run(case(earlier.parent / "tiny.onnx"), "performance")
    harness.close()
    assert contents(folder) == before
    assert logs.DETAIL in contents(pieces)
    assert RESULT not in contents(pieces)
    if how == "Ctrl-C":
        assert (pieces / TIMELINE).is_file()
    again = Harness(options(earlier))
    again.run(case(earlier.parent / "tiny.onnx"), "performance")
    again.close()
    assert [path for path in earlier.iterdir() if path.is_dir()] == [folder]
    assert contents(folder)[RESULT] != before[RESULT]


def test_a_worker_goes_with_the_nodes_that_it_had_joined(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = Harness(options(earlier))
    workers = []
    for lost in (False, False, True):
        monkeypatch.setattr(Nodes, "lost", lost)
        harness.run(case(earlier.parent / "tiny.onnx"), "performance")
        assert harness._worker is not None
        workers.append(harness._worker[1])
    harness.close()
    first, second, third = workers
    assert first is second and third is not second
    assert not second.alive


def test_a_run_in_anothers_place_is_not_audited_against(earlier: Path) -> None:
    """Another pytest session has run the case between this one's runs."""
    of_tiny, first, other = (
        case(earlier.parent / "tiny.onnx"),
        *map(Harness, [options(earlier)] * 2),
    )
    try:
        first.run(of_tiny, "accuracy")
        first.run(of_tiny, "performance")
        first.release()
        other.run(of_tiny, "performance")
        other.release()
        with pytest.raises(SuiteError, match="holds another run than the one of this"):
            first.run(of_tiny, "compliance")
    finally:
        first.close()
        other.close()


# Whole pytest sessions.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("owners")


@pytest.mark.slow
def test_a_second_pytest_session_waits_for_the_run_folder_and_says_whose_it_is(
    folder: Path,
) -> None:
    here = folder / "second"
    words = [*command(here, "-k", "accuracy and offline"), "--output", str(folder / "shared")]
    place = folder / "shared" / name_of("accuracy", "offline")[5:].replace("[", "-").rstrip("]")
    with owned(place, print):
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *words],
            cwd=here,
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        told = next(line for line in process.stderr if "waiting for its end" in line)
        assert told.startswith(f"process {os.getpid()} (")
        assert f" writes to {place}: " in told
        assert list(place.parent.glob(f"{place.name}*/*")) == []
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert result_in(place).mode == "accuracy"
    assert [path.name for path in place.parent.iterdir()] == [place.name]


@pytest.mark.slow
def test_two_pytest_sessions_with_one_output_both_end_well(folder: Path) -> None:
    def one(name: str) -> PytestSession:
        return run(folder / name, "-k", "offline", "--output", str(folder / "both"))

    for _ in range(3):
        with ThreadPoolExecutor() as pool:
            ended = list(pool.map(one, ("one", "two")))
        compliance = [one.cases[name_of("compliance", "offline")] for one in ended]
        assert "passed" in [one.outcome for one in compliance]
        assert all(one.outcome == "passed" or "another run" in one.message for one in compliance)
        for pytest_session in ended:
            found = outcomes(pytest_session)
            assert [found[name_of(m, "offline")] for m in ("accuracy", "performance")] == [
                "passed",
                "passed",
            ]


@pytest.mark.slow
def test_xdist_workers_that_run_the_same_cases_have_them_one_after_the_other(folder: Path) -> None:
    pytest_session = run(folder / "each", "-k", "accuracy", "-n", "2", "--dist", "each")
    assert pytest_session.code == 0, pytest_session.out
    assert "8 passed" in pytest_session.out


def files_with(text: str, folder: Path) -> list[str]:
    """The files under a folder that hold a text."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in files if text.encode() in path.read_bytes()]


def test_credentials_in_addresses_are_in_nothing_that_is_written_or_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    done = run(
        here,
        *("-k", "offline and accuracy", "--model", "bert_large", "--output", "results"),
        *("--benchmark-json", "benchmarks.json", "-rA"),
        *("--deselect", "https://someone:hunter2@elsewhere.invalid/a?token=hunter2"),
        variables={"BERTSQUAD_MIRROR": "https://someone:hunter2@mirror.invalid/files"},
    )
    message = done.cases["test_accuracy[bert_large-pocket-offline-cpu-fp32]"].message
    assert "https://***@mirror.invalid/files/model.onnx: " in message
    facts = done.result(name_of("accuracy", "offline"))["provenance"]
    assert facts["environment"]["BERTSQUAD_MIRROR"] == "https://***@mirror.invalid/files"
    assert " --deselect 'https://***@elsewhere.invalid/a?***'" in facts["command"]
    assert main(["report", str(here), "-o", str(here / "report.html")]) == 0
    assert "hunter2" not in done.out + done.err + "".join(capsys.readouterr())
    assert files_with("mirror.invalid", here)
    assert files_with("hunter2", tmp_path) == []


Make = Callable[..., Harness]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A harness that ends with the test."""
    made: list[Harness] = []

    def make_one(**others: Any) -> Harness:
        options = Options(dataset_size=8, min_duration_s=0.1, output=tmp_path / "out", **others)
        made.append(Harness(options))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def model(folder: Path, external: bool) -> Path:
    return tiny.model(folder / "model.onnx", wide=True, external=external)


def offline(path: Path, precision: str = "fp32") -> Case:
    return Case(find(str(path)), DATASETS["pocket"], "offline", "cpu", precision)


def checksum(result: Result) -> str:
    found: str = result.provenance["model_checksum"]
    return found


def weights(path: Path) -> Path:
    """The file that holds the weights of a model."""
    beside = path.with_name(f"{path.name}.data")
    return beside if beside.exists() else path


def halved(path: Path) -> bytes:
    """The weights of another fine-tuning: those of a file, but of the wide matrix the half."""
    content, wide = weights(path).read_bytes(), tiny.WIDE.tobytes()
    assert content.count(wide) == 1
    return content.replace(wide, (tiny.WIDE * np.float32(0.5)).tobytes())


def put_in_place(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(halved(path))
    other.replace(weights(path))


def write_over(path: Path) -> None:
    content = halved(path)
    with weights(path).open("r+b") as file:
        file.write(content)


CHANGES = pytest.mark.parametrize("change", [put_in_place, write_over])
EXTERNAL = pytest.mark.parametrize("external", [False, True], ids=["inside", "beside"])


def test_questions_that_change_during_a_pytest_session_are_not_told_as_the_same(
    tmp_path: Path, make: Make
) -> None:
    def write(count: int) -> None:
        rows = (
            {"id": n, "context": f"Tree {n} is old.", "question": "What is old?"}
            | {"answers": {"text": [f"Tree {n}"], "answer_start": [0]}}
            for n in range(count)
        )
        (tmp_path / "mine.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    write(8)
    mine = datasets.find(str(tmp_path / "mine.jsonl"))
    first = replace(offline(model(tmp_path, False)), dataset=mine)
    own_tokeniser = find(str(FAMILIES / "optimum" / "bert_cased"))
    harness = make()
    harness.run(first, "accuracy")
    write(9)
    assert harness.run(first, "accuracy").dataset_samples == 8
    with pytest.raises(SuiteError, match=r"mine\.jsonl was changed since the first case with it"):
        harness.run(replace(first, model=own_tokeniser), "accuracy")


@EXTERNAL
@CHANGES
def test_a_model_that_changes_between_two_groups_is_not_measured_under_the_old_checksum(
    tmp_path: Path, cache: Path, make: Make, change: Callable[[Path], None], external: bool
) -> None:
    path = model(tmp_path, external)
    harness = make()
    harness.run(offline(path), "accuracy")
    change(path)
    name = weights(path).name
    with pytest.raises(SuiteError, match=f"{name} was changed after its checksum was taken"):
        harness.run(offline(path, "int8"), "accuracy")
    assert not list((cache / "derived").glob("prepared/*.onnx*"))


@CHANGES
def test_a_session_that_is_open_is_of_what_was_checked_or_the_case_fails(
    tmp_path: Path, make: Make, change: Callable[[Path], None]
) -> None:
    path = model(tmp_path, external=True)
    harness = make(instances=1, threads=1)  # so that all scenarios share a session
    accuracy = harness.run(offline(path), "accuracy")
    before = logs.read_accuracy_log(Path(accuracy.run_dir))
    change(path)
    again = replace(offline(path), scenario="server")
    if change is write_over:  # ONNX Runtime maps the file, so that this shows in the session
        with pytest.raises(SuiteError, match=r"model\.onnx\.data was changed"):
            harness.run(again, "accuracy")
        return
    result = harness.run(again, "accuracy")
    assert checksum(result) == checksum(accuracy)
    after = logs.read_accuracy_log(Path(result.run_dir))
    assert all(np.allclose(after[sample], before[sample], atol=1e-5) for sample in before)


@EXTERNAL
def test_a_later_pytest_session_measures_what_is_there_then(
    tmp_path: Path, make: Make, external: bool
) -> None:
    path = model(tmp_path, external)
    earlier = make()
    first = earlier.run(offline(path), "accuracy")
    earlier.close()
    graph = path.read_bytes()
    put_in_place(path)
    second = make().run(offline(path), "accuracy")
    assert checksum(second) != checksum(first)
    if external:
        assert path.read_bytes() == graph
    else:
        assert checksum(first) == hashlib.sha256(graph).hexdigest()


def test_a_link_that_leads_elsewhere_later_is_another_file(tmp_path: Path, make: Make) -> None:
    first, second = (model(tmp_path / name, external=False) for name in ("v1", "v2"))
    put_in_place(second)
    link = tmp_path / "latest.onnx"
    link.symlink_to(first)
    harness = make()
    result = harness.run(offline(link), "accuracy")
    assert result.provenance["model_file"] == "latest.onnx"
    assert result.provenance["model_path"] == str(link)
    link.unlink()
    link.symlink_to(second)
    with pytest.raises(SuiteError, match=r"latest\.onnx was changed after its checksum was taken"):
        harness.run(offline(link, "int8"), "accuracy")


# What vanishes between two cases.


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder in which the suite keeps everything, with a server that has the model."""
    with LoopbackServer() as server:
        isolate(monkeypatch, tmp_path, server)
        yield tmp_path


@pytest.fixture
def fresh(place: Path) -> Iterator[Harness]:
    made = Harness(options(place / "results"))
    yield made
    made.close()


def case_of(model: zoo.Model, precision: str, scenario: str = "offline") -> Case:
    return Case(model, DATASETS["pocket"], scenario, "cpu", precision)


def test_a_cache_that_vanishes_between_cases_is_made_again(place: Path, fresh: Harness) -> None:
    file = tiny.model(place / "tiny.onnx", length=384, wide=True)
    model = replace(zoo.MODELS["minilm"], file=None, path=file, reference_f1={})
    first = fresh.run(case_of(model, "int8"), "accuracy")
    made = {path.relative_to(place) for path in (place / "cache").rglob("*.*")}
    assert len(made) > 5
    for scenario, precision in (("singlestream", "int8"), ("offline", "fp32"), ("server", "int8")):
        shutil.rmtree(place / "cache")
        again = fresh.run(case_of(model, precision, scenario), "accuracy")
        assert again.provenance["model_rebuilt"] is None
        assert (again.precision, again.sample_count) == (precision, first.sample_count)
    assert {path.relative_to(place) for path in (place / "cache").rglob("*.*")} == made


def test_a_model_that_vanishes_between_cases_is_fetched_again_or_the_reason_said(
    place: Path, fresh: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = tiny.model(place / "tiny.onnx", wide=True).read_bytes()
    known = dict(registry.entries())
    with LoopbackServer() as server:
        known["tiny.onnx"] = entry("tiny.onnx", body, server.serve("/tiny.onnx", body))
        register(monkeypatch, *known.values())
        model = replace(zoo.MODELS["minilm"], file="tiny.onnx", reference_f1={})
        fresh.run(case_of(model, "fp32"), "accuracy")
        shutil.rmtree(place / "data")
        fresh.run(case_of(model, "fp32", "singlestream"), "accuracy")
        assert server.count() == 2
        shutil.rmtree(place / "data")
        server.fail("/tiny.onnx", 503)
        with pytest.raises(Unavailable, match=r"tiny\.onnx is not in .*503"):
            fresh.run(case_of(model, "fp32", "server"), "accuracy")
