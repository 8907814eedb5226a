"""Real signals to real pytest sessions, and everything else that ends a run before its time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import misshapen
import numpy as np
import onnx
import own_lock
import pytest
import tiny
from loopback import LoopbackServer
from onnx import TensorProto, helper, numpy_helper
from pytest_sessions import OWN_LOCK, SUPPORT
from workers import Begun, is_gone, start

from bertsquad.assets import registry
from bertsquad.errors import SuiteError
from bertsquad.loadgen import timeline
from bertsquad.loadgen.request import Request
from bertsquad.machine import device_lock
from bertsquad.models.zoo import files_of
from bertsquad.progress import Step
from bertsquad.results.document import result_in
from bertsquad.results.result import FAILED, RESULT
from bertsquad.results.run_folder import UNFINISHED
from bertsquad.scenarios import SCENARIOS
from bertsquad.squad import features
from bertsquad.squad.features import Features
from bertsquad.termination import INTERRUPTED
from bertsquad.worker.handle import Worker, WorkerDied
from bertsquad.worker.protocol import Failing, Setup

resource = pytest.importorskip("resource", reason="Windows has no such signals and limits")

ROOT = Path(__file__).resolve().parents[2]

#: Seconds in which a process must be gone: two on a quiet machine, and the tests may share theirs.
LIMIT_S = 4.0

#: A plugin that writes down what the pytest session is at, and with which processes; told to, it
#: kills the worker when that comes to a phase. A phase that is HELD lasts until a signal comes.
OBSERVER = """
import json, os, time
from bertsquad import termination
from bertsquad.console import Progress
from bertsquad.squad.mlperf import MlperfReading
from bertsquad.suite import harness, recording
from bertsquad.worker.handle import Worker

kills, killed = json.loads(os.environ.get("KILLS", "[]")), set()

def note(phase, pid=os.getpid()):
    with open(os.environ["PHASES"], "a") as file:
        file.write(f"{phase}\\t{pid}\\n")

def noted(function, phase):
    def call(*args, **kwargs):
        note(phase)
        if phase == os.environ.get("HELD"):
            time.sleep(30)
        return function(*args, **kwargs)
    return call

def ask(self, question, wanted, timeout_s, on_message, ask=Worker._ask):
    def on_each(message):
        phase, pid = getattr(message, "name", None), self._process.pid
        if phase:
            note(phase, pid)
        if kills and kills[0][0] == phase and pid not in killed:
            killed.add(pid)
            os.kill(pid, kills.pop(0)[1])
        on_message(message)

    note("a worker", self._process.pid)
    return ask(self, question, wanted, timeout_s, on_each)

def say(self, text, say=Progress.say):
    note(f"told: {text}")
    say(self, text)

termination.INSIST_S = float(os.environ.get("INSIST_S", termination.INSIST_S))
Progress.say = say
recording._save = noted(recording._save, "saving")
MlperfReading.build = noted(MlperfReading.build, "featurising")
harness.read_log = noted(harness.read_log, "scoring")
Worker._ask = ask
note("pytest")
"""


@dataclass(frozen=True)
class PytestSession:
    """A running pytest session, or another command of the suite."""

    process: "subprocess.Popen[str]"
    folder: Path

    @property
    def noted(self) -> list[tuple[str, int]]:
        """What the observer has written down: phases, each with its process."""
        lines = (self.folder / "phases").read_text().splitlines()
        return [(phase, int(pid)) for phase, pid in (line.split("\t") for line in lines)]

    def reach(self, *phases: str) -> None:
        """Wait until it has come to these phases, one after the other."""
        while True:
            seen = iter(phase for phase, _ in self.noted)
            if all(any(phase.startswith(wanted) for phase in seen) for wanted in phases):
                return
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.005)

    def end(self, how: str) -> str:
        """Send a signal; what was printed once all of its processes are gone."""
        SIGNALS[how](self.process)
        out, err = self.process.communicate(timeout=LIMIT_S)
        assert self.left_over() == set()
        for word in ("Traceback", "INTERNALERROR", "Exception ignored"):
            assert word not in out + err
        return out + err

    def left_over(self) -> set[int]:
        """The processes of the pytest session that don't end by themselves."""
        left = {pid for _, pid in self.noted}
        deadline = time.monotonic() + LIMIT_S
        while left and time.monotonic() < deadline:
            left = {pid for pid in left if not is_gone(pid)}
            time.sleep(0.005)
        return left

    def outcomes(self) -> dict[str, str]:
        """The failures' messages by test, empty for those that passed."""
        found = {}
        for case in ElementTree.parse(self.folder / "junit.xml").iter("testcase"):
            message = next((str(e.get("message")) for e in case if e.tag == "failure"), "")
            found[case.attrib["name"]] = message
        return found


