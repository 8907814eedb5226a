"""The suite under pytest's own switches, and in places where a checkout may find itself.

Each is a real pytest session on the real benchmarks, with a tiny model; see also test_policy.py.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import tiny
from pytest_sessions import (
    BENCHMARKS,
    SCENARIOS,
    SUPPORT,
    PytestSession,
    command,
    name_of,
    outcomes,
    run,
    run_together,
)

ROOT = BENCHMARKS.parent

#: BERT's vocabulary has "the" at this place; no window of SQuAD is without it.
THE = 1996


#: All modes of one scenario on a tiny model.
ONE_SCENARIO = ("-k", "singlestream")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("under-pytest")


@pytest.fixture(scope="module")
def pytest_sessions(folder: Path) -> dict[str, PytestSession]:
    here, endurance = folder / "together", ROOT / "tests" / "whole" / "test_endurance.py"
    here.mkdir()
    collect = ("--collect-only", "-q")
    return run_together(
        here,
        {
            "no-benchmark": command(
                here / "no-benchmark", "-k", "performance", "-p", "no:benchmark"
            ),
            "root-elsewhere": command(here / "root-elsewhere", *collect, "--rootdir", str(folder)),
            "root-here": command(here / "root-here", *collect, "--rootdir", str(ROOT)),
            "no-output": command(here / "no-output", "--output", "~nobody-here/results"),
            "tests": command(here / "tests", *collect, suite=endurance),
            "slow-tests": command(here / "slow-tests", *collect, "-m", "slow", suite=endurance),
        },
    )


# Stopping early, and going on where it stopped.


@pytest.mark.parametrize("stop", ["-x", pytest.param("--maxfail=1", marks=pytest.mark.slow)])
def test_a_pytest_session_that_stops_at_a_failure_shows_it_and_ends_in_order(
    folder: Path, stop: str
) -> None:
    json_file = folder / stop / "benchmarks.json"
    wrong = ("-k", "accuracy", "--reference-f1", "100", "--benchmark-json", str(json_file))
    pytest_session = run(folder / stop, *wrong, stop)
    assert pytest_session.code == pytest.ExitCode.TESTS_FAILED
    assert outcomes(pytest_session) == {name_of("accuracy", "offline"): "failure"}
    assert "stopping after 1 failures" in pytest_session.out
    shown = pytest_session.out.partition(" BERT on SQuAD ")[2]
    rows = [line for line in shown.splitlines() if line.startswith("tiny-pocket-offline-cpu")]
    assert "failed" in rows[-1]
    assert [entry["verdict"] for entry in pytest_session.benchmarks["accuracy"]] == ["failed"]


@pytest.mark.slow
def test_the_last_failure_alone_is_run_again_and_its_result_replaced(folder: Path) -> None:
    here = folder / "lf"
    chosen = ("-k", "offline and not compliance")
    first = run(here, *chosen, "--reference-f1", "100")
    accuracy, performance = (name_of(test, "offline") for test in ("accuracy", "performance"))
    assert outcomes(first) == {accuracy: "failure", performance: "passed"}
    assert first.result(accuracy)["verdict"] == "failed"
    again = run(here, *chosen, "--lf")
    assert again.code == 0
    assert outcomes(again) == {accuracy: "passed"}
    assert again.result(accuracy)["verdict"] == "no target"
    assert again.result(performance)["verdict"] == "passed"


# Plugins and their switches.

PASSES, SKIPS = "passed", "skipped"
SWITCHES = {
    "--benchmark-disable": (PASSES, PASSES, PASSES),
    "--benchmark-only": (SKIPS, PASSES, SKIPS),
    "--benchmark-skip": (PASSES, SKIPS, PASSES),
    "-p no:benchmark": (PASSES, SKIPS, PASSES),
    "-p no:xdist": (PASSES, PASSES, PASSES),
    "-p no:capture": (PASSES, PASSES, PASSES),
}


@pytest.mark.slow
@pytest.mark.parametrize("switch", SWITCHES)
def test_what_a_switch_leaves_runs_and_the_rest_is_skipped_with_a_reason(
    folder: Path, switch: str
) -> None:
    pytest_session = run(folder / switch.replace(" ", ""), *ONE_SCENARIO, *switch.split())
    assert pytest_session.code == 0, pytest_session.out
    tests = [name_of(test, "singlestream") for test in ("accuracy", "performance", "compliance")]
    assert outcomes(pytest_session) == dict(zip(tests, SWITCHES[switch], strict=True))
    for case in pytest_session.cases.values():
        assert case.outcome == PASSES or "benchmark" in case.message


def test_performance_skips_in_a_sentence_without_the_plugin_that_records_it(
    pytest_sessions: dict[str, PytestSession],
) -> None:
    pytest_session = pytest_sessions["no-benchmark"]
    assert pytest_session.code == 0, pytest_session.out
    assert len(pytest_session.cases) == len(SCENARIOS)
    for case in pytest_session.cases.values():
        assert case.outcome == SKIPS
        assert "performance cases are recorded by pytest-benchmark, which is off" in case.message


# A test that runs again.


def times(pytest_session: PytestSession) -> list[tuple[str, str]]:
    """Mode and start of every run that the JSON tells of; a run is there once."""
    document = pytest_session.benchmarks
    results = [entry["extra_info"] for entry in document["benchmarks"]]
    results += document["accuracy"] + document["compliance"]
    found = [(one["mode"], one["provenance"]["started_at"]) for one in results]
    assert len(set(found)) == len(found)
    return sorted(found)


def row(pytest_session: PytestSession) -> str:
    """The table's one row."""
    _, _, below = pytest_session.out.rpartition("\ncase ")
    (row,) = (line for line in below.splitlines() if line.startswith("tiny-pocket-"))
    return row


