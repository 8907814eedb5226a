"""What of the machine's speed arrives: the naive way, this suite, and two ceilings, side by side.

    python tools/ceilings.py --model minilm --json ceilings.json

In every round each of these answers the same samples of the data set, a fixed subset stratified by
length, so that a noisy machine disturbs all alike; figures are medians over the rounds.

- naive: one sample at a time, padded to 384, in fp32, through LoadGen
- suite: Offline as the suite runs it, through LoadGen, in each precision
- bare: the same batches fed straight to the session, without LoadGen
- ceiling: the best rate at which the machine multiplies matrices of the model's own shapes
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is loaded, which reports otherwise

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matrix_products import Ceiling, count_work
from numpy.typing import NDArray

from bertsquad.assets.fingerprint import ModelFiles
from bertsquad.devices import DEVICES, PRECISIONS
from bertsquad.errors import SuiteError
from bertsquad.files import write_whole
from bertsquad.loadgen import batching, logs
from bertsquad.loadgen import run as loadgen
from bertsquad.loadgen.request import Request, Targets
from bertsquad.loadgen.sut import OfflineSut, StreamSut, Sut
from bertsquad.machine import hardware, provenance
from bertsquad.models import zoo
from bertsquad.models.calibration import Calibration, calibrate_with
from bertsquad.models.preparation import Prepared, prepare
from bertsquad.progress import Step
from bertsquad.runtime.engine import Engine, batch_tokens
from bertsquad.runtime.inference import side_by_side
from bertsquad.runtime.parallelism import Parallelism, plan
from bertsquad.runtime.sessions import open_on_cpu
from bertsquad.squad import datasets
from bertsquad.squad.datasets import DATASETS, Data
from bertsquad.squad.features import MAX_TOKENS, Features

#: Queries of a SingleStream run.
QUERIES = 128


def stratified(lengths: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """`count` samples, one drawn from each of `count` strata of equal size by length; seeded."""
    rng = np.random.default_rng(0)
    order = np.argsort(lengths, kind="stable")
    strata = np.array_split(order, min(count, len(order)))
    return np.sort(np.array([rng.choice(stratum) for stratum in strata]))


def select(whole: Features, samples: NDArray[np.int64]) -> Features:
    """Only these windows of `whole`."""
    pieces = [slice(whole.offsets[s], whole.offsets[s + 1]) for s in samples]
    return dataclasses.replace(
        whole,
        tokens=np.concatenate([whole.tokens[piece] for piece in pieces]),
        max_context=np.concatenate([whole.max_context[piece] for piece in pieces]),
        offsets=np.concatenate([[0], np.cumsum(whole.lengths[samples])]),
        segment_start=whole.segment_start[samples],
        question=whole.question[samples],
        context_start=whole.context_start[samples],
        doc_start=whole.doc_start[samples],
    )


class NaiveSut(Sut):
    """One sample after the other, each padded to 384."""

    def answer(self, query: Sequence[Any]) -> None:
        """Answer in the order of the query."""
        for sample in query:
            self.run_batch([sample])


class RecordingSut(StreamSut):
    """SingleStream that remembers which samples it was asked for."""

    samples: list[int]

    def answer(self, query: Sequence[Any]) -> None:
        """Answer as always."""
        self.samples.append(query[0].index)
        super().answer(query)


def run_loadgen(sut: Sut, scenario: str, count: int, queries: int) -> logs.Run:
    """A performance run of `queries` queries (Offline: samples) of `count` samples."""
    with tempfile.TemporaryDirectory() as folder:
        request = Request(scenario, "performance", "quick", folder, count)
        targets = Targets(1.0, None, "") if scenario == "offline" else Targets(None, 1000.0, "")
        settings = loadgen.settings_for(request, targets)
        settings.min_duration_ms = 0
        settings.min_query_count = settings.max_query_count = queries
        loadgen.start(sut, settings, request)
        return logs.read_run(Path(folder))


def offline_rate(sut: Sut, count: int) -> float:
    """Samples a second of a LoadGen Offline run over all `count` samples, each once."""
    run = run_loadgen(sut, "offline", count, count)
    return float(run.values["result_samples_per_second"])


def bare_rate(engine: Engine, chosen: Features) -> float:
    """Samples a second of the suite's batches without LoadGen, on all instances."""
    batches = batching.by_length(
        chosen.lengths, engine.batch_tokens, engine.most_samples, engine.instances
    )
    feeds = [chosen.batch(batch, engine.fixed_length) for batch in batches]
    left = iter(feeds)

    def work(instance: int) -> None:
        for feed in left:  # a list's iterator gives each item once, to whichever thread
            engine.logits(*feed, instance=instance)

    start = time.perf_counter()
    side_by_side(engine.parallelism, work)
    return len(chosen) / (time.perf_counter() - start)


