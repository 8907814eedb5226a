"""SQuAD's official score: that of `evaluate-v1.1.py` to the last digit, and of `evaluate-v2.0.py`.

In v2.0 a question without an answer is answered rightly by an empty text.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bertsquad.squad.questions import Question


@dataclass(frozen=True)
class Share:
    """Exact match and F1 in per cent over `total` questions."""

    exact_match: float
    f1: float
    total: int


@dataclass(frozen=True)
class Score(Share):
    """The score of all questions, and each question's F1 (0 to 1).

    Of SQuAD v2.0 also that of the questions that have an answer (`HasAns` of SQuAD's script) and of
    those that have none (`NoAns`); either has a total of 0, and no figures, where there is none.
    """

    f1_by_question: tuple[float, ...]
    has_answer: Share | None = None
    no_answer: Share | None = None


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(answer: str) -> str:
    """`answer` in lower case, without ASCII punctuation and articles, with single blanks."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, truth: str) -> bool:
    """Whether the two normalise to the same text."""
    return normalise(prediction) == normalise(truth)


def f1(prediction: str, truth: str) -> float:
    """The harmonic mean of precision and recall over normalised words, 0 to 1."""
    predicted, true = normalise(prediction).split(), normalise(truth).split()
    same = sum((Counter(predicted) & Counter(true)).values())
    if same == 0:
        return 0.0
    precision, recall = 1.0 * same / len(predicted), 1.0 * same / len(true)
    return (2 * precision * recall) / (precision + recall)


def score(
    predictions: Mapping[str, str], questions: Iterable[Question], version_2: bool = False
) -> Score:
    """Score `predictions` (question id to text) on exactly `questions`, best answer of each."""
    rate = _rate_version_2 if version_2 else _rate
    rated = [(one, *rate(predictions[one.id], one.answers)) for one in questions]
    whole = _share([(exact, f1) for _, exact, f1 in rated])
    return Score(
        whole.exact_match,
        whole.f1,
        whole.total,
        tuple(f1 for _, _, f1 in rated),
        _share([(exact, f1) for one, exact, f1 in rated if one.answers]) if version_2 else None,
        _share([(exact, f1) for one, exact, f1 in rated if not one.answers]) if version_2 else None,
    )


def best_threshold(
    predictions: Mapping[str, str], null_odds: Mapping[str, float], questions: Iterable[Question]
) -> tuple[float, float]:
    """The highest F1 that a null threshold gives, in per cent, and that threshold, by v2.0.

    `predictions` are given where no threshold forbids, whose odds are more than the threshold.
    """
    # What answering a question adds to the score of a model that answers none.
    gains: dict[float, float] = {}
    total = silent = 0
    for one in questions:
        total, silent = total + 1, silent + (not one.answers)
        given = predictions[one.id]
        gain = _rate_version_2(given, one.answers)[1] if one.answers else -float(bool(given))
        if math.isfinite(odds := null_odds[one.id]):  # else no threshold lets it be answered
            gains[odds] = gains.get(odds, 0.0) + gain
    best, threshold = float(silent), min(gains, default=0.0) - 1.0
    reached = best
    for odds in sorted(gains):
        reached += gains[odds]
        if reached > best:
            best, threshold = reached, odds
    return 100.0 * best / total, threshold


def _rate(prediction: str, answers: Sequence[str]) -> tuple[bool, float]:
    """Whether the prediction matches an answer exactly, and its F1 with the best of them."""
    exact = any(exact_match(prediction, answer) for answer in answers)
    return exact, max(f1(prediction, answer) for answer in answers)


def _rate_version_2(prediction: str, answers: Sequence[str]) -> tuple[bool, float]:
    """The same by v2.0: answers of articles alone don't count, and nothing equals nothing."""
    given = normalise(prediction)
    wanted = [answer for answer in answers if normalise(answer)]
    if not wanted or not given:
        right = not wanted and not given
        return right, float(right)
    return _rate(prediction, wanted)


def _share(rated: Sequence[tuple[bool, float]]) -> Share:
    total = len(rated)
    if total == 0:
        return Share(float("nan"), float("nan"), 0)
    # Summed one by one and in file order, as SQuAD's script does: the last digit depends on it.
    exact, f1_sum = 0, 0.0
    for is_exact, value in rated:
        exact += is_exact
        f1_sum += value
    return Share(100.0 * exact / total, 100.0 * f1_sum / total, total)
