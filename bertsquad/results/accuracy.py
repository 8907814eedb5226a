"""From an accuracy log to F1, and whether it reaches its target."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs
from bertsquad.results import guessing
from bertsquad.results.predictions import Answered
from bertsquad.results.reference import CONFIDENCE, FEWEST, Reference
from bertsquad.results.result import FAILED, NO_TARGET, PASSED, UNDECIDED, Verdict
from bertsquad.results.statistics import upper_bound
from bertsquad.squad import answers
from bertsquad.squad.datasets import Data
from bertsquad.squad.score import Score, best_threshold, score


def score_log(data: Data, folder: Path, samples: int, null_threshold: float | None = None) -> Score:
    """EM and F1 of the accuracy log in `folder`, over the questions that were wholly run.

    Raises SuiteError if the log isn't that of the first `samples` windows.
    """
    return read_log(data, folder, samples, null_threshold).score


def read_log(
    data: Data, folder: Path, samples: int, null_threshold: float | None = None
) -> Answered:
    """What the model answered by the accuracy log in `folder`, scored as `score_log` says.

    A question of SQuAD v2.0 gets no answer where that scores more than the best span by more than
    `null_threshold`, which is 0 where None is given. In v1.1 every question has an answer.
    """
    logits = logs.read_accuracy_log(folder)
    if sorted(logits) != list(range(samples)):
        raise SuiteError(
            f"{folder / logs.ACCURACY} holds {len(logits)} samples where {samples} were run"
        )
    version_2, threshold = data.dataset.version_2, null_threshold or 0.0
    texts = data.reading.texts(data.dataset, data.features)
    try:
        found = answers.find(data.dataset, data.features, texts, logits)
    except SuiteError as error:
        raise SuiteError(f"{folder / logs.ACCURACY}: {error}") from error
    questions = tuple(one for one in data.dataset.questions if one.id in found)
    given = {one.id: found[one.id].given(threshold) for one in questions}
    scored = score(given, questions, version_2)
    doubt = guessing.look(data.dataset, data.features, texts, questions, logits)
    if not version_2:
        return Answered(questions, given, scored, doubt=doubt)
    spans = {one.id: found[one.id].text for one in questions}
    odds = {one.id: found[one.id].null_odds for one in questions}
    best = best_threshold(spans, odds, questions) if questions else None
    return Answered(questions, given, scored, threshold, best, doubt)


def figures_of(answered: Answered) -> dict[str, Any]:
    """The fields of a result that tell what was answered, beside those that judge it."""
    scored = answered.score
    with_answer, without = scored.has_answer, scored.no_answer
    return {
        "f1_has_answer": with_answer.f1 if with_answer and with_answer.total else None,
        "exact_match_has_answer": (
            with_answer.exact_match if with_answer and with_answer.total else None
        ),
        "f1_no_answer": without.f1 if without and without.total else None,
        "no_answer_count": without.total if without else None,
        "null_threshold": answered.null_threshold,
        "best_f1": answered.best and answered.best[0],
        "best_null_threshold": answered.best and answered.best[1],
        "doubt": answered.doubt,
        "warnings": [str(answered.doubt)] if answered.doubt else [],
    }


def judge_f1(
    f1: float,
    target: float | None,
    f1_by_question: Sequence[float],
    subset: bool,
    what: str,
    reference: Reference | None = None,
    target_is: str = "",
) -> tuple[Verdict, float | None]:
    """Judge an accuracy run, and give the upper bound that a subset was judged by, in per cent.

    The whole data set is judged by F1 itself. A subset's F1 varies with the questions that happen
    to be in it, so it fails only if the target lies above the one-sided upper confidence bound of
    what F1 is on the whole. That is the bound of its mean, or, where there is a `reference` on the
    same questions, that of the difference to it, by which the subset is undecided if the target is
    likely missed. `f1_by_question` is 0 to 1; `what` says model, device and precision, `target_is`
    where the target comes from, if that needs to be said.
    """
    questions = len(f1_by_question)
    if questions == 0:
        return Verdict(UNDECIDED, "subset: no question was run with all of its windows"), None
    figures = f"F1 {f1:.3f} on {questions} questions ({what})"
    if target is None:
        beside = f", where {reference.named} have {reference.figures}" if reference else ""
        return Verdict(NO_TARGET, f"{figures}{beside}; no reference F1 is known for it"), None
    goal = f"the target of {target:.3f}{target_is and f', {target_is}'}"
    if not subset:
        if f1 >= target:
            return Verdict(PASSED, f"{figures} reaches {goal}"), None
        return Verdict(FAILED, f"{figures} is under {goal}"), None
    if questions < 2:
        return Verdict(UNDECIDED, f"subset: {questions} whole questions are too few to judge"), None
    if reference is not None:
        return _judge_paired(reference, target, f"subset: {figures}", goal), reference.bound
    bound = 100 * min(1.0, upper_bound(f1_by_question, CONFIDENCE))
    share = f"{100 * CONFIDENCE:g} % confidence bound of {bound:.3f}"
    if bound < target:
        return Verdict(FAILED, f"subset: {figures}, with a {share}, is under {goal}"), bound
    return Verdict(PASSED, f"subset: {figures}, with a {share}, is not under {goal}"), bound


def _judge_paired(reference: Reference, target: float, figures: str, goal: str) -> Verdict:
    """Judge a subset by the difference to a reference; `figures` and `goal` are for the reason."""
    beside = f"{figures}, where {reference.named} have {reference.figures}"
    share = f"{100 * CONFIDENCE:g} % confidence bound of {reference.bound:.3f}"
    if reference.questions < FEWEST and reference.estimate < target:
        return Verdict(UNDECIDED, f"{beside}: these are too few to judge by {goal}")
    if reference.bound < target:
        return Verdict(FAILED, f"{beside}, with a {share}, is under {goal}")
    if reference.likely_bound < target:
        return Verdict(
            UNDECIDED, f"{beside}, is likely under {goal}, but these are too few to tell"
        )
    return Verdict(PASSED, f"{beside}, with a {share}, is not under {goal}")
