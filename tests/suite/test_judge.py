"""A result is made whole of what was asked, measured and logged, without a run."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from made import LOSS, node, provenance, timeline

from bertsquad.cluster.facts import Loss
from bertsquad.loadgen.logs import Run
from bertsquad.loadgen.request import Request, Targets
from bertsquad.machine.noise import Disturbance
from bertsquad.models.zoo import MODELS
from bertsquad.results.compliance import Audited, Comparison
from bertsquad.results.predictions import Answered
from bertsquad.results.reference import BUNDLED, KNOWN, SESSION, Pair
from bertsquad.results.remarks import remarks
from bertsquad.results.result import FAILED, NO_TARGET, PASSED, UNDECIDED, Result
from bertsquad.runtime.parallelism import Parallelism
from bertsquad.squad.datasets import DATASETS
from bertsquad.squad.questions import Question
from bertsquad.squad.score import Score
from bertsquad.suite.cases import Case
from bertsquad.suite.judge import Audit, Ran, judge
from bertsquad.worker.protocol import Measured

MEASURED = Measured(
    seconds=3.5,
    targets=Targets(12.0, None, "probe"),
    provider="CPUExecutionProvider",
    proof="1 of 1 matrix products",
    batch_tokens=1536,
    batches=9,
    padding_share=0.125,
    peak_memory_bytes=2**30,
    disturbances=[],
    timeline=timeline().digest(),
    unwritten=None,
)
LOGGED: dict[str, Any] = {
    "effective_scenario": "Offline",
    "effective_test_mode": "PerformanceOnly",
    "effective_performance_sample_count": 494,
    "effective_min_duration_ms": 3000,
    "result_samples_per_second": 10.5,
    "result_50.00_percentile_latency_ns": 2_000_000,
    "result_query_count": 1,
    "result_validity": "VALID",
}


def ran(mode: str, rules: str = "quick", **logged: Any) -> Ran:
    case = Case(MODELS["minilm"], DATASETS["pocket"], "offline", "cpu", "fp32")
    request = Request(
        "offline", mode, rules, "results/x", 494, Parallelism(2, 1, ((0,), (1,))), target_qps=12.0
    )
    facts = provenance(model_path=None, dataset_path=None, user_conf=None, given={})
    run = Run(Path("results/x"), LOGGED | logged, ())
    return Ran(case, request, MEASURED, run, 494, facts, 99.0, 80.0)


def test_a_timed_run_has_loadgens_figures_and_what_it_was_asked_for() -> None:
    result = judge(ran("performance"))
    assert (result.case, result.mode) == ("minilm-pocket-offline-cpu-fp32", "performance")
    assert (result.verdict, result.loadgen_valid, result.qps) == (PASSED, True, 10.5)
    assert (result.latency_p50_ms, result.latency_p90_ms) == (2.0, None)
    assert (result.min_duration_s, result.query_count, result.buffer_size) == (3.0, 1, 494)
    assert (result.target_qps, result.target_source) == (12.0, "probe")
    assert (result.f1, result.question_count) == (None, None)
    facts = result.provenance
    assert (facts["instances"], facts["pinned_cpus"], facts["batches"]) == (2, [[0], [1]], 9)
    assert "--instances 2" in result.repeat
    with pytest.raises(FrozenInstanceError):
        result.verdict = FAILED  # type: ignore[misc]


@pytest.mark.parametrize(("rules", "verdict"), [("quick", PASSED), ("mlperf", FAILED)])
def test_an_invalid_run_passes_under_quick_alone_and_says_its_causes(
    rules: str, verdict: str
) -> None:
    result = judge(
        ran("performance", rules, result_validity="INVALID", result_min_duration_met=False)
    )
    assert (result.verdict, result.loadgen_valid) == (verdict, False)
    assert [cause.kind for cause in result.invalid_causes] == ["min_duration"]
    assert result.invalid_reasons[0] == result.invalid_causes[0].reason
    assert not result.mlperf_valid


def test_what_disturbed_a_timed_run_is_told_in_parts_and_in_a_sentence() -> None:
    busy = Disturbance("it was busy", "wait")
    result = judge(replace(ran("performance"), measured=replace(MEASURED, disturbances=[busy])))
    assert (result.disturbances, result.warnings) == ([busy], ["it was busy: wait"])


def scored(*f1_by_question: float) -> Answered:
    mean = 100 * sum(f1_by_question) / len(f1_by_question)
    return Answered((), {}, Score(50.0, mean, len(f1_by_question), f1_by_question))


def test_an_accuracy_run_has_f1_and_its_target() -> None:
    result = judge(ran("accuracy"), answered=scored(0.7, 0.9))
    assert (result.f1, result.exact_match, result.question_count) == (80.0, 50.0, 2)
    assert result.f1_target == pytest.approx(79.2)
    assert result.verdict == PASSED
    assert (result.qps, result.loadgen_valid, result.warnings) == (None, None, [])
    missed = judge(ran("accuracy"), answered=scored(0.7, 0.8))
    assert missed.verdict == FAILED
    unknown = judge(replace(ran("accuracy"), reference_f1=None), answered=scored(0.7, 0.8))
    assert (unknown.f1_target, unknown.verdict) == (None, NO_TARGET)


QUESTIONS = tuple(Question(f"q{number}", "", 0, ("",)) for number in range(17))


def beside(source: str, own: float, theirs: float, reference_f1: float | None = 80.0) -> Result:
    """Seventeen questions of ten thousand, of which a share is answered rightly, beside others."""
    right, others = round(17 * own), round(17 * theirs)
    score = Score(0, 100 * right / 17, 17, (1.0,) * right + (0.0,) * (17 - right))
    rated = {one.id: float(number < others) for number, one in enumerate(QUESTIONS)}
    pair = Pair(source, "minilm", rated, reference_f1)
    asked = replace(ran("accuracy"), dataset_samples=10_833, reference_f1=reference_f1, pair=pair)
    return judge(asked, answered=Answered(QUESTIONS, {}, score))


def test_a_subset_stands_beside_other_answers_to_its_questions() -> None:
    sound, doubtful, broken = (beside(KNOWN, own, 16 / 17) for own in (15 / 17, 9 / 17, 5 / 17))
    assert (sound.verdict, doubtful.verdict, broken.verdict) == (PASSED, UNDECIDED, FAILED)
    assert (sound.warnings, doubtful.warnings) == ([], [doubtful.reason])
    assert doubtful.reference is not None
    assert doubtful.reference.difference == pytest.approx(700 / 17)
    assert doubtful.f1_upper_bound == doubtful.reference.bound
    told = [line for line in remarks([doubtful]) if "paired, 41.2" in line]
    assert len(told) == 1
    assert not any("paired" in line for line in remarks([sound]))


def test_where_no_reference_is_known_the_target_is_the_fp32_run_s_share() -> None:
    result = beside(SESSION, 15 / 17, 16 / 17, None)
    assert result.f1_target == pytest.approx(0.99 * 1600 / 17)
    assert (result.verdict, result.reference_f1) == (PASSED, None)
    assert "99 % of its own F1 in fp32 on these questions" in result.reason
    assert beside(BUNDLED, 15 / 17, 16 / 17, None).verdict == NO_TARGET


def test_each_question_that_a_known_model_answers_otherwise_is_told_and_fails_nothing() -> None:
    result = beside(KNOWN, 15 / 17, 16 / 17)
    assert result.reference is not None
    assert (result.verdict, result.reference.differing) == (PASSED, 1)
    (told,) = [line for line in remarks([result]) if "another F1" in line]
    for part in ("1 of 17 questions", "minilm's known answers", "q15 (1.00 -> 0.00)"):
        assert part in told
    for other in (beside(BUNDLED, 15 / 17, 16 / 17), beside(KNOWN, 16 / 17, 16 / 17)):
        assert not any("another F1" in line for line in remarks([other]))


def test_a_subset_is_judged_by_the_bound_that_it_says() -> None:
    result = judge(replace(ran("accuracy"), dataset_samples=10_833), answered=scored(0.6, 0.8, 0.9))
    assert not result.whole
    assert result.f1 is not None and result.f1_target is not None
    assert result.f1_upper_bound is not None
    assert result.f1 < result.f1_target <= result.f1_upper_bound
    assert result.verdict == PASSED


@pytest.mark.parametrize(("differing", "verdict"), [((), PASSED), ((3,), FAILED)])
def test_a_compliance_run_is_judged_by_its_audit(differing: tuple[int, ...], verdict: str) -> None:
    audited = Audited(Comparison(64, differing, 0.25), 0.99, 0.5)
    result = judge(ran("compliance"), audit=Audit(audited, "option"))
    assert (result.verdict, result.qps, result.target_source) == (verdict, 10.5, "option")
    assert (result.compliance_responses, result.compliance_largest_difference) == (64, 0.25)
    assert result.compliance_speed_ratio == 0.99


def clustered(mode: str, rules: str = "quick", *lost: Loss, **logged: Any) -> Ran:
    busy = Disturbance("it was busy", "wait")
    nodes = [node(1, peak_memory_bytes=2**31), node(2, disturbances=[busy])]
    one = ran(mode, rules, **logged)
    facts = {**one.provenance, "cluster": {"address": "head:6379", "nodes": 2}}
    facts |= {"gpus": ["of the driver"], "gpu_ids": ["0"]}
    measured = replace(MEASURED, nodes=nodes, nodes_lost=list(lost))
    return replace(one, measured=measured, provenance=facts)


def test_a_run_on_a_cluster_says_what_each_node_was_and_which_was_disturbed() -> None:
    result = judge(clustered("performance"))
    assert (result.verdict, result.number_of_nodes, result.nodes_lost) == (PASSED, 2, [])
    assert [one.node for one in result.nodes] == ["10.0.0.1", "10.0.0.2"]
    assert result.disturbances == [Disturbance("node 10.0.0.2: it was busy", "wait")]
    assert result.warnings == ["node 10.0.0.2: it was busy: wait"]
    assert (result.provenance["instances"], result.provenance["threads"]) == (4, 2)
    assert result.provenance["pinned_cpus"] == []
    assert (result.provenance["gpus"], result.provenance["gpu_ids"]) == ([], [])
    assert [one.peak_memory_bytes for one in result.nodes] == [2**31, None]
    alone = judge(ran("performance"))
    assert (alone.number_of_nodes, alone.nodes) == (1, [])
    assert alone.provenance["instances"] == 2


@pytest.mark.parametrize("mode", ["performance", "compliance"])
@pytest.mark.parametrize("rules", ["quick", "mlperf"])
@pytest.mark.parametrize("said", ["VALID", "INVALID"])
def test_a_timed_run_that_lost_a_node_fails_whatever_loadgen_calls_it(
    mode: str, rules: str, said: str
) -> None:
    audit = Audit(Audited(Comparison(64, (), 0.0), 0.99, 0.5), "probe", 2)
    audits = {"performance": None, "compliance": audit}
    result = judge(clustered(mode, rules, LOSS, result_validity=said), audit=audits[mode])
    assert (result.verdict, result.loadgen_valid) == (FAILED, said == "VALID")
    for part in (LOSS.node, "7.2 s", LOSS.cause, "2 nodes"):
        assert part in result.reason
    assert (result.nodes_lost, result.number_of_nodes, result.mlperf_valid) == ([LOSS], 2, False)
    assert any(LOSS.cause in reason for reason in result.invalid_reasons)


@pytest.mark.parametrize(("f1", "verdict"), [(0.9, PASSED), (0.1, FAILED)])
def test_an_accuracy_run_that_lost_a_node_is_judged_by_f1_and_warns(
    f1: float, verdict: str
) -> None:
    result = judge(clustered("accuracy", "mlperf", LOSS), answered=scored(f1, f1))
    assert (result.verdict, result.nodes_lost, result.mlperf_valid) == (verdict, [LOSS], False)
    assert LOSS.node not in result.reason
    (warning,) = result.warnings
    for part in (LOSS.node, "7.2 s", LOSS.cause, "join"):
        assert part in warning
    assert [str(one) for one in result.disturbances] == [warning]
    below = remarks([result])
    (line,) = (n for n, line in enumerate(below) if LOSS.cause in line)
    assert below[line + 1].startswith("  -> see to that node")
    assert any(LOSS.cause in reason for reason in result.invalid_reasons)


@pytest.mark.parametrize(("rules", "verdict"), [("quick", PASSED), ("mlperf", FAILED)])
def test_the_speed_of_an_audit_is_not_compared_with_that_of_other_nodes(
    rules: str, verdict: str
) -> None:
    audited = Audited(Comparison(64, (), 0.0), 0.99, 0.5)
    result = judge(clustered("compliance", rules), audit=Audit(audited, "probe", 3))
    assert (result.verdict, result.compliance_speed_ratio) == (verdict, None)
    alike = judge(clustered("compliance", rules), audit=Audit(audited, "probe", 2))
    assert (alike.verdict, alike.compliance_speed_ratio) == (PASSED, 0.99)


def test_of_many_lost_nodes_some_are_named_and_all_counted() -> None:
    lost = [Loss(f"10.0.0.{n}", 1.0, "gone") for n in range(40)]
    result = judge(clustered("performance", "quick", *lost))
    assert "10.0.0.2 " in result.reason and "37 more" in result.reason
    assert len(result.reason) < 300 and len(result.nodes_lost) == 40


@pytest.mark.parametrize(
    ("address", "changes", "words"),
    [
        ("head:6379", {}, "--cluster head:6379 --nodes 2 --instances 2 --threads 2"),
        ("local:2", {}, "--cluster local:2 --instances 2 --threads 2"),
        ("auto", {"instances": 3}, "--cluster auto --nodes 2 --threads 2"),
        ("auto", {"gpus": ["A"]}, "--cluster auto --nodes 2 --instances 2 --threads 2 --batch"),
    ],
)
def test_the_line_that_repeats_a_run_names_its_cluster(
    address: str, changes: dict[str, Any], words: str
) -> None:
    one = clustered("performance")
    facts = {**one.provenance, "cluster": {"address": address, "nodes": 2}}
    measured = replace(one.measured, nodes=[node(1), node(2, **changes)])
    assert words in judge(replace(one, provenance=facts, measured=measured)).repeat


@pytest.mark.parametrize("mode", ["performance", "accuracy"])
def test_a_run_of_fewer_local_nodes_than_were_started_warns_and_no_line_repeats_it(
    mode: str,
) -> None:
    one = clustered(mode)
    facts = {**one.provenance, "cluster": {"address": "local:3", "nodes": None}}
    answered = scored(0.9, 0.9) if mode == "accuracy" else None
    result = judge(replace(one, provenance=facts), answered)
    assert (result.verdict, result.number_of_nodes, result.repeat) == (PASSED, 2, "")
    told = "2 of 3 nodes began it, since others had been lost before: run pytest again, which"
    assert [warning for warning in result.warnings if warning.startswith(told)]
    assert "2 of 3 nodes" in result.disturbances[-1].matter
    assert any("2 of 3 nodes" in line for line in remarks([result]))


def test_the_line_that_repeats_a_run_names_the_gpus_of_a_node() -> None:
    one = clustered("performance")
    nodes = [node(n, gpus=["A", "A"]) for n in (1, 2)]
    result = judge(replace(one, measured=replace(one.measured, nodes=nodes)))
    assert "--gpus 2" in result.repeat
