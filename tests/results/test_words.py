"""A verdict in a word."""

from dataclasses import replace

import pytest
from made import ACCURACY, COMPLIANCE, LOSS, OFFLINE, SERVER, on_nodes

from bertsquad.loadgen.logs import Cause
from bertsquad.results import gate
from bertsquad.results.gate import GateVerdict
from bertsquad.results.result import FAILED, NO_TARGET, SKIPPED, UNDECIDED, Missing, Result
from bertsquad.results.words import KINDS, Word, word, worst


def invalid(*kinds: str, rules: str = "quick") -> Result:
    verdict = "passed" if rules == "quick" else FAILED
    causes = [Cause(kind, kind) for kind in kinds]
    return replace(SERVER, invalid_causes=causes, rules=rules, verdict=verdict)


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["min_duration"], "short"),
        (["min_queries"], "short"),
        (["early_stopping"], "short"),
        (["min_duration", "min_queries", "early_stopping"], "short"),
        (["latency_bound"], "too slow"),
        (["latency_bound", "early_stopping", "min_duration"], "too slow"),
        (["error"], "INVALID"),
        (["error", "min_duration"], "INVALID"),
        (["latency_bound", "error"], "INVALID"),
        (["max_duration"], "INVALID"),
        (["max_query_count", "early_stopping"], "INVALID"),
        (["max_async_queries"], "INVALID"),
        ([], "INVALID"),  # a result of before, which doesn't say why
    ],
)
def test_a_quick_run_that_is_invalid_says_in_which_way(kinds: list[str], said: str) -> None:
    assert word(invalid(*kinds)).text == said


@pytest.mark.parametrize("kind", ["min_duration", "latency_bound", "error"])
def test_under_mlperfs_rules_it_is_called_as_loadgen_calls_it(kind: str) -> None:
    assert word(invalid(kind, rules="mlperf")) == Word("INVALID", "bad")


def test_the_three_words_differ_in_kind() -> None:
    found = [word(invalid(kind)).kind for kind in ("min_duration", "latency_bound", "error")]
    assert found == ["warn", "slow", "bad"]


def test_a_valid_run_is_called_as_loadgen_calls_it_unless_it_failed() -> None:
    assert word(OFFLINE) == Word("VALID", "good")
    assert word(replace(OFFLINE, verdict=FAILED)) == Word("failed", "bad")
    lost = on_nodes(SERVER, verdict=FAILED, nodes_lost=[LOSS])
    assert word(lost) == Word("failed", "bad")


def test_a_result_that_passes_but_not_the_gate_is_worse() -> None:
    verdict = GateVerdict(gate.FAILED, "qps", 14.0, 16.0, 10, -12.5, 5.0)
    assert word(replace(OFFLINE, gate=verdict)) == Word("worse", "bad")
    assert word(replace(OFFLINE, gate=replace(verdict, verdict=gate.PASSED))).text == "VALID"


def test_other_modes_have_their_verdict() -> None:
    assert word(ACCURACY) == Word("passed", "good")
    assert word(replace(COMPLIANCE, loadgen_valid=False)) == Word("passed", "good")
    assert word(replace(ACCURACY, verdict=FAILED)) == Word("failed", "bad")
    for verdict in (NO_TARGET, UNDECIDED):
        assert word(replace(ACCURACY, verdict=verdict)) == Word(verdict, "warn")


def test_a_case_without_a_result_has_its_verdict() -> None:
    assert word(Missing("a", "accuracy", FAILED, "")) == Word("failed", "bad")
    assert word(Missing("a", "accuracy", SKIPPED, "")) == Word("skipped", "plain")


def test_the_worst_of_words_comes_first_among_kinds() -> None:
    assert worst(Word(kind, kind) for kind in reversed(KINDS)).kind == KINDS[0]
