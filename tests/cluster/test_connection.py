"""A process joins a real cluster, or is told in a sentence why it can't."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from having import have, line_of
from joining import JOIN, join
from left_over import Place

from bertsquad.cluster.guardian import _free_port
from bertsquad.cluster.local import LocalCluster
from bertsquad.cluster.membership import Membership

pytestmark = pytest.mark.cluster


def of(cluster: LocalCluster, nodes: int | None = None) -> Membership:
    return cluster.membership(nodes=nodes)


def test_who_has_the_token_joins_and_sees_the_nodes(
    two_nodes: LocalCluster, tmp_path: Path
) -> None:
    told = join(of(two_nodes, 2), home=str(tmp_path))
    assert [node["address"] for node in told["nodes"]] == ["127.0.0.2", "127.0.0.3"]
    assert all(node["cpus"] >= 1 for node in told["nodes"])
    assert list(tmp_path.iterdir()) == []  # Ray would write a token to ~/.ray


def test_the_token_may_be_given_by_rays_own_ways(two_nodes: LocalCluster, tmp_path: Path) -> None:
    token = Path(two_nodes.token_file).read_text()
    membership = Membership(two_nodes.address, 2)
    assert join(membership, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)["nodes"]
    kept = tmp_path / ".ray" / "auth_token"
    kept.parent.mkdir()
    kept.write_text(token)
    assert join(membership, home=str(tmp_path), RAY_AUTH_MODE="token")["nodes"]


def test_a_token_of_the_users_own_is_not_for_a_cluster_of_the_suite(
    two_nodes: LocalCluster,
) -> None:
    assert join(of(two_nodes), RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN="of another")["nodes"]


def test_no_token_or_a_wrong_one_is_refused(two_nodes: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("0" * 64)
    wrong = join(Membership(two_nodes.address, token_file=str(tmp_path / "wrong")))
    without = join(Membership(two_nodes.address), home=str(tmp_path))
    for told in (wrong, without):
        assert f"{two_nodes.address} refuses the token, or wants one: give" in told["error"]
        assert told["subject"] == "cluster"
    missing = join(Membership(two_nodes.address), home=str(tmp_path), RAY_AUTH_MODE="token")
    assert "with a token, but there is none in the file that RAY_AUTH_TOKEN" in missing["error"]
    nowhere = join(Membership(two_nodes.address), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH="/no")
    assert "with a token, but there is none in the file that RAY_AUTH_TOKEN" in nowhere["error"]
    assert not (tmp_path / ".ray").exists()


@pytest.mark.parametrize(("wanted", "cure"), [(1, ": give --nodes 2"), (3, ", or give --nodes 2")])
def test_another_number_of_nodes_than_asked_for_is_named(
    two_nodes: LocalCluster, wanted: int, cure: str
) -> None:
    told = join(of(two_nodes, wanted))
    assert f"--nodes {wanted} wants" in told["error"]
    assert "has 2 (127.0.0.2, 127.0.0.3)" in told["error"]
    assert told["error"].endswith(cure)


def test_an_address_at_which_nobody_listens_is_named() -> None:
    told = join(Membership("127.0.0.2:9"))
    assert "no cluster can be reached at 127.0.0.2:9 (Connection refused): start" in told["error"]
    told = join(Membership("no-such-host.invalid:6379"))
    assert "no cluster can be reached at no-such-host.invalid:6379 (" in told["error"]
    for host in ("a..b", f"{64 * 'a'}.de"):  # no name at all, as a part of it has 1 to 63 letters
        told = join(Membership(f"{host}:80"))
        why = f"no cluster can be reached at {host}:80 (no host can have such a name): start"
        assert why in told["error"]


def test_auto_takes_what_ray_address_says_if_it_can(two_nodes: LocalCluster) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": two_nodes.token_file}
    assert join(Membership("auto", 2), RAY_ADDRESS=two_nodes.address, **token)["nodes"]
    for refused in ("ray://127.0.0.2:10001", "local", "head"):
        told = join(Membership("auto", 2), RAY_ADDRESS=refused)
        assert f"expected HOST:PORT in RAY_ADDRESS, found '{refused}'" in told["error"]


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who listens, but never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_who_never_answers_is_not_waited_for(silent: str) -> None:
    told = join(Membership(silent))
    assert f"{silent} lets nobody join within 15 s" in told["error"]


#: Joins as usual, but as another version of Ray than it is.
_OLDER = """
import json, sys
from bertsquad.cluster import connection

connection._prepare(json.loads(sys.argv[1])["token_file"])
import ray
ray.__version__ = "2.40.0"
"""


def test_other_versions_than_the_clusters_are_both_named(two_nodes: LocalCluster) -> None:
    told = join(of(two_nodes), code=_OLDER + JOIN)
    python = ".".join(map(str, sys.version_info[:3]))
    assert f"{two_nodes.address} has Ray {version('ray')} on Python {python}, this" in told["error"]
    assert f"this process Ray 2.40.0 on Python {python}: both must be the same" in told["error"]


def test_a_machine_that_is_no_node_of_the_cluster_says_how_to_become_one(place: Place) -> None:
    """As where the head is another machine: that of this one goes on after its node was killed."""
    with have(place, nodes=1) as process:
        address, token = line_of(process).split()
        # Else it would take the head with it.
        os.kill(place.wait_for("start --block")[0], signal.SIGSTOP)
        os.kill(place.wait_for("raylet/raylet")[0], signal.SIGKILL)
        told = join(Membership(address, token_file=token))
        process.communicate()
    assert f"no node of the cluster at {address} runs on this machine, which" in told["error"]
    assert f"`ray start --address={address}`, with --num-cpus=0 where" in told["error"]
    assert place.left_over() == {}


@pytest.mark.slow
def test_a_node_that_offers_no_cpu_is_not_counted(place: Place) -> None:
    variables = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    token = place.folder / "token"
    token.write_text("0" * 64)
    variables |= {**place.variables, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    port = _free_port()
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *(f"--port={port}", "--node-ip-address=127.0.0.4", "--num-cpus=0", "--no-monitor"),
        *(f"--temp-dir={place.temporary}", f"--plasma-directory={place.temporary}"),
        *("--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=100000000"),
        *("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"),
    ]
    address = f"127.0.0.4:{port}"
    with subprocess.Popen(
        command, cwd=place.folder, env=variables, stdout=subprocess.DEVNULL, start_new_session=True
    ) as head:
        while not (place.temporary / "ray_current_cluster").exists():
            assert head.poll() is None
            time.sleep(0.1)
        told = join(Membership(address, token_file=str(token)))
        os.killpg(head.pid, signal.SIGKILL)
    assert f"the cluster at {address} has no node that calculates: start one" in told["error"]


def test_without_ray_it_is_said_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\")")
    hidden = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]"
    told = join(Membership("127.0.0.2:9"), code=hidden + JOIN)
    assert "needs Ray, which can't be loaded (No module named 'ray'): pip inst" in told["error"]


@pytest.mark.slow
def test_two_clusters_at_once_are_strangers(two_nodes: LocalCluster) -> None:
    with LocalCluster(2) as other:
        assert other.address != two_nodes.address
        for cluster in (two_nodes, other):
            assert len(join(of(cluster, 2)).get("nodes", [])) == 2
        told = join(Membership(other.address, token_file=two_nodes.token_file))
        assert f"the cluster at {other.address} refuses the token" in told["error"]
    assert len(join(of(two_nodes, 2))["nodes"]) == 2
