"""Nodes of a local cluster that die, each in its own way."""

import contextlib
import os
import re
import signal
from pathlib import Path

#: The node that dies; the other one is the head, by which the worker is in the cluster.
LOST = "127.0.0.3"


def processes(root: Path, node: str = LOST, named: str = "") -> list[int]:
    """The processes of a node of the cluster below `root`: those of its `ray start`'s session.

    `root` is the folder that the cluster has for itself, or one in which that lies.
    """
    place = int(node.rpartition(".")[2]) - 2
    own = re.compile(rf"--temp-dir={re.escape(str(root))}(/[^/ ]+)?/n{place}( |$)")
    sessions, found = set(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found.append((int(folder.name), os.getsid(int(folder.name)), words))
            if "ray.scripts" in words and own.search(words):
                sessions.add(found[-1][1])
    return [pid for pid, session, words in found if session in sessions and named in words]


def kill_actor(root: Path, node: str = LOST) -> None:
    (pid,) = processes(root, node, "ray::Node")
    os.kill(pid, signal.SIGKILL)


def kill_raylet(root: Path) -> None:
    os.kill(min(processes(root, named="raylet/raylet")), signal.SIGKILL)


def kill_all(root: Path) -> None:
    for pid in processes(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def fall_silent(root: Path) -> None:
    """All processes stand still: they answer nothing, and every connection stays open."""
    for pid in processes(root):
        os.kill(pid, signal.SIGSTOP)
