"""Nodes that join a local cluster, and aren't like the others."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bertsquad.cluster.local import LocalCluster
from bertsquad.machine import environment

ADDRESS = "127.0.0.9"


@contextlib.contextmanager
def stranger(
    cluster: LocalCluster, folder: Path, hidden: Sequence[Path] = (), **others: str
) -> Iterator[str]:
    """A node with `others` in its environment, that doesn't see the folders `hidden`.

    Its address is given. `folder` must have a short path, since sockets lie in it.
    """
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
        *(f"--address={cluster.address}", f"--node-ip-address={ADDRESS}", "--num-cpus=1"),
        *("--object-store-memory=100000000", f"--temp-dir={folder}"),
        f"--plasma-directory={folder}",
        *("--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"),
        *("--dashboard-agent-listen-port=0", "--dashboard-agent-grpc-port=0"),
    ]
    if hidden:
        empty = folder / "empty"
        empty.mkdir()
        script = "".join(f'mount --bind "{empty}" "{one}" && ' for one in hidden) + 'exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
    process = subprocess.Popen(
        command,
        env=environment.of_child()
        | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": cluster.token_file,
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        | others,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not (folder / "ray_current_cluster").exists():
            assert process.poll() is None
            time.sleep(0.1)
        yield ADDRESS
    finally:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if os.getsid(int(entry.name)) == process.pid:
                    os.kill(int(entry.name), signal.SIGKILL)
        process.wait()


def may_hide_folders() -> bool:
    """Whether this user may have a mount of his own."""
    tried = ["unshare", "--mount", "true"]
    try:
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
