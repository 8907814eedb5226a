"""A process that has a cluster on this machine until its standard input is closed."""

import subprocess
import sys

from left_over import Place

from bertsquad.machine import environment

_HAVE = """
import sys
from bertsquad.cluster.local import LocalCluster
from bertsquad.errors import Unavailable

try:
    with LocalCluster(int(sys.argv[1])) as cluster:
        print(cluster.address, cluster.token_file, flush=True)
        sys.stdin.read()
except Unavailable as error:
    print(error, flush=True)
"""


def have(place: Place, nodes: int = 2) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _HAVE, str(nodes)],
        cwd=place.folder,
        env={**environment.of_child(), **place.variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line_of(process: "subprocess.Popen[str]") -> str:
    """The next line that it says: address and token file, or why there is no cluster."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
