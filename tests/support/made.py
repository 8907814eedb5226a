"""Results as finished runs leave them, made without a run."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import made
import numpy as np

from bertsquad.cluster.facts import Loss, NodeRun
from bertsquad.loadgen.logs import Cause
from bertsquad.loadgen.timeline import Timeline, rank
from bertsquad.results.gate import GateVerdict
from bertsquad.results.reference import Difference, Reference
from bertsquad.results.result import PASSED, RESULT, Result
from bertsquad.scenarios import SCENARIOS

MS = 1_000_000


def timeline(queries: int = 640, seed: int = 4) -> Timeline:
    """A run whose latencies have a tail, with batches of one to five samples."""
    rng = np.random.default_rng(seed)
    latencies = (rng.gamma(4.0, 12.0, queries) * MS).astype(np.int64)
    ends = np.arange(1, queries + 1) * 20 * MS
    samples = np.array([1 + n % 5 for n in range(queries // 3)])
    starts = np.arange(len(samples)) * 60 * MS
    return Timeline(
        ends - latencies, ends, starts, starts + 50 * MS, samples, samples * 100, samples * 104
    )


def provenance(day: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "suite_version": "0.1.0",
        "git_revision": f"{day:02d}abcdef0123",
        "started_at": f"2026-11-{day:02d}T02:00:00+00:00",
        "command": "pytest benchmarks",
        "versions": {"python": "3.11.7", "numpy": "2.4.6"},
        "cpu": "Some CPU",
        "cores": 4,
        "physical_cores": 4,
        "cpu_quota": None,
        "memory_bytes": 16 * 2**30,
        "gpus": [],
        "model_preparation": "as it is",
        "model_padded_to": None,
        "model_rebuilt": None,
        "model_checksum": "aa",
        "dataset_checksum": "bb",
        "seeds": {"effective_qsl_rng_seed": 2085463073848966840},
        **changes,
    }


def accuracy(scenario: str = "offline", day: int = 1, **changes: Any) -> Result:
    made = Result(
        case=f"minilm-pocket-{scenario}-cpu-fp32",
        mode="accuracy",
        model="minilm",
        dataset="pocket",
        scenario=scenario,
        device="cpu",
        precision="fp32",
        rules="quick",
        sample_count=494,
        dataset_samples=494,
        run_dir="results",
        provider="CPUExecutionProvider",
        verdict=PASSED,
        reason="F1 83.527 on 470 questions reaches the target of 82.692",
        run_time_s=12.3,
        f1=83.5273,
        exact_match=77.4468,
        f1_target=82.6921,
        f1_interval=(80.4, 86.6),
        question_count=470,
        invalid_reasons=["run under --rules quick, not under mlperf"],
        padding_share=0.04,
        timeline=timeline().digest() | {"off_by_us": None},
        provenance=provenance(day),
    )
    return replace(made, **changes)


def performance(scenario: str = "server", day: int = 1, **changes: Any) -> Result:
    run = timeline()
    ordered = np.sort(run.latencies_ns)
    at = {p: float(ordered[rank(len(ordered), p)]) / 1e6 for p in (50, 90, 99, 99.9)}
    has_rate = SCENARIOS[scenario].has_rate
    made = replace(
        accuracy(scenario, day),
        mode="performance",
        reason="LoadGen calls the run VALID",
        f1=None,
        exact_match=None,
        f1_target=None,
        f1_interval=None,
        question_count=None,
        qps=31.4159 if has_rate else None,
        mlperf_metric=SCENARIOS[scenario].metric,
        mlperf_metric_value=31.4159 if has_rate else 81.2345,
        latency_p50_ms=at[50],
        latency_p90_ms=at[90],
        latency_p99_ms=at[99],
        latency_p99_9_ms=at[99.9],
        target_qps=33.0 if has_rate else None,
        target_latency_ms=130.0 if scenario == "server" else None,
        target_source="probe",
        loadgen_valid=True,
        timeline=run.digest() | {"off_by_us": 1.5},
    )
    return replace(made, **changes)


#: What another's answers say of a subset, and what the gate says of a run.
REFERENCE = Reference(
    "bundled", "minilm", 17, 91.2, 24.5, 44.2, 26.0, 59.0, 2, [Difference("5733be", 1.0, 0.4)]
)
GATED = GateVerdict("failed", "qps", 28.1, 31.4, 10, -10.5, 5.0, 3.2, -0.5, 28.3, "gate: worse")


def compliance(scenario: str = "offline", day: int = 1, **changes: Any) -> Result:
    made = replace(
        performance(scenario, day),
        mode="compliance",
        reason="TEST01: 64 sampled responses equal the accuracy run's",
        compliance_responses=64,
        compliance_largest_difference=0.0,
        compliance_speed_ratio=0.99,
    )
    return replace(made, **changes)


def node(number: int = 1, **changes: Any) -> NodeRun:
    """A node of a cluster that answered half of a run."""
    made = NodeRun(
        node=f"10.0.0.{number}",
        host=f"host{number}",
        machine=f"machine {number}",
        cpu="Some CPU",
        cores=4,
        physical_cores=4,
        sockets=1,
        cpu_quota=None,
        memory_bytes=16 * 2**30,
        gpus=[],
        operating_system="Linux",
        versions={"python": "3.11.7", "numpy": "2.4.6"},
        source="cc",
        provider="CPUExecutionProvider",
        proof="1 of 1 matrix products",
        instances=2,
        threads=2,
        batch_tokens=1536,
        samples=247,
        share=0.5,
        busy_share=0.98,
    )
    return replace(made, **changes)


LOSS = Loss("10.0.0.2", 7.25, "all its processes ended")


def on_nodes(result: Result, count: int = 2, **changes: Any) -> Result:
    """A result as it is of so many nodes of a cluster, which share its course."""
    rates = result.timeline.get("course", {}).get("samples_per_s", [])
    nodes = [node(n, samples_per_s=[rate / count for rate in rates]) for n in range(1, count + 1)]
    return replace(result, nodes=nodes, number_of_nodes=count, **changes)


def nights(cases: int, count: int) -> Iterator[Result]:
    """Performance results of some cases, night by night, each with a figure of its own."""
    scenarios = ("offline", "server")
    templates = [performance(scenario) for scenario in scenarios]
    for night, case in itertools.product(range(count), range(cases)):
        name = f"model{case // 2:03}-pocket-{scenarios[case % 2]}-cpu-fp32"
        at = datetime(2026, 1, 1, 2, tzinfo=UTC) + timedelta(days=night, minutes=case)
        facts = provenance(started_at=at.isoformat(), git_revision=f"{night:04}abcdef")
        figure = 30.0 + case + (night * 7919 % 100) / 100
        yield replace(templates[case % 2], case=name, qps=figure, provenance=facts)


def run_folder(folder: Path, result: Result) -> Path:
    """A folder as a run leaves it, with the result alone in it."""
    place = folder / f"{result.mode}-{result.case}"
    place.mkdir(parents=True)
    (place / RESULT).write_text(json.dumps(result.as_dict()), "utf-8")
    return place


def benchmark_json(path: Path, *results: Result, **more: Any) -> Path:
    """A file as `--benchmark-json` writes it."""
    timed = [one.as_dict() for one in results if one.mode == "performance"]
    document = {
        "machine_info": {},
        "benchmarks": [{"name": "test_performance", "extra_info": one} for one in timed],
        "accuracy": [one.as_dict() for one in results if one.mode == "accuracy"],
        "version": "5.3.1",
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), "utf-8")
    return path


ACCURACY = made.accuracy(
    reason="F1 83.527 reaches the target",
    run_time_s=12.34,
    exact_match=71.4894,
    timeline={},
    provenance={"model_preparation": "as it is"},
)


SUBSET = replace(
    ACCURACY,
    sample_count=20,
    question_count=17,
    f1_upper_bound=100.0,
    reason="subset: F1 91.176 is not under the target",
)


OFFLINE = replace(
    ACCURACY,
    mode="performance",
    reason="LoadGen calls the run VALID",
    qps=15.767,
    latency_p50_ms=900.0,
    latency_p90_ms=1000.0,
    latency_p99_ms=1100.0,
    target_qps=18.1,
    target_source="probe",
    loadgen_valid=True,
    f1=None,
    exact_match=None,
    f1_target=None,
    question_count=None,
)


STREAM = replace(
    OFFLINE,
    case="minilm-pocket-singlestream-cpu-fp32",
    scenario="singlestream",
    qps=None,
    latency_p50_ms=130.7,
    latency_p90_ms=196.9,
    latency_p99_ms=277.7,
    target_qps=None,
    target_latency_ms=49.6,
)


SERVER = replace(
    OFFLINE,
    case="minilm-pocket-server-cpu-fp32",
    scenario="server",
    latency_p99_ms=None,
    target_latency_ms=130.0,
    target_source="option",
    loadgen_valid=False,
    reason="LoadGen calls the run INVALID: the latency bound was not kept",
    invalid_reasons=["the latency bound was not kept", "run under --rules quick"],
    invalid_causes=[
        Cause("latency_bound", "the latency bound was not kept"),
    ],
)


COMPLIANCE = replace(
    OFFLINE,
    mode="compliance",
    reason="TEST01 passes",
    compliance_responses=400,
    compliance_largest_difference=3e-6,
    compliance_speed_ratio=0.9876,
)


#: A full SQuAD run of MLPerf's model under its rules.
OFFICIAL = Result(
    case="bert_large-squad-offline-cpu-fp32",
    mode="performance",
    model="bert_large",
    dataset="squad",
    scenario="offline",
    device="cpu",
    precision="fp32",
    rules="mlperf",
    sample_count=10_833,
    dataset_samples=10_833,
    run_dir="",
    provider="CPUExecutionProvider",
    verdict=PASSED,
    reason="",
    run_time_s=600.0,
    provenance={"model_checksum": "819b25b19cd8e59080c10892689750ca"},
)
