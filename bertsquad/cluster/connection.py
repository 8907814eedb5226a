"""The worker joins a cluster, or says in a sentence why it can't.

Ray is imported here and on the nodes, never in the pytest process, and only where it is asked for.
"""

import logging
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from bertsquad.cluster.address import host_and_port
from bertsquad.cluster.membership import Membership
from bertsquad.errors import Unavailable

#: How long an address may take to answer at all, and the cluster then to let this process join, in
#: seconds; it takes half a second.
ANSWER_S = 5.0
JOINING_S = 15.0
#: How long nodes that are wanted may still take to come, in seconds: those of a cluster are seldom
#: started in the same moment.
COMING_S = 5.0
#: Seconds between two looks which nodes are there.
LOOK_S = 0.1

#: What Ray is told before it is imported. It would report on its users, ask 20 times for what is
#: refused, look 60 s for a node of this machine, and ship the working folder where uv is in use.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "3",
    "RAY_gcs_server_request_timeout_seconds": "5",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}

#: What Ray's errors are told apart by, since it gives only texts.
_REFUSED = re.compile("InvalidAuthToken|Unauthenticated|AuthenticationError")
_NO_TOKEN = re.compile("no authentication token was found|RAY_AUTH_TOKEN_PATH is set but file")
_VERSIONS = re.compile(
    r"Version mismatch.*?Ray: (\S+)\s+Python: (\S+).*?Ray: (\S+)\s+Python: (\S+)", re.DOTALL
)
_NO_NODE_HERE = re.compile("when trying to resolve node to connect to")
_NONE_RUNNING = re.compile("Could not find any running Ray instance|Found multiple active Ray")


@dataclass(frozen=True)
class Listed:
    """A node that Ray lists: Ray's `id` of it, its `address`, and the CPUs and GPUs it offers."""

    id: str
    address: str
    cpus: float
    gpus: float


def connect(membership: Membership) -> Any:
    """Join the cluster and give the module `ray`; Unavailable where it can't, within 20 s or so.

    As many nodes are there then as are wanted.
    """
    _prepare(membership.token_file)
    try:
        import ray
    except ImportError as error:
        raise _unavailable(
            f"--cluster needs Ray, which can't be loaded ({error}): pip install -e '.[ray]'"
        ) from error
    address = _where(membership)
    _join(ray, address)
    try:
        _await(ray, membership, address)
    except BaseException:
        ray.shutdown()
        raise
    return ray


def members(ray: Any) -> list[Listed]:
    """The nodes of the joined cluster that calculate, by address: those that offer CPUs.

    Unavailable where the head of the cluster doesn't answer.
    """
    listed: list[dict[str, Any]] = []

    def ask() -> None:
        listed.extend(ray.nodes())

    asking = threading.Thread(target=ask, daemon=True)  # it may wait for more than a minute
    asking.start()
    asking.join(JOINING_S)
    if not listed:
        raise _unavailable(
            f"the head of the cluster didn't answer within {JOINING_S:g} s: start the cluster again"
        )
    found = [
        Listed(
            node["NodeID"],
            node["NodeManagerAddress"],
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
        )
        for node in listed
        if node["Alive"]
    ]
    return sorted((one for one in found if one.cpus > 0), key=lambda one: (one.address, one.id))


def _unavailable(reason: str) -> Unavailable:
    return Unavailable(reason, "cluster")


def _where(membership: Membership) -> str:
    """The address to join: `auto` is what RAY_ADDRESS says, where it says anything."""
    address = membership.address
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    if address == "auto":
        return address
    place = host_and_port(address)
    if place is None:
        raise _unavailable(f"expected HOST:PORT in RAY_ADDRESS, found {address!r}: unset it")
    try:
        socket.create_connection(place, ANSWER_S).close()
    except (OSError, UnicodeError) as error:  # the latter for what can be no name of a host
        why = "no answer in time" if isinstance(error, TimeoutError) else _reason(error)
        cure = (
            "run pytest again"
            if membership.token_file
            else "start its head with `ray start --head`, or give the address that it told there"
        )
        raise _unavailable(f"no cluster can be reached at {address} ({why}): {cure}") from error
    return address