def test_a_test_that_is_named_twice_runs_twice(folder: Path) -> None:
    here = folder / "duplicates"
    chosen = (
        "-k",
        "offline",
        "--keep-duplicates",
        "--benchmark-json",
        str(here / "benchmarks.json"),
    )
    pytest_session = run(here, str(BENCHMARKS), *chosen)
    assert pytest_session.code == 0, pytest_session.out
    modes = ["accuracy"] * 2 + ["compliance"] * 2 + ["performance"] * 2
    assert [mode for mode, _ in times(pytest_session)] == modes
    assert re.search(r" ± [\d.]+ QPS ", row(pytest_session))
    # Those that compliance compares with are had before it, and not run for it once more.
    newest = pytest_session.result(name_of("performance", "offline"))["provenance"]["started_at"]
    assert ("performance", newest) in times(pytest_session)


def test_a_test_that_is_repeated_has_figures_of_its_own_each_time(folder: Path) -> None:
    pytest.importorskip("pytest_repeat")
    here = folder / "repeat"
    chosen = ("-k", "offline and not compliance", "--count", "3")
    pytest_session = run(here, *chosen, "--benchmark-json", str(here / "benchmarks.json"))
    assert pytest_session.code == 0, pytest_session.out
    modes = ["accuracy"] * 3 + ["performance"] * 3
    assert [mode for mode, _ in times(pytest_session)] == modes
    assert re.search(r" ± [\d.]+ QPS ", row(pytest_session))
    rates = {entry["stats"]["ops"] for entry in pytest_session.benchmarks["benchmarks"]}
    assert len(rates) == 3


#: Kills the worker of the first case that a pytest session runs, as a lack of memory may.
DIES_ONCE = """
import os, sys
if "bertsquad.worker" in sys.orig_argv and not os.path.exists({trace!r}):
    open({trace!r}, "w").close()
    os.kill(os.getpid(), 9)
"""

#: A plugin with which a case fails once it has its figures.
FAILS = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    yield
    pytest.fail("it must be better")
