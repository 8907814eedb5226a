"""`tools/scaling.py` measures nodes by turns with the suite, and projects what more would bring."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import scaling
import scaling_processes as processes
import scaling_projection as projection
import tiny
from scaling_projection import Costs, Kind, Seen
from scaling_table import Row, table

ROOT = Path(__file__).resolve().parents[2]

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")


def run(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "tools/scaling.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"BERTSQUAD_CACHE": str(cache), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_ratios_are_medians_of_those_within_each_round() -> None:
    one = scaling.Count(1, suite=[10.0, 20.0, 40.0], cluster=[10.0, 10.0, 40.0])
    two = scaling.Count(2, suite=[], cluster=[20.0, 18.0, 40.0])
    first, second = scaling.summarise([one, two])
    assert (first["of_suite"], first["of_ideal"]) == (1.0, 1.0)
    assert (second["of_suite"], second["suite_samples_per_s"]) == (None, None)
    assert second["of_ideal"] == 0.9


def test_costs_are_found_again_in_what_they_cause() -> None:
    shapes = [(1000, 2000), (500, 4000), (10, 5000)]
    seen = [Seen(calls, samples, calls * 6e-4 + samples * 2e-5) for calls, samples in shapes]
    found = projection.fit(seen)
    assert found.call_s == pytest.approx(6e-4)
    assert found.sample_s == pytest.approx(2e-5)


def test_no_cost_is_below_0() -> None:
    falling = [Seen(10, 10, 0.02), Seen(10, 1000, 0.01)]
    found = projection.fit(falling)
    assert min(found.call_s, found.sample_s) == 0
    assert max(found.call_s, found.sample_s) > 0


def test_nodes_bring_all_until_the_driver_is_busy() -> None:
    kind = Kind("GPU", instances=1, batch_s=0.1, batch_samples=10)
    costs = Costs(call_s=0.001, sample_s=0.0001)  # 2 ms a call of one batch: 5,000 samples a second
    few, many = (projection.project(costs, kind, nodes) for nodes in (50, 200))
    assert few.samples_per_s == pytest.approx(5000)
    assert few.share == 1.0
    assert many.samples_per_s == pytest.approx(5000)
    assert many.share == pytest.approx(0.25)


def test_short_batches_share_a_call_which_then_costs_less() -> None:
    short = Kind("GPU", instances=8, batch_s=0.02, batch_samples=64)
    assert projection.batches_a_call(short) == 25
    assert projection.batches_a_call(Kind("core", 1, 0.4, 8)) == 1
    costs = Costs(call_s=0.001, sample_s=1e-7)
    alone = Kind("GPU", instances=8, batch_s=0.0625, batch_samples=200)  # as fast, but one a call
    together, apart = (projection.project(costs, one, 50).share for one in (short, alone))
    assert together == 1.0
    assert apart < 0.2


def test_the_table_fits_a_terminal_and_marks_what_is_not_as_it_should_be() -> None:
    found: dict[str, Any] = {
        "what": "nodes",
        "model": "bert_large_random",
        "precision": "fp32",
        "device": "cpu",
        "dataset": "squad",
        "machine": "AMD EPYC, 2 cores",
        "rounds": 3,
        "counts": scaling.summarise([scaling.Count(1, [2.0], [1.9])]),
        "figures": [
            vars(Row("driver CPU of a call of several batches", 1.25, "ms", at_most=0.8)),
            vars(Row("batches/s of 8 sleeping nodes", 1200.0, at_least=1000)),
        ],
        "projection": [],
    }
    lines = table(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-2].endswith("NOT")
    assert not lines[-1].endswith("NOT")
    assert lines[4].split() == ["1", "1.9", "2", "0.950", "1.000"]


@linux
def test_a_process_stands_still_by_turns_and_goes_on_in_the_end() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as asleep:
        states: set[str] = set()
        deadline = time.monotonic() + 20
        with processes.Slowed(lambda: [asleep.pid]) as slowed:
            slowed.begin()
            while not states >= {"S", "T"} and time.monotonic() < deadline:
                states.add(state(asleep.pid))
        assert states >= {"S", "T"}
        assert state(asleep.pid) != "T"
        assert 0 < slowed.share < 1
        asleep.kill()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@linux
def test_the_memory_of_processes_is_that_of_their_children_too() -> None:
    child = "import sys; big = bytes(range(256)) * 200_000; print(flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdout is not None and started.stdin is not None
        started.stdout.readline()
        pids = processes.tree(started.pid)
        assert len(pids) == 2
        assert processes.memory_bytes(pids) > 50e6
        assert processes.arguments(pids[0])[1:] == ["-c", parent]
        started.stdin.close()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--model", "bert_huge"), "'bert_huge'"),
        (("--cluster", "ray://there:10001"), "'ray://there:10001'"),
        (("--cluster", "local:64", "--dataset", "pocket"), "local:64"),
        (("--instances", "4096", "--dataset", "pocket"), "--instances 4096"),
    ],
)
def test_a_fault_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    done = run(*arguments, cache=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert named in done.stderr


@pytest.mark.slow
@pytest.mark.cluster
def test_all_of_it_is_measured_with_real_nodes(tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "small.onnx", wide=True)
    files = tmp_path / "out.json", tmp_path / "out.svg"
    done = run(
        *("--model", str(model), "--dataset", "pocket", "--rounds", "1", "--seconds", "0.5"),
        *("--latency-s", "1", "--without", "losses", "--json", str(files[0])),
        *("--plot", str(files[1])),
        cache=tmp_path / "cache",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(files[0].read_text("utf-8"))
    one, two = found["counts"]
    assert (one["nodes"], two["nodes"]) == (1, 2)
    assert min(one["of_suite"], two["of_suite"], two["of_ideal"]) > 0
    assert {"start", "server", "halved", "costs"} == found["parts"].keys()
    assert all(row["value"] > 0 for row in found["figures"])
    small, single, several = found["parts"]["costs"][0]["costs"]
    assert small["calls"] == small["batches"] and single["calls"] == single["batches"]
    assert several["calls"] < several["batches"]
    assert [len(one["points"]) for one in found["projection"]] == [len(projection.NODES)] * 3
    assert "one of 2 nodes at half speed" in done.stdout
    assert ElementTree.parse(files[1]).getroot().tag.endswith("svg")


@pytest.mark.slow
@pytest.mark.cluster
def test_losses_are_noticed_and_change_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    done = run(
        *("--dataset", "pocket", "--samples", "64", "--rounds", "1", "--seconds", "0.5"),
        *(word for part in ("start", "server", "halved", "costs") for word in ("--without", part)),
        *("--json", str(file)),
        cache=tmp_path / "cache",
    )
    assert done.returncode == 0, done.stderr
    (lost,) = json.loads(file.read_text("utf-8"))["parts"]["losses"]
    assert lost.keys() == processes.LOSSES.keys()
    for kind, one in lost.items():
        assert one["each_once"] and one["bit_equal"], kind
        assert one["noticed_s"] > 0


@pytest.mark.slow
def test_instances_of_one_machine_are_compared_without_a_cluster(tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "small.onnx", wide=True)
    done = run(
        *("--model", str(model), "--dataset", "pocket", "--rounds", "1", "--seconds", "0.5"),
        *("--instances", "1", "--json", str(tmp_path / "out.json")),
        cache=tmp_path / "cache",
    )
    assert done.returncode == 0, done.stderr
    (one,) = json.loads((tmp_path / "out.json").read_text("utf-8"))["counts"]
    assert one["samples_per_s"] > 0
    assert "instances" in done.stdout