def _reason(error: OSError | UnicodeError) -> object:
    if isinstance(error, UnicodeError):
        return "no host can have such a name"
    return error.strerror or error


def _prepare(token_file: str | None) -> None:
    if token_file is not None:  # the user's settings are for clusters of theirs
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            del os.environ[name]
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=token_file)
    os.environ.update(_SETTINGS)
    logging.getLogger("ray").setLevel(logging.ERROR)


def _join(ray: Any, address: str) -> None:
    """Let Ray join, in a thread of its own, since nothing else ends its waiting."""
    failures: list[Exception] = []

    def join() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            failures.append(error)

    joining = threading.Thread(target=join, daemon=True)
    joining.start()
    joining.join(JOINING_S)
    if joining.is_alive():
        raise _unavailable(
            f"what answers {_place(address)} lets nobody join within {JOINING_S:g} s: is it the "
            "head of a cluster of Ray, which `ray status` shows?"
        )
    if failures:
        raise _unavailable(_why(failures[0], address)) from failures[0]


def _place(address: str) -> str:
    return "that Ray finds here" if address == "auto" else f"at {address}"


def _why(error: BaseException, address: str) -> str:
    """The sentence for an error of `ray.init`."""
    said, place = _all_of(error), _place(address)
    whole = "\n".join(said)
    if found := _VERSIONS.search(whole):
        there, here = f"Ray {found[1]} on Python {found[2]}", f"Ray {found[3]} on Python {found[4]}"
        return (
            f"the cluster {place} has {there}, this process {here}: both must be the same, so "
            "install the one or the other"
        )
    token = "in the file that RAY_AUTH_TOKEN_PATH names, with RAY_AUTH_MODE=token"  # noqa: S105
    if _NO_TOKEN.search(whole):
        return f"the cluster {place} is to be joined with a token, but there is none {token}"
    if _REFUSED.search(whole):
        return f"the cluster {place} refuses the token, or wants one: give its own {token}"
    if _NO_NODE_HERE.search(whole):
        return (
            f"no node of the cluster {place} runs on this machine, which must be one: `ray "
            f"start --address={address}`, with --num-cpus=0 where it shall not calculate"
        )
    if _NONE_RUNNING.search(whole):
        return (
            "--cluster auto finds none or several clusters on this machine: start a node with `ray "
            "start`, or give the HOST:PORT of the head"
        )
    first = said[0].split("\n")[-1].partition(". ")[0].strip() or type(error).__name__
    return (
        f"Ray can't join what answers {place} ({first}): is it the head of a cluster of Ray, "
        "which `ray status` shows?"
    )


def _all_of(error: BaseException) -> list[str]:
    """What the causes of an error say, the first one first, and what itself says."""
    earlier = error.__cause__ or error.__context__
    return [*([] if earlier is None else _all_of(earlier)), str(error).strip()]


def _await(ray: Any, membership: Membership, address: str) -> None:
    """Wait for the nodes that are wanted; Unavailable where others are there."""
    wanted = membership.nodes
    until = time.monotonic() + COMING_S
    while len(found := members(ray)) < (wanted or membership.coming):
        if time.monotonic() > until:
            break
        time.sleep(LOOK_S)
    if not found:
        raise _unavailable(
            f"the cluster {_place(address)} has no node that calculates: start one with `ray start "
            f"--address={address}`, without --num-cpus=0"
        )
    if wanted in (None, len(found)):
        return
    fewer = len(found) < wanted
    raise _unavailable(
        f"--nodes {wanted} wants as many nodes that calculate, but the cluster {_place(address)} "
        f"has {len(found)} ({', '.join(one.address for one in found)}): "
        + (f"start more with `ray start --address={address}`, or " if fewer else "")
        + f"give --nodes {len(found)}"
    )
