"""Which earlier results a result is compared with, and by which of its figures."""

from dataclasses import replace
from typing import Any

import pytest
from made import LOSS, accuracy, compliance, performance

from bertsquad.loadgen.logs import Cause
from bertsquad.machine.noise import Disturbance
from bertsquad.results import gate
from bertsquad.results.baseline import judge, measure
from bertsquad.results.gate import BAND, GateVerdict
from bertsquad.results.result import FAILED, NO_TARGET, Result


def night(day: int, qps: float = 100.0, **changes: Any) -> Result:
    return performance("offline", day, qps=qps, mlperf_metric_value=qps, **changes)


HISTORY = [night(day) for day in range(1, 11)]


def verdict_of(result: Result, history: list[Result], accept: bool = False) -> GateVerdict:
    found = judge(result, history, BAND, accept)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("result", "key", "name"),
    [
        (performance("offline"), "qps", "QPS"),
        (performance("singlestream"), "mlperf_metric_value", "p90"),
        (performance("multistream"), "mlperf_metric_value", "p99"),
        (performance("singlestream", mlperf_metric_value=None), "latency_p90_ms", "p90"),
        (performance("server"), "qps", "QPS"),
        (performance("server", target_source="option"), "latency_p99_ms", "p99"),
        (performance("server", target_source="user-conf"), "latency_p99_ms", "p99"),
        (accuracy(), "f1", "F1"),
    ],
)
def test_each_kind_of_case_has_its_figure(result: Result, key: str, name: str) -> None:
    found = measure(result)
    assert found is not None
    assert (found.key, found.name, found.value) == (key, name, getattr(result, key))
    assert found.higher_is_better == (key in ("qps", "f1"))


@pytest.mark.parametrize(
    "result",
    [compliance(), accuracy(f1=None), performance("offline", qps=None), night(1, qps=0.0)],
)
def test_what_has_no_figure_has_no_verdict(result: Result) -> None:
    assert judge(result, HISTORY, BAND) is None


def test_a_night_that_is_slower_by_a_tenth_fails_until_it_is_accepted() -> None:
    history, words = list(HISTORY), []
    for day in range(11, 29):
        slow = night(day, 90.0)
        verdict = verdict_of(slow, history, accept=day == 20)
        words.append(verdict.verdict)
        history.append(replace(slow, gate=verdict))
    assert words == [gate.FAILED] * 9 + [gate.ACCEPTED] + [gate.PASSED] * 8
    # From then on that is what is expected.
    assert verdict_of(night(29, 80.0), history).failed


def test_a_loss_fails_also_once_the_good_runs_are_too_long_ago_to_be_read() -> None:
    history = list(HISTORY)
    for day in range(11, 29):
        slow = night(day, 93.0)
        verdict = verdict_of(slow, history[-10:])
        assert verdict.failed
        assert (verdict.baseline, verdict.runs) == (100.0, 10)
        history.append(replace(slow, gate=verdict))


SICK = Disturbance("other processes used 40% of this machine's CPU time during the run", "wait")


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": FAILED},
        {"disturbances": [SICK]},
        {"nodes_lost": [LOSS]},
        {"invalid_causes": [Cause("error", "some error")]},
        {"gate": GateVerdict(gate.FAILED, "qps", 50.0)},
        {"sample_count": 20},
        {"case": "another"},
        {"qps": None},
    ],
)
def test_what_is_not_good_or_not_alike_is_no_part_of_a_baseline(changes: dict[str, Any]) -> None:
    bad = [replace(night(day, 50.0), **changes) for day in range(11, 26)]
    verdict = verdict_of(night(28), [*HISTORY, *bad])
    assert (verdict.baseline, verdict.runs, verdict.change) == (100.0, 10, 0.0)


def test_a_run_of_another_machine_is_no_part_of_a_baseline() -> None:
    new = night(28)
    facts = new.provenance | {"machine": "node", "machine_id": "0a"}
    verdict = verdict_of(replace(new, provenance=facts), HISTORY)
    assert verdict.verdict == gate.NO_BASELINE
    assert verdict.reason.startswith(
        "gate: no baseline yet: 10 earlier runs of it on other machines, the last on Some CPU, 4 c"
    )
    assert "BERTSQUAD_MACHINE" in verdict.reason


