"""A verdict in a word, the same in the terminal, on the page and in its history."""

from collections.abc import Iterable
from dataclasses import dataclass

from bertsquad.results.result import FAILED, PASSED, Outcome, Result

#: LoadGen's own words.
VALID, INVALID = "VALID", "INVALID"
#: What a quick run is called that is INVALID for want of queries or time alone, and one that missed
#: its bound.
SHORT, TOO_SLOW = "short", "too slow"

#: What a result is called that passes, but not the gate.
WORSE = "worse"

#: The causes of an INVALID run that more queries or more time would cure.
_OF_LENGTH = frozenset({"min_duration", "min_queries", "early_stopping"})
_BOUND = "latency_bound"

#: What a word means for a reader, the worst first; each has its colour.
KINDS = ("bad", "slow", "warn", "plain", "good")


@dataclass(frozen=True)
class Word:
    """A verdict in a word, and which of KINDS it is."""

    text: str
    kind: str


def word(outcome: Outcome) -> Word:
    """The verdict on a case: LoadGen's own on a performance run that didn't fail.

    A quick run passes though it is INVALID, and its word says in which way it is. Under MLPerf's
    rules such a run fails, and is called as LoadGen calls it.
    """
    if not isinstance(outcome, Result):
        return Word(outcome.verdict, "bad" if outcome.verdict == FAILED else "plain")
    if outcome.verdict == FAILED:
        unfit = outcome.rules == "mlperf" and outcome.loadgen_valid is False
        return Word(INVALID if unfit else FAILED, "bad")
    if outcome.gate is not None and outcome.gate.failed:
        return Word(WORSE, "bad")
    if outcome.mode == "performance":
        return _of_loadgen(outcome)
    if outcome.verdict == PASSED:
        return Word(PASSED, "good")
    return Word(outcome.verdict, "warn")


def _of_loadgen(result: Result) -> Word:
    if result.loadgen_valid:
        return Word(VALID, "good")
    kinds = {cause.kind for cause in result.invalid_causes}
    if result.rules == "mlperf" or not kinds or kinds - _OF_LENGTH - {_BOUND}:
        return Word(INVALID, "bad")
    return Word(TOO_SLOW, "slow") if _BOUND in kinds else Word(SHORT, "warn")


def worst(words: Iterable[Word]) -> Word:
    """The worst of some words, the first of those that are alike."""
    return min(words, key=lambda one: KINDS.index(one.kind))
