"""What a case gave: its figures and its verdict, kept in `result.json`."""

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bertsquad import typed
from bertsquad.cluster import address
from bertsquad.cluster.facts import Loss, NodeRun
from bertsquad.files import write_whole
from bertsquad.loadgen.logs import Cause
from bertsquad.machine.noise import Disturbance
from bertsquad.results.gate import GateVerdict
from bertsquad.results.guessing import Doubt
from bertsquad.results.reference import SESSION, Reference

#: Raised whenever a key of `result.json` changes its meaning or goes away.
SCHEMA_VERSION = 1
RESULT = "result.json"

#: The percentiles of LoadGen's log that a result has, in per cent, and the fields that hold them.
LATENCIES = (
    (50.0, "latency_p50_ms"),
    (90.0, "latency_p90_ms"),
    (99.0, "latency_p99_ms"),
    (99.9, "latency_p99_9_ms"),
)

#: What a verdict can be.
PASSED, FAILED, UNDECIDED, NO_TARGET = "passed", "failed", "undecided", "no target"
#: The verdict on a case that was not run, so that it has no result.
SKIPPED = "skipped"


@dataclass(frozen=True)
class Verdict:
    """A judgement: one of the four words, and the sentence that explains it."""

    word: str
    reason: str


def what(model: str, dataset: str, device: str, precision: str) -> str:
    """What a result is of, for messages."""
    return f"{model} on {dataset}, {device}, {precision}"


@dataclass(frozen=True)
class Result:
    """One case's figures. None where a figure has no meaning for the case.

    The names end in their units; F1 and exact match are in per cent. `mlperf_metric` names what
    `mlperf_metric_value` is: samples/s for Offline and Server, ms for the others. `disturbances`
    say what disturbed a timed run, `doubt` what is odd about the answers of an accuracy run,
    `reference` what others' answers to the same questions say about it,
    `warnings` the same in sentences. `padding_share` is the padding among all tokens calculated;
    `settings` are those of LoadGen that change the work (`loadgen/work.py`); `peak_memory_bytes`
    the most memory that the process with the model has had so far (on a cluster each of the `nodes`
    has its own); `timeline` is what plots are drawn from. `nodes` are those of a cluster that began
    the run, none where it was one machine.
    `docs/results.md` says what each key means.
    """

    case: str
    mode: str
    model: str
    dataset: str
    scenario: str
    device: str
    precision: str
    rules: str
    sample_count: int
    dataset_samples: int
    run_dir: str
    provider: str
    verdict: str
    reason: str
    run_time_s: float
    qps: float | None = None
    latency_p50_ms: float | None = None
    latency_p90_ms: float | None = None
    latency_p99_ms: float | None = None
    latency_p99_9_ms: float | None = None
    mlperf_metric: str | None = None
    mlperf_metric_value: float | None = None
    target_qps: float | None = None
    target_latency_ms: float | None = None
    target_source: str | None = None
    loadgen_valid: bool | None = None
    mlperf_valid: bool = False
    invalid_reasons: list[str] = field(default_factory=list)
    invalid_causes: list[Cause] = field(default_factory=list)
    f1: float | None = None
    exact_match: float | None = None
    f1_target: float | None = None
    f1_upper_bound: float | None = None
    f1_interval: tuple[float, float] | None = None
    f1_has_answer: float | None = None
    exact_match_has_answer: float | None = None
    f1_no_answer: float | None = None
    question_count: int | None = None
    questions_left_out: int = 0
    no_answer_count: int | None = None
    null_threshold: float | None = None
    best_f1: float | None = None
    best_null_threshold: float | None = None
    answers: dict[str, str] = field(default_factory=dict)
    accuracy_target: float | None = None
    reference_f1: float | None = None
    reference: Reference | None = None
    buffer_size: int | None = None
    min_duration_s: float | None = None
    min_query_count: int | None = None
    query_count: int | None = None
    settings: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    doubt: Doubt | None = None
    number_of_nodes: int = 1
    nodes: list[NodeRun] = field(default_factory=list)
    nodes_lost: list[Loss] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    padding_share: float | None = None
    peak_memory_bytes: int | None = None
    timeline: dict[str, Any] = field(default_factory=dict)
    compliance_responses: int | None = None
    compliance_uncompared: int | None = None
    compliance_largest_difference: float | None = None
    compliance_speed_ratio: float | None = None
    gate: GateVerdict | None = None
    repeat: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def what(self) -> str:
        """Model, data set, device and precision, for messages."""
        return what(self.model, self.dataset, self.device, self.precision)

    @property
    def whole(self) -> bool:
        """Whether the whole data set was run."""
        return self.sample_count == self.dataset_samples

    @property
    def failure(self) -> str | None:
        """Why the case fails, by its verdict or by the gate; None if it doesn't."""
        if self.verdict == FAILED:
            return self.reason
        return self.gate.reason if self.gate is not None and self.gate.failed else None

    def unwritten(self, why: str) -> "Result":
        """The result failed, since a file of it could not be written; `why` is a sentence."""
        said = f"{why}; what was measured stands in the table. {self.reason}"
        return replace(self, verdict=FAILED, mlperf_valid=False, reason=said)

    def as_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return dataclasses.asdict(self)

    def save(self, folder: Path | None = None) -> None:
        """Write `result.json`, whole or not at all, into `folder`, which will be the run folder."""
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"
        # What is no character, as a byte of the current folder's name, JSON has as an escape.
        content = text.encode("utf-8", "backslashreplace")
        place = folder or Path(self.run_dir)
        write_whole(place / RESULT, lambda file: file.write_bytes(content))


