"""The processes of a cluster on this machine: found, measured, slowed down and ended.

`tools/scaling.py` does so from outside, so that nothing in the suite knows of it. Linux alone.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

#: How long a node that is slowed down stands still at a time, in seconds; it runs as long between.
TURN_S = 0.01


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:  # it has just ended
                continue
            children.setdefault(int(parent), []).append(int(folder.name))
    found = [root]
    for pid in found:  # which grows meanwhile
        found += children.get(pid, [])
    return found


def arguments(pid: int) -> list[str]:
    """The command line of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def of_node(address: str) -> list[int]:
    """The processes of the node with this address that this process has started."""
    flag = f"--node-ip-address={address}"
    return tree(next(pid for pid in tree(os.getpid()) if flag in arguments(pid)))


def actors_of(node: Iterable[int]) -> list[int]:
    """Those of a node's processes in which the model is."""
    return [pid for pid in node if arguments(pid)[:1] and arguments(pid)[0].startswith("ray::Node")]


def raylets_of(node: Iterable[int]) -> list[int]:
    """Those of a node's processes by which it belongs to the cluster."""
    return [pid for pid in node if Path((arguments(pid) or [""])[0]).name == "raylet"]


def memory_bytes(pids: Iterable[int]) -> int:
    """The memory of processes together, what they share counted once among all that have it."""
    found = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # it has just ended
            continue
        found += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return found * 1024


#: What can happen to a node: to which of its processes, and by which signal.
LOSSES: dict[str, tuple[Callable[[list[int]], list[int]], signal.Signals]] = {
    "process": (actors_of, signal.SIGKILL),
    "raylet": (raylets_of, signal.SIGKILL),
    "node": (list, signal.SIGKILL),
    "silent": (list, signal.SIGSTOP),
}


def strike(address: str, kind: str) -> float:
    """Have a node lost in one of the ways of LOSSES; when that was, by `time.perf_counter`."""
    choose, number = LOSSES[kind]
    return _signal(choose(of_node(address)), number)


class Slowed:
    """From `begin` to the end of the context processes stand still for half of the time.

    `share` is the share of that time in which it ran, as it really was.
    """

    def __init__(self, find: Callable[[], Iterable[int]]) -> None:
        """`find` gives the processes when it begins."""
        self._find = find
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._take_turns, daemon=True)
        self.share = 1.0

    def __enter__(self) -> "Slowed":
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def begin(self) -> None:
        """Slow them down from now on."""
        self._thread.start()

    def _take_turns(self) -> None:
        pids = list(self._find())
        began, stood = time.perf_counter(), 0.0
        while not self._over.wait(TURN_S):
            stopped = _signal(pids, signal.SIGSTOP)
            time.sleep(TURN_S)
            stood += _signal(pids, signal.SIGCONT) - stopped
        self.share = 1 - stood / (time.perf_counter() - began)


def _signal(pids: Iterable[int], number: signal.Signals) -> float:
    """Send a signal; when that was."""
    for pid in pids:
        os.kill(pid, number)
    return time.perf_counter()