def single_stream(engine: Engine, chosen: Features) -> tuple[float, float]:
    """Median latency in ms through LoadGen, and of the same samples without it."""
    sut = RecordingSut(engine, chosen, lambda _: None, None)
    sut.samples = []
    run = run_loadgen(sut, "singlestream", len(chosen), QUERIES)
    latency = run.latency_ms(50)
    assert latency is not None
    feeds = [chosen.batch([sample], engine.fixed_length) for sample in sut.samples]
    seconds = []
    for feed in feeds:
        start = time.perf_counter()
        engine.logits(*feed)
        seconds.append(time.perf_counter() - start)
    return latency, statistics.median(seconds) * 1e3


@dataclass
class Row:
    """What was measured of one precision, a figure a round."""

    precision: str
    engine: Engine
    ceiling: Ceiling
    suite: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    stream_ms: list[float] = field(default_factory=list)
    stream_bare_ms: list[float] = field(default_factory=list)


def tell(precision: str, step: Step) -> None:
    """Show on a terminal what preparing a model is at; elsewhere it would be hundreds of lines."""
    if sys.stderr.isatty():
        count = "" if step.done is None else f", {step.done} of {step.expected} {step.unit}"
        print(f"\r{precision}: {step.name}{count}", end="\x1b[K\r", file=sys.stderr)