def test_a_case_without_any_earlier_run_has_no_baseline_yet() -> None:
    assert verdict_of(night(28), [accuracy()]).reason == "gate: no baseline yet"


def test_runs_that_are_all_unlike_are_no_baseline_and_the_reason_says_in_what() -> None:
    facts = HISTORY[0].provenance | {"model_checksum": "other"}
    verdict = verdict_of(replace(night(28, 50.0), provenance=facts), HISTORY)
    assert verdict.verdict == gate.NO_BASELINE
    assert verdict.reason == (
        "gate: no baseline yet: 10 earlier runs of it not alike, of the last here model_checksum "
        "is other and was aa"
    )


def test_an_f1_of_nothing_is_a_loss() -> None:
    history = [accuracy(day=day, verdict=NO_TARGET) for day in range(1, 4)]
    lost = accuracy(day=9, f1=0.0, exact_match=0.0, verdict=NO_TARGET)
    assert verdict_of(lost, history).failed
    after = verdict_of(accuracy(day=10), [lost])
    assert (after.baseline, after.verdict) == (0.0, gate.PASSED)


def test_a_night_that_ended_without_a_figure_ends_no_loss() -> None:
    slow = night(11, 90.0)
    failed = replace(slow, gate=verdict_of(slow, HISTORY))
    invalid = night(12, 90.0, verdict=FAILED)
    verdict = verdict_of(night(13, 90.0), [failed, invalid])
    assert verdict.failed
    assert verdict.baseline == 100.0


def test_a_baseline_of_another_figure_is_not_taken_over() -> None:
    plain = GateVerdict(gate.FAILED, "latency_p90_ms", 90.0, 50.0, 10)
    stream = performance("singlestream", gate=plain)
    new = verdict_of(performance("singlestream", 9), [stream])
    assert new.verdict == gate.NO_BASELINE


def test_a_rate_that_a_probe_found_and_the_machine_did_not_keep_is_no_baseline() -> None:
    missed = [Cause("latency_bound", "p99 over the bound")]
    server = [performance("server", day) for day in range(1, 6)]
    assert verdict_of(performance("server", 9), server).runs == 5
    unkept = [replace(one, invalid_causes=missed) for one in server]
    lost = verdict_of(performance("server", 9, invalid_causes=missed), [*server, *unkept[1:]])
    assert lost.failed
    assert "the bound was missed at the rate that the probe found" in lost.reason
    assert "5 good runs kept theirs" in lost.reason
    often = verdict_of(performance("server", 9, invalid_causes=missed), [*server, *unkept])
    assert often.verdict == gate.PASSED
    verdict = verdict_of(performance("server", 9), unkept)
    assert verdict.verdict == gate.NO_BASELINE
    assert "of 5 earlier runs none passed undisturbed" in verdict.reason


def test_server_at_a_given_rate_is_compared_with_runs_at_that_rate() -> None:
    def at(rate: float, day: int, p99: float) -> Result:
        return performance(
            "server", day, target_qps=rate, target_source="option", latency_p99_ms=p99
        )

    history = [at(10.0, day, 80.0) for day in range(1, 11)]
    history += [at(20.0, day, 200.0) for day in range(11, 21)]
    grown = verdict_of(at(10.0, 22, 92.0), history)
    assert grown.failed
    assert grown.baseline == 80.0
    assert not verdict_of(at(20.0, 22, 201.0), history).failed
    assert verdict_of(at(30.0, 22, 900.0), history).verdict == gate.NO_BASELINE


def test_f1_of_few_questions_may_lose_one_of_them() -> None:
    history = [accuracy(day=day, f1=83.5, question_count=20) for day in range(1, 4)]
    assert not verdict_of(accuracy(day=9, f1=79.0, question_count=20), history).failed
    assert verdict_of(accuracy(day=9, f1=78.0, question_count=20), history).failed
    many = [accuracy(day=day, f1=83.5) for day in range(1, 4)]
    assert verdict_of(accuracy(day=9, f1=83.2), many).failed