@dataclass(frozen=True)
class Missing:
    """A case that gave no result: it failed, was broken off or was not run."""

    case: str
    mode: str
    verdict: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The four fields, as JSON can hold them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Missing)}


#: What came of a case.
Outcome = Result | Missing


def failed(outcome: Outcome) -> bool:
    """Whether a case fails: by its verdict, by the gate, or since it has no result."""
    if isinstance(outcome, Result):
        return outcome.failure is not None
    return outcome.verdict == FAILED


#: What `model_preparation` said before `model_padded_to` and `model_rebuilt` were there. These are
#: of the past: nothing reads what it says now.
_PADDED = re.compile(r"needs (\d{1,9}) tokens always")
_REBUILT = re.compile(r" \(rebuilt, since the cached copy was (\w+)\)$")


def of_document(document: dict[str, Any]) -> Result:
    """The result in a JSON object, an older one too; Misfit names the field that is wrong."""
    result = typed.build(Result, document)
    facts = result.provenance
    said = facts.get("model_preparation")
    if not isinstance(said, str) or "model_rebuilt" in facts:
        return result
    padded, rebuilt = _PADDED.search(said), _REBUILT.search(said)
    told = {
        "model_preparation": _REBUILT.sub("", said),
        "model_padded_to": padded and int(padded[1]),
        "model_rebuilt": rebuilt and rebuilt[1],
    }
    return replace(result, provenance=facts | told)