SIGNALS: dict[str, Callable[["subprocess.Popen[str]"], None]] = {
    "Ctrl-C": lambda process: os.killpg(process.pid, signal.SIGINT),
    "SIGINT": lambda process: process.send_signal(signal.SIGINT),
    "SIGTERM": lambda process: process.send_signal(signal.SIGTERM),
    "SIGHUP": lambda process: os.killpg(process.pid, signal.SIGHUP),
    "SIGKILL": lambda process: process.kill(),
    "nothing": lambda process: None,
}
STATUS = {"Ctrl-C": 2, "SIGINT": 2, "SIGTERM": 143, "SIGHUP": 129}
SLOW_BUT_SIGTERM = [
    "SIGTERM",
    *(pytest.param(how, marks=pytest.mark.slow) for how in ("Ctrl-C", "SIGINT", "SIGHUP")),
]

#: Seconds between two Ctrl-C of a hand.
PAUSES_S = (0.0, 0.2, 0.4)

Begin = Callable[..., PytestSession]


def controlled_by(terminal: int) -> None:
    """Make a terminal that of this process, which is told then when it is closed."""
    import fcntl  # Windows has neither
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the caches are that all pytest sessions of this module share."""
    folder = tmp_path_factory.mktemp("interruption")
    (folder / "observer.py").write_text(OBSERVER, encoding="utf-8")
    slower(folder / "slower.onnx")
    return folder


@pytest.fixture
def begin(home: Path, tmp_path: Path, listening_to_ctrl_c: None) -> Iterator[Begin]:
    """Start a command in a session of its own, as a terminal does; what is left of it is killed."""
    begun: list[PytestSession] = []

    def begin_one(*command: str, terminal: int | None = None, **environment: str) -> PytestSession:
        inherited = {n: text for n, text in os.environ.items() if not n.startswith("PYTEST_")}
        nowhere = "http://127.0.0.1:9"
        temporary, phases = tmp_path / "tmp", tmp_path / "phases"
        temporary.mkdir(exist_ok=True)
        phases.touch()
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=inherited
            | {
                "BERTSQUAD_CACHE": str(home / "cache"),
                "BERTSQUAD_DATA": str(home / "data"),
                "BERTSQUAD_MIRROR": nowhere,
                **dict.fromkeys(("http_proxy", "https_proxy"), nowhere),
                "no_proxy": "127.0.0.1",
                "HOME": str(home),
                "TMPDIR": str(temporary),
                **OWN_LOCK,
                "PYTHONPATH": os.pathsep.join([str(home), str(ROOT), SUPPORT]),
                "PYTHONUNBUFFERED": "1",
                "PHASES": str(phases),
            }
            | environment,
            stdin=terminal,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.PIPE if terminal is None else terminal,
            text=True,
            start_new_session=True,
            preexec_fn=None if terminal is None else lambda: controlled_by(terminal),
        )
        begun.append(PytestSession(process, tmp_path))
        return begun[-1]

    yield begin_one
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()
        for pid in {pid for _, pid in one.noted}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def slower(path: Path) -> Path:
    """A tiny model whose batches take long enough to be interrupted in one."""
    model = onnx.load(str(tiny.model(path, slow=True)))
    (noise,) = (node for node in model.graph.node if node.op_type == "RandomNormal")
    noise.attribute[0].CopyFrom(helper.make_attribute("shape", [1000, 1000]))
    onnx.save(model, str(path))
    return path


#: One case that is soon done, then one that lasts.
SUITE = (
    *("pytest", str(ROOT / "benchmarks"), "-p", "observer", "-p", "no:cacheprovider"),
    *("-p", "no:hypothesispytest"),  # takes longer to end than all the rest
    *("--junitxml", "junit.xml", "--output", "results", "--device", "cpu"),
)
POCKET = (*SUITE, "--dataset", "pocket", "--dataset-size", "24", "--min-duration-s", "20")


def tiny_pytest_session(
    begin: Begin, home: Path, chosen: str, *others: str, **env: Any
) -> PytestSession:
    model = str(home / "slower.onnx")
    return begin(*POCKET, "--model", model, "-k", chosen, *others, **env)


def check_files(pytest_session: PytestSession, home: Path, done: bool) -> None:
    """What was finished is there, whole, and nothing else is."""
    hidden = [path for path in pytest_session.folder.rglob(".*") if path.is_file()]
    assert list(pytest_session.folder.rglob("worker-*.log")) == []  # which are kept with last words
    assert hidden + [path for path in (home / "cache").rglob(".*") if path.is_file()] == []
    written = list(pytest_session.folder.rglob(RESULT))
    assert len(written) == int(done)
    for path in written:
        assert result_in(path.parent).mode == "accuracy"
    assert not (home / "data").exists()


# A pytest session that is told to end.


def matrix(quick: set[tuple[str, str]]) -> list[Any]:
    """All phases with all signals, those that aren't `quick` marked slow."""
    return [
        pytest.param(phase, how, marks=[] if (phase, how) in quick else pytest.mark.slow)
        for phase in PHASES
        for how in STATUS
    ]