"""


def rerun(here: Path, name: str, code: str, *arguments: str) -> PytestSession:
    """A pytest session that runs each failing case twice more, with a module before all others."""
    pytest.importorskip("pytest_rerunfailures")
    here.mkdir()
    (here / f"{name}.py").write_text(code, encoding="utf-8")
    paths = os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    written = ("--reruns", "2", "--benchmark-json", str(here / "benchmarks.json"))
    return run(here, *arguments, *written, variables={"PYTHONPATH": paths})


def test_a_case_that_passes_when_it_is_run_again_is_no_failure(folder: Path) -> None:
    here = folder / "rerun"
    code = DIES_ONCE.format(trace=str(here / "died"))
    pytest_session = rerun(here, "sitecustomize", code, "-k", "offline and accuracy")
    assert pytest_session.code == 0, pytest_session.out
    assert "1 passed, " in pytest_session.out
    assert "1 rerun" in pytest_session.out
    assert pytest_session.benchmarks["failures"] == []
    assert "no target" in row(pytest_session)


@pytest.mark.slow
def test_a_case_that_fails_however_often_it_is_run_is_told_once(folder: Path) -> None:
    chosen = ("-p", "fails", "-k", "offline", "--reference-f1", "100")
    pytest_session = rerun(folder / "reruns", "fails", FAILS, *chosen)
    assert "3 failed, " in pytest_session.out
    assert "6 rerun" in pytest_session.out
    assert [one["mode"] for one in pytest_session.benchmarks["failures"]] == ["accuracy"]
    assert re.search(r" \d+\.\d+ QPS +F1 failed, ", row(pytest_session))
    started = [
        (test, pytest_session.result(name_of(test, "offline"))["provenance"]["started_at"])
        for test in ("accuracy", "compliance", "performance")
    ]
    assert times(pytest_session) == started  # each of its last attempt, as the folder has it
    for name, case in pytest_session.cases.items():
        assert case.properties["verdict"] == pytest_session.result(name)["verdict"]


def test_warnings_as_errors_and_pythons_development_mode_change_no_outcome(folder: Path) -> None:
    broken = str(tiny.model(folder / "broken.onnx", raises_on=THE))
    words = ("-k", "offline", "-W", "error", "--model", broken)
    variables = {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}
    pytest_session = run(folder / "warnings", *words, variables=variables)
    for test in ("accuracy", "performance", "compliance"):
        name = name_of(test, "offline")
        found = outcomes(pytest_session)
        assert (found[name], found[name.replace("tiny", "broken")]) == (PASSES, "failure")
    assert " 3 failed, 3 passed, " in pytest_session.out
    assert "Warning" not in pytest_session.out + pytest_session.err


@pytest.mark.slow
def test_more_workers_than_cores_give_every_case_its_turn(folder: Path) -> None:
    pytest_session = run(folder / "four", "-k", "accuracy or offline", "-n", "4")
    assert pytest_session.code == 0, pytest_session.out
    found = outcomes(pytest_session)
    for scenario in SCENARIOS:
        assert found[name_of("accuracy", scenario)] == PASSES
    for test in ("performance", "compliance"):
        assert found[name_of(test, "offline")] == SKIPS


# An extra that isn't installed.

HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] == "onnxruntime_ep_openvino"
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


@pytest.fixture(scope="module")
def hidden(folder: Path) -> dict[str, PytestSession]:
    here = folder / "hidden"
    here.mkdir()
    (here / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
    chosen = ("-k", "openvino and offline and accuracy", "-p", "no:cacheprovider")
    commands = {}
    for name, device in (("not-named", ()), ("named", ("--device", "openvino"))):
        output = ("--junitxml", str(here / name / "junit.xml"))
        commands[name] = [str(BENCHMARKS), *chosen, "--model", "minilm", *output, *device]
    return run_together(here, commands, {"PYTHONPATH": os.pathsep.join([str(here), SUPPORT])})


@pytest.mark.parametrize(
    ("name", "code", "outcome"),
    [
        ("not-named", pytest.ExitCode.OK, SKIPS),
        ("named", pytest.ExitCode.TESTS_FAILED, "failure"),
    ],
)
def test_a_device_whose_extra_is_not_installed_says_what_to_install(
    hidden: dict[str, PytestSession], name: str, code: pytest.ExitCode, outcome: str
) -> None:
    assert hidden[name].code == code
    (case,) = hidden[name].cases.values()
    assert case.outcome == outcome
    assert (
        "openvino: the plugin onnxruntime_ep_openvino is not installed: pip install -e"
        in case.message
    )


# A runtime of another version than is installed by its name.

#: Stands before the real one, and says of itself that it is another.
ANOTHER = """
import sys
sys.path.remove({folder!r})
del sys.modules["onnxruntime"]
import onnxruntime
onnxruntime.__version__ = "1.0.7"
"""


def test_a_result_names_the_version_of_the_runtime_that_ran(folder: Path) -> None:
    here = folder / "another"
    here.mkdir()
    (here / "onnxruntime.py").write_text(ANOTHER.format(folder=str(here)), encoding="utf-8")
    chosen = ("-k", "offline and accuracy")
    pytest_session = run(here, *chosen, variables={"PYTHONPATH": str(here)})
    facts = pytest_session.result(name_of("accuracy", "offline"))["provenance"]
    name = facts["runtime"]
    assert facts["versions"][name] == "1.0.7"
    assert facts["versions_claimed"] == {name: version(name)}
    assert f"versions: python {facts['versions']['python']}, {name} " in pytest_session.out
    assert (
        f"{name} 1.0.7 ran, though {version(name)} is installed by that name" in pytest_session.out
    )


# Where the checkout is, and where pytest is called.


@pytest.fixture(scope="module")
def checkout(folder: Path) -> Path:
    """A copy of what a pytest session needs, in a folder named as folders may be."""
    copy = folder / "ein Täßchen 茶, bitte"
    copy.mkdir()
    for name in ("bertsquad", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "*.onnx")  # the model is another
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("conftest.py", "pytest.ini", "data_registry.txt"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.mark.slow
def test_a_checkout_may_lie_under_a_path_with_blanks_and_any_letters(checkout: Path) -> None:
    here = checkout / "sessions"
    pytest_session = run(here, *ONE_SCENARIO, cwd=checkout, suite="benchmarks")
    assert pytest_session.code == 0, pytest_session.out
    assert set(outcomes(pytest_session).values()) == {PASSES}
    result = checkout / "results" / "accuracy-tiny-pocket-singlestream-cpu-fp32" / "result.json"
    found = json.loads(result.read_bytes())
    assert found["run_dir"] == str(result.parent)
    shutil.rmtree(checkout / "results")


@pytest.mark.parametrize("name", ["root-elsewhere", "root-here"])
def test_another_root_folder_changes_no_case(
    pytest_sessions: dict[str, PytestSession], name: str
) -> None:
    pytest_session = pytest_sessions[name]
    assert pytest_session.code == 0, pytest_session.out
    assert "Warning" not in pytest_session.out  # of markers that no one registered
    found = [line.partition("::")[2] for line in pytest_session.out.splitlines() if "::" in line]
    tests = ("accuracy", "performance", "compliance")
    assert sorted(found) == sorted(name_of(test, one) for test in tests for one in SCENARIOS)


def bound_by_permissions() -> tuple[str, ...]:
    """A command's prefix with which permissions bind it, root included; skips without one."""
    if os.geteuid() != 0:
        return ()
    prefix = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    if shutil.which(prefix[0]) is None or subprocess.run([*prefix, "true"]).returncode:
        pytest.skip("permissions don't bind root here")
    return prefix


