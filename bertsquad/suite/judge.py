"""A run's Result, made of what was asked, measured and logged: one pure function."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bertsquad.loadgen import work
from bertsquad.loadgen.logs import Run
from bertsquad.loadgen.request import Request
from bertsquad.loadgen.timeline import PERCENTILES
from bertsquad.results import nodes, statistics, validity
from bertsquad.results.accuracy import figures_of, judge_f1
from bertsquad.results.compliance import Audited
from bertsquad.results.predictions import Answered
from bertsquad.results.reference import SESSION, Pair, compare
from bertsquad.results.result import (
    LATENCIES,
    PASSED,
    UNDECIDED,
    Result,
    Verdict,
    repeat_command,
    started_nodes,
    what,
)
from bertsquad.rules import SEEDS
from bertsquad.scenarios import SCENARIOS
from bertsquad.suite.cases import Case
from bertsquad.worker.protocol import Measured


@dataclass(frozen=True)
class Ran:
    """A run that has ended: what was asked, what the worker measured, what LoadGen logged.

    `dataset_samples` are all windows of the data set, which lacks the questions `left_out` for
    calibration; `provenance` says where files, model and
    machine came from. F1 must reach `accuracy_target` per cent of `reference_f1` (None: unknown),
    or of the model's own in fp32 where that is the `pair`, with whose answers a run's are compared.
    """

    case: Case
    request: Request
    measured: Measured
    run: Run
    dataset_samples: int
    provenance: Mapping[str, Any]
    accuracy_target: float
    reference_f1: float | None
    left_out: int = 0
    pair: Pair | None = None

    @property
    def what(self) -> str:
        """Model, data set, device and precision, for messages."""
        case = self.case
        return what(case.model.name, case.dataset.name, case.device, case.precision)


@dataclass(frozen=True)
class Audit:
    """What TEST01 found in a compliance run, and of the unaudited run where its targets came from.

    `number_of_nodes` is the unaudited run's, too: with another one there is no speed to compare.
    """

    audited: Audited
    target_source: str | None
    number_of_nodes: int = 1


def judge(ran: Ran, answered: Answered | None = None, audit: Audit | None = None) -> Result:
    """The result of a run; `answered` is of an accuracy run, `audit` of a compliance run."""
    case, request, measured, run = ran.case, ran.request, ran.measured, ran.run
    if answered is not None:
        verdict, figures = _accuracy(ran, answered)
        disturbances = nodes.redone(measured.nodes_lost)
    else:
        verdict, figures = _speed(ran)
        disturbances = [*measured.disturbances, *nodes.noise(measured.nodes)]
    number_of_nodes = max(1, len(measured.nodes))
    disturbances += nodes.fewer(number_of_nodes, started_nodes(ran.provenance))
    figures["warnings"] = figures.get("warnings", []) + [str(one) for one in disturbances]
    if audit is not None:
        audited = audit.audited
        if audit.number_of_nodes != number_of_nodes:
            audited = replace(audited, speed_ratio=None)
        if verdict.word == PASSED:
            verdict = audited.judge(request.rules, ran.what)
        figures |= {
            "target_source": audit.target_source,
            "compliance_responses": audited.comparison.responses,
            "compliance_uncompared": audited.comparison.outside,
            "compliance_largest_difference": audited.comparison.largest,
            "compliance_speed_ratio": audited.speed_ratio,
        }
    judged = Result(
        case=case.id,
        mode=request.mode,
        model=case.model.name,
        dataset=case.dataset.name,
        scenario=case.scenario,
        device=case.device,
        precision=case.precision,
        rules=request.rules,
        sample_count=request.samples,
        dataset_samples=ran.dataset_samples,
        questions_left_out=ran.left_out,
        run_dir=request.folder,
        provider=measured.provider,
        verdict=verdict.word,
        reason=verdict.reason,
        run_time_s=measured.seconds,
        padding_share=measured.padding_share,
        peak_memory_bytes=measured.peak_memory_bytes,
        number_of_nodes=number_of_nodes,
        nodes=measured.nodes,
        nodes_lost=measured.nodes_lost,
        disturbances=disturbances,
        timeline=measured.timeline | {"off_by_us": _off_by_us(measured.timeline, run)},
        provenance=_provenance(ran),
        **figures,
    )
    reasons = run.invalid_reasons if answered is None else []
    reasons += [objection.reason for objection in validity.objections(judged, run)]
    return replace(
        judged,
        invalid_reasons=reasons,
        mlperf_valid=verdict.word == PASSED and not reasons,
        repeat=repeat_command(judged),
    )


def _accuracy(ran: Ran, answered: Answered) -> tuple[Verdict, dict[str, Any]]:
    score, aim, reference, target_is = answered.score, ran.reference_f1, None, ""
    if ran.pair is not None:
        ids = [one.id for one in answered.questions]
        reference = compare(ran.pair, ids, score.f1_by_question)
    if aim is None and reference is not None and reference.source == SESSION:
        aim = reference.f1
        target_is = f"{ran.accuracy_target:g} % of its own F1 in fp32 on these questions"
    target = None if aim is None else ran.accuracy_target / 100 * aim
    subset = ran.request.samples < ran.dataset_samples
    verdict, bound = judge_f1(
        score.f1, target, score.f1_by_question, subset, ran.what, reference, target_is
    )
    figures = figures_of(answered)
    if verdict.word == UNDECIDED and reference is not None:
        figures["warnings"].append(verdict.reason)
    return verdict, {
        "f1": score.f1 if score.total else None,
        "exact_match": score.exact_match if score.total else None,
        "f1_interval": statistics.interval(score.f1_by_question),
        "f1_target": target,
        "f1_upper_bound": bound,
        "question_count": score.total,
        **figures,
        "accuracy_target": ran.accuracy_target,
        "reference_f1": ran.reference_f1,
        "reference": reference,
    }


def _speed(ran: Ran) -> tuple[Verdict, dict[str, Any]]:
    run, scenario, targets = ran.run, SCENARIOS[ran.case.scenario], ran.measured.targets
    mode, rules = ran.request.mode, ran.request.rules
    assert targets is not None  # only an accuracy run has none
    metric = run.metric(scenario)
    verdict = validity.judge_performance(rules, run.valid, run.invalid_reasons, ran.what)
    verdict = nodes.judge(verdict, len(ran.measured.nodes), ran.measured.nodes_lost, ran.what)
    return verdict, {
        "loadgen_valid": run.valid,
        "invalid_causes": run.invalid_causes,
        "mlperf_metric": scenario.metric,
        "mlperf_metric_value": metric,
        "qps": metric if scenario.has_rate else None,
        **{name: run.latency_ms(percentile) for percentile, name in LATENCIES},
        "buffer_size": run.values.get("effective_performance_sample_count"),
        "min_duration_s": run.values.get("effective_min_duration_ms", 0) / 1000,
        "min_query_count": run.values.get("effective_min_query_count"),
        "query_count": run.values.get("result_query_count"),
        "settings": work.effective(scenario.name, mode, rules, run.values),
        "target_qps": targets.qps,
        "target_latency_ms": targets.latency_ms,
        "target_source": targets.source,
    }


def _off_by_us(digest: Mapping[str, Any], run: Run) -> float | None:
    """How far the SUT's latencies are from LoadGen's, at the worst percentile of its log; in us."""
    curve = dict(zip(digest["latency"]["percentile"], digest["latency"]["ms"], strict=True))
    logged = {percentile: run.latency_ms(percentile) for percentile in PERCENTILES}
    apart = [abs(curve[p] - ms) * 1e3 for p, ms in logged.items() if ms is not None and p in curve]
    return round(max(apart), 1) if apart else None


def _provenance(ran: Ran) -> dict[str, Any]:
    measured, parallelism = ran.measured, ran.request.parallelism
    instances, threads, pins = parallelism.instances, {parallelism.threads}, parallelism.pins
    facts = dict(ran.provenance)
    if measured.nodes:
        instances = sum(node.instances for node in measured.nodes)
        threads, pins = {node.threads for node in measured.nodes}, ()
        facts |= {"gpus": [], "gpu_ids": []}  # those of who drove the run calculated nothing
    return {
        **facts,
        "instances": instances,
        "threads": threads.pop() if len(threads) == 1 else None,
        "pinned_cpus": [list(cpus) for cpus in pins],
        "batch_tokens": measured.batch_tokens,
        "batches": measured.batches,
        "provider_proof": measured.proof,
        "seeds": {seed: ran.run.values.get(seed) for seed in SEEDS},
    }