#: The phases of a pytest session that runs an accuracy case first.
PHASES: dict[str, tuple[str, ...]] = {
    "starting": ("a worker",),
    "loading": ("loading",),
    "making the session": ("making the session",),
    "warming up": ("warming up",),
    "an accuracy run": ("running",),
    "scoring": ("scoring",),
    "probing": ("probing",),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "how"),
    matrix({("loading", "SIGTERM"), ("scoring", "Ctrl-C")}),
)
def test_a_pytest_session_ends_in_whatever_phase_it_is(
    begin: Begin, home: Path, phase: str, how: str
) -> None:
    held = "scoring"  # it takes milliseconds, and a signal must not come after them
    chosen = "(accuracy or performance) and offline"
    pytest_session = tiny_pytest_session(begin, home, chosen, HELD=held if phase == held else "")
    pytest_session.reach(*PHASES[phase])
    pytest_session.end(how)
    assert pytest_session.process.returncode == STATUS[how]
    check_files(pytest_session, home, done=phase == "probing")


@pytest.mark.parametrize(
    ("scenario", "how"),
    [
        pytest.param(s, how, marks=[] if how == quick else pytest.mark.slow)
        for s, quick in zip(SCENARIOS, ("SIGTERM", "Ctrl-C", "SIGINT", "SIGHUP"), strict=True)
        for how in STATUS
    ],
)
def test_a_pytest_session_ends_in_the_middle_of_loadgens_run(
    begin: Begin, home: Path, scenario: str, how: str
) -> None:
    chosen = f"(accuracy and offline) or (performance and {scenario})"
    pytest_session = tiny_pytest_session(begin, home, chosen, "--benchmark-json", "benchmarks.json")
    pytest_session.reach("probing", "running")
    out = pytest_session.end(how)
    assert pytest_session.process.returncode == STATUS[how]
    assert "1 passed" in out
    summary = out.partition(" BERT on SQuAD ")[2]
    assert "slower-pocket-offline-cpu-fp32" in summary
    is_ctrl_c = how in ("Ctrl-C", "SIGINT")
    assert ("KeyboardInterrupt" if is_ctrl_c else f"Terminated: ended by {how}") in out
    check_files(pytest_session, home, done=True)
    document = json.loads((pytest_session.folder / "benchmarks.json").read_bytes())
    assert [entry["scenario"] for entry in document["accuracy"]] == ["offline"]
    assert list((pytest_session.folder / "tmp").glob("*/**/*.onnx")) == []


@pytest.mark.parametrize("how", SLOW_BUT_SIGTERM)
def test_what_was_measured_until_then_is_all_there(
    begin: Begin, home: Path, tmp_path: Path, how: str
) -> None:
    """Two cases are done, one of them timed, and the third is broken off."""
    conf = tmp_path / "user.conf"
    conf.write_text("*.Offline.min_duration = 200\n*.SingleStream.min_duration = 60000\n")
    pytest_session = begin(
        *(*SUITE, "--dataset", "pocket", "--dataset-size", "24", "--user-conf", str(conf)),
        *("--model", str(home / "slower.onnx"), "--benchmark-json", "benchmarks.json"),
        *("--benchmark-storage", "storage", "--benchmark-autosave"),
        *("-k", "(accuracy and offline) or (performance and (offline or singlestream))"),
    )
    pytest_session.reach("running", "probing", "running", "probing", "running")
    time.sleep(1)
    shown = pytest_session.end(how).partition(" BERT on SQuAD ")[2]
    assert pytest_session.process.returncode == STATUS[how]
    case = "slower-pocket-{}-cpu-fp32"
    done, broken = case.format("offline"), case.format("singlestream")
    header, row, *_ = shown.rpartition("\ncase ")[2].splitlines()
    assert header.split()[:3] == ["F1", "MLPerf", "judges"]
    assert row.startswith(f"{done}  ") and "QPS" in row
    assert not any(line.startswith(f"{broken}  ") for line in shown.splitlines())
    saved = {
        m: result_in(tmp_path / "results" / f"{m}-{done}") for m in ("accuracy", "performance")
    }
    folder = tmp_path / "results" / f"performance-{broken}{UNFINISHED}"
    assert len(timeline.load(folder).latencies_ns) > 0
    assert not (folder / RESULT).exists()
    (stored,) = (tmp_path / "storage").rglob("0001_*.json")
    for file in (tmp_path / "benchmarks.json", stored):
        document = json.loads(file.read_bytes())
        assert [entry["f1"] for entry in document["accuracy"]] == [saved["accuracy"].f1]
        (entry,) = document["benchmarks"]
        assert entry["extra_info"]["qps"] == saved["performance"].qps
        assert document["failures"] == []


#: A case that is soon done, and one that lasts; the JSON of both.
TWO_CASES = (
    "(accuracy and offline) or (performance and singlestream)",
    *("--benchmark-json", "benchmarks.json"),
)


def drain(terminal: int, closing: threading.Event) -> None:
    """Read what comes to a terminal until it is to be closed."""
    os.set_blocking(terminal, False)
    while not closing.wait(0.01):
        with contextlib.suppress(OSError):
            os.read(terminal, 4096)