@pytest.fixture
def read_only(checkout: Path) -> Iterator[Path]:
    places = [checkout, *checkout.rglob("*")]
    modes = [place.stat().st_mode for place in places]
    for place, mode in zip(places, modes, strict=True):
        place.chmod(mode & ~0o222)
    yield checkout
    for place, mode in zip(places, modes, strict=True):
        place.chmod(mode)


@pytest.mark.slow
def test_a_read_only_checkout_runs_from_a_folder_that_can_be_written(
    folder: Path, read_only: Path
) -> None:
    suite, prefix = read_only / "benchmarks", bound_by_permissions()
    pytest_session = run(folder / "beside", *ONE_SCENARIO, suite=suite, prefix=prefix)
    assert pytest_session.code == 0, pytest_session.out
    assert set(outcomes(pytest_session).values()) == {PASSES}
    assert not list(read_only.rglob("__pycache__"))


def test_results_that_cannot_be_written_fail_their_case_in_a_sentence(
    folder: Path, read_only: Path
) -> None:
    suite, prefix = read_only / "benchmarks", bound_by_permissions()
    chosen = ("-k", "offline and accuracy")
    pytest_session = run(folder / "in-it", *chosen, suite=suite, cwd=read_only, prefix=prefix)
    assert pytest_session.code == pytest.ExitCode.TESTS_FAILED
    (case,) = pytest_session.cases.values()
    assert case.outcome == "failure"
    assert f"{read_only / 'results'}: Permission denied" in case.message
    assert "--output" in case.message
    assert not (read_only / "results").exists()


