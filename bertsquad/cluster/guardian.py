"""The process that has the nodes of a cluster on this machine, and lets none outlive it.

    python -m bertsquad.cluster.guardian NODES SECONDS [gpus]

`local.py` starts it. It starts the nodes, within so many seconds, and says on standard output what
came of that (a Started, as a line of JSON). With `gpus` they divide the GPUs of this machine, which
none of them sees otherwise. It ends all of them at SIGTERM, and when its standard input is closed:
so nothing is left even where the process that started it was killed.

Linux alone: every address from 127.0.0.2 on is there for a node of its own, a node can be given
some of the cores, and orphans of Ray become children of this process.
"""

import contextlib
import ctypes
import itertools
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn, TypeVar

from bertsquad.errors import SuiteError
from bertsquad.machine import environment, gpus, hardware

_Part = TypeVar("_Part")

#: How long all nodes may take to be up, in seconds; two take 3.5 where two cores are idle.
STARTING_S = 60.0
#: Seconds between two looks whether something has happened.
LOOK_S = 0.05
#: How often a head is started whose port was taken by somebody else meanwhile.
TRIES = 3
#: The bytes of a node's store for objects: what is shipped goes through it in pieces.
STORE_BYTES = 100_000_000
#: The longest path of a socket on Linux, and how long those of a node may be below its folder.
_SOCKET_PATH = 107
_BELOW = len("/n99/session_2026-11-30_22-20-16_327596_4194304/sockets/plasma_store.10")

#: The word that gives the nodes GPUs.
GPUS = "gpus"

#: The signals at which all is ended.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: From linux/prctl.h: which signal a process gets when its parent ends, and to get orphans.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Started:
    """What came of a start: `address` and `token_file`, or else in `error` why there are none."""

    address: str = ""
    token_file: str = ""
    error: str = ""


def divide(cores: Sequence[_Part], nodes: int) -> list[tuple[_Part, ...]]:
    """The cores (or GPUs) of each node: as even as can be, shared only where there are too few."""
    if nodes > len(cores):
        return [(cores[index % len(cores)],) for index in range(nodes)]
    bounds = [index * len(cores) // nodes for index in range(nodes + 1)]
    return [tuple(cores[start:end]) for start, end in itertools.pairwise(bounds)]


def host(index: int) -> str:
    """The address of a node of this machine; Ray takes 127.0.0.1 for the machine's own."""
    return f"127.0.0.{index + 2}"


class Told(BaseException):
    """The parent of this process has ended, or a signal came: it is to end, in order."""


class Guardian:
    """The nodes: `ray start` processes, and all that these start."""

    def __init__(self, folder: Path, memory: Path) -> None:
        """`folder` is private, and holds all that the nodes write but their stores for objects.

        These are in the folder `memory`, private too: on a disk they would take seconds to start.
        """
        self._folder, self._memory = folder, memory
        self._token = folder / "token"
        self._seconds = STARTING_S
        self._cores: list[tuple[tuple[int, ...], ...]] = []
        self._gpus: list[tuple[str, ...]] = []
        self._nodes: list[subprocess.Popen[bytes]] = []

    def start(self, count: int, seconds: float, with_gpus: bool = False) -> Started:
        """Start the nodes and wait until all are up; SuiteError where one can't be in time.

        Only where they are to have GPUs the driver's tool is asked, which may take a minute.
        """
        if find_spec("ray") is None:
            raise SuiteError(f"--cluster local:{count} needs Ray: pip install -e '.[ray]'")
        self._seconds = seconds
        self._token.touch(mode=0o600)
        self._token.write_text(secrets.token_hex(32), encoding="ascii")
        self._cores = divide(hardware.siblings()[: hardware.cores()], count)
        there = [gpu.uuid or gpu.id for gpu in gpus.visible()] if with_gpus else []
        self._gpus = divide(there, count) if there else [()] * count
        deadline = time.monotonic() + seconds
        port = self._start_head(deadline)
        address = f"{host(0)}:{port}"
        for index in range(1, count):
            self._nodes.append(self._begin(index, [f"--address={address}"]))
        for index in range(count):
            # A node takes work from then on; it is seen in the cluster a moment later.
            while not list(self._of(index).glob("session_*/sockets/raylet")):
                self._wait(index, deadline)
        return Started(address, str(self._token))

    def _start_head(self, deadline: float) -> int:
        """The port at which the head listens; on another one where somebody took the first."""
        for left in reversed(range(TRIES)):
            port = _free_port()
            flags = ["--head", f"--port={port}", "--include-dashboard=false", "--no-monitor"]
            if find_spec("grpc"):  # else there is no such server, and the flag is an error
                flags += ["--ray-client-server-port=0"]
            self._nodes = [self._begin(0, flags)]
            try:
                while not listens(host(0), port):
                    self._wait(0, deadline)
            except SuiteError:
                if not left or _free(port):
                    raise
                end_descendants()
            else:
                return port
        raise AssertionError("the last try either listens or raises")

    def _begin(self, index: int, flags: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the process of one node on its cores."""
        cores, gpus_of_it = self._cores[index], self._gpus[index]
        cpus = {cpu for core in cores for cpu in core}
        folder = self._of(index)
        folder.mkdir(exist_ok=True)
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
            f"--node-ip-address={host(index)}",
            f"--num-cpus={len(cores)}",
            f"--num-gpus={len(gpus_of_it)}",
            f"--object-store-memory={STORE_BYTES}",
            f"--plasma-directory={self._memory}",
            f"--temp-dir={folder}",
            "--disable-usage-stats",
            "--include-log-monitor=false",
            # Free ports, where Ray would take fixed ones.
            *("--min-worker-port=0", "--max-worker-port=0"),
            *("--dashboard-agent-listen-port=0", "--dashboard-agent-grpc-port=0"),
            *flags,
        ]

        def prepare() -> None:
            os.sched_setaffinity(0, cpus)
            _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

        with self._log(index).open("wb") as log:
            return subprocess.Popen(
                command,
                env=self._environment() | {gpus.VISIBLE: ",".join(gpus_of_it)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=prepare,
            )

    def _environment(self) -> dict[str, str]:
        """What nodes find in their environment; the user's settings are for clusters of theirs."""
        inherited = environment.of_child().items()
        return {name: text for name, text in inherited if not name.startswith("RAY_")} | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_enable_metrics_collection": "false",
            "RAY_worker_niceness": "0",  # else any other process would come first
        }

    def _wait(self, index: int, deadline: float) -> None:
        """Wait a moment; SuiteError where node `index` has ended or the time is up."""
        listen(LOOK_S)
        if self._nodes[index].poll() is not None:
            raise SuiteError(
                f"node {host(index)} of the local cluster ended while it started: "
                f"{self._last_words(index)}"
            )
        if time.monotonic() > deadline:
            raise SuiteError(
                f"node {host(index)} of the local cluster didn't start within "
                f"{self._seconds:g} s, so try fewer nodes: {self._last_words(index)}"
            )

    def _last_words(self, index: int) -> str:
        text = self._log(index).read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"its last words: {lines[-1]}" if lines else "it said nothing"

    def _of(self, index: int) -> Path:
        return self._folder / f"n{index}"

    def _log(self, index: int) -> Path:
        return self._folder / f"n{index}.log"


def listen(seconds: float) -> None:
    """Wait so long; Told where standard input is closed meanwhile."""
    if select.select([sys.stdin], [], [], seconds)[0]:
        raise Told


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))  # Ray binds to every interface
        return int(listener.getsockname()[1])


