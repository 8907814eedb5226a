"""Whose answers a run's are compared with, question by question."""

from bertsquad.results import known_answers
from bertsquad.results.predictions import Answered
from bertsquad.results.reference import KNOWN, SESSION, Pair
from bertsquad.results.result import NO_TARGET, PASSED
from bertsquad.squad.datasets import Data
from bertsquad.suite.cases import Case


class Pairs:
    """Finds the answers to compare with; those in fp32 of this pytest session are kept for it."""

    def __init__(self) -> None:
        self._fp32: dict[tuple[str, str], dict[str, float]] = {}

    def find(
        self, case: Case, data: Data, answered: Answered, reference_f1: float | None
    ) -> Pair | None:
        """The answers to compare those of a case with; None where there are none.

        Those that the suite keeps of the model itself come first, then what it answered in fp32
        before, if that has all of the questions; `reference_f1` is what it reaches on the whole in
        fp32. What another model answered tells at least how hard the questions are.
        """
        kept = known_answers.find(case.model, data)
        if kept is not None and kept.source == KNOWN:
            return kept
        before = self._fp32.get((case.model.name, case.dataset.name), {})
        if case.precision != "fp32" and all(one.id in before for one in answered.questions):
            return Pair(SESSION, case.model.name, before, reference_f1)
        return kept

    def keep(self, case: Case, answered: Answered, verdict: str) -> None:
        """Remember what a model answered in fp32, unless it misses a target or may do so."""
        key = case.model.name, case.dataset.name
        more = len(answered.questions) > len(self._fp32.get(key, {}))
        if case.precision == "fp32" and verdict in (PASSED, NO_TARGET) and more:
            rated = zip(answered.questions, answered.score.f1_by_question, strict=True)
            self._fp32[key] = {one.id: f1 for one, f1 in rated}
