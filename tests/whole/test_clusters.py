"""Real pytest sessions on clusters: what they refuse, and that nothing of one outlives them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from left_over import Place
from pytest_sessions import command, environment, run, run_together

#: What is asked for in most of them: a run that ends by itself after a while.
OFFLINE = ("--min-duration-s", "3", "-k", "offline and performance")


def test_what_no_cluster_can_give_is_refused_before_anything_runs(tmp_path: Path) -> None:
    refused = {
        "ray://head:10001": "through a proxy",
        "head": "--cluster: expected auto|HOST:PORT|local:N, got 'head'",
        "local:0": "--cluster: expected local:N with a number of nodes from 1 to 64, got 'local:0'",
    }
    commands = {text: command(tmp_path / "refused", "--cluster", text) for text in refused} | {
        "alone": command(tmp_path / "refused", "--nodes", "2"),
        "other": command(tmp_path / "refused", "--cluster", "local:2", "--nodes", "3"),
        "-n": command(tmp_path / "refused", "--cluster", "local:2", "-n", "2"),
    }
    refused |= {
        "alone": "--nodes is for a cluster: give one with --cluster",
        "other": "--nodes 3 can't go with --cluster local:2, which has 2",
        "-n": "--cluster can't go with -n, whose processes would each take all of its nodes",
    }
    for name, pytest_session in run_together(tmp_path / "refused", commands).items():
        assert pytest_session.code == pytest.ExitCode.USAGE_ERROR
        assert refused[name] in pytest_session.err


def test_without_a_cluster_no_process_loads_ray(tmp_path: Path) -> None:
    variables = {"PYTHONPROFILEIMPORTTIME": "1"}  # each process tells what it imports
    chosen = ("-s", "-k", "offline and accuracy")  # not captured
    pytest_session = run(tmp_path / "alone", *chosen, variables=variables)
    (log,) = (tmp_path / "alone" / "results").glob("worker-*.log")
    pytests, workers = pytest_session.err, log.read_text(encoding="utf-8")
    for told, loads in ((pytests, "suite.harness"), (workers, "worker.runner")):
        imported = {line.rpartition("|")[2].strip() for line in told.splitlines()}
        assert f"bertsquad.{loads}" in imported
        assert not any(name == "ray" or name.startswith("ray.") for name in imported)


def test_an_address_without_a_cluster_fails_the_case_in_a_sentence(tmp_path: Path) -> None:
    pytest_session = run(tmp_path / "nobody", "--cluster", "127.0.0.2:9", "-k", "accuracy")
    assert pytest_session.code == pytest.ExitCode.TESTS_FAILED
    cases = pytest_session.cases
    told = "no cluster can be reached at 127.0.0.2:9 (Connection refused): start its head with"
    for name, case in cases.items():
        if "stream" in name:
            assert case.outcome == "skipped"
            assert "has one query at a time, which the nodes of a cluster can't" in case.message
        else:
            assert case.outcome == "failure"
            assert told in case.message
    assert len(cases) == 4
    assert "cluster: 127.0.0.2:9" in pytest_session.out


@pytest.fixture
def started(place: Place, listening_to_ctrl_c: None) -> Iterator["subprocess.Popen[str]"]:
    """A pytest session with two nodes on this machine, and what it leaves."""
    words = command(place.folder / "here", *OFFLINE, "--cluster", "local:2")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *words, "--output", str(place.folder / "results")],
        cwd=place.folder,
        env={**environment(place.folder), **place.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        yield process
        process.kill()


#: What is there when the signal comes, and how many of it.
PHASES = {
    "the guardian starts": ("bertsquad.cluster.guardian", 1),
    "the head starts": ("gcs_server", 1),
    "a second node starts": ("start --block", 2),
    "the worker starts": ("bertsquad.worker", 1),
    "the nodes calculate": ("ray::Node", 2),
}

KINDS = {
    "Ctrl-C": (signal.SIGINT,),
    "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
    "SIGTERM": (signal.SIGTERM,),
    "SIGKILL": (signal.SIGKILL,),
}

QUICK = {("the head starts", "Ctrl-C"), ("the nodes calculate", "SIGKILL")}


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("phase", "kind"),
    [
        pytest.param(phase, kind, marks=() if (phase, kind) in QUICK else pytest.mark.slow)
        for phase in PHASES
        for kind in KINDS
    ],
)
def test_nothing_outlives_a_pytest_session_that_is_ended(
    place: Place, started: "subprocess.Popen[str]", phase: str, kind: str
) -> None:
    place.wait_for(*PHASES[phase])
    for number in KINDS[kind]:
        os.kill(started.pid, number)
    out, _ = started.communicate(timeout=60)
    assert started.returncode != 0
    assert place.left_over() == {}
    assert "Traceback" not in out
    assert "raylet" not in out


@pytest.mark.slow
@pytest.mark.cluster
def test_the_worker_may_be_killed_and_the_session_goes_on_to_its_end(
    place: Place, started: "subprocess.Popen[str]"
) -> None:
    place.wait_for("ray::Node", 2)
    (worker,) = place.wait_for("bertsquad.worker")
    os.kill(worker, signal.SIGKILL)
    out, _ = started.communicate(timeout=60)
    assert started.returncode == pytest.ExitCode.TESTS_FAILED
    assert "the process that ran the model was killed by signal 9" in out
    assert place.left_over(0.0) == {}