def _free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True


def listens(host: str, port: int) -> bool:
    """Whether anybody takes connections there."""
    try:
        socket.create_connection((host, port), 1.0).close()
    except OSError:
        return False
    return True


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _descendants() -> list[int]:
    """All processes that descend from this one and have not ended."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):  # it has just ended
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(folder.name))
    found, unseen = [], [os.getpid()]
    while unseen:
        new = children.get(unseen.pop(), [])
        found += new
        unseen += new
    return found


def end_descendants() -> None:
    """Kill all that descends from this process, and wait until it is gone.

    They share nothing with anybody else, so that none needs time to tidy up.
    """
    while pids := _descendants():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@contextlib.contextmanager
def _private_folders() -> Iterator[tuple[Path, Path]]:
    """Two for this cluster alone: one with a path that leaves room for sockets, one in memory."""
    places = [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108
    fitting = [place for place in places if len(bytes(place)) + 14 + _BELOW <= _SOCKET_PATH]
    folder = Path(tempfile.mkdtemp(prefix="bsq-", dir=fitting[0]))  # for its owner alone
    shared = Path("/dev/shm")  # noqa: S108
    whose = f"bsq-{os.getpid()}-"  # so that one may see that nobody uses it any more
    memory = Path(tempfile.mkdtemp(prefix=whose, dir=shared if shared.is_dir() else folder))
    try:
        yield folder, memory
    finally:
        for one in (memory, folder):
            shutil.rmtree(one, ignore_errors=True)


def _told(number: int, frame: object) -> NoReturn:
    raise Told


def _main() -> None:
    # Only the first is heeded, so that nothing disturbs the end.
    for number in ENDING:
        signal.signal(number, _told)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with contextlib.suppress(Told, BrokenPipeError):
        try:
            with _private_folders() as folders:
                _serve(Guardian(*folders), int(sys.argv[1]), float(sys.argv[2]), GPUS in sys.argv)
        except SuiteError as error:
            _say(Started(error=str(error)))
        except OSError as error:
            _say(Started(error=f"the local cluster can't be started: {error}"))


def _serve(guardian: Guardian, count: int, seconds: float, with_gpus: bool) -> None:
    """Start the nodes, and keep them until this process is told to end."""
    try:
        _say(guardian.start(count, seconds, with_gpus))
        while True:
            listen(3600.0)
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        end_descendants()


def _say(started: Started) -> None:
    print(json.dumps(asdict(started)), flush=True)  # noqa: T201


if __name__ == "__main__":
    _main()