def repeat_command(result: Result) -> str:
    """The line of a shell that runs the case again in a checkout of the suite, as it was run.

    It names every setting that counts: also those that were this machine's or this version's
    defaults, or that a probe found. Empty where no line does that: nodes that are started anew
    divide all cores, which those that had lost others before the run did not.
    """
    facts = result.provenance
    if result.number_of_nodes < (started_nodes(facts) or 1):
        return ""
    given: dict[str, object] = {
        "--model": facts["model_path"] or result.model,
        "--dataset": facts["dataset_path"] or result.dataset,
        "--device": result.device,
        "--precision": result.precision,
        "--rules": result.rules,
        **_places(result),
        "--batch-tokens": facts["batch_tokens"],
        "--min-duration-s": result.min_duration_s,
        "--target-qps": result.target_qps,
        "--target-latency-ms": result.target_latency_ms,
        "--user-conf": facts["user_conf"] and facts["user_conf"]["file"],
        "--accuracy-target": result.accuracy_target,
        "--reference-f1": result.reference_f1,
        "--null-threshold": result.null_threshold,
        **facts["given"],
    }
    if result.rules == "quick":  # mlperf draws from all samples, and takes no other size
        given["--dataset-size"] = "all" if result.whole else result.sample_count
        given["--buffer-size"] = result.buffer_size
    if result.questions_left_out:  # as they are wherever int8 is asked for, on devices that have it
        del given["--device"]
    test = f"test_{result.mode}"
    cases, beside = [result.case], result.reference
    if beside is not None and beside.source == SESSION:  # what it was judged by runs before it
        cases = [f"{result.case.removesuffix(result.precision)}fp32", result.case]
    words = ["pytest", *(f"benchmarks/{test}.py::{test}[{case}]" for case in cases)]
    for flag, value in given.items():
        if str(value).startswith("-"):  # such as -1e-05, which else is taken for an option
            words.append(f"{flag}={value}")
        else:
            words += [flag, str(value)] if value else []
    if result.questions_left_out and result.precision != "int8":
        words += ["--precision", "int8"]
    if len(cases) > 1:
        words += ["--precision", "fp32"]
    return shlex.join(words)


def started_nodes(provenance: Mapping[str, Any]) -> int | None:
    """How many nodes were started on this machine for a run; None where none was."""
    cluster = provenance.get("cluster")
    return address.parse(cluster["address"]).local if cluster else None


def _places(result: Result) -> dict[str, object]:
    """Where batches are calculated side by side, as options: on each node of a cluster, or here."""
    facts = result.provenance
    if (cluster := facts.get("cluster")) is None:
        return {
            "--instances": facts["instances"],
            "--threads": facts["threads"],
            "--gpus": len(facts.get("gpu_ids", [])),
        }
    given: dict[str, object] = {"--cluster": cluster["address"]}
    if started_nodes(facts) is None:
        given["--nodes"] = result.number_of_nodes
    for flag, values in (
        ("--instances", {node.instances for node in result.nodes}),
        ("--threads", {node.threads for node in result.nodes}),
        ("--gpus", {len(node.gpus) for node in result.nodes}),
    ):
        if len(values) == 1:  # else each node has what fits it, as it had
            given[flag] = values.pop()
    return given


def lists(outcomes: Sequence[Outcome]) -> dict[str, list[dict[str, Any]]]:
    """What the JSON holds beside pytest-benchmark's own, whose entries are the timed cases."""
    results = [one for one in outcomes if isinstance(one, Result)]
    chosen: dict[str, Sequence[Outcome]] = {
        "accuracy": [one for one in results if one.mode == "accuracy"],
        "compliance": [one for one in results if one.mode == "compliance"],
        "failures": [one for one in outcomes if failed(one)],
        "skipped": [one for one in outcomes if one.verdict == SKIPPED],
    }
    return {name: [one.as_dict() for one in some] for name, some in chosen.items()}


_JUDGED = ("loadgen_valid", "mlperf_valid", "verdict")


def flat_properties(result: Result) -> Iterator[tuple[str, float | str | bool]]:
    """What JUnit shows of a result."""
    latencies = [name for _, name in LATENCIES]
    apart = "f1_has_answer", "f1_no_answer"
    for key in ("f1", "exact_match", *apart, "f1_target", "qps", *latencies, *_JUDGED):
        if (value := getattr(result, key)) is not None:
            yield key, value
    if result.gate is not None:
        yield "gate", result.gate.verdict
        for key in ("baseline", "change", "band"):
            if (value := getattr(result.gate, key)) is not None:
                yield f"gate_{key}", value