def make_engine(given: argparse.Namespace, data: Data, model: ModelFiles, precision: str) -> Engine:
    """The suite's Offline engine of a precision, the model prepared as the suite does."""

    def calibration() -> Calibration:
        return calibrate_with(datasets.calibration(DATASETS[given.dataset], data))

    device = DEVICES[given.device]
    cores = hardware.cores()
    prepared = prepare(
        model,
        given.device,
        precision,
        partial(open_on_cpu, threads=cores),
        calibration,
        partial(tell, precision),
    )
    shape = plan(
        "offline", given.device, cores, given.instances, given.threads, hardware.owned_cpus()
    )
    return Engine(prepared, device, precision, shape, given.batch_tokens or batch_tokens(device))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for, as JSON can hold it."""
    model = zoo.find(given.model)
    data = datasets.load(DATASETS[given.dataset])
    located = zoo.locate(model)
    samples = stratified(data.features.lengths, given.samples)
    few = stratified(data.features.lengths, given.naive_samples)
    chosen, naive_chosen = select(data.features, samples), select(data.features, few)
    work = count_work(located.path)
    cores = hardware.cores()
    rows = []
    for precision in given.precision or DEVICES[given.device].precisions:
        engine = make_engine(given, data, located, precision)
        rows.append(Row(precision, engine, Ceiling(engine, work.matrices)))
    plain = Prepared(located.path, rows[0].engine.prepared.signature)
    whole = Parallelism(1, cores)
    naive_engine = Engine(plain, DEVICES["cpu"], "fp32", whole)
    naive_engine.fixed_length = MAX_TOKENS  # whatever the model needs
    naive: list[float] = []
    streams = [
        Engine(row.engine.prepared, row.engine.device, row.precision, whole)
        for row in rows
        if given.singlestream
    ]
    for row in rows:  # warm
        bare_rate(row.engine, chosen)
    naive_engine.infer(naive_chosen, [0])
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
        naive.append(
            offline_rate(NaiveSut(naive_engine, naive_chosen, lambda _: None), len(naive_chosen))
        )
        for row in rows:
            # By turns first, so that a machine that gets slower favours neither.
            for step in ("suite", "bare") if number % 2 else ("bare", "suite"):
                if step == "suite":
                    sut = OfflineSut(row.engine, chosen, lambda _: None)
                    row.suite.append(offline_rate(sut, len(chosen)))
                else:
                    row.bare.append(bare_rate(row.engine, chosen))
            row.peak.append(row.ceiling.measure())
        for row, engine in zip(rows, streams, strict=bool(streams)):
            latency, bare = single_stream(engine, chosen)
            row.stream_ms.append(latency)
            row.stream_bare_ms.append(bare)
    lengths = chosen.lengths
    per_sample = work.flop(lengths) / len(lengths)
    return {
        "model": model.name,
        "dataset": given.dataset,
        "device": given.device,
        "machine": f"{hardware.cpu_name()}, {cores} cores",
        "versions": provenance.versions(),
        "samples": len(samples),
        "mean_tokens": float(lengths.mean()),
        "gflop_per_sample": per_sample / 1e9,
        "rounds": given.rounds,
        "naive_samples": len(few),
        "naive_qps": statistics.median(naive),
        "precisions": [summarise(row, naive, per_sample) for row in rows],
    }


def summarise(row: Row, naive: Sequence[float], flop_per_sample: float) -> dict[str, Any]:
    """The medians of a precision, and those of its ratios within each round."""

    def ratio(tops: Sequence[float], bottoms: Sequence[float]) -> float:
        return statistics.median(a / b for a, b in zip(tops, bottoms, strict=True))

    achieved = [rate * flop_per_sample for rate in row.suite]
    summary: dict[str, Any] = {
        "precision": row.precision,
        "proof": row.engine.proof,
        "instances": row.engine.parallelism.instances,
        "threads": row.engine.parallelism.threads,
        "batch_tokens": row.engine.batch_tokens,
        "qps": statistics.median(row.suite),
        "qps_by_round": row.suite,
        "times_naive": ratio(row.suite, naive),
        "bare_qps": statistics.median(row.bare),
        "share_of_bare": ratio(row.suite, row.bare),
        "ceiling_gflops": statistics.median(row.peak) / 1e9,
        "share_of_ceiling": ratio(achieved, row.peak),
    }
    if row.stream_ms:
        pairs = zip(row.stream_ms, row.stream_bare_ms, strict=True)
        summary["singlestream_p50_ms"] = statistics.median(row.stream_ms)
        summary["singlestream_overhead_ms"] = statistics.median(a - b for a, b in pairs)
    return summary


def table(found: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        f"{found['model']} on {found['samples']} samples of {found['dataset']} (mean "
        f"{found['mean_tokens']:.0f} tokens, {found['gflop_per_sample']:.1f} GFLOP), "
        f"{found['device']} on {found['machine']}",
        "",
        "| how | samples/s | of naive | of bare | of the ceiling | ceiling |",
        "|---|---|---|---|---|---|",
        f"| naive: batch 1, padded to {MAX_TOKENS} | {found['naive_qps']:.2f} | 1 x | | | |",
    ]
    for row in found["precisions"]:
        lines.append(
            f"| suite, {row['precision']} | {row['qps']:.2f} | {row['times_naive']:.2f} x "
            f"| {row['share_of_bare']:.3f} | {row['share_of_ceiling']:.2f} "
            f"| {row['ceiling_gflops']:.0f} G/s |"
        )
    for row in found["precisions"]:
        if "singlestream_p50_ms" in row:
            lines += [
                "",
                f"SingleStream, {row['precision']}: p50 {row['singlestream_p50_ms']:.2f} ms, "
                f"{row['singlestream_overhead_ms']:+.3f} ms over the bare session",
            ]
    return "\n".join(lines)


def main() -> int:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="minilm", help=f"{', '.join(zoo.MODELS)} or a path")
    parser.add_argument("--dataset", default="squad", choices=list(DATASETS))
    parser.add_argument("--device", default="cpu", choices=list(DEVICES))
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="repeatable")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--naive-samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--instances", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--singlestream", action="store_true", help="measure SingleStream too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    try:
        found = measure(given)
    except SuiteError as error:
        print(f"ceilings: {error}", file=sys.stderr)
        return 1
    print(table(found))
    if given.json is not None:
        text = json.dumps(found, indent=1)
        write_whole(given.json, lambda file: file.write_text(text, encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
