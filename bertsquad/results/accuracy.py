"""From an accuracy log to F1, and whether it reaches its target."""

from collections.abc import Sequence
from pathlib import Path

from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs
from bertsquad.results.result import FAILED, NO_TARGET, PASSED, UNDECIDED, Verdict
from bertsquad.results.statistics import upper_bound
from bertsquad.squad import answers
from bertsquad.squad.datasets import Data
from bertsquad.squad.score import Score, score

#: A subset fails only if it is so sure that the target is missed.
CONFIDENCE = 0.999


def score_log(data: Data, folder: Path, samples: int) -> Score:
    """EM and F1 of the accuracy log in `folder`, over the questions that were wholly run.

    Raises SuiteError if the log isn't that of the first `samples` windows.
    """
    logits = logs.read_accuracy_log(folder)
    if sorted(logits) != list(range(samples)):
        raise SuiteError(
            f"{folder / logs.ACCURACY} holds {len(logits)} samples where {samples} were run"
        )
    try:
        texts = data.reading.texts(data.dataset, data.features)
        found = answers.find(data.dataset, data.features, texts, logits)
    except SuiteError as error:
        raise SuiteError(f"{folder / logs.ACCURACY}: {error}") from error
    predictions = {question: answer.text for question, answer in found.items()}
    return score(predictions, [q for q in data.dataset.questions if q.id in found])


def judge_f1(
    f1: float,
    target: float | None,
    f1_by_question: Sequence[float],
    subset: bool,
    what: str,
) -> tuple[Verdict, float | None]:
    """Judge an accuracy run, and give the upper bound that a subset was judged by, in per cent.

    The whole data set is judged by F1 itself. A subset's F1 varies with the questions that happen
    to be in it, so it fails only if the target lies above the one-sided upper confidence bound of
    its mean. `f1_by_question` is 0 to 1; `what` says model, device and precision.
    """
    questions = len(f1_by_question)
    if questions == 0:
        return Verdict(UNDECIDED, "subset: no question was run with all of its windows"), None
    figures = f"F1 {f1:.3f} on {questions} questions ({what})"
    if target is None:
        return Verdict(NO_TARGET, f"{figures}; no reference F1 is known for it"), None
    goal = f"the target of {target:.3f}"
    if not subset:
        if f1 >= target:
            return Verdict(PASSED, f"{figures} reaches {goal}"), None
        return Verdict(FAILED, f"{figures} is under {goal}"), None
    if questions < 2:
        return Verdict(UNDECIDED, f"subset: {questions} whole questions are too few to judge"), None
    bound = 100 * min(1.0, upper_bound(f1_by_question, CONFIDENCE))
    share = f"{100 * CONFIDENCE:g} % confidence bound of {bound:.3f}"
    if bound < target:
        return Verdict(FAILED, f"subset: {figures}, with a {share}, is under {goal}"), bound
    return Verdict(PASSED, f"subset: {figures}, with a {share}, is not under {goal}"), bound