def check_first_case(pytest_session: PytestSession, home: Path) -> None:
    """The first of TWO_CASES is in its folder and in the JSON."""
    check_files(pytest_session, home, done=True)
    document = json.loads((pytest_session.folder / "benchmarks.json").read_bytes())
    assert [entry["scenario"] for entry in document["accuracy"]] == ["offline"]


@pytest.mark.parametrize(
    ("times", "pause_s"),
    [(4, 0.05), *(pytest.param(n, s, marks=pytest.mark.slow) for n in (2, 3, 4) for s in PAUSES_S)],
)
def test_ctrl_c_again_and_again_leaves_table_and_json(
    begin: Begin, home: Path, times: int, pause_s: float
) -> None:
    pytest_session = tiny_pytest_session(begin, home, *TWO_CASES)
    pytest_session.reach("probing", "running")
    for _ in range(times - 1):
        if pytest_session.process.poll() is None:
            SIGNALS["Ctrl-C"](pytest_session.process)
        time.sleep(pause_s)
    out = pytest_session.end("SIGINT" if pytest_session.process.poll() is None else "nothing")
    assert pytest_session.process.returncode == STATUS["Ctrl-C"]
    assert "slower-pocket-offline-cpu-fp32" in out.partition(" BERT on SQuAD ")[2]
    check_first_case(pytest_session, home)


def test_who_insists_on_an_end_has_it_though_saving_hangs(begin: Begin, home: Path) -> None:
    pytest_session = tiny_pytest_session(begin, home, *TWO_CASES, HELD="saving", INSIST_S="0.5")
    pytest_session.reach("probing", "running")
    SIGNALS["Ctrl-C"](pytest_session.process)
    pytest_session.reach("saving")
    time.sleep(0.6)
    pytest_session.end("Ctrl-C")
    assert pytest_session.process.returncode == STATUS["Ctrl-C"]
    assert not (pytest_session.folder / "benchmarks.json").exists()


def test_a_pytest_session_whose_terminal_is_closed_saves_what_it_has(
    begin: Begin, home: Path
) -> None:
    """Nothing that is written to the terminal then gets there, nor does harm."""
    ours, theirs = os.openpty()
    pytest_session = tiny_pytest_session(begin, home, *TWO_CASES, terminal=theirs)
    os.close(theirs)
    closing = threading.Event()
    reader = threading.Thread(target=drain, args=(ours, closing), daemon=True)
    reader.start()
    pytest_session.reach("probing", "running")
    closing.set()
    reader.join()
    os.close(ours)
    assert pytest_session.process.wait(LIMIT_S) == STATUS["SIGHUP"]
    assert pytest_session.left_over() == set()
    check_first_case(pytest_session, home)
    assert ElementTree.parse(pytest_session.folder / "junit.xml").find(".//testcase") is not None


