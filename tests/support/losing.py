"""Nodes of a local cluster that die, each in its own way."""

import contextlib
import os
import signal
from pathlib import Path

#: The node that dies; the other one is the head, by which the worker is in the cluster.
LOST = "127.0.0.3"


def processes(node: str, named: str = "") -> list[int]:
    """The processes of a node: those of the session of the `ray start` that began it."""
    sessions, found = set(), []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            words = (
                (folder / "cmdline")
                .read_bytes()
                .decode(errors="replace")
                .replace("\0", " ")
                .strip()
            )
            found.append((int(folder.name), os.getsid(int(folder.name)), words))
            if f"--node-ip-address={node}" in words and "ray.scripts" in words:
                sessions.add(found[-1][1])
    return [pid for pid, session, words in found if session in sessions and named in words]


def kill_actor() -> None:
    (pid,) = processes(LOST, "ray::Node")
    os.kill(pid, signal.SIGKILL)


def kill_raylet() -> None:
    pid = min(processes(LOST, "raylet/raylet"))
    os.kill(pid, signal.SIGKILL)


def kill_all() -> None:
    for pid in processes(LOST):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def fall_silent() -> None:
    """All processes stand still: they answer nothing, and every connection stays open."""
    for pid in processes(LOST):
        os.kill(pid, signal.SIGSTOP)