# Folders of the user's own.


@pytest.mark.slow
def test_without_a_home_the_cache_is_where_the_system_says(folder: Path) -> None:
    place = folder / "xdg"
    variables = dict.fromkeys(("HOME", "BERTSQUAD_CACHE", "BERTSQUAD_DATA"))
    pytest_session = run(
        folder / "homeless",
        *("-k", "offline and accuracy"),
        variables=variables | {"XDG_CACHE_HOME": str(place)},
    )
    assert pytest_session.code == 0, pytest_session.out
    assert list((place / "bertsquad" / "derived" / "features").iterdir())


def test_a_path_from_a_home_that_is_not_known_is_a_usage_error(
    pytest_sessions: dict[str, PytestSession],
) -> None:
    pytest_session = pytest_sessions["no-output"]
    assert pytest_session.code == pytest.ExitCode.USAGE_ERROR
    (line,) = pytest_session.err.strip().splitlines()
    assert line.startswith("ERROR: --output: expected a path, got '~nobody-here/results', ")


@pytest.mark.parametrize("variable", ["BERTSQUAD_CACHE", "BERTSQUAD_DATA"])
def test_a_cache_in_a_home_that_is_not_known_is_a_usage_error(folder: Path, variable: str) -> None:
    pytest_session = run(folder / variable, variables={variable: "~nobody-here/cache"})
    assert pytest_session.code == pytest.ExitCode.USAGE_ERROR
    (line,) = pytest_session.err.strip().splitlines()
    assert "set BERTSQUAD_DATA and BERTSQUAD_CACHE to full paths" in line


def test_a_cache_that_cannot_be_written_fails_each_case_in_a_sentence(folder: Path) -> None:
    file = folder / "a file"
    file.touch()
    pytest_session = run(
        folder / "cacheless", "-k", "accuracy", variables={"BERTSQUAD_CACHE": str(file / "cache")}
    )
    assert pytest_session.code == pytest.ExitCode.TESTS_FAILED
    assert len(pytest_session.cases) == len(SCENARIOS)
    for case in pytest_session.cases.values():
        assert case.outcome == "failure"
        assert f"the cache folder {file / 'cache'}" in case.message
        assert "can't be written (Not a directory): set BERTSQUAD_CACHE" in case.message


# The suite's own tests.


def test_slow_tests_run_only_when_they_are_asked_for(
    pytest_sessions: dict[str, PytestSession],
) -> None:
    usual, asked = pytest_sessions["tests"], pytest_sessions["slow-tests"]
    assert usual.code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "::test_" not in usual.out
    assert asked.code == 0
    assert "::test_" in asked.out