def test_a_pytest_session_under_nohup_goes_on(begin: Begin, home: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what children inherit; the fixture puts it back
    pytest_session = tiny_pytest_session(begin, home, "accuracy and offline")
    pytest_session.reach("loading")
    SIGNALS["SIGHUP"](pytest_session.process)
    out, err = pytest_session.process.communicate(timeout=60)
    assert (pytest_session.process.returncode, err) == (0, "")
    assert "1 passed" in out


def test_a_run_that_waits_for_the_device_leaves_the_earlier_result(
    begin: Begin, home: Path, tmp_path: Path
) -> None:
    chosen = ("performance and offline", "--min-duration-s", "0.1")
    first = tiny_pytest_session(begin, home, *chosen)
    first.process.communicate(timeout=60)
    (file,) = tmp_path.rglob(RESULT)
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    name = f"{own_lock.name_in(str(tmp_path / 'tmp'))}-cpu"
    release = (device_lock.take_name if sys.platform == "linux" else device_lock.take_in_folder)(
        name
    )
    assert release is not None
    second = tiny_pytest_session(begin, home, *chosen)
    second.reach("told: another run measures on this machine's CPU")
    second.end("Ctrl-C")
    release()
    assert second.process.returncode == STATUS["Ctrl-C"]
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before
    assert [path.name for path in (tmp_path / "results").iterdir()] == [file.parent.name]


@pytest.mark.slow
def test_a_result_that_was_finished_while_pytest_was_stopped_counts(
    begin: Begin, home: Path, tmp_path: Path
) -> None:
    """As by Ctrl-Z, for longer than the case may take."""
    pytest_session = tiny_pytest_session(
        begin,
        home,
        "performance and singlestream",
        "--min-duration-s",
        "2",
        "--case-timeout-s",
        "6",
    )
    pytest_session.reach("probing", "running")
    begun = time.monotonic()
    pytest_session.process.send_signal(signal.SIGSTOP)
    while not list(tmp_path.rglob(timeline.TIMELINE)) or time.monotonic() < begun + 7:
        time.sleep(0.05)
    pytest_session.process.send_signal(signal.SIGCONT)
    out, _ = pytest_session.process.communicate(timeout=60)
    assert pytest_session.process.returncode == 0, out
    assert "1 passed" in out


@pytest.mark.parametrize("how", SLOW_BUT_SIGTERM)
def test_a_pytest_session_ends_in_a_download(begin: Begin, home: Path, how: str) -> None:
    with LoopbackServer() as server:
        server.hold()
        url = server.url("")
        model = str(home / "slower.onnx")
        pytest_session = begin(
            *SUITE,
            *("--dataset", "squad", "--model", model, "-k", "offline and accuracy"),
            BERTSQUAD_MIRROR=url,
            BERTSQUAD_DATA=str(home / f"data-{how}"),
        )
        assert server.wait_for(1)
        pytest_session.end(how)
    assert pytest_session.process.returncode == STATUS[how]
    assert [path for path in (home / f"data-{how}").glob("*") if path.suffix == ".json"] == []


@pytest.mark.parametrize("how", SLOW_BUT_SIGTERM)
def test_a_pytest_session_ends_while_it_featurises(
    begin: Begin, home: Path, tmp_path: Path, how: str
) -> None:
    cache = tmp_path / "cache"
    pytest_session = tiny_pytest_session(begin, home, "offline", BERTSQUAD_CACHE=str(cache))
    pytest_session.reach("featurising")
    pytest_session.end(how)
    assert pytest_session.process.returncode == STATUS[how]
    assert list((cache / "derived" / "features").glob("*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", [*STATUS])
@pytest.mark.parametrize("step", ["calibrating", "quantising"])
def test_a_pytest_session_ends_while_it_quantises(
    begin: Begin, home: Path, tmp_path: Path, step: str, how: str
) -> None:
    cache = str(tmp_path / "cache")
    model = ("--model", "minilm", "--precision", "int8", "-k", "accuracy and offline")
    pytest_session = begin(*POCKET, *model, BERTSQUAD_CACHE=cache)
    pytest_session.reach(step)
    pytest_session.end(how)
    assert pytest_session.process.returncode == STATUS[how]
    prepared = tmp_path / "cache" / "derived" / "prepared"
    assert list(prepared.glob("[!.]*")) == []


def parallel_pytest_session(begin: Begin, home: Path) -> PytestSession:
    """A pytest session in the middle of its two workers' runs."""
    other = str(slower(home / "another.onnx"))
    pytest_session = tiny_pytest_session(
        begin,
        home,
        "accuracy and singlestream",
        *("--model", other, "-n", "2", "--dataset-size", "all"),
    )
    pytest_session.reach("running", "running")
    assert (
        len({pid for _, pid in pytest_session.noted}) == 5
    )  # pytest, two xdist workers, two workers
    return pytest_session


@pytest.mark.slow
@pytest.mark.parametrize("how", SLOW_BUT_SIGTERM)
def test_parallel_workers_end_with_their_pytest_session(begin: Begin, home: Path, how: str) -> None:
    pytest_session = parallel_pytest_session(begin, home)
    pytest_session.end(how)
    assert pytest_session.process.returncode == STATUS[how]
    check_files(pytest_session, home, done=False)


@pytest.mark.slow
def test_parallel_workers_end_with_a_pytest_session_that_was_killed(
    begin: Begin, home: Path
) -> None:
    pytest_session = parallel_pytest_session(begin, home)
    pytest_session.end("SIGKILL")
    assert pytest_session.process.returncode == -signal.SIGKILL


def test_a_workers_run_ends_with_a_pytest_session_that_was_killed(begin: Begin, home: Path) -> None:
    pytest_session = tiny_pytest_session(begin, home, "performance and singlestream")
    pytest_session.reach("probing", "running")
    pytest_session.end("SIGKILL")
    assert pytest_session.process.returncode == -signal.SIGKILL


def test_after_all_of_this_the_same_caches_serve(begin: Begin, home: Path) -> None:
    pytest_session = tiny_pytest_session(begin, home, "accuracy and offline")
    out, err = pytest_session.process.communicate(timeout=60)
    assert (pytest_session.process.returncode, err) == (0, "")
    assert "1 passed" in out
    assert "featurising" not in {phase for phase, _ in pytest_session.noted}


# A command that is told to end.

COMMANDS = {"SIGINT": INTERRUPTED, "SIGTERM": 128 + signal.SIGTERM, "SIGHUP": 129}


def children_of(pid: int) -> list[int]:
    """The child processes of a process's main thread."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_ours(pid: int) -> bool:
    """Whether a process is a worker of ours, and not one that asks for the machine's name."""
    with contextlib.suppress(OSError):
        return b"bertsquad.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to find the worker in")
@pytest.mark.parametrize("how", COMMANDS)
def test_the_doctor_ends_with_the_worker_that_tries_the_devices(begin: Begin, how: str) -> None:
    pytest_session = begin("bertsquad", "doctor")
    while not (
        children := [pid for pid in children_of(pytest_session.process.pid) if is_ours(pid)]
    ):
        assert pytest_session.process.poll() is None
        time.sleep(0.005)
    with (pytest_session.folder / "phases").open("a") as file:
        file.writelines(f"a worker\t{child}\n" for child in children)
    out = pytest_session.end(how)
    assert pytest_session.process.returncode == COMMANDS[how]
    assert out.endswith("devices:\n")
    assert list((pytest_session.folder / "tmp").iterdir()) == []


def test_fetch_ends_at_sigterm(begin: Begin, tmp_path: Path) -> None:
    with LoopbackServer() as server:
        server.hold()
        data = tmp_path / "data"
        pytest_session = begin(
            *("bertsquad", "fetch", "squad"),
            BERTSQUAD_MIRROR=server.url(""),
            BERTSQUAD_DATA=str(data),
        )
        assert server.wait_for(1)
        assert pytest_session.end("SIGTERM") == ""
    assert pytest_session.process.returncode == 128 + signal.SIGTERM
    assert list(data.glob("*.json")) == []


@pytest.mark.parametrize("how", COMMANDS)
def test_a_submission_ends_without_a_tree(begin: Begin, tmp_path: Path, how: str) -> None:
    result = tmp_path / "results" / "performance-case" / RESULT
    result.parent.mkdir(parents=True)
    os.mkfifo(result)
    pytest_session = begin("bertsquad", "submission", "results", "--tree", "made/tree")
    with result.open("w"):  # as soon as the command reads it
        assert pytest_session.end(how) == ""
    assert pytest_session.process.returncode == COMMANDS[how]
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_command_that_cannot_write_says_so_in_a_sentence(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "bertsquad", "doctor"],
            cwd=ROOT,
            env=os.environ | {"BERTSQUAD_CACHE": str(tmp_path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "python -m bertsquad doctor: a file: No space left on device\n"


# A worker that ends before its time.


def test_whenever_a_worker_is_killed_its_case_fails_alone(begin: Begin, home: Path) -> None:
    kills = [  # of accuracy and performance cases in turn
        ("loading", signal.SIGKILL),
        ("making the session", signal.SIGSEGV),
        ("warming up", signal.SIGKILL),
        ("running", signal.SIGSEGV),
        ("probing", signal.SIGKILL),
        ("running", signal.SIGABRT),
    ]
    pytest_session = tiny_pytest_session(
        begin,
        home,
        "accuracy or performance",
        *("--min-duration-s", "0.2"),
        KILLS=json.dumps(kills),
    )
    out, err = pytest_session.process.communicate(timeout=120)
    assert (pytest_session.process.returncode, err) == (1, "")
    assert "Traceback" not in out
    outcomes = list(pytest_session.outcomes().values())
    failures = [message for message in outcomes if message]
    assert (len(outcomes), len(failures), outcomes[-1]) == (8, len(kills), "")
    for message, (_, number) in zip(failures, kills, strict=True):
        assert f"the process that ran the model was killed by signal {number}" in message
        assert number.name in message
        assert "\n" not in message
    children = [pid for phase, pid in pytest_session.noted if phase == "a worker"]
    assert len(set(children)) == len(kills) + 1
    assert len(list(pytest_session.folder.rglob(RESULT))) == 2


def test_a_worker_that_is_killed_before_it_can_speak_fails_its_case(
    begin_worker: "BeginWorker", monkeypatch: pytest.MonkeyPatch
) -> None:
    original = subprocess.Popen.__init__

    def kill_at_once(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.kill()

    monkeypatch.setattr(subprocess.Popen, "__init__", kill_at_once)
    with pytest.raises(WorkerDied, match=r"was killed by signal 9 \(SIGKILL\), as systems do"):
        begin_worker()


@pytest.mark.slow
def test_the_case_of_an_xdist_worker_that_is_killed_fails_by_name(begin: Begin, home: Path) -> None:
    chosen = ("accuracy and (offline or singlestream)", "-n", "2", "--dataset-size", "all")
    pytest_session = tiny_pytest_session(begin, home, *chosen, "--benchmark-json", "it.json")
    pytest_session.reach("running", "running")
    xdist_worker = [pid for phase, pid in pytest_session.noted if phase == "pytest"][1]
    os.kill(xdist_worker, signal.SIGKILL)
    out, err = pytest_session.process.communicate(timeout=60)
    assert pytest_session.process.returncode == 1
    assert "Traceback" not in out + err
    document = json.loads((pytest_session.folder / "it.json").read_bytes())
    (failed,), (passed,) = document["failures"], document["accuracy"]
    assert {failed["case"], passed["case"]} == {
        f"slower-pocket-{scenario}-cpu-fp32" for scenario in ("offline", "singlestream")
    }
    assert (failed["mode"], failed["verdict"]) == ("accuracy", FAILED)
    assert "crashed while running" in failed["reason"]
    shown = out.partition(" BERT on SQuAD ")[2].splitlines()
    told, row = (line for line in shown if line.startswith(failed["case"]))
    assert "crashed while running" in told
    assert row.endswith("failed")
    assert pytest_session.left_over() == set()


@pytest.mark.slow
def test_a_case_that_would_never_end_fails_and_the_next_one_runs(begin: Begin, home: Path) -> None:
    conf = home / "endless.conf"
    conf.write_text("*.SingleStream.min_duration = 600000\n*.MultiStream.min_duration = 100\n")
    chosen = "performance and (singlestream or multistream)"
    model = ("--model", str(home / "slower.onnx"), "--dataset", "pocket", "--dataset-size", "24")
    pytest_session = begin(
        *SUITE, *model, "-k", chosen, "--user-conf", str(conf), "--case-timeout-s", "6"
    )
    out, _ = pytest_session.process.communicate(timeout=60)
    assert pytest_session.process.returncode == 1
    assert "Traceback" not in out
    failed, passed = pytest_session.outcomes().values()
    assert "the case didn't end within 6 s and was stopped (--case-timeout-s allows more)" in failed
    assert passed == ""


# A model that fails in the middle of a run.

BeginWorker = Callable[..., Begun]


@pytest.fixture
def begin_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BeginWorker]:
    """Start workers of the test's own, which end with it."""
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    made: list[Begun] = []

    def begin_one(**others: Any) -> Begun:
        made.append(start(tmp_path, **others))
        return made[-1]

    yield begin_one
    for one in made:
        one.worker.close()


def swapped(built: Features, one: int, other: int) -> Features:
    """Features with two windows in each other's place."""
    order = np.arange(len(built))
    order[[one, other]] = other, one
    spans = [slice(built.offsets[i], built.offsets[i + 1]) for i in order]
    return replace(
        built,
        tokens=np.concatenate([built.tokens[span] for span in spans]),
        offsets=np.concatenate([[0], np.cumsum(built.lengths[order])]),
        question=built.question[order],
        context_start=built.context_start[order],
        segment_start=built.segment_start[order],
        doc_start=built.doc_start[order],
        max_context=np.concatenate([built.max_context[span] for span in spans]),
    )


#: Windows of 36 whose length the warm-up passes over: a short one, one in the middle, a long one.
#: Where each is put it is in LoadGen's first, a middle or the last query (in Offline, longest
#: first, it is the other way round), and the probe, drawing at random, hits no other than the
#: first.
PLACES = {3: 0, 13: 13, 33: 35}


@pytest.mark.parametrize(("poisoned", "place"), PLACES.items(), ids=["first", "middle", "last"])
def test_a_model_that_raises_in_any_batch_fails_its_case_alone(
    begin_worker: BeginWorker, tmp_path: Path, poisoned: int, place: int
) -> None:
    built = swapped(tiny.build_features(tmp_path, 35, poisoned), poisoned, place)
    features.save(built, tmp_path / "swapped.npz")
    model = tiny.model(tmp_path / "poisoned.onnx", raises_on=tiny.POISON)
    made = begin_worker(file=model, questions=35, features=str(tmp_path / "swapped.npz"))
    for scenario in SCENARIOS:
        messages: list[Step | Failing] = []
        request = made.request(scenario, "accuracy")
        with pytest.raises(SuiteError, match="out of data bounds") as caught:
            made.worker.run(request, 60, messages.append)
        assert not isinstance(caught.value, WorkerDied)
        is_loadgens = place > 0 or scenario in ("offline", "singlestream")
        assert [type(message) for message in messages].count(Failing) == is_loadgens
    if place:
        assert sorted(made.accuracy("server", name="good", samples=place)) == [*range(place)]


def spoiled(path: Path, how: str) -> Path:
    """A tiny model with something added to its logits.

    The word "poison" makes it NaN or infinite, or wants more memory than there can be; or
    padding is infinite, as in models that mask their answers.
    """
    model = onnx.load(str(tiny.model(path)))
    graph = model.graph
    ids, mask = graph.input[0].name, graph.input[1].name

    def node(op: str, *sources: str, **attributes: Any) -> str:
        name = f"spoiled_{len(graph.node)}"
        graph.node.append(helper.make_node(op, list(sources), [name], **attributes))
        return name

    def constant(value: Any, dtype: Any) -> str:
        name = f"spoiled_constant_{len(graph.initializer)}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    if how == "padding":
        spoil = node("Log", node("Cast", mask, to=TensorProto.FLOAT))
    else:
        here = node("Equal", ids, constant(tiny.POISON, np.int64))
        if how == "memory":
            found = node("ReduceMax", node("Cast", here, to=TensorProto.INT64), keepdims=0)
            size = node("Mul", found, constant(10**17, np.int64))
            room = node("ConstantOfShape", node("Reshape", size, constant([1], np.int64)))
            spoil = node("ReduceSum", room, keepdims=0)
        else:
            negative = node("Neg", node("Cast", here, to=TensorProto.FLOAT))
            one = constant(1, np.float32)
            spoil = (
                node("Sqrt", negative) if how == "NaN" else node("Log", node("Add", one, negative))
            )
    for output in graph.output:
        (last,) = (one for one in graph.node if output.name in one.output)
        last.output[0] = f"{output.name}_unspoiled"
        graph.node.append(helper.make_node("Add", [last.output[0], spoil], [output.name]))
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("how", ["NaN", "infinite"])
def test_logits_that_are_not_finite_fail_their_case_in_every_scenario_and_mode(
    begin_worker: BeginWorker, tmp_path: Path, how: str
) -> None:
    made = begin_worker(file=spoiled(tmp_path / "spoiled.onnx", how), poisoned=14)
    for scenario in SCENARIOS:
        for mode in ("accuracy", "performance"):
            with pytest.raises(SuiteError, match="sample 14 with logits that are NaN or inf"):
                made.worker.run(made.request(scenario, mode), 60)
    assert sorted(made.accuracy("offline", name="good", samples=14)) == [*range(14)]


@pytest.mark.parametrize("how", ["none", "one short", "one more"])
def test_logits_of_another_shape_fail_their_case_in_every_scenario_and_mode(
    begin_worker: BeginWorker, tmp_path: Path, how: str
) -> None:
    file = misshapen.model(tmp_path / "misshapen.onnx", how, only_poisoned=True)
    made = begin_worker(file=file, poisoned=14)
    for scenario in SCENARIOS:
        for mode in ("accuracy", "performance"):
            with pytest.raises(SuiteError, match=r"tokens with .*where float logits of shape \["):
                made.worker.run(made.request(scenario, mode), 60)
    assert sorted(made.accuracy("offline", name="good", samples=14)) == [*range(14)]


@pytest.mark.parametrize("how", misshapen.HOWS)
def test_a_model_whose_every_answer_has_another_shape_fails_before_loadgen_starts(
    begin_worker: BeginWorker, tmp_path: Path, how: str
) -> None:
    made = begin_worker(file=misshapen.model(tmp_path / "misshapen.onnx", how))
    for mode in ("accuracy", "performance"):
        request = made.request("offline", mode)
        with pytest.raises(SuiteError, match=r"float logits of shape \[2, 128\] were expected"):
            made.worker.run(request, 60)
        assert list(Path(request.folder).iterdir()) == []


@pytest.mark.slow
def test_a_model_whose_every_answer_is_nan_fails_before_loadgen_starts(
    begin: Begin, home: Path, tmp_path: Path
) -> None:
    model = str(tiny.model(tmp_path / "nan.onnx", nan_when_short=True))
    pytest_session = begin(*POCKET, "--model", model, "-k", "offline and (accuracy or performance)")
    out, err = pytest_session.process.communicate(timeout=60)
    assert (pytest_session.process.returncode, err) == (1, "")
    assert "Traceback" not in out
    for message in pytest_session.outcomes().values():
        assert "logits that are NaN or infinite on cpu in fp32" in message
        assert "choose another --precision" in message
    assert list((tmp_path / "results").rglob("mlperf_log_*")) == []


def test_infinite_logits_of_padding_are_nobodys_answer(
    begin_worker: BeginWorker, tmp_path: Path
) -> None:
    made = begin_worker(file=spoiled(tmp_path / "spoiled.onnx", "padding"))
    expected = tiny.answers(made.features)
    for sample, logits in made.accuracy("offline").items():
        assert logits == pytest.approx(expected[sample], abs=1e-4)


def test_a_model_that_wants_too_much_memory_fails_its_case_alone(
    begin_worker: BeginWorker, tmp_path: Path
) -> None:
    made = begin_worker(file=spoiled(tmp_path / "spoiled.onnx", "memory"), poisoned=14)
    with pytest.raises(SuiteError, match=r"memory ran out \(.*--batch-tokens") as caught:
        made.worker.run(made.request("offline", "accuracy"), 60)
    assert "\n" not in str(caught.value)
    assert sorted(made.accuracy("offline", name="good", samples=14)) == [*range(14)]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux's prlimit")
@pytest.mark.parametrize("phase", ["loading", "making the session", "warming up"])
def test_a_worker_that_may_have_no_more_memory_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # where a core file would go

    def limit(message: Step | Failing) -> None:
        if isinstance(message, Step) and message.name == phase:
            (*_, child) = children_of(os.getpid())
            pages = int(Path(f"/proc/{child}/statm").read_text().split()[0])
            size = pages * os.sysconf("SC_PAGE_SIZE")
            resource.prlimit(child, resource.RLIMIT_AS, (size, size))

    built = tiny.build_features(tmp_path)
    features.save(built, tmp_path / "tiny.npz")
    minilm = registry.path_of("pocket/minilm-squad.onnx")
    setup = Setup(files_of(minilm), str(tmp_path / "tiny.npz"), "cpu", "fp32", 1, "none")
    with pytest.raises(SuiteError) as caught:
        worker = Worker(tmp_path / "worker.log")
        try:
            worker.prepare(setup, 60, limit)
            request = Request("offline", "accuracy", "quick", str(tmp_path), len(built))
            worker.run(request, 60, limit)
        finally:
            worker.close()
    assert "\n" not in str(caught.value)
    assert "didn't end within" not in str(caught.value)
