"""A real cluster on this machine starts, ends with whoever started it, and leaves nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import stranger
from having import have, line_of
from left_over import Place

from bertsquad.cluster.local import LocalCluster
from bertsquad.errors import Unavailable
from bertsquad.machine import environment, hardware

pytestmark = pytest.mark.cluster


def test_what_was_started_is_private_divides_the_cores_and_is_gone_at_the_end(place: Place) -> None:
    with have(place) as process:
        address, token = line_of(process).split()
        assert address.startswith("127.0.0.2:")
        assert Path(token).stat().st_mode & 0o777 == 0o600
        assert Path(token).parent.stat().st_mode & 0o777 == 0o700
        assert Path(token).is_relative_to(place.temporary)
        one, other = (os.sched_getaffinity(pid) for pid in place.wait_for("raylet/raylet", 2))
        assert one | other <= os.sched_getaffinity(0)
        assert not one & other or hardware.cores() == 1
        out, err = process.communicate()  # closes its standard input
        assert place.left_over(0.0) == {}
        assert (process.returncode, out, err) == (0, "", "")


def killed(place: Place, process: "subprocess.Popen[str]") -> None:
    """As pytest's process may be."""
    process.kill()


def guardian_told(place: Place, process: "subprocess.Popen[str]") -> None:
    for pid in place.processes("bertsquad.cluster.guardian"):
        os.kill(pid, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("ended", [killed, guardian_told])
@pytest.mark.parametrize(
    ("begun", "count"),
    [
        ("bertsquad.cluster.guardian", 1),
        ("scripts start", 1),
        ("gcs_server", 1),
        ("raylet/raylet", 1),
        ("scripts start", 2),
        ("raylet/raylet", 2),
    ],
)
def test_nothing_is_left_whenever_it_ends(
    place: Place, begun: str, count: int, ended: Callable[..., None]
) -> None:
    with have(place) as process:
        place.wait_for(begun, count)
        ended(place, process)
        process.communicate()
    assert place.left_over() == {}


@pytest.mark.parametrize("ended", [killed, pytest.param(guardian_told, marks=pytest.mark.slow)])
def test_nothing_is_left_when_it_ends_without_order(
    place: Place, ended: Callable[..., None]
) -> None:
    with have(place) as process:
        assert line_of(process).startswith("127.0.0.2:")
        ended(place, process)
        process.communicate()
    assert place.left_over() == {}


@pytest.mark.slow
def test_no_process_outlives_a_guardian_that_is_killed(place: Place) -> None:
    with have(place) as process:
        assert line_of(process).startswith("127.0.0.2:")
        os.kill(place.wait_for("bertsquad.cluster.guardian")[0], signal.SIGKILL)
        process.communicate()
    assert "processes" not in place.left_over(20.0)


@pytest.mark.parametrize("host", ["127.0.0.2", "127.0.0.3"])
def test_a_node_that_dies_while_it_starts_is_named_and_nothing_is_left(
    place: Place, host: str
) -> None:
    with have(place) as process:
        (pid,) = place.wait_for(f"start --block --node-ip-address={host}")
        os.kill(pid, signal.SIGKILL)
        told = line_of(process)
        assert told.startswith(f"node {host} of the local cluster ended while it started: ")
        process.communicate()
    assert place.left_over() == {}


def test_a_node_that_takes_too_long_is_named() -> None:
    with pytest.raises(Unavailable, match=r"node 127\.0\.0\.2 .* didn't start within 0\.2 s") as it:
        LocalCluster(1, timeout_s=0.2)
    assert it.value.subject == "cluster"


def test_without_ray_it_is_said_how_to_install_it(tmp_path: Path) -> None:
    sys_path = [path for path in sys.path if not (Path(path or ".") / "ray").is_dir()]
    if len(sys_path) == len(sys.path):
        pytest.skip("Ray is not installed")
    code = f"import sys; sys.path[:] = {sys_path!r}\n" + (
        "from bertsquad.cluster import guardian; sys.argv = ['', '2', '60']; guardian._main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment.of_child(),
        stdin=subprocess.PIPE, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "--cluster local:2 needs Ray: pip install -e '.[ray]'" in done.stdout


#: A call of each kind of server that Ray opens to every interface.
CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
)
OK, UNKNOWN, UNAUTHENTICATED = 0, 12, 16  # gRPC's codes


def test_what_listens_beyond_loopback_answers_nobody_without_the_token(place: Place) -> None:
    with have(place) as process:
        _, token_file = line_of(process).split()
        token = Path(token_file).read_text()
        ports = place.open_ports()
        assert len(ports) >= 5  # the head's, and two of each node
        for port in ports:
            told = {call: stranger.status(port, call) for call in CALLS}
            assert set(told.values()) == {UNKNOWN, UNAUTHENTICATED}
            (serves,) = (call for call, status in told.items() if status == UNAUTHENTICATED)
            assert stranger.status(port, serves, "0" * 64) == UNAUTHENTICATED
            assert stranger.status(port, serves, token) == OK
        process.communicate()
    assert place.left_over() == {}
