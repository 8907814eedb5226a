"""Real pytest sessions on the real benchmarks, and what came of them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tiny

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

#: Lets a pytest session wait for those of the project's tests only; see own_lock.py.
OWN_LOCK = {"PYTEST_PLUGINS": "own_lock"}
SUPPORT = str(Path(__file__).parent)


SCENARIOS = ("offline", "singlestream", "multistream", "server")


@dataclass(frozen=True)
class Reported:
    """A case as JUnit shows it: what became of it, why, and its properties."""

    outcome: str
    message: str
    properties: dict[str, str]


@dataclass(frozen=True)
class PytestSession:
    """A pytest session that has ended."""

    folder: Path
    code: int
    out: str
    err: str

    @property
    def cases(self) -> dict[str, Reported]:
        """What JUnit says of every case, by the test's name."""
        found = {}
        for case in ElementTree.parse(self.folder / "junit.xml").iter("testcase"):
            verdict = next((e for e in case if e.tag in ("failure", "skipped", "error")), None)
            found[case.attrib["name"]] = Reported(
                "passed" if verdict is None else verdict.tag,
                "" if verdict is None else f"{verdict.get('message')}\n{verdict.text}",
                {e.attrib["name"]: e.attrib["value"] for e in case.iter("property")},
            )
        return found

    @property
    def benchmarks(self) -> dict[str, Any]:
        """The JSON that `--benchmark-json` asked for."""
        document: dict[str, Any] = json.loads((self.folder / "benchmarks.json").read_bytes())
        return document

    def result(self, test: str) -> dict[str, Any]:
        """The `result.json` of a case, by the test's name."""
        folder = self.folder / "results" / test.removeprefix("test_").replace("[", "-").rstrip("]")
        result: dict[str, Any] = json.loads((folder / "result.json").read_bytes())
        return result


ARGUMENTS = (str(BENCHMARKS), "-p", "no:cacheprovider")


def environment(folder: Path) -> dict[str, str]:
    """An environment in which nothing is downloaded yet, nor can be."""
    nowhere = "http://127.0.0.1:9"
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    paths = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return inherited | {
        **OWN_LOCK,
        "PYTHONPATH": os.pathsep.join([*paths, SUPPORT]),
        "BERTSQUAD_CACHE": str(folder / "cache"),
        "BERTSQUAD_DATA": str(folder / "data"),
        "BERTSQUAD_MIRROR": nowhere,
        **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), nowhere),
    }


def run_child(folder: Path, command: list[str], stdin: str = "") -> PytestSession:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        # Pytest sessions of one test share their cache, so that they featurise once.
        env=environment(folder.parent),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return PytestSession(folder, done.returncode, done.stdout, done.stderr)


def run_pytest(folder: Path, *arguments: str) -> PytestSession:
    return run_child(
        folder, ["-m", "pytest", *ARGUMENTS, "--junitxml", "junit.xml", *map(str, arguments)]
    )


#: Runs several pytest sessions in one process, for those that load no model: that is quicker.
PYTEST_SESSIONS = """
import contextlib, io, json, sys
import pytest

done = []
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = int(pytest.main(arguments))
    done.append((code, out.getvalue(), err.getvalue()))
json.dump(done, sys.stdout)
"""


def run_pytest_sessions(folder: Path, commands: list[list[str]]) -> list[PytestSession]:
    given = json.dumps([[*ARGUMENTS, *command] for command in commands])
    child = run_child(folder, ["-c", PYTEST_SESSIONS], given)
    assert child.code == 0, child.err
    return [PytestSession(folder, *pytest_session) for pytest_session in json.loads(child.out)]


CHEAP = "--dataset pocket --device cpu --dataset-size 60 --min-duration-s 0.2 --target-qps 200"


JSON = ("--benchmark-json", "benchmarks.json")


def name_of(test: str, scenario: str, precision: str = "fp32") -> str:
    return f"test_{test}[tiny-pocket-{scenario}-cpu-{precision}]"


def run_tiny(folder: Path, *arguments: str, wide: bool = False) -> PytestSession:
    model = tiny.model(folder.parent / "tiny.onnx", wide=wide)
    return run_pytest(folder, *CHEAP.split(), "--model", str(model), *arguments)


#: What a process finds in its environment besides the usual; None takes a variable away.
Variables = Mapping[str, str | None]


NO_VARIABLES: Variables = {}


def still_running(mark: str) -> list[int]:
    """The processes whose environment holds `mark`; none where a system has no /proc."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in place.read_bytes():
                found.append(int(place.parent.name))
        except OSError:  # it has just ended, or is another user's
            continue
    return found


def command(here: Path, *arguments: str, suite: Path | str = BENCHMARKS) -> list[str]:
    """What pytest is given to run `suite` on a tiny model and to write to `here`."""
    here.mkdir(exist_ok=True)
    file = here.parent / "tiny.onnx"
    model = file if file.exists() else tiny.model(file)
    places = ("-o", f"cache_dir={here / 'pytest-cache'}", "--junitxml", str(here / "junit.xml"))
    return [str(suite), *places, *CHEAP.split(), "--model", str(model), *arguments]


def start(
    here: Path, cwd: Path, words: list[str], variables: Variables, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Let a process run to its end; nothing that it started may outlive it."""
    settings = {**environment(here.parent), "SESSION": str(here), **variables}
    done = subprocess.run(
        words,
        cwd=cwd,
        env={name: text for name, text in settings.items() if text is not None},
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert still_running(str(here)) == []
    assert "Traceback" not in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
    return done


def run(
    here: Path,
    *arguments: str,
    suite: Path | str = BENCHMARKS,
    cwd: Path | None = None,
    prefix: tuple[str, ...] = (),
    variables: Variables = NO_VARIABLES,
) -> PytestSession:
    """A pytest session in a process of its own, called from the folder `cwd`."""
    words = [*prefix, sys.executable, "-m", "pytest", *command(here, *arguments, suite=suite)]
    done = start(here, cwd or here, words, variables)
    return PytestSession(here, done.returncode, done.stdout, done.stderr)


def run_together(
    here: Path, commands: dict[str, list[str]], variables: Variables = NO_VARIABLES
) -> dict[str, PytestSession]:
    """Pytest sessions that load no model, by name, in one process: that is quicker."""
    given = json.dumps(list(commands.values()))
    done = start(here, here, [sys.executable, "-c", PYTEST_SESSIONS], variables, given)
    assert done.returncode == 0, done.stderr
    found = zip(commands, json.loads(done.stdout), strict=True)
    return {name: PytestSession(here / name, *pytest_session) for name, pytest_session in found}


def outcomes(pytest_session: PytestSession) -> dict[str, str]:
    return {name: case.outcome for name, case in pytest_session.cases.items()}
